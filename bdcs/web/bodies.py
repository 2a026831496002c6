# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading what a request brings, within its limits."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from bdcs.services.answers import SignedRequest
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import Malformed, TooLarge, Unauthorized, UnsupportedMedia

BODY_TIMEOUT: Final = 60.0  # seconds that a body may take to arrive


async def read_body(request: web.Request, limit: int) -> bytes:
    """Return the body.

    Raises `TooLarge` beyond `limit` bytes, `Malformed` where it breaks off, `TimeoutError`.
    """
    declared = request.content_length
    if declared is not None and declared > limit:
        raise TooLarge(f"more than {limit} bytes")
    try:
        if request.content.is_eof():  # it came along with the headers: nothing to wait for
            body = await _all(request, limit)
        else:
            async with asyncio.timeout(BODY_TIMEOUT):
                body = await _all(request, limit)
    except (web.RequestPayloadError, ConnectionError) as error:
        raise Malformed("the body does not arrive as its headers say") from error
    if len(body) > limit:
        raise TooLarge(f"more than {limit} bytes")
    return body


async def _all(request: web.Request, limit: int) -> bytes:
    if limit <= limits.ENCODED_BODY_SIZE:
        return await request.read()
    body = bytearray()  # more than the application reads of any other request
    while len(body) <= limit and (piece := await request.content.readany()):
        body += piece
    return bytes(body)


def require_type(request: web.Request, media_type: str) -> None:
    """Raise `UnsupportedMedia` unless the body is of `media_type`."""
    if request.content_type != media_type:
        raise UnsupportedMedia(f"this takes {media_type}")


def content_encoding(request: web.Request) -> str | None:
    """Return the one Content-Encoding, in lower case."""
    encoding = request.headers.get("Content-Encoding")
    return None if encoding is None else encoding.strip().lower()


async def signed_request(request: web.Request, public_url: str, limit: int) -> SignedRequest:
    """Return the request with its token.

    Raises `Unauthorized` where it has none, and what `read_body` raises.
    """
    token = request_token(request)
    if request.headers.get("Content-Encoding") is not None:
        raise UnsupportedMedia("only segments may have a Content-Encoding")
    return SignedRequest(
        token=token,
        method=request.method,
        url=public_url + request.raw_path,
        body=await read_body(request, limit),
    )


def request_token(request: web.Request) -> str:
    """Return the request's token. Raises `Unauthorized` where it has none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("this needs `Authorization: Bearer` and a token")
    return token.strip()
