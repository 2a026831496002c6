# SPDX-License-Identifier: GPL-2.0-or-later
"""The API of targets: what there is, and what is in it. Uploads: `bdcs.web.uploads`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from sqlalchemy import Connection

from bdcs.services import targets, tokens
from bdcs.services.serving import Serving
from bdcs.services.target_documents import (
    LONGEST_PAGE,
    PAGE,
    QUERY_LENGTH,
    TargetDocuments,
    package_page,
)
from bdcs.services.targets import Target
from bdcs.store.store import Store
from bdcs.web.binhost import admitted_target, credentials
from bdcs.web.documents import BuildsDocument, TargetDocument, TargetsDocument
from bdcs.web.openapi import Operation, Parameter
from bdcs.web.operations import route
from gentwoo_client.wire.errors import Malformed, NotFound
from gentwoo_client.wire.targets import targets_to_json

AFTER_LENGTH: Final = 512

OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/targets",
        name="targets",
        summary="All targets; private ones only for who may read them",
        basic=True,
        answers={200: TargetsDocument},
        problems=(500, 503),
    ),
    Operation(
        method="GET",
        path="/v1/targets/{target}",
        name="target",
        summary="One target: what its packages are built for, where its index is, who signs",
        basic=True,
        answers={200: TargetDocument},
        problems=(401, 404, 500, 503),
    ),
    Operation(
        method="GET",
        path="/v1/targets/{target}/packages",
        name="target_packages",
        summary="The packages that the target's index lists",
        basic=True,
        query=(
            Parameter(
                name="q",
                schema={"type": "string", "maxLength": QUERY_LENGTH},
                description="Words that CATEGORY/NAME has.",
            ),
            Parameter(
                name="after",
                schema={"type": "string", "maxLength": AFTER_LENGTH},
                description="`after` of the page before.",
            ),
            Parameter(
                name="limit",
                schema={"type": "integer", "minimum": 1, "maximum": LONGEST_PAGE, "default": PAGE},
                description="How many at most.",
            ),
        ),
        answers={200: BuildsDocument},
        problems=(400, 401, 404, 500, 503),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetsAPI:
    """Reading under /v1/targets."""

    store: Store
    serving: Serving
    documents: TargetDocuments

    def add_to(self, app: web.Application) -> None:
        """Route every operation to the method of its name."""
        route(app, OPERATIONS, self)

    async def targets(self, request: web.Request) -> web.Response:
        """GET all targets that the asker may read."""
        asker = credentials(request)

        def may_read(connection: Connection, target: Target) -> bool:
            if target.private:
                return asker is not None and tokens.accepts(connection, target, *asker)
            return True

        def work(connection: Connection) -> dict[str, object]:
            present = [target for target in targets.listed(connection) if may_read(connection, target)]
            return targets_to_json(self.documents.of(connection, target) for target in present)

        return _json(await self.store.read(work))

    async def target(self, request: web.Request) -> web.Response:
        """GET one target."""
        name = (await admitted_target(request, self.serving)).name

        def work(connection: Connection) -> dict[str, object]:
            target = targets.find(connection, name)
            if target is None:
                raise NotFound("no target of this name")
            return self.documents.of(connection, target).to_json()

        return _json(await self.store.read(work))

    async def target_packages(self, request: web.Request) -> web.Response:
        """GET a page of the packages of a target."""
        target = await admitted_target(request, self.serving)
        query, after = _text(request, "q", QUERY_LENGTH), _text(request, "after", AFTER_LENGTH)
        limit = _limit(request)
        page = await self.store.read(
            lambda connection: package_page(connection, target, query=query, after=after, limit=limit)
        )
        return _json({"packages": page.packages, "after": page.after})


def _text(request: web.Request, name: str, length: int) -> str:
    value = request.query.get(name, "")
    if len(value) > length or not value.isprintable():
        raise Malformed(f"`{name}` is not a line of at most {length} characters")
    return value


def _limit(request: web.Request) -> int:
    value = request.query.get("limit")
    if value is None:
        return PAGE
    if not (value.isascii() and value.isdigit() and len(value) < 6 and 1 <= int(value) <= LONGEST_PAGE):
        raise Malformed(f"`limit` is not a number from 1 to {LONGEST_PAGE}")
    return int(value)


def _json(document: object) -> web.Response:
    return web.Response(body=json.dumps(document).encode(), content_type="application/json")
