# SPDX-License-Identifier: GPL-2.0-or-later
"""`make run-cluster`: the main job on all grown engines, on loopback, until Ctrl-C.

PostgreSQL, RabbitMQ, S3 (moto's server), two collectors behind HAProxy and two builders, and this machine as
`make run` has it. Whatever of them dies is started again, as an init system would: kill any of them to see
that nothing is lost. Everything begins anew with each start, in `.run/cluster-PORT/`; what is left of one
that was killed itself is ended then.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from dev.kept_s3 import REGION
from dev.orphans import claim
from dev.places import ROOT
from dev.prefix import PREFIX
from dev.prefix import make as make_prefix
from dev.run import (
    ENVIRONMENT,
    START_TIMEOUT,
    TARGET,
    Job,
    Site,
    builder_options,
    chosen_port,
    configure_machine,
    describe_job,
    find_site,
    follow,
    make_target,
    nothing,
    require_free,
    start_signer,
    wait_until_listening,
)
from dev.sample import replay
from dev.session import ENDING, CannotRun, Stop, run_until_stopped
from tests.haproxy import HAProxy
from tests.postgresql import running_postgresql
from tests.processes import Process, free_port
from tests.rabbitmq import running_rabbitmq
from tests.s3 import CREDENTIALS

COLLECTORS = ("collector-1", "collector-2")
BUILDERS = ("builder-1", "builder-2")
BUCKET = "gentwoo"
PAUSE = 1.0  # seconds before a program of ours that died is started again
INSIDE = "--inside"
_APPROVAL = re.compile(r"admin builders approve (\S+) ")
_LAST_CHANGE = "SELECT value FROM sequences WHERE name = 'change'"


@dataclass(slots=True, kw_only=True)
class Engine:
    """Something that is no program of ours, and is started again when it died."""

    name: str
    address: str
    pid: Callable[[], int]
    is_running: Callable[[], bool]
    restart: Callable[[], object]
    restarting: Future[object] | None = None


class Proxy:
    """HAProxy with the configuration of deploy/, in front of the collectors."""

    def __init__(self, home: Path, collectors: list[str], port: int) -> None:
        self._home, self._port = home, port
        self._collectors = {f"c{number}": url for number, url in enumerate(collectors, 1)}
        self.process: HAProxy | None = None

    def start(self) -> None:
        self.stop()
        self.process = HAProxy(self._home, self._collectors, port=self._port)

    def engine(self) -> Engine:
        return Engine(
            name="haproxy",
            address=f"http://127.0.0.1:{self._port}",
            pid=lambda: _of(self.process).pid,
            is_running=lambda: _of(self.process).is_running(),
            restart=self.start,
        )

    def stop(self) -> None:
        if self.process is not None:
            self.process.__exit__(None, None, None)


class Cluster(Job):
    """All of it; what of it dies is started again."""

    def __init__(self, home: Path, port: int, leaving: contextlib.ExitStack) -> None:
        super().__init__(home, port)
        self._leaving = leaving
        self._argv: dict[str, tuple[str | Path, ...]] = {}
        self._engines: list[Engine] = []
        self._addresses = {name: f"http://127.0.0.1:{free_port()}" for name in COLLECTORS}
        self._s3 = free_port()
        self._restarts = ThreadPoolExecutor(thread_name_prefix="restart")
        self._parent = os.getppid()
        self.is_complete = False
        self.collector_config = self.home / f"{COLLECTORS[0]}.toml"

    def start(self, name: str, *argv: str | Path) -> None:
        """Start a process of ours, and remember how."""
        self._argv[name] = argv
        super().start(name, *argv)

    def check(self) -> None:
        """Start again what has died; at the beginning, what does not start is an error.

        Raises `Stop` where nobody is left who could ask for the end.
        """
        if os.getppid() != self._parent:
            raise Stop
        if not self.is_complete:
            super().check()
            return
        for engine in self._engines:
            if engine.restarting is not None:
                if engine.restarting.done():
                    engine.restarting = None
            elif not engine.is_running():
                print(f"{engine.name} died; it is started again", flush=True)
                engine.restarting = self._restarts.submit(engine.restart)
        for name, process in self.started.items():
            if process.poll() is not None:
                print(f"{name} ended with {process.returncode}; it is started again", flush=True)
                time.sleep(PAUSE)
                self.start(name, *self._argv[name])

    def start_engines(self) -> None:
        """Start PostgreSQL, RabbitMQ and S3; write the collectors' configurations."""
        server = self._leaving.enter_context(running_postgresql(self.home, is_durable=True))
        broker = self._leaving.enter_context(running_rabbitmq(self.home / "rabbitmq"))
        self._store = server.new_database(is_empty=True)
        self._engines += [
            Engine(
                name="postgresql",
                address=self._store,
                pid=lambda: server.process.pid,
                is_running=server.is_running,
                restart=server.restart,
            ),
            Engine(
                name="rabbitmq",
                address=broker.url.rpartition("@")[2],
                pid=lambda: broker.pid,
                is_running=lambda: _is_alive(broker.pid),
                restart=broker.start,
            ),
        ]
        self.start("s3", "python", "-m", "dev.kept_s3", str(self._s3), self.home / "s3.journal", BUCKET)
        wait_until_listening(self, "s3")
        for name in COLLECTORS:
            (self.home / f"{name}.toml").write_text(self._collector_settings(name, broker.url))

    def start_collectors(self) -> None:
        """Start the collectors, and HAProxy before them."""
        for name in COLLECTORS:
            self.start(name, "bdcs", "--config", self.home / f"{name}.toml", "serve")
        for name in COLLECTORS:
            wait_until_listening(self, name)
        proxy = Proxy(self.home / "haproxy", list(self._addresses.values()), _port(self.url))
        self._leaving.callback(proxy.stop)
        proxy.start()
        self._engines.append(proxy.engine())

    def start_builders(self, site: Site) -> None:
        """Start the builders, and approve each."""
        place = ("--eprefix", site.prefix) if site.prefix else ()
        for name in BUILDERS:
            known = ("--collector", self.url, "--name", name, "--target", TARGET)
            options = ("--data", self.home / name, *place, *builder_options(site.prefix))
            self.start(name, "bdcs", "builder", *known, *options)
        for name in BUILDERS:
            self.bdcs("admin", "builders", "approve", self._uuid_of(name), "--target", TARGET)

    def stop(self) -> None:
        """End our programs; the engines go when the stack is left."""
        self._restarts.shutdown()
        super().stop()

    def records_after(self, since: int) -> list[dict[str, Any]] | None:
        """As for `make run`; the store may be about to be started again."""
        try:
            return super().records_after(since)
        except CannotRun:
            return None

    def describe(self) -> str:
        """Where everything is, and how it is killed."""
        ours = [(name, process.pid, self._addresses.get(name, "")) for name, process in self.started.items()]
        theirs = [(engine.name, engine.pid(), engine.address) for engine in self._engines]
        lines = [f"  {name:<12} {pid:>8}  {address}".rstrip() for name, pid, address in (*theirs, *ours)]
        keys = " ".join(f"{name}={value}" for name, value in CREDENTIALS.items())
        return "\n".join(["Processes, each of which may be killed:", *lines, f"S3 wants      {keys}"])

    def _state_of_store(self) -> tuple[int, int]:
        """Changes when a record has come; nothing is known while PostgreSQL is away."""
        try:
            with psycopg.connect(self._store, connect_timeout=1) as connection:
                row = connection.execute(_LAST_CHANGE).fetchone()
        except psycopg.OperationalError:
            return 0, 0
        return (0 if row is None else int(row[0])), 0

    def _collector_settings(self, name: str, bus: str) -> str:
        lines = {
            "listen": self._addresses[name].removeprefix("http://"),
            "public_url": self.url,
            "data": str(self.home / name),
            "signer": f"{self.signer}.socket",
            "store": self._store,
            "bus": bus,
            "blobs": f"s3://{BUCKET}",
            "s3_endpoint": f"http://127.0.0.1:{self._s3}",
            "s3_region": REGION,
        }
        text = "".join(f'{setting} = "{value}"\n' for setting, value in lines.items())
        return text + 'trusted_proxies = ["127.0.0.1/32"]\n'

    def _uuid_of(self, builder: str) -> str:
        deadline = time.monotonic() + START_TIMEOUT
        while not (found := _APPROVAL.search(self.output(builder).read_text(errors="replace"))):
            if self.started[builder].poll() is not None or time.monotonic() > deadline:
                raise CannotRun(f"{builder} does not ask to be approved: {self.output(builder)}")
            time.sleep(0.05)
        return found[1]


