# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages for Gentoo developers: who would be hurt by a removal, and who still has what an advisory is about.

Addresses that end in `.json` give what the API gives, from the same handlers; those in `.csv` the tables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web
from pydantic import BaseModel

from bdcs.domain.affected import MOST_PACKAGES, TEXT_LENGTH, Affected, parse_affected
from bdcs.domain.thresholds import Thresholds
from bdcs.services import exposure
from bdcs.services.exposure import Exposure, PackageExposure, Removal
from bdcs.store.store import Store
from bdcs.web import formats
from bdcs.web.charts import ColumnChart, Value, column_chart
from bdcs.web.data_tables import csv_answer, json_answer
from bdcs.web.documents import ExposureDocument, RemovalDocument
from bdcs.web.exposure_tables import dependents_table, exposure_table
from bdcs.web.openapi import Operation, Parameter
from bdcs.web.rendering import Renderer
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


def _operation(name: str, summary: str, answer: type[BaseModel]) -> Operation:
    return Operation(
        method="GET",
        path=f"/v1/{name}",
        name=name,
        summary=summary,
        query=(_ATOMS,),
        answers={200: answer},
        problems=(400, 500, 503),
    )


OPERATIONS: Final = (
    _operation("exposure", "On how many machines the versions still are that are named", ExposureDocument),
    _operation(
        "removal",
        "On how many machines the versions are that would go, what would be left to these, and who depends"
        " on them",
        RemovalDocument,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeveloperPages:
    """The handlers of these pages, and of their documents."""

    store: Store
    thresholds: Thresholds
    renderer: Renderer

    def add_to(self, app: web.Application) -> None:
        """Route the pages, and the same as JSON and CSV."""
        app.router.add_get("/developers", self.developers)
        for name in ("exposure", "removal"):
            app.router.add_get(f"/{name}", getattr(self, name))
            for path in (f"/{name}.json", f"/v1/{name}"):
                app.router.add_get(path, getattr(self, f"{name}_json"))
            app.router.add_get(f"/{name}.csv", getattr(self, f"{name}_csv"))
        app.router.add_get("/removal/dependents.csv", self.dependents_csv)

    async def developers(self, request: web.Request) -> web.Response:
        """What there is for developers."""
        return self.renderer.page(request, "developers.html", {"section": SECTION})

    async def exposure(self, request: web.Request) -> web.Response:
        """Who still has what an advisory is about."""
        context = await self._context(request, self._exposure)
        return self.renderer.page(request, "exposure.html", context)

    async def exposure_json(self, request: web.Request) -> web.Response:
        """The same as a document."""
        return json_answer((await self._exposure(parse_affected(_question(request)))).to_document())

    async def exposure_csv(self, request: web.Request) -> web.Response:
        """The same as a table."""
        return csv_answer(exposure_table(await self._exposure(parse_affected(_question(request)))))

    async def removal(self, request: web.Request) -> web.Response:
        """Who would be hurt by a removal."""
        context = await self._context(request, self._removal)
        if context["found"] is not None:
            context["charts"] = [_trend(each) for each in context["found"].exposure.packages]
        return self.renderer.page(request, "removal.html", context)

    async def removal_json(self, request: web.Request) -> web.Response:
        """The same as a document."""
        return json_answer((await self._removal(parse_affected(_question(request)))).to_document())

    async def removal_csv(self, request: web.Request) -> web.Response:
        """The versions that would go, as a table."""
        return csv_answer(exposure_table((await self._removal(parse_affected(_question(request)))).exposure))

    async def dependents_csv(self, request: web.Request) -> web.Response:
        """Who depends on them, as a table."""
        return csv_answer(dependents_table(await self._removal(parse_affected(_question(request)))))

    async def _context(
        self, request: web.Request, find: Callable[[Sequence[Affected]], Awaitable[object]]
    ) -> dict[str, Any]:
        question = _question(request)
        context: dict[str, Any] = {"section": SECTION, "question": question, "found": None, "problem": ""}
        context["query"] = urlencode({_ATOMS.name: question})
        if question:
            try:
                asked = parse_affected(question)
            except Malformed as error:
                context["problem"] = error.detail
            else:
                context["found"] = await find(asked)
        return context

    async def _exposure(self, asked: Sequence[Affected]) -> Exposure:
        return await self.store.read(lambda connection: exposure.exposure(connection, asked, self.thresholds))

    async def _removal(self, asked: Sequence[Affected]) -> Removal:
        return await self.store.read(lambda connection: exposure.removal(connection, asked, self.thresholds))


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
