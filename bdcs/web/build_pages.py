# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages about building: what is built now, what waits, what ended, who builds, and what became of a request.

Targets that are not for everybody appear only where one is named (`?target=`), for who may read its index.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy import Connection

from bdcs.blobs.attempt_logs import Logs
from bdcs.domain.jobs import ENDS, JobState
from bdcs.services import builder_pages, job_pages, log_windows, queue_pages, targets
from bdcs.services.build_documents import BuildDocuments
from bdcs.services.builder_pages import Builders
from bdcs.services.queue_pages import Flying, JobRows
from bdcs.services.serving import Serving
from bdcs.services.targets import Target
from bdcs.services.waking import Transactions
from bdcs.web.binhost import credentials
from bdcs.web.log_lines import read_lines
from bdcs.web.rendering import LIVE, PRIVATE, Renderer
from gentwoo_client.wire.errors import PrivateTarget

SECTION: Final = "Builds"
FEW: Final = 10
"""Jobs of each list on the first page."""
AFTER_LENGTH: Final = 40
REST: Final = 10
"""How many times as long as it took to look through the queue nobody looks through it again …"""
OLDEST: Final = 1.0  # … in seconds at most
QUEUE_STATES: Final[Mapping[str, tuple[JobState, ...]]] = {
    "": (JobState.BUILDING, JobState.QUEUED, JobState.WAITING),
    "building": (JobState.BUILDING,),
    "queued": (JobState.QUEUED,),
    "waiting": (JobState.WAITING,),
}
FINISHED_STATES: Final[Mapping[str, tuple[JobState, ...]]] = {
    "": tuple(ENDS),
    "published": (JobState.PUBLISHED,),
    "failed": (JobState.FAILED,),
    "mismatch": (JobState.MISMATCH,),
    "cancelled": (JobState.CANCELLED,),
}
_REQUEST: Final = re.compile(r"[a-z2-7]{10}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which targets a reader looks at."""

    shown: tuple[Target, ...]
    choice: tuple[Target, ...]
    """Those that everybody may choose from."""
    name: str
    """The one that was chosen; "" for all."""

    @property
    def is_private(self) -> bool:
        """Whether the reader had to prove that he may see it, and so may see everything of it."""
        return any(target.private for target in self.shown)

    def address(self, path: str, **query: str) -> str:
        """Return an address that keeps to the target."""
        given = {name: value for name, value in {**query, "target": self.name}.items() if value}
        return f"{path}?{urlencode(given)}" if given else path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was found, and until when that will do (`time.monotonic`)."""

    flying: Flying
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPages:
    """The handlers of /builds and /builders."""

    transactions: Transactions
    serving: Serving
    documents: BuildDocuments
    logs: Logs
    renderer: Renderer
    crowd: int
    """Machines that may be told of together."""
    _seen: dict[str, _Seen] = field(default_factory=dict)
    """What was last found, by the name of the scope."""

    def add_to(self, app: web.Application) -> None:
        """Route the pages."""
        app.router.add_get("/builds", self.overview)
        app.router.add_get("/builds/queue", self.queue)
        app.router.add_get("/builds/finished", self.finished)
        app.router.add_get("/builds/{request}", self.request)
        app.router.add_get("/builders", self.builders)

    async def overview(self, request: web.Request) -> web.Response:
        """What is built now, what comes next, what ended lately, and whether that keeps up."""
        scope, now = await self._scope(request), self._now()

        def work(connection: Connection) -> dict[str, Any]:
            found = self._flying(connection, scope, now)
            states = (JobState.QUEUED, JobState.WAITING)
            return {
                **self._common(connection, scope, found, now),
                "next": self._queued(connection, scope, found, states, limit=FEW),
                "ended": self._ended(connection, scope, FINISHED_STATES[""], limit=FEW),
                "lately": queue_pages.lately(connection, scope.shown, now),
            }

        context = await self.transactions.store.read(work)
        context["tails"] = await self._tails(context["builders"], context["told"])
        return self._page(request, "builds.html", scope, now, context)

    async def queue(self, request: web.Request) -> web.Response:
        """All jobs in flight."""
        scope, now, state = await self._scope(request), self._now(), _state(request, QUEUE_STATES)

        def work(connection: Connection) -> dict[str, Any]:
            found = self._flying(connection, scope, now)
            rows = self._queued(connection, scope, found, QUEUE_STATES[state], after=_after(request))
            return {**self._common(connection, scope, found, now), "jobs": rows}

        context = await self.transactions.store.read(work)
        context.update(self._paging(request, scope, "/builds/queue", state, context["jobs"]))
        return self._page(request, "builds_queue.html", scope, now, context)

    async def finished(self, request: web.Request) -> web.Response:
        """Jobs that ended, the last first."""
        scope, now, state = await self._scope(request), self._now(), _state(request, FINISHED_STATES)

        def work(connection: Connection) -> dict[str, Any]:
            found = self._flying(connection, scope, now)
            rows = self._ended(connection, scope, FINISHED_STATES[state], after=_after(request))
            return {**self._common(connection, scope, found, now), "jobs": rows}

        context = await self.transactions.store.read(work)
        context.update(self._paging(request, scope, "/builds/finished", state, context["jobs"]))
        return self._page(request, "builds_finished.html", scope, now, context)

    async def builders(self, request: web.Request) -> web.Response:
        """Who builds, and what."""
        scope, now = await self._scope(request), self._now()

        def work(connection: Connection) -> dict[str, Any]:
            return self._common(connection, scope, self._flying(connection, scope, now), now)

        context = await self.transactions.store.read(work)
        context["tails"] = await self._tails(context["builders"], context["told"])
        return self._page(request, "builders.html", scope, now, context)

    async def request(self, request: web.Request) -> web.Response:
        """What became of one request, for who has its id."""
        number, now = request.match_info["request"], self._now()
        if not _REQUEST.fullmatch(number):
            raise web.HTTPNotFound

        def work(connection: Connection) -> dict[str, Any] | None:
            found = job_pages.request(connection, number)
            if found is None:
                return None
            return self.documents.request(connection, found, now, {})

        document = await self.transactions.store.read(work)
        if document is None:
            raise web.HTTPNotFound
        context = {"request": document, "now": now, "section": SECTION}
        return self.renderer.page(request, "build_request.html", context, cache=PRIVATE)

    def _common(self, connection: Connection, scope: Scope, found: Flying, now: int) -> dict[str, Any]:
        """What stands on all of these pages."""
        builders = builder_pages.listed(connection, scope.shown, now)
        states = (JobState.BUILDING,)
        told = self._queued(connection, scope, found, states, limit=len(found.ids))
        return {
            "flying": found,
            "builders": builders,
            "told": {row.id for row in told.rows if not row.variant.is_hidden},
            "overdue": sum(bool(row.late(now)) for row in told.rows),
        }

    def _flying(self, connection: Connection, scope: Scope, now: int) -> Flying:
        """Return the jobs in flight; of a long queue as they were a moment ago, however many look at it."""
        began = time.monotonic()
        seen = self._seen.get(scope.name)
        if seen is not None and began < seen.until:
            return seen.flying
        found = queue_pages.flying(connection, scope.shown, now)
        ended = time.monotonic()
        self._seen[scope.name] = _Seen(flying=found, until=ended + min(OLDEST, REST * (ended - began)))
        return found

    def _queued(
        self,
        connection: Connection,
        scope: Scope,
        found: Flying,
        states: Sequence[JobState],
        *,
        after: str = "",
        limit: int = queue_pages.PAGE,
    ) -> JobRows:
        return queue_pages.queue(
            connection,
            found,
            states=states,
            after=after,
            limit=limit,
            crowd=self.crowd,
            knows_all=scope.is_private,
        )

    def _ended(
        self,
        connection: Connection,
        scope: Scope,
        states: Sequence[JobState],
        *,
        after: str = "",
        limit: int = queue_pages.PAGE,
    ) -> JobRows:
        return queue_pages.ended(
            connection,
            scope.shown,
            states=states,
            after=after,
            limit=limit,
            crowd=self.crowd,
            knows_all=scope.is_private,
        )

    async def _tails(self, builders: Builders, told: set[int]) -> dict[int, Any]:
        """Return the last line of each log that is being written, by its attempt, where it may be told."""
        work = [one for row in builders.rows for one in row.work if one.job in told]

        def read() -> dict[int, Any]:
            lines = {one.attempt: log_windows.last_line(self.logs, one.attempt) for one in work}
            return {attempt: next(read_lines([line], 1)).html for attempt, line in lines.items() if line}

        return await asyncio.to_thread(read) if work else {}

    async def _scope(self, request: web.Request) -> Scope:
        """Return what the reader looks at. Raises `HTTPNotFound`, `PrivateTarget`."""
        listed = await self.transactions.store.read(targets.listed)
        public = tuple(target for target in listed if not target.private)
        name = request.query.get("target", "")
        if not name:
            return Scope(shown=public, choice=public, name="")
        chosen = next((target for target in listed if target.name == name), None)
        if chosen is None:
            raise web.HTTPNotFound
        if not await self.serving.admits(chosen, credentials(request)):
            raise PrivateTarget()
        return Scope(shown=(chosen,), choice=public, name=name)

    def _paging(
        self, request: web.Request, scope: Scope, path: str, state: str, jobs: JobRows
    ) -> dict[str, Any]:
        more = scope.address(path, state=state, after=jobs.after) if jobs.after else ""
        first = scope.address(path, state=state) if _after(request) else ""
        return {
            "path": path,
            "state": state,
            "first": first,
            "following": more,
            "choose": partial(_choose, scope, path),
        }

    def _page(
        self, request: web.Request, template: str, scope: Scope, now: int, context: dict[str, Any]
    ) -> web.Response:
        cache = PRIVATE if scope.is_private else LIVE
        common = {"scope": scope, "now": now, "section": SECTION}
        return self.renderer.page(request, template, {**common, **context}, cache=cache)

    def _now(self) -> int:
        return int(self.transactions.now())


def _choose(scope: Scope, path: str, state: str) -> str:
    return scope.address(path, state=state)


def _state(request: web.Request, states: Mapping[str, tuple[JobState, ...]]) -> str:
    state = request.query.get("state", "")
    if state not in states:
        raise web.HTTPNotFound
    return state


def _after(request: web.Request) -> str:
    return request.query.get("after", "")[:AFTER_LENGTH]
