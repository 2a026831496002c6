# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages for people: the first one, packages, a machine's own, and what there is to know about figures.

Everything works without script; nothing comes from elsewhere; no cookie is set. `add_pages` adds the routes
and the frame in which errors appear.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import hdrs, web
from sqlalchemy import Connection

from bdcs.domain.thresholds import Thresholds
from bdcs.services import (
    availability,
    browsing,
    catalogue,
    machine_page,
    machines,
    public_figures,
    searching,
    targets,
)
from bdcs.services.availability import Available
from bdcs.services.browsing import Shelf
from bdcs.services.catalogue import CataloguePackage
from bdcs.services.figures import Renewal
from bdcs.services.machines import Machine
from bdcs.services.public_figures import PackageFigures, VersionFigure
from bdcs.services.report_links import LIFETIME, ReportLinks
from bdcs.services.statistics import PackageStatistics
from bdcs.store.store import Store
from bdcs.web import formats
from bdcs.web.assets import Assets
from bdcs.web.charts import ColumnChart, Value, column_chart
from bdcs.web.page_errors import LinkExpired, page_errors
from bdcs.web.problems import SHOW
from bdcs.web.rendering import PAGE_HEADERS, PRIVATE, PUBLIC, Renderer
from bdcs.web.statistics import QUERY_LENGTH, Statistics, home_context, package_context
from gentwoo_client.version import VERSION
from gentwoo_client.wire.cpv import is_category, is_name, split_cpv
from gentwoo_client.wire.search import SearchAnswer
from gentwoo_client.wire.version import Version

NEWEST: Final = 10
"""Records on a machine's overview."""
FOUND: Final = 25
"""Packages of the catalogue that a search shows beside those that machines have."""
VIEWS: Final = ("overview", "records", "installed", "failures")
JSON_SUFFIX: Final = ".json"


