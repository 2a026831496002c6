# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics: pages for people, the same as JSON and CSV, and the operations of the API."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web
from pydantic import BaseModel
from sqlalchemy import Connection

from bdcs.domain.thresholds import Thresholds
from bdcs.services import public_figures, statistics
from bdcs.services.public_figures import PackageFigures
from bdcs.services.statistics import COMPARED, Overview, PackageStatistics, Ranked, Sort
from bdcs.store.store import Store
from bdcs.web import formats
from bdcs.web.data_tables import csv_answer, json_answer
from bdcs.web.openapi import Operation, Parameter
from bdcs.web.operations import route
from bdcs.web.rendering import Renderer
from bdcs.web.statistics_charts import (
    Histogram,
    Line,
    LineChart,
    Point,
    histogram,
    line_chart,
)
from bdcs.web.statistics_documents import (
    ComparisonDocument,
    FleetDocument,
    OverviewDocument,
    PackageStatisticsDocument,
    RankingDocument,
)
from bdcs.web.statistics_tables import (
    comparison_table,
    days_table,
    fleet_table,
    overview_document,
    package_document,
    package_tables,
    packages_table,
    ranking_table,
    side_by_side_table,
    versions_table,
)
from gentwoo_client.wire.cpv import is_category, is_name, is_repository
from gentwoo_client.wire.errors import Malformed, NotFound

VIEWS: Final = ("versions", "failures", "times")
HOME_ROWS: Final = 5
QUERY_LENGTH: Final = 200  # characters of a search
ADOPTION_LINES: Final = 4
ADOPTION_DAYS: Final = 112
MARKS: Final = (
    (1, "1 s"), (5, "5 s"), (10, "10 s"), (30, "30 s"), (60, "1 min"), (120, "2 min"), (300, "5 min"),
    (600, "10 min"), (1200, "20 min"), (3600, "1 h"), (7200, "2 h"), (18_000, "5 h"), (36_000, "10 h"),
)  # fmt: skip

_SORT: Final = Parameter(
    name="sort",
    schema={"type": "string", "enum": [str(each) for each in Sort], "default": str(Sort.INSTALLED)},
    description="Most installed, risers or fallers of four weeks, or the slowest to build.",
)
_PACKAGES: Final = Parameter(
    name="p",
    schema={"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": COMPARED},
    description="`category/name`, once for each package.",
    required=True,
)


def _operation(
    path: str,
    name: str,
    summary: str,
    answer: type[BaseModel],
    problem: int | None = None,
    query: tuple[Parameter, ...] = (),
) -> Operation:
    problems = (500, 503) if problem is None else (problem, 500, 503)
    return Operation(
        method="GET",
        path=path,
        name=name,
        summary=summary,
        query=query,
        answers={200: answer},
        problems=problems,
    )