def _of(process: Process | None) -> Process:
    assert process is not None
    return process


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _is_alive(pid: int) -> bool:
    """Whether a child of this process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def with_portage(site: Site) -> Site:
    """Return the site with a Portage for the builders: where there is none, that of `make prefix`."""
    if site.portage_bin is not None:
        return site
    if not PREFIX.exists():
        os.umask(0o022)
        make_prefix(PREFIX)
    return replace(site, prefix=str(PREFIX), portage_bin=PREFIX / "usr/bin")


def run(cluster: Cluster) -> None:
    """Start everything, tell where it is, and follow it."""
    site = with_portage(find_site(cluster.home))
    configure_machine(cluster, site)
    print("Starting PostgreSQL, RabbitMQ and S3 …", flush=True)
    cluster.start_engines()
    start_signer(cluster)
    cluster.start_collectors()
    lines = replay(site.log) if site.is_sample else nothing()
    next(lines)
    cluster.gentwoo("register", "--non-interactive")
    packages = ""
    if make_target(cluster, site):
        packages = f"{TARGET}, a target after this Portage's example; {len(BUILDERS)} builders"
        if site.builds:
            cluster.start_builders(site)
    cluster.start("daemon", "gentwoo", "--config", cluster.config, "daemon")
    print(
        f"{describe_job(cluster, site, packages)}\n{cluster.describe()}\n\nRecords as they arrive:",
        flush=True,
    )
    cluster.is_complete = True
    follow(cluster, lines)


def inside() -> int:
    """Be the cluster, away from the terminal: its Ctrl-C would reach every process at once."""
    return run_until_stopped("run-cluster", begin)


def begin(leaving: contextlib.ExitStack) -> None:
    """Run the cluster; `leaving` ends our own programs, and then the engines."""
    port = chosen_port()
    home = ROOT / ".run" / f"cluster-{port}"
    ours = claim(home, leaving)
    ENVIRONMENT.update(ours)
    os.environ.update(ours)
    require_free(port)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    engines = leaving.enter_context(contextlib.ExitStack())
    cluster = Cluster(home, port, engines)
    leaving.callback(cluster.stop)
    run(cluster)


def main() -> int:
    """Run the cluster in a session of its own, and pass on to it who asks for the end."""
    ENVIRONMENT.update(CREDENTIALS)
    if INSIDE in sys.argv:
        return inside()
    with subprocess.Popen([sys.executable, "-m", "dev.cluster", INSIDE], start_new_session=True) as process:
        for number in ENDING:
            signal.signal(number, lambda *_: process.terminate())
        return process.wait()


if __name__ == "__main__":
    sys.exit(main())
