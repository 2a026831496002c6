# SPDX-License-Identifier: GPL-2.0-or-later
"""The API of attempts, for builders."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, TypeVar

from aiohttp import web

from bdcs.services.answers import SignedRequest
from bdcs.services.attempting import Attempting
from bdcs.web.bodies import require_type, signed_request
from bdcs.web.builds_api import TOKEN_PROBLEMS
from bdcs.web.openapi import Operation
from bdcs.web.operations import JSON, response_of, response_of_document, route
from bdcs.web.queries import WAIT, number_in_path, wait
from gentwoo_client.wire import limits
from gentwoo_client.wire.build_messages import (
    Claim,
    Failed,
    Fencing,
    Heartbeat,
    Lease,
    LogEnd,
    LogPiece,
    Publish,
    Published,
)
from gentwoo_client.wire.messages import Message, parse_message

M = TypeVar("M", bound=Message)
BODY_PROBLEMS: Final = (*TOKEN_PROBLEMS, 408, 413, 415)

OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/v1/attempts",
        name="claim",
        summary="Take the next job (201), or learn that there is none (204)",
        token=True,
        query=(WAIT,),
        request=(JSON, Claim),
        answers={201: Lease, 204: None},
        problems=(*BODY_PROBLEMS, 409),
    ),
    Operation(
        method="POST",
        path="/v1/attempts/{attempt}/heartbeat",
        name="heartbeat",
        summary="Renew the lease at once; with `wait`, answered when the attempt must stop",
        token=True,
        query=(WAIT,),
        request=(JSON, Fencing),
        answers={200: Heartbeat},
        problems=BODY_PROBLEMS,
    ),
    Operation(
        method="POST",
        path="/v1/attempts/{attempt}/log",
        name="write_log",
        summary="Send a piece of the log",
        token=True,
        request=(JSON, LogPiece),
        answers={200: LogEnd},
        problems=BODY_PROBLEMS,
    ),
    Operation(
        method="POST",
        path="/v1/attempts/{attempt}/publish",
        name="publish",
        summary="Publish what was uploaded, as one",
        token=True,
        request=(JSON, Publish),
        answers={200: Published},
        problems=(*BODY_PROBLEMS, 409, 422),
    ),
    Operation(
        method="POST",
        path="/v1/attempts/{attempt}/fail",
        name="fail",
        summary="Say why it failed",
        token=True,
        request=(JSON, Failed),
        answers={200: Heartbeat},
        problems=(*BODY_PROBLEMS, 409),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptsAPI:
    """Everything under /v1/attempts."""

    attempting: Attempting
    public_url: str

    def add_to(self, app: web.Application) -> None:
        """Route every operation to the method of its name."""
        route(app, OPERATIONS, self)
        app.on_cleanup.append(self._close)

    async def _close(self, _app: web.Application) -> None:
        await asyncio.to_thread(self.attempting.close)

    async def claim(self, request: web.Request) -> web.Response:
        """POST what a builder can build."""
        signed, claim = await self._message(request, Claim)
        return response_of(await self.attempting.claim(signed, claim, wait=wait(request)))

    async def heartbeat(self, request: web.Request) -> web.Response:
        """POST that it is still at work."""
        attempt = number_in_path(request, "attempt")
        signed, beat = await self._message(request, Fencing)
        document = await self.attempting.heartbeat(signed, attempt, beat, wait=wait(request))
        return response_of_document(document)

    async def write_log(self, request: web.Request) -> web.Response:
        """POST a piece of the log."""
        attempt = number_in_path(request, "attempt")
        signed, piece = await self._message(request, LogPiece, limits.LOG_REQUEST_SIZE)
        return response_of_document(await self.attempting.log(signed, attempt, piece))

    async def publish(self, request: web.Request) -> web.Response:
        """POST the names of uploads."""
        attempt = number_in_path(request, "attempt")
        signed, publish = await self._message(request, Publish)
        return response_of(await self.attempting.publish(signed, attempt, publish))

    async def fail(self, request: web.Request) -> web.Response:
        """POST why it failed."""
        attempt = number_in_path(request, "attempt")
        signed, failed = await self._message(request, Failed)
        return response_of(await self.attempting.fail(signed, attempt, failed))

    async def _message(
        self, request: web.Request, model: type[M], size: int = limits.REQUEST_SIZE
    ) -> tuple[SignedRequest, M]:
        require_type(request, JSON)
        signed = await signed_request(request, self.public_url, size)
        return signed, parse_message(model, signed.body, size=size)
