# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that were never there: signed chains of real records, and a client that only just speaks HTTP.

The client has to cost next to nothing, since it shares the machine with what is measured.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from backports import zstd

from gentwoo_client.log.tracker import MergeTracker
from gentwoo_client.wire.records import LIVE, SYNCHRONIZED, PackageStateChange
from gentwoo_client.wire.segments import Segment, digest, sign_segment
from tests.peer import Peer

LOG: Final = Path(__file__).parent.parent / "tests" / "data" / "emerge-logs" / "emlop-10000.log"
STEP: Final = 3600  # seconds by which each machine's log lies later than the one's before it
WORTH_COMPRESSING: Final = 1024  # bytes, as the client has it


def real_changes() -> list[PackageStateChange]:
    """What a real machine's log tells of; `seq` is 0."""
    return [
        PackageStateChange(
            seq=0,
            event=change.event,
            category=change.category,
            name=change.name,
            version=change.version,
            repository="gentoo",
            install_type=change.install_type,
            cause=change.cause,
            replaces=change.replaces,
            recorded_at=change.at,
            time_delta=change.time_delta,
            concurrency=change.concurrency,
            observed=LIVE,
            clock=SYNCHRONIZED,
        )
        for change in MergeTracker().feed(LOG.read_bytes())
    ]


def numbered(changes: list[PackageStateChange], *, machine: int) -> Iterator[PackageStateChange]:
    """An endless history: the real one again and again, each machine beginning elsewhere in it."""
    span = changes[-1].recorded_at - changes[0].recorded_at + STEP
    start = machine * 37 % len(changes)
    endless = itertools.islice(itertools.count(), start, None)
    for seq, place in enumerate(endless, 1):
        change = changes[place % len(changes)]
        yield PackageStateChange(
            seq=seq,
            event=change.event,
            category=change.category,
            name=change.name,
            version=change.version,
            repository=change.repository,
            install_type=change.install_type,
            cause=change.cause,
            replaces=change.replaces,
            recorded_at=change.recorded_at + place // len(changes) * span + machine * STEP,
            time_delta=change.time_delta,
            concurrency=change.concurrency,
            observed=change.observed,
            clock=change.clock,
        )


def chain(peer: Peer, records: Iterator[PackageStateChange], *, segments: int, size: int) -> list[bytes]:
    """Signed segments of `size` records each, as `peer` would send them."""
    compacts = []
    for _ in range(segments):
        batch = tuple(itertools.islice(records, size))
        segment = Segment(
            machine=peer.machine,
            audience=peer.collector,
            first_seq=batch[0].seq,
            prev=peer.prev,
            created_at=int(time.time()),
            records=batch,
        )
        compact = sign_segment(segment, peer.key)
        peer.prev = digest(compact)
        compacts.append(compact)
    return compacts


def push_request(peer: Peer, compact: bytes) -> bytes:
    """The bytes of the HTTP request that pushes `compact`."""
    body, encoding = compact, ""
    if len(compact) > WORTH_COMPRESSING:
        body, encoding = zstd.compress(compact, 3), "Content-Encoding: zstd\r\n"
    head = (
        f"POST {peer.path}/segments HTTP/1.1\r\nHost: {urlsplit(peer.collector).netloc}\r\n"
        f"Content-Type: application/jose\r\n{encoding}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """How driving a server went."""

    requests: int
    seconds: float
    waits: tuple[float, ...]
    """Seconds from each request to its answer, the shortest first."""

    @property
    def p99(self) -> float:
        """Seconds that one answer in a hundred takes at least."""
        return self.waits[len(self.waits) * 99 // 100]

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def drive(url: str, queues: list[list[bytes]], *, status: int = 200) -> Drive:
    """Send each queue over a connection of its own, one request after the answer to the one before.

    Raises `AssertionError` at the first answer that is not `status`.
    """
    return asyncio.run(_drive(url, queues, status))


async def _drive(url: str, queues: list[list[bytes]], status: int) -> Drive:
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    host, port = address.hostname or "", address.port or 0
    connections = [
        (await loop.create_connection(partial(Connection, queue, status), host, port))[1] for queue in queues
    ]
    start = time.perf_counter()
    for connection in connections:
        connection.send_next()
    await asyncio.gather(*(connection.done for connection in connections))
    seconds = time.perf_counter() - start
    for connection in connections:
        connection.close()
    waits = tuple(sorted(wait for connection in connections for wait in connection.waits))
    return Drive(requests=len(waits), seconds=seconds, waits=waits)


class Connection(asyncio.Protocol):
    """One connection that asks, waits for the answer, and asks again."""

    def __init__(self, queue: list[bytes], status: int) -> None:
        self._wanted = f"HTTP/1.1 {status}".encode()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waits: list[float] = []
        self._sent_at = 0.0
        self._queue = iter(queue)
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send_next(self) -> None:
        """Send the next request, or be done."""
        assert self._transport is not None
        request = next(self._queue, None)
        if request is None:
            self.done.set_result(None)
        else:
            self._sent_at = time.perf_counter()
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        if not head.startswith(self._wanted):
            self.done.set_exception(AssertionError((head + b"\n" + body).decode(errors="replace")))
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if len(body) >= length:
            self._received = body[length:]
            self.waits.append(time.perf_counter() - self._sent_at)
            self.send_next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("closed before all was answered"))

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()
