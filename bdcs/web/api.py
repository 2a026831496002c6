# SPDX-License-Identifier: GPL-2.0-or-later
"""The API: handlers that translate between HTTP and services, and the table of operations that they
implement.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from bdcs import measures
from bdcs.domain.networks import Address, NetworkLimit
from bdcs.domain.thresholds import Thresholds
from bdcs.errors import StoreUnavailable
from bdcs.services.ingest import Ingest
from bdcs.services.public_figures import package_figures
from bdcs.services.registration import Registrar
from bdcs.store.store import Store
from bdcs.web.bodies import content_encoding, read_body, require_type, signed_request
from bdcs.web.clients import Clients
from bdcs.web.documents import PackageDocument
from bdcs.web.openapi import Operation
from bdcs.web.operations import JSON, machine_of, response_of, route
from gentwoo_client.wire import limits
from gentwoo_client.wire.cpv import is_category, is_name
from gentwoo_client.wire.errors import NotFound, ProtocolError, TooManyRequests
from gentwoo_client.wire.messages import MachineState, Registration, ReportLink, SegmentAnswer

JOSE: Final = "application/jose"
TOKEN_PROBLEMS: Final = (400, 401, 408, 413, 415, 500, 503)
"""What any request with a token may meet."""
PACKAGE: Final = "/v1/packages/{category}/{name}"

OPERATIONS: Final = (
    # The router looks for them in this order, and most requests push.
    Operation(
        method="POST",
        path="/v1/machines/{uuid}/segments",
        name="push",
        summary="Store a signed segment; answered when it is durable",
        request=(JOSE, None),
        answers={200: SegmentAnswer},
        problems=(400, 403, 404, 408, 409, 410, 413, 415, 429, 500, 503),
    ),
    Operation(
        method="POST",
        path="/v1/machines",
        name="register",
        summary="Make a machine known to the collector",
        token=True,
        request=(JSON, Registration),
        answers={201: MachineState, 200: MachineState, 202: MachineState},
        problems=(*TOKEN_PROBLEMS, 403, 409, 410, 429),
    ),
    Operation(
        method="GET",
        path="/v1/machines/{uuid}",
        name="machine_state",
        summary="How far the machine's chain has come, and what it may do",
        token=True,
        answers={200: MachineState},
        problems=(*TOKEN_PROBLEMS, 404, 410),
    ),
    Operation(
        method="DELETE",
        path="/v1/machines/{uuid}",
        name="forget",
        summary="Erase everything of the machine",
        token=True,
        answers={204: None},
        problems=(*TOKEN_PROBLEMS, 404, 409, 410),
    ),
    Operation(
        method="POST",
        path="/v1/machines/{uuid}/report-links",
        name="make_report_link",
        summary="Make a short-lived link to the machine's own page",
        token=True,
        answers={201: ReportLink},
        problems=(*TOKEN_PROBLEMS, 404, 409, 410),
    ),
    Operation(
        method="GET",
        path=PACKAGE,
        name="package",
        summary="What may be said of a package: on how many machines its versions are",
        answers={200: PackageDocument},
        problems=(404, 500, 503),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineAPI:
    """Everything under /v1/machines."""

    ingest: Ingest
    registrar: Registrar
    public_url: str
    clients: Clients
    record_limit: NetworkLimit

    def add_to(self, app: web.Application) -> None:
        """Route every operation to the method of its name."""
        route(app, (each for each in OPERATIONS if each.path.startswith("/v1/machines")), self)

    async def push(self, request: web.Request) -> web.Response:
        """POST a segment."""
        started = time.perf_counter()
        try:
            machine = machine_of(request)
            require_type(request, JOSE)
            network = self._network(request)
            body = await read_body(request, limits.ENCODED_BODY_SIZE)
            accepted = await self.ingest.accept(machine, body, content_encoding(request))
        except (ProtocolError, StoreUnavailable) as error:
            measures.SEGMENTS.add("refused")
            measures.SEGMENTS_REFUSED.add(error.slug if isinstance(error, ProtocolError) else "unavailable")
            raise
        if accepted.repeated:
            measures.SEGMENTS.add("repeated")
        else:
            self.record_limit.count(network, time.time(), accepted.records)
            measures.SEGMENTS.add("accepted")
            measures.RECORDS.add(count=accepted.records)
        measures.PUSH_SECONDS.observe(time.perf_counter() - started)
        head = f'{{"head":{{"seq":{accepted.seq},"segment":"{accepted.segment}"}}}}'
        return web.Response(body=head.encode(), content_type=JSON)

    def _network(self, request: web.Request) -> Address | None:
        """Return for whom records are counted: nobody on this host. Raises `TooManyRequests`."""
        address = self.clients.address(request)
        if address is None or address.is_loopback:
            return None
        wait = self.record_limit.wait(address, time.time())
        if wait:
            most = self.record_limit.per_day
            raise TooManyRequests(
                f"{most} records of this network arrived today, as many as may in a day",
                retry_after=wait,
                limit="records_per_network",
                allowed=most,
            )
        return address

    async def register(self, request: web.Request) -> web.Response:
        """POST a public key."""
        require_type(request, JSON)
        signed = await signed_request(request, self.public_url, limits.REGISTRATION_SIZE)
        return response_of(await self.registrar.register(signed, self.clients.address(request)))

    async def machine_state(self, request: web.Request) -> web.Response:
        """GET a machine's state."""
        machine = machine_of(request)
        return response_of(
            await self.registrar.state(machine, await signed_request(request, self.public_url, 0))
        )

    async def forget(self, request: web.Request) -> web.Response:
        """DELETE a machine."""
        machine = machine_of(request)
        return response_of(
            await self.registrar.forget(machine, await signed_request(request, self.public_url, 0))
        )

    async def make_report_link(self, request: web.Request) -> web.Response:
        """POST nothing, get a link."""
        machine = machine_of(request)
        signed = await signed_request(request, self.public_url, limits.REQUEST_SIZE)
        return response_of(await self.registrar.report_link(machine, signed))


def add_package_api(app: web.Application, store: Store, thresholds: Thresholds) -> None:
    """Route the package operation; the document is that of the page with the suffix `.json`."""

    async def package(request: web.Request) -> web.Response:
        category, name = request.match_info["category"], request.match_info["name"]
        if not (is_category(category) and is_name(name)):
            raise NotFound("no package can have this name")
        found = await store.read(lambda connection: package_figures(connection, category, name, thresholds))
        return web.Response(body=json.dumps(found.to_document()).encode(), content_type=JSON)

    app.router.add_get(PACKAGE, package)
