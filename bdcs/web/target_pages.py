# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages about the binhost: its targets, what is in them, and what became of them.

Addresses that end in `.json` give what the API gives, from the same handlers. A private target's pages are
for whoever may read its index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy import Connection

from bdcs.errors import NoSuchGeneration
from bdcs.services import generations, target_pages, targets
from bdcs.services.serving import Serving
from bdcs.services.target_documents import QUERY_LENGTH, TargetDocuments
from bdcs.services.targets import Contents, Target
from bdcs.store.store import Store
from bdcs.web.binhost import admitted_target
from bdcs.web.rendering import PRIVATE, PUBLIC, Renderer
from bdcs.web.targets_api import TargetsAPI
from gentwoo_client.wire.cpv import is_category, is_name

SECTION: Final = "Binhost"
NEWEST: Final = 10
"""Generations on a target's page."""
NUMBER_LENGTH: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPages:
    """The handlers of everything under /targets."""

    store: Store
    serving: Serving
    documents: TargetDocuments
    api: TargetsAPI
    renderer: Renderer

    def add_to(self, app: web.Application) -> None:
        """Route the pages, and the same as JSON."""
        app.router.add_get("/targets.json", self.api.targets)
        app.router.add_get("/targets/{target}.json", self.api.target)
        app.router.add_get("/targets/{target}/packages.json", self.api.target_packages)
        app.router.add_get("/targets", self.listed)
        app.router.add_get("/targets/{target}", self.target)
        app.router.add_get("/targets/{target}/generations/{number}", self.generation)
        app.router.add_get("/targets/{target}/packages", self.packages)
        app.router.add_get("/targets/{target}/packages/{category}/{name}", self.package)

    async def listed(self, request: web.Request) -> web.Response:
        """All targets that are for everybody."""

        def work(connection: Connection) -> dict[str, Any]:
            contents = targets.contents(connection)
            return {
                "rows": [
                    (target, contents.get(target.id, Contents()), generations.current(connection, target))
                    for target in targets.listed(connection)
                    if not target.private
                ]
            }

        return await self._page(request, None, "targets.html", work)

    async def target(self, request: web.Request) -> web.Response:
        """One target: what its packages are built for, who signs them, what was published lately."""
        name = (await admitted_target(request, self.serving)).name

        def work(connection: Connection) -> dict[str, Any]:
            target = targets.require(connection, name)
            return {
                "document": self.documents.of(connection, target),
                "contents": targets.contents(connection).get(target.id, Contents()),
                "generations": generations.log(connection, target, NEWEST),
            }

        return await self._page(request, await self.serving.find(name), "target.html", work)

    async def generation(self, request: web.Request) -> web.Response:
        """What a publication changed."""
        target = await admitted_target(request, self.serving)
        text = request.match_info["number"]
        if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_LENGTH):
            raise web.HTTPNotFound

        def work(connection: Connection) -> dict[str, Any]:
            found = generations.require(connection, target, int(text))
            return {
                "generation": found,
                "diff": generations.diff(connection, target, found.number - 1, found.number),
            }

        try:
            return await self._page(request, target, "target_generation.html", work)
        except NoSuchGeneration:
            raise web.HTTPNotFound from None

    async def packages(self, request: web.Request) -> web.Response:
        """The target's packages, or those of a search."""
        target = await admitted_target(request, self.serving)
        query = request.query.get("q", "").strip()[:QUERY_LENGTH]
        after = request.query.get("after", "")[:QUERY_LENGTH]

        def work(connection: Connection) -> dict[str, Any]:
            found = target_pages.packages(connection, target, search=query, after=after)
            here = f"/targets/{target.name}/packages"
            following = {"q": query, "after": found.after or ""}
            return {
                "query": query,
                "after": after,
                "rows": found.rows,
                "first": f"{here}?{urlencode({'q': query})}" if after else "",
                "next": f"{here}?{urlencode(following)}" if found.after else "",
            }

        return await self._page(request, target, "target_packages.html", work)

    async def package(self, request: web.Request) -> web.Response:
        """The builds of one package."""
        target = await admitted_target(request, self.serving)
        category, name = request.match_info["category"], request.match_info["name"]
        if not (is_category(category) and is_name(name)):
            raise web.HTTPNotFound

        def work(connection: Connection) -> dict[str, Any]:
            rows = target_pages.builds_of(connection, target, category, name)
            return {"category": category, "name": name, "builds": rows}

        return await self._page(request, target, "target_package.html", work)

    async def _page(
        self,
        request: web.Request,
        target: Target | None,
        template: str,
        work: Callable[[Connection], dict[str, Any]],
    ) -> web.Response:
        context = await self.store.read(work)
        cache = PRIVATE if target is not None and target.private else PUBLIC
        return self.renderer.page(
            request, template, {"target": target, "section": SECTION, **context}, cache=cache
        )