def add_pages(
    app: web.Application,
    *,
    store: Store,
    thresholds: Thresholds,
    links: ReportLinks,
    renewal: Renewal,
    renderer: Renderer,
    assets: Assets,
) -> None:
    """Add the pages, their static files and their errors to `app`."""
    statistics = Statistics(store=store, thresholds=thresholds, renderer=renderer)
    statistics.add_to(app)
    pages = Pages(
        store=store,
        thresholds=thresholds,
        links=links,
        renewal=renewal,
        renderer=renderer,
        statistics=statistics,
    )
    app[SHOW] = page_errors(renderer)
    app.router.add_get("/", pages.home)
    app.router.add_get("/packages", pages.search)
    app.router.add_get("/packages/{category}", pages.category)
    app.router.add_get("/packages/{category}/{name}", pages.package)
    app.router.add_get("/machine", pages.machine)
    app.router.add_get("/about/methods", pages.methods)
    app.router.add_get("/about/privacy", pages.privacy)
    app.router.add_get("/about/status", pages.status)
    app.router.add_get("/robots.txt", pages.robots)
    app.router.add_get("/static/{name}", assets.serve)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Package:
    """All that the page of a package says, from one look at the store."""

    figures: PackageFigures
    offered: CataloguePackage | None
    nearest: tuple[str, ...]
    """Packages that are written almost like it, where nobody knows it."""
    has_targets: bool
    """Whether there are targets for everybody."""
    binaries: Mapping[str, tuple[Available, ...]]
    """What these have of it, by version."""
    statistics: PackageStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The handlers of all pages."""

    store: Store
    thresholds: Thresholds
    links: ReportLinks
    renewal: Renewal
    renderer: Renderer
    statistics: Statistics

    async def home(self, request: web.Request) -> web.Response:
        """How many machines there are, what is most installed, and how to take part."""
        overview, weeks = await self.store.read(
            lambda connection: (public_figures.overview(connection), home_context(connection))
        )
        context = {
            **weeks,
            "fleet": overview.fleet,
            "packages": overview.packages,
            "top": overview.top,
            "days": overview.days,
        }
        return self.renderer.page(request, "home.html", context)

    async def search(self, request: web.Request) -> web.Response:
        """Packages by name; a full name, or the only package of a name, leads to its page."""
        if "sort" in request.query:
            return await self.statistics.ranking(request)
        query = request.query.get("q", "").strip()[:QUERY_LENGTH]
        if (exact := await self._exact(query)) is not None:
            raise web.HTTPSeeOther(f"/packages/{exact}", headers={hdrs.CACHE_CONTROL: PUBLIC})
        return await self._list(request, query=query)

    async def category(self, request: web.Request) -> web.Response:
        """The packages of a category."""
        category = request.match_info["category"]
        if not is_category(category):
            raise web.HTTPNotFound
        return await self._list(request, category=category)

    async def package(self, request: web.Request) -> web.Response:
        """One package, as a page or, with the suffix `.json`, as a document."""
        category, name = request.match_info["category"], request.match_info["name"]
        as_json, name = name.endswith(JSON_SUFFIX), name.removesuffix(JSON_SUFFIX)
        if not (is_category(category) and is_name(name)):
            raise web.HTTPNotFound
        if as_json:
            package = await self.store.read(
                lambda connection: public_figures.package_figures(connection, category, name, self.thresholds)
            )
            headers = {**PAGE_HEADERS, hdrs.CACHE_CONTROL: PUBLIC}
            return web.json_response(package.to_document(), headers=headers)
        found = await self.store.read(lambda connection: self._package(connection, category, name))
        context = {
            "package": found.figures,
            "leading": _leading(found.figures.versions),
            "offered": found.offered,
            "nearest": found.nearest,
            "has_targets": found.has_targets,
            "binaries": found.binaries,
            "others": _not_offered(found.binaries, found.offered),
            "section": "Packages",
            **package_context(found.statistics),
        }
        return self.renderer.page(request, "package.html", context)

    async def machine(self, request: web.Request) -> web.Response:
        """A machine's own page, for whoever has a link that the machine's key asked for."""
        link = request.query.get("link", "")
        if not link:
            return self.renderer.page(request, "machine_ask.html", {})
        uuid = self.links.machine_of(link, time.time())
        machine = None
        if uuid is not None:
            machine = await self.store.read(lambda connection: machines.find(connection, uuid))
        if machine is None:
            raise LinkExpired
        view = request.query.get("view", VIEWS[0])
        if view not in VIEWS:
            raise web.HTTPNotFound
        query = request.query
        context = await self.store.read(lambda store: _machine_context(store, machine, view, query))
        context["address"] = lambda view: "/machine?" + urlencode({"link": link, "view": view})
        if context["next"]:
            context["next"] = "/machine?" + urlencode({"link": link, "view": view, **context["next"]})
        first = context["address"](view) if request.query.keys() & {"before", "after"} else ""
        context.update(view=view, first=first, minutes=LIFETIME // 60)
        return self.renderer.page(request, "machine.html", context, cache=PRIVATE)

    async def methods(self, request: web.Request) -> web.Response:
        """How each figure is computed, and why some are not shown."""
        return self.renderer.page(request, "about_methods.html", {"section": "Methods"})

    async def privacy(self, request: web.Request) -> web.Response:
        """What is kept, what others see, and how to have it erased."""
        return self.renderer.page(request, "about_privacy.html", {"section": "Privacy"})

    async def status(self, request: web.Request) -> web.Response:
        """Whether the collector works. Nothing that depends on what machines do stands here."""
        context = {
            "version": VERSION,
            "started_at": self.renewal.started_at,
            "renewed_at": self.renewal.renewed_at,
            "working": self.renewal.working,
        }
        return self.renderer.page(request, "about_status.html", context, cache="no-cache")

    async def robots(self, _request: web.Request) -> web.Response:
        """Keep crawlers away from machines' own pages."""
        return web.Response(text="User-agent: *\nDisallow: /machine\n", headers={hdrs.CACHE_CONTROL: PUBLIC})

    async def _exact(self, query: str) -> str | None:
        """The full name of the package that `query` can only mean, whether anybody has it or not."""
        category, slash, name = query.partition("/")
        if slash and is_category(category) and is_name(name):
            return query
        if (split := split_cpv(query)) is not None:
            return f"{split[0]}/{split[1]}"
        if is_name(query):
            found = await self.store.read(lambda connection: _categories_of(connection, query))
            return f"{found[0]}/{query}" if len(found) == 1 else None
        return None

    async def _list(self, request: web.Request, *, query: str = "", category: str = "") -> web.Response:
        after = request.query.get("after", "")[:QUERY_LENGTH]
        found = await self.store.read(
            lambda connection: public_figures.package_list(
                connection, search=query, category=category, after=after
            )
        )
        answer = SearchAnswer(packages=(), after=None, nearest=())
        nearest: list[str] = []
        shelf = await self.store.read(
            lambda connection: _shelf(connection, query, category, request.query.get("from", ""))
        )
        if query and not after:
            answer = await self.store.read(
                lambda connection: searching.search(connection, query, limit=FOUND)
            )
        if query and not found.rows and not answer.packages:
            nearest = await self.store.read(
                lambda connection: public_figures.nearest_packages(connection, query)
            )
            nearest += [name for name in answer.nearest if name not in nearest]
        shown = {(row.category, row.name) for row in found.rows}
        here = f"/packages/{category}" if category else "/packages"
        parameters = {"q": query} if query else {}
        context = {
            "query": query,
            "category": category,
            "after": after,
            "rows": found.rows,
            "fleet": found.fleet,
            "offered": [each for each in answer.packages if (each.category, each.name) not in shown],
            "more_offered": answer.after is not None,
            "nearest": nearest,
            "first": _address(here, parameters) if after else "",
            "next": _address(here, {**parameters, "after": found.after}) if found.after else "",
            "shelf": shelf,
            "section": "Packages",
        }
        return self.renderer.page(request, "packages.html", context)

    def _package(self, connection: Connection, category: str, name: str) -> _Package:
        figures = public_figures.package_figures(connection, category, name, self.thresholds)
        offered = catalogue.package(connection, category, name)
        is_known = figures.machines or offered is not None
        public = [target for target in targets.listed(connection) if not target.private]
        return _Package(
            figures=figures,
            offered=offered,
            nearest=() if is_known else tuple(public_figures.nearest_packages(connection, name)),
            has_targets=bool(public),
            binaries=availability.of_package(connection, public, category, name, int(time.time())),
            statistics=self.statistics.of_package(connection, category, name),
        )


