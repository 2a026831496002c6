# SPDX-License-Identifier: GPL-2.0-or-later
"""A small collector in this process, which verifies what it gets and misbehaves when told to.

    async with CollectorSimulator() as collector:
        collector.script(Answer(429, retry_after=1), Drop.BEFORE, Drop.AFTER)   # the next three requests
        ...                                                                     # talk to collector.url
        collector.lose(machine, after=7)                                        # all but the first records
        assert [record["seq"] for record in collector.records(machine)] == [...]

It keeps to docs/protocol.md: tokens, chains and heads are checked as a real one does, by the same wire code.
What a fault does happens to one request, in the order of the script; afterwards requests are answered well.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from backports import zstd

from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import (
    AwaitingApproval,
    Forgotten,
    Fork,
    Gap,
    ProtocolError,
    Quarantined,
    Unauthorized,
    Unregistered,
)
from gentwoo_client.wire.identity import machine_uuid, parse_public_key
from gentwoo_client.wire.segments import open_segment
from gentwoo_client.wire.tokens import verify_token


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer with this status instead of doing anything. `problem` makes it a problem document."""

    status: int
    retry_after: int | None = None
    problem: ProtocolError | None = None
    body: bytes = b"<html>not a collector</html>"
    headers: dict[str, str] = field(default_factory=dict)


class Drop(Enum):
    """Close the connection instead of answering."""

    BEFORE = "nothing was done"
    AFTER = "it was done, but nobody learns of it"
    MIDDLE = "it was done, and half of the answer arrives"


Fault = Answer | Drop


@dataclass(slots=True)
class SimulatedMachine:
    """What the collector has of one machine."""

    public_key: bytes
    is_approved: bool = True
    is_quarantined: bool = False
    segments: list[tuple[int, str, bytes]] = field(default_factory=list)
    """Last seq, digest and compact form of each."""

    @property
    def head(self) -> tuple[int, str | None]:
        return self.segments[-1][:2] if self.segments else (0, None)


