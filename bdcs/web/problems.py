# SPDX-License-Identifier: GPL-2.0-or-later
"""Every error becomes a problem document (RFC 9457), whoever noticed it: a handler, the router, or the HTTP
parser.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from bdcs import measures
from bdcs.errors import StoreUnavailable
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import (
    Delayed,
    Internal,
    Malformed,
    MethodNotAllowed,
    NotFound,
    PrivateTarget,
    ProtocolError,
    RequestTimeout,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Show = Callable[[web.Request, ProtocolError], web.Response]
SHOW: Final = web.AppKey[Show]("show")
"""How an application shows a problem; where it has no such thing, as a document."""
MEDIA_TYPE: Final = "application/problem+json"
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""What every answer says unless its handler said otherwise."""
_SERVER: Final = {"Server": "bdcs"}
"""Instead of aiohttp's own, which tells versions."""

_OF_STATUS: Final[dict[int, type[ProtocolError]]] = {
    400: Malformed,
    404: NotFound,
    405: MethodNotAllowed,
    408: RequestTimeout,
    413: TooLarge,
    415: UnsupportedMedia,
    417: Malformed,
}


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a handler raises into an answer."""
    try:
        return await handler(request)
    except web.HTTPException as answer:
        if answer.status < 400:
            raise
        response = _shown(request, of_http(answer))
        if "Allow" in answer.headers:
            response.headers["Allow"] = answer.headers["Allow"]
        return response
    except Exception as error:
        return _shown(request, of(error))


def _shown(request: web.Request, problem: ProtocolError) -> web.Response:
    show = request.app.get(SHOW)
    return problem_response(problem) if show is None else show(request, problem)


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add what every answer says; for `app.on_response_prepare`."""
    headers = response.headers
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    headers.update(_SERVER)


def of(error: Exception) -> ProtocolError:
    """Return the problem that `error` is to whoever asked; what nobody expected is logged here, once."""
    if isinstance(error, ProtocolError):
        return error
    if isinstance(error, StoreUnavailable):
        log.warning("the store takes nothing: %s", error)
        return Unavailable(retry_after=error.retry_after)
    if isinstance(error, TimeoutError):
        return RequestTimeout()
    identifier = secrets.token_hex(8)
    log.error("internal error %s", identifier, exc_info=error)
    return Internal(f"tell the operator this identifier: {identifier}")


def of_http(answer: web.HTTPException) -> ProtocolError:
    """Return the problem that an error of aiohttp's own is."""
    kind = _OF_STATUS.get(answer.status, Malformed if answer.status < 500 else Internal)
    return kind()


def problem_response(problem: ProtocolError) -> web.Response:
    """Return the problem document, with the headers that belong to it."""
    return web.Response(
        status=problem.status,
        body=json.dumps(problem.to_document()).encode(),
        content_type=MEDIA_TYPE,
        headers=problem_headers(problem),
    )


def problem_headers(problem: ProtocolError) -> dict[str, str]:
    """Return the headers that tell a program what the problem tells a person."""
    headers = {}
    if isinstance(problem, Delayed):
        headers["Retry-After"] = str(problem.retry_after)
    if isinstance(problem, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="gentwoo"'
    if isinstance(problem, PrivateTarget):
        headers["WWW-Authenticate"] = 'Basic realm="gentwoo", charset="UTF-8"'
    return headers


class ProblemHandler(RequestHandler):
    """aiohttp's connection handler, but what is no HTTP at all gets a problem document, and no log has an
    address.
    """

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        measures.CONNECTIONS.add(1)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it no longer."""
        measures.CONNECTIONS.add(-1)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: Any,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to a request that could not be parsed, or that broke outside the handlers."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun already")
        if status >= 500:
            problem = of(exc if isinstance(exc, Exception) else RuntimeError(message))
        else:
            problem = _OF_STATUS.get(status, Malformed)("this is not HTTP as RFC 9112 describes it")
        response = problem_response(problem)
        response.headers.update({**HEADERS, **_SERVER})
        response.force_close()
        return response

    async def finish_response(
        self, request: Any, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send `resp`; an unknown Expect, refused by aiohttp before any middleware, as a problem as well."""
        if isinstance(resp, web.HTTPExpectationFailed):
            resp = problem_response(of_http(resp))
        return await super().finish_response(request, resp, start_time)


MAX_LINE: Final = limits.URL_LENGTH + 64
"""Bytes of a request line."""
