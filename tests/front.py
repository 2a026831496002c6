# SPDX-License-Identifier: GPL-2.0-or-later
"""A small HTTP server in front of a collector: it records what clients ask, and can be told to misbehave.

with Front(collector.url) as front:
    machine.use(f"{front.url}/binhost/amd64")
    front.status = 503                  # everything gets that from now on
    front.cut = 10_000                  # the next package ends after so many bytes
    front.requests                      # what was asked, and what was answered
"""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PIECE = 64 << 10
PASSED_BACK = frozenset(
    {
        "accept-ranges",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "last-modified",
        "location",
        "www-authenticate",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request, and what was answered to it."""

    method: str
    path: str
    headers: Mapping[str, str]
    """The client's, names in lower case."""
    status: int
    sent: int
    """Bytes of the body, as far as it was sent on purpose."""

    @property
    def file(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass
class Front:
    """Passes requests on to `behind`, on loopback, while its `with` block lasts."""

    behind: str
    status: int | None = None
    """What everything is answered with instead."""
    missing: frozenset[str] = frozenset()
    """File names that are not found."""
    redirects: Mapping[str, str] = field(default_factory=dict)
    """Beginnings of paths, and the URLs that take their place."""
    cut: int | None = None
    """After how many bytes the connection of the next package ends; once."""
    ignores_ranges: bool = False
    replaced: Mapping[str, bytes] = field(default_factory=dict)
    """Other contents for file names."""
    requests: list[Exchange] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = Server(("127.0.0.1", 0), partial(Handler, self))
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def taken(self) -> list[Exchange]:
        """The exchanges since this was last asked."""
        taken, self.requests = self.requests, []
        return taken


class Server(ThreadingHTTPServer):
    """Waits for nobody at its end."""

    daemon_threads = True
    block_on_close = False


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"

    def __init__(self, front: Front, *arguments: object) -> None:
        self._front = front
        super().__init__(*arguments)  # type: ignore[arg-type]  # socketserver's three

    def do_GET(self) -> None:
        front = self._front
        for beginning, url in front.redirects.items():
            if self.path.startswith(beginning):
                self._redirect(url + self.path.removeprefix(beginning))
                return
        name = self.path.rpartition("/")[2]
        if front.status is not None or name in front.missing:
            self._refuse(front.status or 404)
        elif name in front.replaced:
            self._replace(front.replaced[name])
        else:
            self._relay()

    do_HEAD = do_GET

    def _redirect(self, url: str) -> None:
        self._note(302, 0)
        self.send_response(302)
        self.send_header("Location", url)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _refuse(self, status: int) -> None:
        self._note(status, 0)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _replace(self, content: bytes) -> None:
        self._note(200, len(content))
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _relay(self) -> None:
        address = urlsplit(self._front.behind)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        asked = dict(self.headers)
        if self._front.ignores_ranges:
            asked = {name: value for name, value in asked.items() if name.lower() != "range"}
        try:
            connection.request(self.command, self.path, headers=asked)
            self._answer(connection.getresponse())
        finally:
            connection.close()

    def _answer(self, response: http.client.HTTPResponse) -> None:
        limit = self._limit(response)
        left = response.length or 0
        if limit is not None:
            left = min(left, limit)
            self.close_connection = True
        self._note(response.status, left)
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() in PASSED_BACK:
                self.send_header(name, value)
        self.end_headers()
        while left and (piece := response.read(min(left, PIECE))):
            self.wfile.write(piece)
            left -= len(piece)

    def _limit(self, response: http.client.HTTPResponse) -> int | None:
        front = self._front
        if front.cut is None or response.status >= 300 or not self.path.endswith(".gpkg.tar"):
            return None
        limit, front.cut = front.cut, None
        return limit

    def _note(self, status: int, sent: int) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._front.requests.append(
            Exchange(method=self.command, path=self.path, headers=headers, status=status, sent=sent)
        )

    def log_message(self, format: str, *args: object) -> None:
        """Requests are noted, not logged."""
