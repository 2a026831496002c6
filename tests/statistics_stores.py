# SPDX-License-Identifier: GPL-2.0-or-later
"""Stores in memory that segments of many machines go into, and whose statistics are published at will."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import TypeVar

from sqlalchemy import Connection, create_engine, insert

from bdcs.domain import evidence
from bdcs.domain.machines import State
from bdcs.domain.thresholds import Thresholds
from bdcs.services import figures, machines, rollups
from bdcs.services.ingest import Accepted, SegmentWriter
from bdcs.services.opening import Arrived
from bdcs.store import tables
from bdcs.store.evidence import EvidenceCodec
from bdcs.store.names import Names
from bdcs.store.store import Store
from gentwoo_client.wire import base64url
from gentwoo_client.wire.messages import parse_payload
from gentwoo_client.wire.records import PackageStateChange
from gentwoo_client.wire.segments import Segment, digest, sign_segment, split_segment
from tests.wire_samples import AUDIENCE, NOW, machine, private_key, public_key

FIVE = Thresholds(5)
DICTIONARY = (resources.files("bdcs.store") / "dictionaries" / "segments.zdict").read_bytes()
CODEC = EvidenceCodec({1: DICTIONARY})
T = TypeVar("T")


class OneTransaction(Store):
    """A store whose transactions are all part of the one that the test has open."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, work: Callable[[Connection], T]) -> T:
        return work(self._connection)

    async def write(self, work: Callable[[Connection], T]) -> T:
        return work(self._connection)


@contextmanager
def empty_store(numbers: Sequence[int]) -> Iterator[Connection]:
    """A store in memory that knows the machines of these numbers."""
    engine = create_engine("sqlite://")
    tables.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(tables.secrets).values(name="tombstones", value=b"secret"))
        connection.execute(insert(tables.dictionaries).values(id=1, content=DICTIONARY))
        for number in numbers:
            machines.enrol(connection, machine(number), public_key(number), State.APPROVED, now=0)
        yield connection
    engine.dispose()


def chain(number: int, records: Sequence[PackageStateChange], sizes: Iterator[int]) -> list[bytes]:
    """The signed segments of a machine, of as many records each as `sizes` says."""
    made: list[bytes] = []
    first = 0
    while first < len(records):
        batch = tuple(records[first : first + next(sizes)])
        segment = Segment(
            machine=machine(number),
            audience=AUDIENCE,
            first_seq=batch[0].seq,
            prev=digest(made[-1]) if made else None,
            created_at=NOW,
            records=batch,
        )
        made.append(sign_segment(segment, private_key(number)))
        first += len(batch)
    return made


def arrived(compact: bytes) -> Arrived:
    """A segment as it is once all checks were passed."""
    parts = split_segment(compact)
    segment = parse_payload(parts.payload)
    prev = None if segment.prev is None else base64url.decode(segment.prev)
    envelope = evidence.Envelope(
        machine=str(segment.machine), audience=segment.audience, first_seq=segment.first_seq, prev=prev
    )
    form, kept = evidence.pack(envelope, parts.header, parts.payload)
    return Arrived(
        machine=segment.machine,
        first_seq=segment.first_seq,
        prev=prev,
        digest=hashlib.sha256(compact).digest(),
        audience=segment.audience,
        dictionary_id=1,
        form=int(form),
        signature=parts.signature,
        evidence=CODEC.compress(kept),
        records=segment.columns,
    )


def store_all(connection: Connection, batches: Sequence[Sequence[bytes]]) -> None:
    """Store each of `batches` in one go, and fold in what came now and then."""
    writer = SegmentWriter(Names(), lambda: NOW)
    for place, batch in enumerate(batches):
        outcomes = writer.store(connection, [arrived(compact) for compact in batch])
        assert all(isinstance(outcome, Accepted) for outcome in outcomes), outcomes
        if place % 3 == 2:
            rollups.fold(connection)


def publish(connection: Connection, thresholds: Thresholds = FIVE) -> None:
    """Publish whatever may be published now: who has what, then statistics."""
    store = OneTransaction(connection)

    async def renew() -> None:
        await figures.renew(store, thresholds)
        await rollups.renew(store, thresholds, NOW)

    asyncio.run(renew())
