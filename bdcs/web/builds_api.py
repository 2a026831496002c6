# SPDX-License-Identifier: GPL-2.0-or-later
"""The API of builds on request, for machines: ask, wait, look, cancel, try again. For builders:
`bdcs.web.attempts_api`.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from bdcs.services.answers import SignedRequest
from bdcs.services.wishing import Wishing
from bdcs.web.bodies import require_type, signed_request
from bdcs.web.openapi import Operation, Parameter
from bdcs.web.operations import JSON, response_of, response_of_document, route
from bdcs.web.queries import WAIT, number, number_in_path, wait
from gentwoo_client.wire import limits
from gentwoo_client.wire.build_messages import BuilderList, BuildList, BuildState, BuildWish, JobState
from gentwoo_client.wire.errors import NotFound
from gentwoo_client.wire.messages import parse_message

EVENTS: Final = "text/event-stream"
TOKEN_PROBLEMS: Final = (400, 401, 403, 404, 410, 500, 503)
LARGE: Final = 64 * 1024  # bytes of a body that are worth a thread's attention
KEEP_ALIVE: Final = b": still here\n\n"

_REQUEST: Final = re.compile(r"[a-z2-7]{10}")
_CURSOR: Final = re.compile(r"[0-9]{1,15}:[0-9]{1,15}(?:,[0-9]{1,15}:[0-9]{1,15}){0,999}")

OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/v1/builds",
        name="ask",
        summary="Ask for builds, or plan to",
        token=True,
        request=(JSON, BuildWish),
        answers={201: BuildState, 200: BuildState},
        problems=(*TOKEN_PROBLEMS, 408, 409, 413, 415, 429),
    ),
    Operation(
        method="GET",
        path="/v1/builds",
        name="builds",
        summary="The machine's requests, the newest first",
        token=True,
        answers={200: BuildList},
        problems=TOKEN_PROBLEMS,
    ),
    Operation(
        method="GET",
        path="/v1/builds/{build}",
        name="build",
        summary="How a request stands",
        token=True,
        query=(
            WAIT,
            Parameter(
                name="since",
                schema={"type": "string", "maxLength": 64},
                description="`version` that is known: with `wait`, answers when it is another.",
            ),
        ),
        answers={200: BuildState},
        problems=TOKEN_PROBLEMS,
    ),
    Operation(
        method="GET",
        path="/v1/builds/{build}/events",
        name="events",
        summary="What becomes of a request, as server-sent events: `state` and `log`",
        token=True,
        answers={200: None},
        media_type=EVENTS,
        problems=TOKEN_PROBLEMS,
    ),
    Operation(
        method="DELETE",
        path="/v1/builds/{build}",
        name="cancel",
        summary="Wait for nothing of the request any more",
        token=True,
        answers={200: BuildState},
        problems=(*TOKEN_PROBLEMS, 409),
    ),
    Operation(
        method="POST",
        path="/v1/builds/{build}/retry",
        name="retry",
        summary="Try again what failed, was cancelled, or became something else",
        token=True,
        answers={200: BuildState},
        problems=(*TOKEN_PROBLEMS, 409, 429),
    ),
    Operation(
        method="GET",
        path="/v1/jobs/{job}",
        name="job",
        summary="What is, was or will be built, and every attempt at it",
        token=True,
        answers={200: JobState},
        problems=TOKEN_PROBLEMS,
    ),
    Operation(
        method="GET",
        path="/v1/jobs/{job}/log",
        name="log",
        summary="The log of a job; Log-Attempt, Log-Offset (where to go on) and Log-State: open, over",
        token=True,
        query=(
            WAIT,
            Parameter(
                name="offset",
                schema={"type": "integer", "minimum": 0, "default": 0},
                description="Bytes of the log that are known.",
            ),
            Parameter(
                name="attempt",
                schema={"type": "integer", "minimum": 1},
                description="Which one; the last unless named.",
            ),
        ),
        answers={200: None},
        media_type="text/plain",
        problems=TOKEN_PROBLEMS,
    ),
    Operation(
        method="GET",
        path="/v1/builders",
        name="builders",
        summary="Who builds",
        token=True,
        answers={200: BuilderList},
        problems=TOKEN_PROBLEMS,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildsAPI:
    """Everything under /v1/builds and /v1/jobs, and the list of builders."""

    wishing: Wishing
    public_url: str

    def add_to(self, app: web.Application) -> None:
        """Route every operation to the method of its name."""
        route(app, OPERATIONS, self)
        app.on_cleanup.append(self._close)

    async def _close(self, _app: web.Application) -> None:
        await self.wishing.hits.settle()

    async def ask(self, request: web.Request) -> web.Response:
        """POST specifications."""
        require_type(request, JSON)
        signed = await signed_request(request, self.public_url, limits.BUILD_REQUEST_SIZE)

        def read() -> BuildWish:
            return parse_message(BuildWish, signed.body, size=limits.BUILD_REQUEST_SIZE)

        wish = read() if len(signed.body) <= LARGE else await asyncio.to_thread(read)
        return response_of(await self.wishing.ask(signed, wish))

    async def builds(self, request: web.Request) -> web.Response:
        """GET the machine's requests."""
        return response_of_document(await self.wishing.listed(await self._signed(request)))

    async def build(self, request: web.Request) -> web.Response:
        """GET a request."""
        document = await self.wishing.state(
            await self._signed(request), _build(request), wait=wait(request), since=request.query.get("since")
        )
        return response_of_document(document)

    async def cancel(self, request: web.Request) -> web.Response:
        """DELETE a request."""
        return response_of(await self.wishing.cancel(await self._signed(request), _build(request)))

    async def retry(self, request: web.Request) -> web.Response:
        """POST nothing, to have it tried again."""
        return response_of(await self.wishing.retry(await self._signed(request), _build(request)))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """GET what becomes of a request (WHATWG HTML §9.2)."""
        signed, build = await self._signed(request), _build(request)
        events = self.wishing.events(signed, build, _cursor(request))
        first = await anext(events)  # what is refused has to be refused before anything is sent
        response = web.StreamResponse(headers={"Content-Type": EVENTS, "X-Accel-Buffering": "no"})
        await response.prepare(request)
        try:
            await response.write(_event(*first))
            async for event in events:
                await response.write(_event(*event))
        except ConnectionError:
            pass  # nobody listens any more
        finally:
            await events.aclose()
        return response

    async def job(self, request: web.Request) -> web.Response:
        """GET a job."""
        job = number_in_path(request, "job")
        return response_of_document(await self.wishing.job(await self._signed(request), job))

    async def log(self, request: web.Request) -> web.Response:
        """GET some of a log."""
        attempt = number(request, "attempt", default=0)
        log = await self.wishing.log(
            await self._signed(request),
            number_in_path(request, "job"),
            attempt=attempt or None,
            offset=number(request, "offset", default=0),
            wait=wait(request),
        )
        headers = {"Log-Offset": str(log.end), "Log-State": "over" if log.is_over else "open"}
        if log.attempt is not None:
            headers["Log-Attempt"] = str(log.attempt)
        return web.Response(body=log.text, content_type="text/plain", charset="utf-8", headers=headers)

    async def builders(self, request: web.Request) -> web.Response:
        """GET all builders."""
        return response_of_document(await self.wishing.builders(await self._signed(request)))

    async def _signed(self, request: web.Request) -> SignedRequest:
        return await signed_request(request, self.public_url, limits.REQUEST_SIZE)


def _build(request: web.Request) -> str:
    text = request.match_info["build"]
    if not _REQUEST.fullmatch(text):
        raise NotFound("no request can be called that")
    return text


def _cursor(request: web.Request) -> dict[int, int]:
    """Return how much of which logs the client has, by its last event; nothing where that is not ours."""
    text = request.headers.get("Last-Event-ID", "")
    if not _CURSOR.fullmatch(text):
        return {}
    return {int(attempt): int(end) for attempt, _, end in (part.partition(":") for part in text.split(","))}


def _event(kind: str, document: dict[str, Any], cursor: dict[int, int]) -> bytes:
    if not kind:
        return KEEP_ALIVE
    place = ",".join(f"{attempt}:{end}" for attempt, end in sorted(cursor.items()))
    return f"event: {kind}\nid: {place}\ndata: {json.dumps(document)}\n\n".encode()
