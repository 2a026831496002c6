# SPDX-License-Identifier: GPL-2.0-or-later
"""Collectors behind the HAProxy or nginx of deploy/, and requests with an address that no log may have."""

import contextlib
import http.client
import os
import pwd
import shutil
import signal
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import trustme

from dev.places import ROOT
from tests.haproxy import HAProxy, reserved
from tests.nginx import PROGRAM
from tests.peer import Answer
from tests.processes import Process
from tests.waiting import until

NGINX = ROOT / "deploy/nginx"
ADDRESS = "127.97.86.75"
"""What clients come from; the address is loopback's, but nobody else's."""

SITE = """
ssl_certificate      {certificate};
ssl_certificate_key  {certificate};
access_log           {home}/access.log  gentwoo;
server {{
    listen  127.0.0.1:{plain} reuseport;
    listen  127.0.0.1:{tls} ssl http2 reuseport;
    server_name  localhost;
    include  gentwoo/routes;
    include  gentwoo/packages;
}}
"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """For `localhost`."""

    file: Path
    """Chain and key."""
    authority: trustme.CA

    @classmethod
    def create(cls, home: Path) -> Self:
        """Make one, and its authority."""
        authority = trustme.CA()
        file = home / "bdcs.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
        return cls(file, authority)

    @property
    def context(self) -> ssl.SSLContext:
        """How a client trusts it."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


class Nginx(Process):
    """nginx with the files of deploy/nginx; only what is a site's own is the test's."""

    def __init__(
        self,
        home: Path,
        collectors: Mapping[str, str],
        *,
        certificate: Path,
        port: int,
        packages: Path = Path("/var/lib/bdcs/packages"),
        asks_always: bool = False,
        changes: Mapping[str, str] | None = None,
    ) -> None:
        """`asks_always`: also a collector that failed is asked, each time. `changes` are of http.conf."""
        assert PROGRAM is not None, "nginx is missing: make setup names the package"
        self.home, self.access = home, home / "access.log"
        self._ports = contextlib.ExitStack()
        tls = self._ports.enter_context(reserved())
        self.url, self.tls = f"http://127.0.0.1:{port}", f"https://localhost:{tls}"
        shutil.copytree(NGINX, home)
        user = pwd.getpwuid(os.getuid()).pw_name
        edit(home / "nginx.conf", {"www-data;": f"{user} root;", "/run/nginx.pid": f"{home}/nginx.pid"})
        with (home / "nginx.conf").open("a") as file:
            file.write("daemon off;\n")
        (home / "gentwoo/temporary.conf").write_text(
            "".join(
                f"{name}_temp_path {home}/{name};\n"
                for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
        )
        (home / "gentwoo/site.conf").write_text(
            SITE.format(certificate=certificate, home=home, plain=port, tls=tls)
        )
        edit(home / "gentwoo/http.conf", changes or {})
        edit(home / "gentwoo/packages", {"/var/lib/bdcs/packages": str(packages)})
        edit(home / "gentwoo/collectors.conf", servers(collectors))
        if asks_always:
            edit(home / "gentwoo/collectors.conf", {"max_fails=2": "max_fails=0"})
        command: list[str | Path] = [PROGRAM, "-e", "stderr", "-p", home, "-c", home / "nginx.conf"]
        super().__init__(command, log=home / "nginx.log")
        until(self._listens, what="nginx listening")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.is_running():
            self.stop(signal.SIGTERM)  # of the first process alone, which ends its workers
        super().__exit__(kind, error, traceback)
        self._ports.close()

    def reload(self) -> None:
        """Have it read its files again, and wait until only new workers take requests."""
        before = set(self.children())
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.children() and not before & set(self.children()), what="new workers")

    def _listens(self) -> bool:
        assert self.is_running(), self.output
        return (self.home / "nginx.pid").exists() and bool(self.children())


def servers(collectors: Mapping[str, str]) -> dict[str, str]:
    """What takes the place of the collectors' addresses in `collectors.conf`."""
    given = {"c1": "10.0.0.11:8642", "c2": "10.0.0.12:8642"}
    return {given[name]: url.removeprefix("http://") for name, url in collectors.items()}


def edit(path: Path, changes: Mapping[str, str]) -> None:
    """Replace texts; each has to be there."""
    text = path.read_text()
    for before, after in changes.items():
        assert before in text, f"{path}: no {before!r}"
        text = text.replace(before, after)
    path.write_text(text)


Proxy = HAProxy | Nginx


@contextlib.contextmanager
def running(
    kind: str,
    home: Path,
    collectors: Mapping[str, str],
    certificate: Certificate,
    *,
    port: int,
    packages: Path = Path("/var/lib/bdcs/packages"),
    asks_always: bool = False,
) -> Iterator[Proxy]:
    """One of both, in front of these."""
    proxy: Proxy
    if kind == "haproxy":
        proxy = HAProxy(home, collectors, certificate=certificate.file, port=port)
    else:
        proxy = Nginx(
            home,
            collectors,
            certificate=certificate.file,
            port=port,
            packages=packages,
            asks_always=asks_always,
        )
    with proxy:
        yield proxy


@dataclass(slots=True)
class Caller:
    """Sends requests to a proxy, from an address of its own, over one connection that is kept."""

    url: str
    address: str = ADDRESS
    context: ssl.SSLContext | None = None
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        host, source = "127.0.0.1", (self.address, 0)
        if parts.scheme == "https":
            assert parts.hostname is not None
            self.connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=60, source_address=source, context=self.context
            )
        else:
            self.connection = http.client.HTTPConnection(host, parts.port, timeout=60, source_address=source)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.connection.close()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one; headers with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body=body, headers=named)
        return self.answer()

    def announce(self, method: str, path: str, length: int, first: bytes = b"", **headers: str) -> Answer:
        """Say how long the body will be, send only the beginning of it, and see what is answered."""
        self.connection.putrequest(method, path)
        self.connection.putheader("Content-Length", str(length))
        for name, value in headers.items():
            self.connection.putheader(name.replace("_", "-"), value)
        self.connection.endheaders(first or None)
        try:
            return self.answer()
        finally:
            self.connection.close()

    def answer(self) -> Answer:
        """Read what comes."""
        response = self.connection.getresponse()
        headers = {
            name.title(): value for name, value in response.headers.items()
        }  # HAProxy writes them small
        return Answer(status=response.status, headers=headers, body=response.read())