class CollectorSimulator:
    """Use as an async context manager; `url` is where it listens."""

    def __init__(self) -> None:
        self.machines: dict[uuid.UUID, SimulatedMachine] = {}
        self.forgotten: set[uuid.UUID] = set()
        self.requests: list[str] = []
        """Method and path of each request, in order."""
        self.bodies: list[bytes] = []
        """Compact forms of all segments received, also of those not taken."""
        self.connections = 0
        self.approves = True
        self.clock_offset = 0.0
        self.url = ""
        self._script: deque[Fault] = deque()
        self._peers: set[object] = set()
        self._runner: web.AppRunner | None = None
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._misbehave], client_max_size=limits.ENCODED_BODY_SIZE)
        app.router.add_post("/v1/machines", self._register)
        app.router.add_get("/v1/machines/{machine}", self._state)
        app.router.add_delete("/v1/machines/{machine}", self._forget)
        app.router.add_post("/v1/machines/{machine}/segments", self._segment)
        app.router.add_post("/v1/machines/{machine}/report-links", self._report_link)
        await self._listen(app)
        return self

    async def _listen(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{port}"

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def script(self, *faults: Fault) -> None:
        """Do these to the next requests, one each."""
        self._script.extend(faults)

    def lose(self, machine: uuid.UUID, *, after: int) -> None:
        """Lose the segments that go beyond record `after`, as a collector restored from a backup has."""
        found = self.machines[machine]
        found.segments = [segment for segment in found.segments if segment[0] <= after]

    def records(self, machine: uuid.UUID) -> list[dict[str, Any]]:
        """The records of a machine, in order."""
        return [
            record.to_json()
            for _, _, compact in self.machines[machine].segments
            for record in open_segment(compact).segment.records
        ]

    async def until_records(self, machine: uuid.UUID, count: int) -> None:
        """Wait until so many records of a machine are here."""
        async with asyncio.timeout(30):
            while len(self.records(machine)) < count:
                await self._arrived.wait()
                self._arrived.clear()

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        assert request.transport is not None
        if request.transport not in self._peers:
            self._peers.add(request.transport)
            self.connections += 1
        await request.read()
        fault = self._script.popleft() if self._script else None
        if isinstance(fault, Answer):
            return _scripted(fault)
        if fault is Drop.BEFORE:
            request.transport.close()
            return web.Response()
        try:
            response: web.StreamResponse = await handler(request)
        except ProtocolError as problem:
            response = _problem(problem)
        if fault is Drop.AFTER:
            request.transport.close()
        elif fault is Drop.MIDDLE:
            request.transport.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"head"')
            request.transport.close()
        if self.clock_offset:
            from email.utils import formatdate

            response.headers["Date"] = formatdate(_now(self), usegmt=True)
        return response

    async def _register(self, request: web.Request) -> web.Response:
        public_key = parse_public_key(json.loads(await request.read())["public_key"])
        machine = machine_uuid(public_key)
        await self._authorize(request, {machine: public_key})
        if machine in self.forgotten:
            raise Forgotten
        known = machine in self.machines
        found = self.machines.setdefault(machine, SimulatedMachine(public_key, is_approved=self.approves))
        return self._document(machine, 202 if not found.is_approved else 200 if known else 201)

    async def _state(self, request: web.Request) -> web.Response:
        machine, _ = self._machine(request)
        await self._authorize(request)
        return self._document(machine, 200)

    async def _forget(self, request: web.Request) -> web.Response:
        machine, _ = self._machine(request)
        await self._authorize(request)
        del self.machines[machine]
        self.forgotten.add(machine)
        return web.Response(status=204)

    async def _report_link(self, request: web.Request) -> web.Response:
        self._machine(request)
        await self._authorize(request)
        link = {"url": f"{self.url}/machine?link=secret", "expires_at": "2026-11-22T00:33:45+00:00"}
        return web.json_response(link, status=201)

    async def _segment(self, request: web.Request) -> web.Response:
        _, found = self._machine(request)
        if not found.is_approved:
            raise AwaitingApproval
        if found.is_quarantined:
            raise Quarantined
        compact = await request.read()
        if request.headers.get("Content-Encoding") == "zstd":
            compact = zstd.decompress(compact)
        self.bodies.append(compact)
        opened = open_segment(compact, found.public_key)
        assert opened.segment.audience == self.url
        if any(opened.digest == digest for _, digest, _ in found.segments):
            last = next(segment for segment in found.segments if segment[1] == opened.digest)
            return web.json_response({"head": {"seq": last[0], "segment": last[1]}})
        seq, digest = found.head
        if opened.segment.first_seq > seq + 1:
            raise Gap("there is a gap", seq=seq, segment=digest)
        if opened.segment.first_seq <= seq or opened.segment.prev != digest:
            raise Fork("it went on otherwise", seq=seq, segment=digest)
        found.segments.append((opened.segment.last_seq, opened.digest, compact))
        self._arrived.set()
        return web.json_response({"head": {"seq": opened.segment.last_seq, "segment": opened.digest}})

    async def _authorize(self, request: web.Request, keys: dict[uuid.UUID, bytes] | None = None) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            raise Unauthorized
        known = keys or {machine: found.public_key for machine, found in self.machines.items()}
        verify_token(
            token,
            public_key_of=known.__getitem__,
            audience=self.url,
            method=request.method,
            url=self.url + request.raw_path,
            body=await request.read(),
            now=_now(self),
        )

    def _machine(self, request: web.Request) -> tuple[uuid.UUID, SimulatedMachine]:
        machine = uuid.UUID(request.match_info["machine"])
        if machine in self.forgotten:
            raise Forgotten
        if machine not in self.machines:
            raise Unregistered
        return machine, self.machines[machine]

    def _document(self, machine: uuid.UUID, status: int) -> web.Response:
        found = self.machines[machine]
        seq, digest = found.head
        state = "approved" if found.is_approved else "awaiting-approval"
        document = {"machine": str(machine), "state": state, "head": {"seq": seq, "segment": digest}}
        return web.json_response(document, status=status)


def _now(collector: CollectorSimulator) -> float:
    import time

    return time.time() + collector.clock_offset


def _scripted(fault: Answer) -> web.Response:
    headers = dict(fault.headers)
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    if fault.problem is not None:
        response = _problem(fault.problem)
        response.headers.update(headers)
        return response
    return web.Response(status=fault.status, body=fault.body, headers=headers)


def _problem(problem: ProtocolError) -> web.Response:
    body = json.dumps(problem.to_document()).encode()
    return web.Response(status=problem.status, body=body, content_type="application/problem+json")
