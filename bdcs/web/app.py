# SPDX-License-Identifier: GPL-2.0-or-later
"""The web application: routes, what every answer has in common, and how the process is watched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from bdcs.domain.networks import Network
from bdcs.services import machines
from bdcs.store.store import Store
from bdcs.web.clients import Clients
from bdcs.web.metrics import MEDIA_TYPE, Metrics
from bdcs.web.openapi import Operation, document
from bdcs.web.problems import Handler, add_headers, problems
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import Forbidden, Unavailable

READY_TIMEOUT: Final = 5.0  # seconds in which the store must answer


def create_app(
    store: Store, metrics: Metrics, clients: Clients, metrics_readers: tuple[Network, ...]
) -> web.Application:
    """Return the application with what every collector has; API and pages add their routes to it."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as redirect:  # all others are answers by now
            metrics.answered(redirect.status)
            raise
        metrics.answered(response.status)
        return response

    app = web.Application(middlewares=[count, problems], client_max_size=limits.ENCODED_BODY_SIZE)
    app.on_response_prepare.append(add_headers)
    add_watching(app, store)
    add_metrics(app, store, metrics, lambda request: clients.is_from(request, metrics_readers))
    return app


def add_watching(app: web.Application, store: Store) -> None:
    """Add /livez (the process answers) and /readyz (so does the store)."""

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                await store.read(machines.count_by_state)
        except TimeoutError:
            raise Unavailable("the store does not answer", retry_after=int(READY_TIMEOUT)) from None
        return web.Response(text="ok\n")

    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)


def add_metrics(
    app: web.Application, store: Store, metrics: Metrics, may_read: Callable[[web.Request], bool]
) -> None:
    """Add /metrics. It counts machines and records exactly, which public figures never do."""

    async def show_metrics(request: web.Request) -> web.Response:
        if not may_read(request):
            raise Forbidden("the setting `metrics_readers` does not name your network")
        metrics.waiting.set(store.waiting)
        metrics.machines.clear()
        for state, count in (await store.read(machines.count_by_state)).items():
            metrics.machines.labels(state).set(count)
        return web.Response(body=metrics.text(), headers={"Content-Type": MEDIA_TYPE})

    app.router.add_get("/metrics", show_metrics)


def add_description(app: web.Application, operations: tuple[Operation, ...], public_url: str) -> None:
    """Add /openapi.json, which describes `operations`."""
    described: dict[str, Any] = document(operations, public_url)
    body = json.dumps(described, indent=1).encode()

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app.router.add_get("/openapi.json", openapi)
