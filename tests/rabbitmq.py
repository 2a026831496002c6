# SPDX-License-Identifier: GPL-2.0-or-later
"""A real RabbitMQ on loopback, with an epmd of its own, that may be killed and comes back with what it kept.

    with running_rabbitmq(tmp_path / "rabbitmq") as broker:
        settings(bus=broker.new_url())                      # every test has a virtual host of its own
        broker.kill()                                       # SIGKILL, in the middle of something
        broker.start()                                      # the same address, with what it had made durable
        broker.ctl("list_queues", "-p", vhost_of(url))

AMQP, the distribution of Erlang and epmd listen on 127.0.0.1 only, at ports below those that the kernel gives
to connections: nobody takes one while the broker is down. It runs as the user who runs this.
"""

import base64
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.processes import Process, environment, run
from tests.waiting import until

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
EPMD = shutil.which("epmd", path="/usr/bin:/usr/local/bin")
USER = "gentwoo"
PASSWORD = "p@ss/word"
"""Has to be quoted in a URL."""
QUOTED = "p%40ss%2Fword"
LOOPBACK = "{127,0,0,1}"
_PORTS = range(15_000, 30_000)


def vhost_of(url: str) -> str:
    """The virtual host that a URL names."""
    return unquote(urlsplit(url).path.removeprefix("/"))


def _quiet_port() -> int:
    while True:
        port = random.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class RabbitMQ:
    """The broker, as tests see it; running from its making until the `with` block ends."""

    home: Path
    vhosts: int
    port: int = field(default_factory=_quiet_port)
    _distribution: int = field(default_factory=_quiet_port)
    _epmd_port: int = field(default_factory=_quiet_port)
    _given: int = 0
    _epmd: Process | None = None
    _process: Process | None = None

    @property
    def url(self) -> str:
        """The first virtual host, as what needs only one uses it."""
        return self._url(0)

    def new_url(self) -> str:
        """A virtual host that nobody had before."""
        self._given += 1
        assert self._given < self.vhosts, "say a higher `vhosts` when starting it"
        return self._url(self._given)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._write_configuration()
        if self._epmd is None:
            assert EPMD is not None, "erlang is missing: python3 -m dev.setup engines names the packages"
            command = [EPMD, "-address", "127.0.0.1", "-port", str(self._epmd_port)]
            self._epmd = Process(command, log=self.home / "epmd.log")
            until(self._epmd_listens, what="epmd listening")
        command = [str(PROGRAMS / "rabbitmq-server"), "-noinput"]
        self._process = Process(command, log=self.home / "rabbitmq.log", env=self._environment())
        self._process.until_printed("Server startup complete")

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        assert self._process is not None
        self._process.stop(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()

    def hang(self) -> None:
        """Have it answer nothing, with all connections open, until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl` answers (two seconds of Erlang's start)."""
        return run([PROGRAMS / "rabbitmqctl", "-q", *arguments], env=self._environment(), check=True).stdout

    def eval(self, expression: str) -> None:
        """Have the broker do something that no other command does."""
        self.ctl("eval", f"{expression}.")

    def end(self) -> None:
        """End broker and epmd, however they are."""
        for process in (self._process, self._epmd):
            if process is not None and process.is_running():
                process.kill()

    def _url(self, number: int) -> str:
        return f"amqp://{USER}:{QUOTED}@127.0.0.1:{self.port}/vhost-{number}"

    def _epmd_listens(self) -> bool:
        assert self._epmd is not None
        assert self._epmd.is_running(), self._epmd.output
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._epmd_port), 5):
            return True
        return False

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in environment().items() if not name.startswith("RABBITMQ_")}
        home = self.home
        return {
            **kept,
            "HOME": str(home),  # Erlang's cookie is there
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_ALLOW_INPUT": "1",  # no shell in between: the process is the broker
            "RABBITMQ_NODENAME": f"gentwoo-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(home / "rabbitmq.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-kernel inet_dist_use_interface {LOOPBACK} +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
            "RABBITMQ_CTL_ERL_ARGS": f"-kernel inet_dist_use_interface {LOOPBACK}",
        }

    def _write_configuration(self) -> None:
        (self.home / "rabbitmq.conf").write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\n"
            f"load_definitions = {self.home / 'definitions.json'}\n"
            "loopback_users.guest = true\n"
        )
        (self.home / "enabled_plugins").write_text("[].\n")
        (self.home / "definitions.json").write_text(json.dumps(self._definitions()))

    def _definitions(self) -> dict[str, object]:
        names = [f"vhost-{number}" for number in range(self.vhosts)]
        salt = b"salt"
        hashed = base64.b64encode(salt + hashlib.sha256(salt + PASSWORD.encode()).digest()).decode()
        user = {
            "name": USER,
            "password_hash": hashed,
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": "",
        }
        every = {"configure": ".*", "write": ".*", "read": ".*"}
        return {
            "users": [user],
            "vhosts": [{"name": name} for name in names],
            "permissions": [{"user": USER, "vhost": name, **every} for name in names],
        }


@contextlib.contextmanager
def running_rabbitmq(home: Path, *, vhosts: int = 1) -> Iterator[RabbitMQ]:
    """A broker with its data and logs in `home`, and so many virtual hosts (each takes a moment)."""
    broker = RabbitMQ(home, vhosts)
    try:
        broker.start()
        yield broker
    finally:
        broker.end()
