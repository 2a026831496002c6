# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages for Gentoo developers: who would be hurt by a removal, and who still has what an advisory is about.

Addresses that end in `.json` give what the API gives, from the same handlers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import hdrs, web

from bdcs.domain.affected import MOST_PACKAGES, TEXT_LENGTH, Affected, parse_affected
from bdcs.domain.thresholds import Thresholds
from bdcs.services import exposure
from bdcs.services.exposure import Exposure, PackageExposure
from bdcs.store.store import Store
from bdcs.web import formats
from bdcs.web.charts import ColumnChart, Value, column_chart
from bdcs.web.documents import ExposureDocument
from bdcs.web.openapi import Operation, Parameter
from bdcs.web.rendering import PAGE_HEADERS, PUBLIC, Renderer
from gentwoo_client.wire.errors import Malformed

SECTION: Final = "Developers"
FEWEST_WEEKS: Final = 3
"""A trend has so many columns."""
_ATOMS: Final = Parameter(
    name="atoms",
    schema={"type": "string", "minLength": 1, "maxLength": TEXT_LENGTH},
    description=f"Atoms of at most {MOST_PACKAGES} packages, or what a GLSA says is affected.",
    required=True,
)

OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/exposure",
        name="exposure",
        summary="On how many machines the versions still are that are named",
        query=(_ATOMS,),
        answers={200: ExposureDocument},
        problems=(400, 500, 503),
    ),
    Operation(
        method="GET",
        path="/v1/removal",
        name="removal",
        summary="On how many machines the versions are that would go, and what would be left to these",
        query=(_ATOMS,),
        answers={200: ExposureDocument},
        problems=(400, 500, 503),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeveloperPages:
    """The handlers of these pages, and of their documents."""

    store: Store
    thresholds: Thresholds
    renderer: Renderer

    def add_to(self, app: web.Application) -> None:
        """Route the pages, and the same as JSON."""
        app.router.add_get("/developers", self.developers)
        for name in ("exposure", "removal"):
            app.router.add_get(f"/{name}", getattr(self, name))
            app.router.add_get(f"/{name}.json", self.document)
            app.router.add_get(f"/v1/{name}", self.document)

    async def developers(self, request: web.Request) -> web.Response:
        """What there is for developers."""
        return self.renderer.page(request, "developers.html", {"section": SECTION})

    async def exposure(self, request: web.Request) -> web.Response:
        """Who still has what an advisory is about."""
        return await self._page(request, "exposure.html")

    async def removal(self, request: web.Request) -> web.Response:
        """Who would be hurt by a removal."""
        return await self._page(request, "removal.html")

    async def document(self, request: web.Request) -> web.Response:
        """Either as JSON."""
        found = await self._find(parse_affected(_question(request)))
        headers = {**PAGE_HEADERS, hdrs.CACHE_CONTROL: PUBLIC}
        return web.json_response(found.to_document(), headers=headers)

    async def _page(self, request: web.Request, template: str) -> web.Response:
        question = _question(request)
        context: dict[str, Any] = {"section": SECTION, "question": question, "found": None, "problem": ""}
        context["query"] = urlencode({_ATOMS.name: question})
        if question:
            try:
                asked = parse_affected(question)
            except Malformed as error:
                context["problem"] = error.detail
            else:
                context["found"] = await self._find(asked)
        if context["found"] is not None:
            context["charts"] = [_trend(each) for each in context["found"].packages]
        return self.renderer.page(request, template, context)

    async def _find(self, asked: Sequence[Affected]) -> Exposure:
        return await self.store.read(lambda connection: exposure.exposure(connection, asked, self.thresholds))


def _question(request: web.Request) -> str:
    return request.query.get(_ATOMS.name, "").strip()


def _trend(package: PackageExposure) -> ColumnChart | None:
    """The package's machines week by week; weeks with too few of them have no column. None: no trend yet."""
    values = [
        Value(
            label=formats.day_and_month(week.monday),
            title=f"Week of {formats.day(week.monday)}",
            amount=week.machines,
            text=formats.number(week.machines) if week.machines else "not shown",
        )
        for week in package.trend
    ]
    return column_chart(values) if sum(value.amount > 0 for value in values) >= FEWEST_WEEKS else None
