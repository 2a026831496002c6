# SPDX-License-Identifier: GPL-2.0-or-later
"""The API of the catalogue: searching what ebuild repositories offer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from bdcs.services import searching
from bdcs.services.searching import PAGE
from bdcs.store.store import Store
from bdcs.web.documents import SearchDocument
from bdcs.web.openapi import Operation, Parameter
from bdcs.web.operations import route
from gentwoo_client.wire.errors import Malformed
from gentwoo_client.wire.limits import SEARCH_LENGTH, SEARCH_PAGE

AFTER_LENGTH: Final = 16

OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/search",
        name="search",
        summary="Packages of the catalogue, by name and by the words of their description",
        query=(
            Parameter(
                name="q",
                schema={"type": "string", "minLength": 1, "maxLength": SEARCH_LENGTH},
                description="A name, the beginning of one, or words.",
                required=True,
            ),
            Parameter(
                name="after",
                schema={"type": "string", "maxLength": AFTER_LENGTH},
                description="`after` of the page before.",
            ),
            Parameter(
                name="limit",
                schema={"type": "integer", "minimum": 1, "maximum": SEARCH_PAGE, "default": PAGE},
                description="How many at most.",
            ),
        ),
        answers={200: SearchDocument},
        problems=(400, 500, 503),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAPI:
    """Searching."""

    store: Store

    def add_to(self, app: web.Application) -> None:
        """Route every operation to the method of its name."""
        route(app, OPERATIONS, self)

    async def search(self, request: web.Request) -> web.Response:
        """GET matches."""
        query, after = _line(request, "q", SEARCH_LENGTH), _line(request, "after", AFTER_LENGTH)
        if not query.strip():
            raise Malformed("`q` says what to search for")
        limit = _limit(request)

        found = await self.store.read(
            lambda connection: searching.search(connection, query, after=after, limit=limit)
        )
        return web.Response(body=json.dumps(found.to_json()).encode(), content_type="application/json")


def _line(request: web.Request, name: str, length: int) -> str:
    value = request.query.get(name, "")
    if len(value) > length or not value.isprintable():
        raise Malformed(f"`{name}` is not a line of at most {length} characters")
    return value


def _limit(request: web.Request) -> int:
    value = request.query.get("limit", str(PAGE))
    if not (value.isascii() and value.isdigit() and len(value) < 6 and 1 <= int(value) <= SEARCH_PAGE):
        raise Malformed(f"`limit` is not a number from 1 to {SEARCH_PAGE}")
    return int(value)
