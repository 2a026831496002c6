# SPDX-License-Identifier: GPL-2.0-or-later
"""Sockets, TLS, and leaving without dropping what was accepted."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Final

from aiohttp import web

from bdcs.errors import CannotListen, ConfigurationError
from bdcs.services.readiness import Readiness
from bdcs.web.problems import MAX_LINE, ProblemHandler

BACKLOG: Final = 4096  # connections that wait to be taken; the kernel has `net.core.somaxconn` at most
KEEP_ALIVE: Final = 75.0  # seconds that an idle connection stays open
SHUTDOWN_TIMEOUT: Final = 10.0  # seconds that requests under way have to finish
MAX_FIELD: Final = 16 * 1024  # bytes of a header line


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, and will listen later. Raises `CannotListen`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise CannotListen(f"{host}:{port}: {error.strerror or error}") from error
    return bound


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return how to serve https, or None where no certificate is set. Raises `ConfigurationError`."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigurationError("tls_certificate and tls_key belong together")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_certificate(context, certificate, key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Have new connections of `context` use what is in these files now. Raises `ConfigurationError`."""

    def passphrase() -> str:
        raise ConfigurationError(f"tls_key {key} is encrypted; a collector needs one that it can read alone")

    try:
        context.load_cert_chain(certificate, key, passphrase)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"tls_certificate {certificate}, tls_key {key}: {error}") from error


class Listener:
    """Serves an application on a bound socket."""

    def __init__(self, app: web.Application, readiness: Readiness, drain: int) -> None:
        """`drain`: seconds that all is answered as ever after /readyz says that it will not be for long."""
        self._readiness = readiness
        self._drain = drain
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
        self._server: asyncio.Server | None = None

    async def start(self, bound: socket.socket, context: ssl.SSLContext | None) -> None:
        """Listen."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()

        def connection() -> ProblemHandler:
            return ProblemHandler(
                server,
                loop=loop,
                access_log=None,  # type: ignore[arg-type]  # none is kept: it would hold addresses
                keepalive_timeout=KEEP_ALIVE,
                max_line_size=MAX_LINE,
                max_field_size=MAX_FIELD,
                auto_decompress=False,
            )

        self._server = await loop.create_server(connection, sock=bound, ssl=context, backlog=BACKLOG)

    async def stop(self) -> None:
        """Take no more connections, finish the requests under way, close the idle connections."""
        self._readiness.is_stopping = True
        await asyncio.sleep(self._drain)
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()
