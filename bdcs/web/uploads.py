# SPDX-License-Identifier: GPL-2.0-or-later
"""`PUT /v1/targets/{target}/packages/{category}/{file}`: packages from builders, read as they arrive."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from bdcs.services.answers import Answer, SignedRequest
from bdcs.services.receiving import Described, Receiver
from bdcs.web.bodies import BODY_TIMEOUT, request_token
from bdcs.web.documents import UploadDocument
from bdcs.web.openapi import Operation, Parameter
from gentwoo_client.wire import limits
from gentwoo_client.wire.cpv import CPV, split_cpv
from gentwoo_client.wire.errors import Malformed, UnsupportedMedia

GPKG: Final = "application/vnd.gentoo.gpkg"
SUFFIX: Final = ".gpkg.tar"
BATCH: Final = 1 << 20  # bytes that are worth a thread's attention, and that must come within the patience
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_SHA512: Final = re.compile(r"[0-9a-f]{128}")

OPERATIONS: Final = (
    Operation(
        method="PUT",
        path="/v1/targets/{target}/packages/{category}/{file}",
        name="upload",
        summary="Send a package into quarantine; for approved builders of the target",
        token=True,
        query=(
            Parameter(
                name="size",
                schema={"type": "integer", "minimum": 1},
                description="Bytes of the file.",
                required=True,
            ),
            Parameter(
                name="sha512",
                schema={"type": "string", "pattern": f"^{_SHA512.pattern}$"},
                description="SHA-512 of the file, hexadecimal.",
                required=True,
            ),
        ),
        request=(GPKG, None),
        answers={201: UploadDocument},
        problems=(400, 401, 403, 404, 408, 409, 410, 413, 415, 422, 429, 500, 503),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadAPI:
    """Takes packages from builders."""

    receiver: Receiver
    public_url: str
    patience: float = BODY_TIMEOUT
    """Seconds that `BATCH` bytes may take to arrive."""

    def add_to(self, app: web.Application) -> None:
        """Route the operation. `Expect: 100-continue` is answered when the package may come."""
        for operation in OPERATIONS:
            app.router.add_route(operation.method, operation.path, self.upload, expect_handler=_answer_later)

    async def upload(self, request: web.Request) -> web.Response:
        """PUT a package."""
        described = _described(request)
        signed = SignedRequest(
            token=request_token(request),
            method=request.method,
            url=self.public_url + request.raw_path,
            body=b"",
        )
        admission = await self.receiver.admit(signed, described)
        if isinstance(admission, Answer):
            return _response(admission)
        return _response(await self.receiver.receive(admission, _chunks(request, self.patience)))


def _described(request: web.Request) -> Described:
    """Return what the address says. Raises `Malformed`, `UnsupportedMedia`."""
    category, file = request.match_info["category"], request.match_info["file"]
    parts = split_cpv(f"{category}/{file.removesuffix(SUFFIX)}")
    if not file.endswith(SUFFIX) or parts is None:
        raise Malformed(f"the address of an upload ends in CATEGORY/PF{SUFFIX}")
    if hdrs.CONTENT_ENCODING in request.headers:
        raise UnsupportedMedia("packages are sent as they are, without Content-Encoding")
    sha512 = request.query.get("sha512", "")
    if not _SHA512.fullmatch(sha512):
        raise Malformed("the query has `sha512`, of 128 hexadecimal digits")
    size = request.query.get("size", "")
    if not (size.isascii() and size.isdigit() and len(size) < 17 and 0 < int(size) <= limits.INTEGER_MAX):
        raise Malformed("the query has `size`, in bytes")
    if request.content_length is not None and request.content_length != int(size):
        raise Malformed("`size` and Content-Length differ")
    return Described(target=request.match_info["target"], cpv=CPV(*parts), size=int(size), sha512=sha512)


async def _chunks(request: web.Request, patience: float) -> AsyncIterator[bytes]:
    """Yield the body in pieces. Raises `Malformed` where it breaks off, `TimeoutError` where it dawdles."""
    if hdrs.EXPECT in request.headers:
        await request.writer.write(CONTINUE)
        request.writer.output_size = 0  # the answer proper has not begun
    while batch := await _batch(request, patience):
        yield batch


async def _batch(request: web.Request, patience: float) -> bytes:
    batch = bytearray()
    try:
        async with asyncio.timeout(patience):
            while len(batch) < BATCH and (piece := await request.content.readany()):
                batch += piece
    except (web.RequestPayloadError, ConnectionError) as error:
        raise Malformed("the body does not arrive as its headers say") from error
    return bytes(batch)


async def _answer_later(request: web.Request) -> None:
    """Leave the expectation to the handler. Raises 417 for what is none that HTTP knows."""
    if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
        raise web.HTTPExpectationFailed(text="")


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body.encode(), content_type="application/json")
