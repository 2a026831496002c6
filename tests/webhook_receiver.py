# SPDX-License-Identifier: GPL-2.0-or-later
"""A receiver of webhooks on loopback: real TLS, with a certificate for the names that a test wants."""

from __future__ import annotations

import http.server
import ssl
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import trustme


@dataclass
class Receiver:
    """Takes POSTs while its `with` block lasts, and answers `status`."""

    names: tuple[str, ...] = ("127.0.0.1", "localhost", "hooks.example.org")
    """For which its certificate is."""
    address: str = "127.0.0.1"
    status: int = 204
    location: str = ""
    """Where a redirection leads."""
    authority: trustme.CA = field(default_factory=trustme.CA)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    """Headers, names in lower case, and body of each."""

    def __enter__(self) -> Self:
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append(
                    ({name.lower(): value for name, value in self.headers.items()}, body)
                )
                self.send_response_only(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                receiver.received.append(({"method": "GET"}, b""))
                self.send_error(404)

            def log_message(self, format: str, *arguments: object) -> None:
                """Nobody reads it."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*self.names).configure_cert(context)
        self._server = _Server((self.address, 0), Handler)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.port = self._server.server_address[1]
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

    def url(self, host: str = "127.0.0.1") -> str:
        """The address of a hook here, as `host`."""
        return f"https://{host}:{self.port}/hook"

    def trusting(self) -> ssl.SSLContext:
        """What believes its certificate, and no other."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


class _Server(http.server.ThreadingHTTPServer):
    """Waits for nobody at its end, and complains about no handshake."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that do not believe the certificate leave in the middle."""
