# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON Schemas of the events that go to a broker: `/schemas/events/build.json` and its like."""

from __future__ import annotations

import json
from typing import Final

from aiohttp import web

from bdcs.web.problems import Handler
from gentwoo_client.wire.events import MODELS, schema_of

MEDIA_TYPE: Final = "application/schema+json"


def add_event_schemas(app: web.Application) -> None:
    """Add them to the application, whether events are sent or not."""
    for kind, model in MODELS.items():
        app.router.add_get(f"/schemas/events/{kind}.json", _showing(schema_of(model)))


def _showing(schema: object) -> Handler:
    body = json.dumps(schema, indent=1).encode()
    headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "public, max-age=3600"}

    async def show(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers=headers)

    return show
