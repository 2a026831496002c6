# SPDX-License-Identifier: GPL-2.0-or-later
"""What handlers of the API have in common: their routes, whom a request is about, what is answered."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from bdcs.services.answers import Answer
from bdcs.web.openapi import Operation
from gentwoo_client.wire.errors import Unregistered
from gentwoo_client.wire.identity import parse_machine

JSON: Final = "application/json"


def route(app: web.Application, operations: Iterable[Operation], handlers: object) -> None:
    """Route every operation to the method of `handlers` that has its name; public ones also answer HEAD."""
    for operation in operations:
        handler = getattr(handlers, operation.name)
        if operation.method == "GET" and not operation.token:
            app.router.add_get(operation.path, handler)
        else:
            app.router.add_route(operation.method, operation.path, handler)


def machine_of(request: web.Request) -> UUID:
    """Return the machine of the address. Raises `Unregistered` where no machine can have it."""
    machine = parse_machine(request.match_info["uuid"])
    if machine is None:
        raise Unregistered("no machine can have this UUID")
    return machine


def response_of(answer: Answer) -> web.Response:
    """Return what is answered."""
    if not answer.body:
        return web.Response(status=answer.status)
    return web.Response(status=answer.status, body=answer.body.encode(), content_type=JSON)


def response_of_document(document: dict[str, Any]) -> web.Response:
    """Return a document as the answer."""
    return web.Response(body=json.dumps(document).encode(), content_type=JSON)
