# SPDX-License-Identifier: GPL-2.0-or-later
"""What is worth building before anyone asks: the page, and the same as JSON and CSV."""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from bdcs.domain.thresholds import Thresholds
from bdcs.services.prebuild_public import Prospect, Prospects, prospects
from bdcs.store.store import Store
from bdcs.web import formats
from bdcs.web.data_tables import csv_answer, json_answer
from bdcs.web.openapi import Operation, Parameter
from bdcs.web.prebuild_documents import PrebuildDocument, prebuild_document, prebuild_tables
from bdcs.web.rendering import Renderer
from bdcs.web.statistics_charts import Line, LineChart, Point, line_chart
from gentwoo_client.wire.errors import NotFound

log = logging.getLogger(__name__)

SECTION: Final = "Builds"
REMEMBERED: Final = 30.0
"""Seconds for which what was found out is believed to be so; who comes later has it found out anew."""
ROWS: Final = 50
"""Rows of each table on the page; the documents have all."""
STEPS: Final = 20
"""Between points of the chart."""

STALE: Final = 300.0
"""Seconds after which it is too old to be shown: a target may be private by now."""

_TARGET: Final = Parameter(
    name="target", schema={"type": "string"}, description="Of this target alone; it is for everybody."
)

OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/prebuild",
        name="prebuild_json",
        summary="What is worth building before anyone asks",
        query=(_TARGET,),
        answers={200: PrebuildDocument},
        problems=(404, 500, 503),
    ),
)


@dataclass(slots=True)
class _Memory:
    """What was found out last, and when by the monotonic clock; and who finds it out anew."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    found: Prospects | None = None
    at: float = float("-inf")
    renewal: asyncio.Task[Prospects] | None = None

    @property
    def age(self) -> float:
        """Seconds since it was found out."""
        return time.monotonic() - self.at


@dataclass(frozen=True, slots=True, kw_only=True)
class PrebuildPages:
    """The handlers of the page and of its documents."""

    store: Store
    thresholds: Thresholds
    renderer: Renderer
    now: Callable[[], float] = time.time
    _memory: _Memory = field(default_factory=_Memory)

    def add_to(self, app: web.Application) -> None:
        """Route everything."""
        app.on_cleanup.append(self._stop)
        app.router.add_get("/v1/prebuild", self.document)
        app.router.add_get("/prebuild.json", self.document)
        app.router.add_get("/prebuild.csv", self.table)
        app.router.add_get("/prebuild/coverage.csv", self.table)
        app.router.add_get("/prebuild/unbuilt.csv", self.table)
        app.router.add_get("/prebuild", self.page)

    async def page(self, request: web.Request) -> web.Response:
        """What to build next, and how few builds serve how many machines."""
        found, target = await self._found(request)
        context: dict[str, Any] = {
            "section": SECTION,
            "found": found,
            "target": target,
            "query": f"?{urlencode({'target': target})}" if target else "",
            "next": found.next[:ROWS],
            "coverage": found.coverage[:ROWS],
            "machines": sum(each.place.machines for each in found.coverage),
            "served": sum(each.served for each in found.coverage),
            "best": sum(each.curve[0] for each in found.coverage if each.curve),
            "chart": _chart(found.next),
            "build_seconds": sum(each.pick.candidate.seconds for each in found.next),
            "saved_seconds": sum(each.saved for each in found.next),
        }
        return self.renderer.page(request, "prebuild.html", context)

    async def document(self, request: web.Request) -> web.Response:
        """The same as JSON."""
        found, _ = await self._found(request)
        return json_answer(prebuild_document(found, self.thresholds))

    async def table(self, request: web.Request) -> web.Response:
        """One of the tables as CSV."""
        found, _ = await self._found(request)
        name = request.path.rpartition("/")[2].removesuffix(".csv")
        return csv_answer(prebuild_tables(found)["next" if name == "prebuild" else name])

    async def _found(self, request: web.Request) -> tuple[Prospects, str]:
        """Return what there is to say of the target that is asked about, or of all. Raises `NotFound`."""
        found = await self._prospects()
        target = request.query.get("target", "")
        if target and target not in found.targets:
            raise NotFound("no target of this name is for everybody")
        return found.at(target), target

    async def _prospects(self) -> Prospects:
        """Return what was found out last; only who comes first waits for it, or first after long."""
        memory = self._memory
        if memory.found is None or memory.age >= STALE:
            async with memory.lock:
                return await self._renew() if memory.found is None or memory.age >= STALE else memory.found
        is_at_it = memory.renewal is not None and not memory.renewal.done()
        if memory.age >= REMEMBERED and not is_at_it:
            memory.renewal = asyncio.create_task(self._renew(), name="prebuild-page")
            memory.renewal.add_done_callback(_tell)
        return memory.found

    async def _renew(self) -> Prospects:
        now = self.now()
        found = await self.store.read(lambda connection: prospects(connection, self.thresholds, now))
        self._memory.found, self._memory.at = found, time.monotonic()
        return found

    async def _stop(self, _app: web.Application) -> None:
        """Nobody asks any more."""
        renewal = self._memory.renewal
        if renewal is not None:
            renewal.cancel()
            await asyncio.wait([renewal])


def _tell(renewal: asyncio.Task[Prospects]) -> None:
    if not renewal.cancelled() and (error := renewal.exception()) is not None:
        log.warning("what is worth building was not found out anew: %s", error)


def _chart(following: Sequence[Prospect]) -> LineChart | None:
    """The share of what could be saved that builds save which are done by some time, the best first."""
    whole = sum(each.saved for each in following)
    if len(following) < 2 or not whole:
        return None
    ends = list(accumulate(each.pick.candidate.seconds for each in following))
    saved = [0, *accumulate(each.saved for each in following)]
    times = [round(ends[-1] * step / STEPS) for step in range(STEPS + 1)]
    shares = tuple(100 * saved[bisect_right(ends, time)] / whole for time in times)
    points = [
        Point(label=formats.about(time) if time else "0", title=f"{formats.about(time)} of work", place=place)
        for place, time in ((step / STEPS, time) for step, time in enumerate(times))
    ]
    texts = tuple(formats.percent(share / 100) for share in shares)
    return line_chart(points, [Line(name="saved", values=shares, texts=texts)], top=100.0, unit=" %")
