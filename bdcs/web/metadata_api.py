# SPDX-License-Identifier: GPL-2.0-or-later
"""The API of metadata that builders make, since the collector sources no ebuild."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from bdcs.services.metadata_exchange import MetadataExchange
from bdcs.web.attempts_api import BODY_PROBLEMS
from bdcs.web.bodies import require_type, signed_request
from bdcs.web.builds_api import TOKEN_PROBLEMS
from bdcs.web.openapi import Operation
from bdcs.web.operations import JSON, response_of_document, route
from gentwoo_client.wire import limits
from gentwoo_client.wire.build_messages import MetadataMade, MetadataTaken, MetadataWanted
from gentwoo_client.wire.messages import parse_message

OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/v1/metadata",
        name="wanted",
        summary="Ebuilds whose repositories have no metadata of them; for approved builders",
        token=True,
        answers={200: MetadataWanted},
        problems=TOKEN_PROBLEMS,
    ),
    Operation(
        method="POST",
        path="/v1/metadata",
        name="take",
        summary="Send metadata that Portage made of such ebuilds, in a sandbox",
        token=True,
        request=(JSON, MetadataMade),
        answers={200: MetadataTaken},
        problems=BODY_PROBLEMS,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataAPI:
    """Everything under /v1/metadata."""

    exchange: MetadataExchange
    public_url: str

    def add_to(self, app: web.Application) -> None:
        """Route every operation to the method of its name."""
        route(app, OPERATIONS, self)
        app.on_cleanup.append(self._close)

    async def _close(self, _app: web.Application) -> None:
        await asyncio.to_thread(self.exchange.refresher.close)

    async def wanted(self, request: web.Request) -> web.Response:
        """GET what nothing is known of."""
        signed = await signed_request(request, self.public_url, limits.REQUEST_SIZE)
        return response_of_document(await self.exchange.wanted(signed))

    async def take(self, request: web.Request) -> web.Response:
        """POST what was made of it."""
        require_type(request, JSON)
        signed = await signed_request(request, self.public_url, limits.METADATA_SIZE)
        made = parse_message(MetadataMade, signed.body, size=limits.METADATA_SIZE)
        return response_of_document(await self.exchange.take(signed, made))
