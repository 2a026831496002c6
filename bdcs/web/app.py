# SPDX-License-Identifier: GPL-2.0-or-later
"""The web application: routes, what every answer has in common, and how the process is watched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Final

from aiohttp import web

from bdcs import measures
from bdcs.domain.networks import Network
from bdcs.services.readiness import PATIENCE, Readiness
from bdcs.web.clients import Clients
from bdcs.web.metrics import MEDIA_TYPE, Metrics
from bdcs.web.openapi import Operation, document
from bdcs.web.problems import Handler, add_headers, problems
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import Forbidden, Unavailable

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that are counted by name; a client may send any word."""


def create_app(metrics: Metrics, clients: Clients, metrics_readers: tuple[Network, ...]) -> web.Application:
    """Return the application with what every collector has; API and pages add their routes to it."""
    app = web.Application(middlewares=[count, problems], client_max_size=limits.ENCODED_BODY_SIZE)
    app.on_response_prepare.append(add_headers)
    add_watching(app, metrics.readiness)
    add_metrics(app, metrics, lambda request: clients.is_from(request, metrics_readers))
    return app


@web.middleware
async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count requests, and how long they take."""
    resource = request.match_info.route.resource
    route = "none" if resource is None else resource.canonical
    method = request.method if request.method in METHODS else "other"
    began = time.perf_counter()
    measures.REQUESTS_IN_PROGRESS.add(1, method, route)
    status = 499  # whoever asked has gone
    try:
        response = await handler(request)
        status = response.status
    except web.HTTPException as redirect:  # all others are answers by now
        status = redirect.status
        raise
    finally:
        measures.REQUESTS_IN_PROGRESS.add(-1, method, route)
        measures.REQUESTS.add(method, route, str(status))
        seconds = time.perf_counter() - began
        measures.REQUEST_SECONDS.observe(seconds, method, route, f"{status // 100}xx")
    return response


def add_watching(app: web.Application, readiness: Readiness) -> None:
    """Add /livez (the process answers) and /readyz (requests should come here)."""

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        problem = await readiness.problem()
        if problem is not None:
            raise Unavailable(problem, retry_after=int(PATIENCE))
        return web.Response(text="ok\n")

    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)


def add_metrics(app: web.Application, metrics: Metrics, may_read: Callable[[web.Request], bool]) -> None:
    """Add /metrics. It counts machines and records exactly, which public figures never do."""

    async def show_metrics(request: web.Request) -> web.Response:
        if not may_read(request):
            raise Forbidden("the setting `metrics_readers` does not name your network")
        return web.Response(body=await metrics.text(), headers={"Content-Type": MEDIA_TYPE})

    async def watch_loop(_app: web.Application) -> AsyncIterator[None]:
        watching = asyncio.create_task(metrics.watch_loop())
        yield
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    app.cleanup_ctx.append(watch_loop)
    app.router.add_get("/metrics", show_metrics)


def add_description(app: web.Application, operations: tuple[Operation, ...], public_url: str) -> None:
    """Add /openapi.json, which describes `operations`; made when first asked for, as few ask."""

    @cache
    def described() -> bytes:
        return json.dumps(document(operations, public_url), indent=1).encode()

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=await asyncio.to_thread(described), content_type="application/json")

    app.router.add_get("/openapi.json", openapi)
