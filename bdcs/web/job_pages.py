# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages about one job: what is built, how that goes, and the log, which grows while one looks at it.

Who brings the id of a request of his own (`?request=`) sees its jobs whole; others see no choice of flags
that few have, nor a log, in which emerge prints it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import hdrs, web

from bdcs.blobs.attempt_logs import Logs
from bdcs.services import job_pages, log_windows
from bdcs.services.job_pages import JobView, Standing
from bdcs.services.jobs import Attempt
from bdcs.services.log_windows import TAIL, Window
from bdcs.services.serving import Serving
from bdcs.services.targets import Target
from bdcs.services.waking import Transactions, job_topic
from bdcs.web.binhost import credentials
from bdcs.web.builds_api import EVENTS, KEEP_ALIVE
from bdcs.web.log_lines import Line, Phase, phases, read_lines
from bdcs.web.queries import number, number_in_path
from bdcs.web.rendering import LIVE, PAGE_HEADERS, PRIVATE, Renderer
from gentwoo_client.wire.errors import PrivateTarget, Unavailable

SECTION: Final = "Builds"
POLL: Final = 5.0
"""Seconds after which a stream looks again without having been woken: others may have done it."""
STREAMS: Final = 200
"""Logs that may be followed at a time; who comes then is told to come again."""
PATIENCE: Final = 15  # seconds after which they may
SHORT: Final = 120
"""Lines of a log whose phases are all shown open."""
PIECE: Final = 256 << 10  # bytes of a log that are sent at once
_REQUEST: Final = re.compile(r"[a-z2-7]{10}")
_PLACE: Final = re.compile(r"([0-9]{1,15}):([0-9]{1,15}):([0-9]{1,15})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How much of which log a reader has."""

    attempt: int
    offset: int
    lines: int

    def __str__(self) -> str:
        return f"{self.attempt}:{self.offset}:{self.lines}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogView:
    """A log as a page shows it."""

    head: list[Phase]
    tail: list[Phase]
    """Empty where nothing is left out."""
    gap: tuple[int, int] | None
    lines: int
    errors: tuple[int, ...]
    """Numbers of lines, of those that are shown."""
    warnings: tuple[int, ...]
    place: Place
    is_short: bool


@dataclass(slots=True, kw_only=True)
class JobPages:
    """The handlers of everything under /jobs."""

    transactions: Transactions
    serving: Serving
    logs: Logs
    renderer: Renderer
    crowd: int
    """Machines that may be told of together."""
    _streams: int = field(default=0)

    def add_to(self, app: web.Application) -> None:
        """Route the pages, the events, and the logs as text."""
        app.router.add_get("/jobs/{job}", self.job)
        app.router.add_get("/jobs/{job}/events", self.events)
        app.router.add_get("/jobs/{job}/attempts/{attempt}", self.job)
        app.router.add_get("/jobs/{job}/attempts/{attempt}/log", self.log)

    async def job(self, request: web.Request) -> web.Response:
        """A job with the log of an attempt, the last unless one is named; `?from=` shows its middle."""
        view = await self._view(request)
        attempt = _attempt(request, view)
        first = number(request, "from", default=0)
        log, middle = None, None
        if attempt is not None and view.shows_log:
            log = await asyncio.to_thread(self._log, attempt)
            if first:
                lines = await asyncio.to_thread(log_windows.middle, self.logs, attempt.id, first)
                middle = phases(read_lines(lines, first), name="further lines")
        context = {
            "job": view,
            "attempt": attempt,
            "log": log,
            "middle": middle,
            "first": first,
            "piece": TAIL,
            "now": self._now(),
            "section": SECTION,
            "own": _own(request),
            "events": self._events_address(request, view, attempt, log),
        }
        is_own = bool(_own(request)) or view.target.private
        return self.renderer.page(request, "job.html", context, cache=PRIVATE if is_own else LIVE)

    async def log(self, request: web.Request) -> web.StreamResponse:
        """The whole log as it was printed."""
        view = await self._view(request)
        attempt = _attempt(request, view)
        if attempt is None or not view.shows_log:
            raise web.HTTPNotFound
        size = await asyncio.to_thread(self.logs.size, attempt.id)
        if not size:
            raise web.HTTPNotFound
        is_own = bool(_own(request)) or view.target.private
        headers = {
            **PAGE_HEADERS,
            hdrs.CONTENT_TYPE: "text/plain; charset=utf-8",
            hdrs.CACHE_CONTROL: PRIVATE if is_own else LIVE,
            "X-Robots-Tag": "noindex",
        }
        response = web.StreamResponse(headers=headers)
        if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        offset = 0
        while offset < size:
            piece = await asyncio.to_thread(self.logs.read, attempt.id, offset, min(PIECE, size - offset))
            if not piece:
                break
            await response.write(piece)
            offset += len(piece)
        await response.write_eof()
        return response

    async def events(self, request: web.Request) -> web.StreamResponse:
        """What becomes of a job, for the page that shows it: `state`, `log`, and `end` (WHATWG HTML §9.2)."""
        view = await self._view(request)
        last = request.headers.get("Last-Event-ID", "") or request.query.get("from", "")
        match = _PLACE.fullmatch(last)
        attempts = {attempt.id for attempt in view.attempts}
        place = None
        if match and int(match[1]) in attempts:
            place = Place(attempt=int(match[1]), offset=int(match[2]), lines=int(match[3]))
        if self._streams >= STREAMS:
            raise Unavailable("too many follow a log just now", retry_after=PATIENCE)
        self._streams += 1
        try:
            return await self._stream(request, view, place)
        finally:
            self._streams -= 1

    async def _stream(self, request: web.Request, view: JobView, place: Place | None) -> web.StreamResponse:
        headers = {**PAGE_HEADERS, hdrs.CONTENT_TYPE: EVENTS, hdrs.CACHE_CONTROL: PRIVATE}
        response = web.StreamResponse(headers={**headers, "X-Accel-Buffering": "no"})
        await response.prepare(request)
        events = self._told(view, place)
        try:
            async for event in events:
                await response.write(event)
        except ConnectionError:
            pass  # nobody listens any more
        finally:
            await events.aclose()
        return response

    async def _told(self, view: JobView, place: Place | None) -> AsyncGenerator[bytes, None]:
        """Yield events until the job is over and all of its log is told, or nobody can tell any more."""
        known: Standing | None = None
        with self.transactions.bus.subscribed(job_topic(view.id)) as subscription:
            while True:
                standing = await self.transactions.store.read(
                    lambda connection: job_pages.standing(connection, view.id)
                )
                if standing is None:
                    return
                if standing != known:
                    yield _event("state", {"state": standing.state, "attempt": standing.attempt}, place)
                is_new, known = standing != known, standing
                if view.shows_log and place is not None:
                    is_over = standing.attempt != place.attempt or not standing.is_open
                    while (told := await self._more(place, is_over=is_over)) is not None:
                        place, lines = told
                        yield _event("log", {"lines": lines}, place)
                if standing.state not in _GOING_ON:
                    yield _event("end", {"state": standing.state}, place)
                    return
                if subscription.is_closing:
                    return
                if not await subscription.wait(POLL) and not is_new:
                    yield KEEP_ALIVE

    async def _more(self, place: Place, *, is_over: bool) -> tuple[Place, list[dict[str, Any]]] | None:
        news = await asyncio.to_thread(
            log_windows.news, self.logs, place.attempt, place.offset, is_over=is_over
        )
        if not news.lines:
            return None
        lines = [_told_line(line) for line in read_lines(news.lines, place.lines + 1)]
        return Place(attempt=place.attempt, offset=news.end, lines=place.lines + len(lines)), lines

    def _log(self, attempt: Attempt) -> LogView | None:
        is_over = attempt.finished_at is not None
        window = log_windows.window(self.logs, attempt.id, is_over=is_over)
        if window is None:
            return None
        return _log_view(attempt.id, window)

    async def _view(self, request: web.Request) -> JobView:
        """Return the job of the address. Raises `NotFound`, `PrivateTarget`."""
        job = number_in_path(request, "job")
        name = await self.transactions.store.read(lambda connection: job_pages.target_of(connection, job))
        target = None if name is None else await self.serving.find(name)
        if target is None:
            raise web.HTTPNotFound
        own = _own(request)
        knows_all = target.private and await self._is_admitted(request, target)
        view = await self.transactions.store.read(
            lambda connection: job_pages.find(
                connection, job, self._now(), crowd=self.crowd, request=own, knows_all=knows_all
            )
        )
        if view is None:
            raise web.HTTPNotFound
        if target.private and not knows_all and not view.is_own:
            raise PrivateTarget()
        return view

    async def _is_admitted(self, request: web.Request, target: Target) -> bool:
        return await self.serving.admits(target, credentials(request))

    def _events_address(
        self, request: web.Request, view: JobView, attempt: Attempt | None, log: LogView | None
    ) -> str:
        """Return where the page hears of what comes; "" where nothing does."""
        if view.is_over or "attempt" in request.match_info or "from" in request.query:
            return ""
        query = {"request": _own(request)} if _own(request) else {}
        if attempt is not None:
            place = Place(attempt=attempt.id, offset=0, lines=0) if log is None else log.place
            query["from"] = str(place)
        return f"/jobs/{view.id}/events?{urlencode(query)}"

    def _now(self) -> int:
        return int(self.transactions.now())


_GOING_ON: Final = ("waiting", "queued", "building")


def _log_view(attempt: int, window: Window) -> LogView:
    head = list(read_lines(window.head, 1))
    tail = list(read_lines(window.tail, window.tail_first))
    shown = head + tail
    is_whole = window.gap is None
    first = phases(shown if is_whole else head, name="begin")
    return LogView(
        head=first,
        tail=[] if is_whole else phases(tail, name="further lines"),
        gap=window.gap,
        lines=window.lines,
        errors=_numbers(shown, "err"),
        warnings=_numbers(shown, "wrn"),
        place=Place(attempt=attempt, offset=window.end, lines=window.lines),
        is_short=window.lines <= SHORT,
    )


def _numbers(lines: list[Line], kind: str) -> tuple[int, ...]:
    return tuple(line.number for line in lines if line.kind == kind)


def _told_line(line: Line) -> dict[str, Any]:
    told: dict[str, Any] = {"n": line.number, "html": str(line.html)}
    if line.kind:
        told["kind"] = line.kind
    if line.phase is not None:
        told["phase"] = line.phase
    return told


def _event(kind: str, document: dict[str, Any], place: Place | None) -> bytes:
    identifier = "" if place is None else f"id: {place}\n"
    return f"event: {kind}\n{identifier}data: {json.dumps(document)}\n\n".encode()


def _own(request: web.Request) -> str:
    """Return the id of a request that the reader brings."""
    text = request.query.get("request", "")
    return text if _REQUEST.fullmatch(text) else ""


def _attempt(request: web.Request, view: JobView) -> Attempt | None:
    """Return the attempt of the address, else the last. Raises `HTTPNotFound`."""
    if "attempt" not in request.match_info:
        return view.attempt(None)
    found = view.attempt(number_in_path(request, "attempt"))
    if found is None:
        raise web.HTTPNotFound
    return found
