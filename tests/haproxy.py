# SPDX-License-Identifier: GPL-2.0-or-later
"""A real HAProxy with the configuration of deploy/, in front of collectors on loopback.

with reserved() as port:                            # collectors have to know it before: public_url
    with HAProxy(home, {"c1": one.url, "c2": other.url}, port=port, certificate=pem) as proxy:
        proxy.url, proxy.tls                        # where it serves http, and https
        proxy.command("set server collectors/c1 state drain")
"""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from dev.places import ROOT
from tests.processes import Process
from tests.waiting import until

PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
CONFIGURATION = ROOT / "deploy/haproxy/haproxy.cfg"


@contextlib.contextmanager
def reserved() -> Iterator[int]:
    """A port of loopback that nobody else gets: only who binds it with SO_REUSEPORT, as proxies can."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


class HAProxy(Process):
    """Runs until its `with` block ends."""

    def __init__(
        self,
        home: Path,
        collectors: Mapping[str, str],
        *,
        certificate: Path | None = None,
        port: int,
        configuration: Path = CONFIGURATION,
        **more: str,
    ) -> None:
        """`collectors` are their names in the configuration and URLs; `certificate` holds chain and key."""
        assert PROGRAM is not None, "haproxy is missing: make test-engines installs it"
        home.mkdir(parents=True, exist_ok=True)
        self._ports = contextlib.ExitStack()
        tls, metrics = (self._ports.enter_context(reserved()) for _ in range(2))
        self.url, self.tls = f"http://127.0.0.1:{port}", f"https://localhost:{tls}"
        self.metrics = f"http://127.0.0.1:{metrics}"
        self._short = Path(tempfile.mkdtemp(prefix="gtw-", dir="/tmp"))  # paths of sockets are short
        settings = {
            "ADMIN": str(self._short / "admin.sock"),
            "LOG": "stderr",
            "METRICS": f"127.0.0.1:{metrics}",
            "PLAIN": f"127.0.0.1:{port}",
            "TLS": f"127.0.0.1:{tls}",
            **({} if certificate is None else {"CERTIFICATE": str(certificate)}),
            **{name.upper(): url.removeprefix("http://") for name, url in collectors.items()},
            **more,
        }
        env = {**os.environ, **{f"GENTWOO_{name}": value for name, value in settings.items()}}
        command: list[str | Path] = [PROGRAM, "-db", "-f", configuration]
        super().__init__(command, log=home / "haproxy.log", env=env)
        until(self._listens, what="HAProxy listening")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        shutil.rmtree(self._short)
        self._ports.close()

    def command(self, text: str) -> str:
        """Say something to its own socket; return what it answers."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self._short / "admin.sock"))
            connection.sendall(f"{text}\n".encode())
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer.decode()

    def states(self) -> dict[str, str]:
        """What it thinks of each collector, such as UP or DRAIN."""
        rows = [line.split(",") for line in self.command("show stat").splitlines() if line]
        status = rows[0].index("status")
        return {row[1]: row[status] for row in rows[1:] if row[0] == "collectors" and row[1] != "BACKEND"}

    def _listens(self) -> bool:
        assert self.is_running(), self.output
        try:
            return set(self.states().values()) <= {"UP", "UP 1/2", "DOWN"}
        except OSError:
            return False