def _shelf(connection: Connection, query: str, category: str, after: str) -> Shelf | None:
    """Return what the ebuild repositories have to browse through; None beside what is searched for."""
    if query:
        return None
    if category:
        return browsing.category(connection, category, after[:QUERY_LENGTH])
    return Shelf(categories=tuple(browsing.categories(connection)), packages=(), after=None)


def _not_offered(binaries: Mapping[str, object], offered: CataloguePackage | None) -> list[str]:
    """Return versions that no repository has any more, the newest first."""
    known = {version.cpv.version for version in offered.versions} if offered is not None else set()
    return sorted(binaries.keys() - known, key=Version.parse, reverse=True)


def _categories_of(connection: Connection, name: str) -> list[str]:
    """Categories in which a package of exactly this name is shown, or that repositories have it in."""
    shown = public_figures.categories_of(connection, name)
    return sorted({*shown, *catalogue.categories_of(connection, name)})


def _address(path: str, parameters: dict[str, str]) -> str:
    return f"{path}?{urlencode(parameters)}" if parameters else path


def _leading(versions: Sequence[VersionFigure]) -> VersionFigure | None:
    """The version on most machines; the newest where several are on as many."""
    return max(versions, key=lambda version: version.machines, default=None)


def _machine_context(
    connection: Connection, machine: Machine, view: str, parameters: Mapping[str, str]
) -> dict[str, Any]:
    summary = machine_page.summary(connection, machine)
    context: dict[str, Any] = {
        "machine": machine,
        "last_received": machine_page.last_received(connection, machine),
        "summary": summary,
        "days": _days_chart(summary.days) if view == "overview" else None,
        "months": _months_chart(summary.months) if view == "overview" else None,
        "next": {},
    }
    if view == "installed":
        installed = machine_page.installed(connection, machine, after=parameters.get("after", ""))
        context.update(page=installed, next={"after": installed.after} if installed.after else {})
        return context
    before = parameters.get("before", "")
    received = machine_page.received(
        connection,
        machine,
        before=int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None,
        failures=view == "failures",
        rows=NEWEST if view == "overview" else machine_page.PAGE,
    )
    context.update(page=received, next={"before": received.before} if received.before else {})
    return context


def _days_chart(days: Sequence[tuple[date, int]]) -> ColumnChart | None:
    values = [
        Value(
            label=formats.day_and_month(day), title=formats.day(day), amount=count, text=formats.number(count)
        )
        for day, count in days
    ]
    return column_chart(values) if values else None


def _months_chart(months: Sequence[tuple[date, int]]) -> ColumnChart | None:
    values = [
        Value(
            label=formats.month_or_year(month),
            title=formats.month(month),
            amount=seconds / formats.HOUR,
            text=f"{formats.hours(seconds)} h",
        )
        for month, seconds in months
    ]
    return column_chart(values, unit=" h") if values else None