OPERATIONS: Final = (
    _operation(
        "/v1/packages", "ranking_json", "The first packages in an order", RankingDocument, 400, (_SORT,)
    ),
    _operation(
        "/v1/packages/{category}/{name}/statistics",
        "package_json",
        "History, adoption, build times and failures of a package",
        PackageStatisticsDocument,
        404,
    ),
    _operation(
        "/v1/categories/{category}",
        "category_json",
        "What is installed of a category",
        OverviewDocument,
        404,
    ),
    _operation(
        "/v1/repositories/{name}",
        "repository_json",
        "What is installed from an ebuild repository",
        OverviewDocument,
        404,
    ),
    _operation(
        "/v1/compare",
        "compare_json",
        "Several packages, week by week",
        ComparisonDocument,
        400,
        (_PACKAGES,),
    ),
    _operation("/v1/fleet", "fleet_json", "The fleet, week by week", FleetDocument),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """The handlers of all that is said over time. Addresses for people answer with the same documents."""

    store: Store
    thresholds: Thresholds
    renderer: Renderer
    now: Callable[[], float] = time.time

    def add_to(self, app: web.Application) -> None:
        """Route everything; before the pages, whose addresses are less exact."""
        route(app, OPERATIONS, self)
        add = app.router.add_get
        add("/packages.json", self.ranking_json)
        add("/packages.csv", self.ranking_csv)
        add("/packages/{category}.json", self.category_json)
        add("/packages/{category}.csv", self.category_csv)
        add("/packages/{category}/{name}/statistics.json", self.package_json)
        add("/packages/{category}/{name}/installed.csv", self.versions_csv)
        add("/packages/{category}/{name}/{table}.csv", self.package_csv)
        add("/packages/{category}/{name}/{view}", self.package_view)
        add("/repositories/{name}.json", self.repository_json)
        add("/repositories/{name}.csv", self.repository_csv)
        add("/repositories/{name}", self.repository)
        add("/compare.json", self.compare_json)
        add("/compare.csv", self.compare_csv)
        add("/compare/now.csv", self.side_by_side_csv)
        add("/compare", self.compare)
        add("/fleet.json", self.fleet_json)
        add("/fleet.csv", self.fleet_csv)
        add("/fleet/days.csv", self.days_csv)
        add("/fleet", self.fleet)

    def of_package(self, connection: Connection, category: str, name: str) -> PackageStatistics:
        """All that may be said of a package besides who has it now."""
        return statistics.package(connection, category, name, self.thresholds, self.now())

    async def package_view(self, request: web.Request) -> web.Response:
        """A page below a package's."""
        category, name = _names(request)
        view = request.match_info["view"]
        if view not in VIEWS:
            raise web.HTTPNotFound
        package, found = await self.store.read(
            lambda connection: (
                public_figures.package_figures(connection, category, name, self.thresholds),
                self.of_package(connection, category, name),
            )
        )
        context: dict[str, Any] = {
            "package": package,
            "statistics": found,
            "view": view,
            "section": "Packages",
        }
        if view == "versions":
            context.update(shares=_shares(found), adoption=_adoption(found))
        elif view == "times":
            context.update(times=_times(found))
        else:
            context.update(failing=_failing(found), widest=_widest(found))
        return self.renderer.page(request, f"package_{view}.html", context)

    async def package_json(self, request: web.Request) -> web.Response:
        """All statistics of a package."""
        found = await self._statistics(*_names(request))
        return json_answer(package_document(found, self.thresholds))

    async def package_csv(self, request: web.Request) -> web.Response:
        """One table of a package."""
        tables = package_tables(await self._statistics(*_names(request)))
        table = tables.get(request.match_info["table"])
        if table is None:
            raise NotFound("a package has no such table")
        return csv_answer(table)

    async def versions_csv(self, request: web.Request) -> web.Response:
        """Which versions machines have now, as a table."""
        return csv_answer(versions_table(await self._figures(*_names(request))))

    async def ranking(self, request: web.Request) -> web.Response:
        """Risers, fallers, and what takes longest to build."""
        sort = _sort(request)
        rows = await self._ranking(sort)
        context = {"sort": str(sort), "rows": rows, "section": "Packages"}
        return self.renderer.page(request, "ranking.html", context)

    async def ranking_json(self, request: web.Request) -> web.Response:
        """The same as a document."""
        return json_answer({"packages": ranking_table(await self._ranking(_sort(request))).to_objects()})

    async def ranking_csv(self, request: web.Request) -> web.Response:
        """The same as a table; with `q`, the packages that have it in their name."""
        if "q" not in request.query:
            return csv_answer(ranking_table(await self._ranking(_sort(request))))
        query, after = (request.query.get(name, "")[:QUERY_LENGTH].strip() for name in ("q", "after"))
        found = await self.store.read(
            lambda connection: public_figures.package_list(connection, search=query, after=after)
        )
        return csv_answer(packages_table(found.rows))

    async def category_json(self, request: web.Request) -> web.Response:
        """What is installed of a category."""
        category = _category(request)
        return json_answer(overview_document(category, await self._category_overview(category)))

    async def category_csv(self, request: web.Request) -> web.Response:
        """The same as a table."""
        return csv_answer(ranking_table((await self._category_overview(_category(request))).ranked))

    async def repository(self, request: web.Request) -> web.Response:
        """What is installed from an ebuild repository."""
        name = _repository(request)
        context = {"name": name, "overview": await self._repository_overview(name), "section": "Packages"}
        return self.renderer.page(request, "repository.html", context)

    async def repository_json(self, request: web.Request) -> web.Response:
        """The same as a document."""
        name = _repository(request)
        return json_answer(overview_document(name, await self._repository_overview(name)))

    async def repository_csv(self, request: web.Request) -> web.Response:
        """The same as a table."""
        return csv_answer(ranking_table((await self._repository_overview(_repository(request))).ranked))

    async def compare(self, request: web.Request) -> web.Response:
        """Up to six packages beside each other; without any, a form."""
        names = _compared(request)
        found = await self._compared(names)
        shown = [each for each in found if each.weeks and each.weeks[-1].machines]
        query = urlencode([("p", f"{category}/{name}") for category, name in names])
        context = {
            "names": [f"{category}/{name}" for category, name in names],
            "found": found,
            "ahead": max(shown, key=lambda each: each.weeks[-1].machines) if shown else None,
            "history": _history(shown, named=True),
            "query": query,
            "most": COMPARED,
            "section": "Packages",
        }
        return self.renderer.page(request, "compare.html", context)

    async def compare_json(self, request: web.Request) -> web.Response:
        """The same as a document."""
        table = comparison_table(await self._compared(_compared(request)))
        return json_answer({"history": table.to_objects()})

    async def compare_csv(self, request: web.Request) -> web.Response:
        """The same as a table."""
        return csv_answer(comparison_table(await self._compared(_compared(request))))

    async def side_by_side_csv(self, request: web.Request) -> web.Response:
        """How they are now, as a table."""
        return csv_answer(side_by_side_table(await self._compared(_compared(request))))

    async def fleet(self, request: web.Request) -> web.Response:
        """Machines seen, merges a day, hours compiled and saved."""
        found = await self.store.read(statistics.fleet)
        context = {"fleet": found, "charts": _fleet_charts(found), "section": "Fleet"}
        return self.renderer.page(request, "fleet.html", context)

    async def fleet_json(self, _request: web.Request) -> web.Response:
        """The same as a document."""
        found = await self.store.read(statistics.fleet)
        return json_answer({"machines": found.machines or None, "weeks": fleet_table(found).to_objects()})

    async def fleet_csv(self, _request: web.Request) -> web.Response:
        """The same as a table."""
        return csv_answer(fleet_table(await self.store.read(statistics.fleet)))

    async def days_csv(self, _request: web.Request) -> web.Response:
        """Machines that reported on the last days, as a table."""
        return csv_answer(days_table(await self.store.read(public_figures.overview)))

    async def _figures(self, category: str, name: str) -> PackageFigures:
        return await self.store.read(
            lambda connection: public_figures.package_figures(connection, category, name, self.thresholds)
        )

    async def _statistics(self, category: str, name: str) -> PackageStatistics:
        return await self.store.read(lambda connection: self.of_package(connection, category, name))

    async def _compared(self, names: Sequence[tuple[str, str]]) -> tuple[PackageStatistics, ...]:
        now = self.now()
        return await self.store.read(
            lambda connection: statistics.compared(connection, names, self.thresholds, now)
        )

    async def _ranking(self, sort: Sort) -> tuple[Ranked, ...]:
        return await self.store.read(lambda connection: statistics.ranking(connection, sort))

    async def _category_overview(self, category: str) -> Overview:
        return await self.store.read(lambda store: statistics.category_overview(store, category))

    async def _repository_overview(self, name: str) -> Overview:
        return await self.store.read(lambda store: statistics.repository_overview(store, name))


def home_context(connection: Connection) -> dict[str, object]:
    """What the first page shows of the last weeks."""
    return {
        "risers": statistics.ranking(connection, Sort.RISERS, rows=HOME_ROWS),
        "fallers": statistics.ranking(connection, Sort.FALLERS, rows=HOME_ROWS),
    }


def package_context(found: PackageStatistics) -> dict[str, object]:
    """What the page of a package shows of its statistics."""
    return {"statistics": found, "history": _history([found]), "failing": _failing(found)}


def _names(request: web.Request) -> tuple[str, str]:
    category, name = request.match_info["category"], request.match_info["name"]
    if not (is_category(category) and is_name(name)):
        raise NotFound("no package can have this name")
    return category, name


def _category(request: web.Request) -> str:
    category = request.match_info["category"]
    if not is_category(category):
        raise NotFound("no category can have this name")
    return category


def _repository(request: web.Request) -> str:
    name = request.match_info["name"]
    if not is_repository(name):
        raise NotFound("no repository can have this name")
    return name


def _sort(request: web.Request) -> Sort:
    try:
        return Sort(request.query.get("sort", str(Sort.INSTALLED)))
    except ValueError:
        raise Malformed(f"`sort` is none of {', '.join(Sort)}") from None


def _compared(request: web.Request) -> list[tuple[str, str]]:
    """The packages asked for, once each. Raises `Malformed`."""
    names = dict.fromkeys(text.strip() for text in request.query.getall("p", []) if text.strip())
    if len(names) > COMPARED:
        raise Malformed(f"at most {COMPARED} packages are compared")
    split = [tuple(name.split("/", 1)) for name in names]
    if not all(len(each) == 2 and is_category(each[0]) and is_name(each[1]) for each in split):
        raise Malformed("`p` is no `category/name`")
    return [(each[0], each[1]) for each in split]


def _week_points(starts: Sequence[int]) -> list[Point]:
    days = [_date(start) for start in starts]
    return [
        Point(
            label=formats.day_and_month(day),
            title=f"week of {formats.day(day)}",
            place=(place + 0.5) / len(days),
        )
        for place, day in enumerate(days)
    ]


def _history(found: Sequence[PackageStatistics], *, named: bool = False) -> LineChart | None:
    """Machines with each package over the weeks that any of them is shown in."""
    starts = sorted({week.start for each in found for week in each.weeks})
    if len(starts) < 2:
        return None
    lines = []
    alike = Counter(each.name for each in found)
    for each in found:
        machines = {week.start: week.machines for week in each.weeks}
        values = tuple(float(machines[start]) if machines.get(start) else None for start in starts)
        full_name = f"{each.category}/{each.name}"
        name = "machines" if not named else each.name if alike[each.name] == 1 else full_name
        lines.append(Line(name=name, values=values, texts=_counts(values)))
    return line_chart(_week_points(starts), lines)


def _shares(found: PackageStatistics) -> LineChart | None:
    if len(found.weeks) < 2 or not found.shares:
        return None
    lines = []
    for series in found.shares:
        pairs = zip(series.machines, found.weeks, strict=True)
        values = tuple(
            100 * machines / week.machines if machines and week.machines else None for machines, week in pairs
        )
        texts = tuple("–" if value is None else f"{value:.0f} %" for value in values)
        lines.append(Line(name=series.version, values=values, texts=texts))
    return line_chart(_week_points([week.start for week in found.weeks]), lines, top=100.0, unit=" %")


def _adoption(found: PackageStatistics) -> LineChart | None:
    newest = found.adoption[:ADOPTION_LINES]
    if not newest:
        return None
    days = [day for day, _ in newest[0].curve if day <= ADOPTION_DAYS]
    points = [
        Point(
            label=f"{day:g} d" if day in (0, 7, 14, 28, 56, 112) else "",
            title=f"{day:g} days" if day >= 1 else f"{24 * day:g} hours",
            place=day / days[-1],
        )
        for day in days
    ]
    colours = _colours([each.version for each in found.shares], [each.version for each in newest])
    lines = [
        Line(
            name=each.version,
            colour=colours[each.version],
            values=tuple(100 * share for _, share in each.curve[: len(days)]),
            texts=tuple(f"{100 * share:.0f} %" for _, share in each.curve[: len(days)]),
        )
        for each in newest
    ]
    return line_chart(points, lines, top=100.0, unit=" %")


def _colours(known: Sequence[str], wanted: Sequence[str]) -> dict[str, int]:
    """A colour for each version that is wanted: the one that it has in the chart above, or a free one."""
    colours = {version: number for number, version in enumerate(known, 1)}
    taken = {colours[version] for version in wanted if version in colours}
    free = iter(sorted(set(range(1, 6)) - taken))
    return {version: colours[version] if version in colours else next(free) for version in wanted}


def _times(found: PackageStatistics) -> Histogram | None:
    if found.typical is None:
        return None
    bars = [
        (each.low, each.high, each.machines, f"{_rounded(each.low)} to {_rounded(each.high)}")
        for each in found.durations
    ]
    return histogram(bars, found.typical, MARKS)


def _rounded(seconds: float) -> str:
    """A duration to two digits: the edges of bars are no round numbers."""
    return formats.duration(round(float(f"{seconds:.2g}"))) if seconds >= 1 else "0 s"


def _failing(found: PackageStatistics) -> list[Any]:
    return [each for each in found.failures if each.stands_out]


def _widest(found: PackageStatistics) -> float:
    """The end of the scale that all intervals share."""
    highest = max((each.interval.high for each in found.failures if each.interval is not None), default=0.1)
    return min(1.0, max(0.05, -(-highest * 20 // 1) / 20))


def _fleet_charts(found: statistics.FleetStatistics) -> dict[str, LineChart]:
    if len(found.weeks) < 2:
        return {}
    points = _week_points([week.start for week in found.weeks])
    columns: dict[str, dict[str, list[int | None]]] = {
        "machines": {"machines": [week.machines for week in found.weeks]},
        "merges": {"merges a day": [week.merges_a_day for week in found.weeks]},
        "hours": {
            "built": [week.hours for week in found.weeks],
            "saved": [week.saved for week in found.weeks],
        },
    }
    charts = {}
    for key, series in columns.items():
        lines = []
        for name, numbers in series.items():
            values = tuple(None if number is None else float(number) for number in numbers)
            lines.append(Line(name=name, values=values, texts=_counts(values)))
        charts[key] = line_chart(points, lines)
    return charts


def _counts(values: Sequence[float | None]) -> tuple[str, ...]:
    return tuple("–" if value is None else f"{value:,.0f}" for value in values)


def _date(seconds: int) -> date:
    return datetime.fromtimestamp(seconds, UTC).date()
