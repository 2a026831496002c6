# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics follow from the records: neither from their order or batches, nor from who was forgotten."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from random import Random
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, delete, insert, select

from bdcs.domain import evidence
from bdcs.domain.machines import State
from bdcs.domain.statistics import WEEK, Topic
from bdcs.domain.thresholds import Thresholds
from bdcs.services import forgetting, machines, rollups
from bdcs.services.checking import segment_bytes
from bdcs.services.ingest import Accepted, Arrived, SegmentWriter
from bdcs.store import tables
from bdcs.store.evidence import EvidenceCodec
from bdcs.store.names import Names
from bdcs.store.store import Store
from gentwoo_client.wire import base64url
from gentwoo_client.wire.messages import parse_payload
from gentwoo_client.wire.records import PackageStateChange
from gentwoo_client.wire.segments import Segment, digest, sign_segment, split_segment
from tests.wire_samples import AUDIENCE, NOW, machine, private_key, public_key, record

FIVE = Thresholds(5)
DICTIONARY = (resources.files("bdcs.store") / "dictionaries" / "segments.zdict").read_bytes()
CODEC = EvidenceCodec({1: DICTIONARY})
T = TypeVar("T")

seeds = st.integers(min_value=0, max_value=2**32)


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


def history(random: Random, packages: int = 3) -> list[PackageStateChange]:
    """What one machine may have done in some weeks."""
    now = NOW - 20 * WEEK + random.randrange(WEEK)
    installed: dict[str, str] = {}
    made: list[PackageStateChange] = []

    def add(**fields: object) -> None:
        made.append(record(seq=len(made) + 1, recorded_at=now, **fields))

    for _ in range(random.randint(3, 12)):
        now += random.randrange(2 * WEEK)
        name, version = f"alpha{random.randrange(packages)}", f"{random.randint(1, 3)}.0"
        what = random.choice(["merge", "merge", "merge", "fail", "remove"])
        if what == "fail":
            add(name=name, version=version, event="failure", cause="build", replaces=None)
        elif what == "remove" and name in installed:
            gone = installed.pop(name)
            add(
                name=name,
                version=gone,
                event="uninstall",
                cause="manual",
                replaces=None,
                install_type=None,
                time_delta=None,
                concurrency=None,
            )
        elif what == "merge":
            add(
                name=name,
                version=version,
                replaces=installed.get(name),
                install_type=random.choice(["source", "binary"]),
                time_delta=random.randint(1, 4000),
                repository=random.choice(["gentoo", "guru", None]),
            )
            installed[name] = version
    return made


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
    asyncio.run(rollups.renew(OneTransaction(connection), thresholds, NOW))


def statistics(connection: Connection) -> dict[str, object]:
    """All that there is of statistics, by names rather than numbers."""
    packages = dict(iter(connection.execute(select(tables.packages.c.id, tables.packages.c.name))))
    versions = {0: "any", **dict(iter(connection.execute(select(tables.versions))))}
    repositories = {0: "unknown", **dict(iter(connection.execute(select(tables.repositories))))}
    uuids = dict(iter(connection.execute(select(tables.machines.c.id, tables.machines.c.uuid))))
    cells = {}
    for row in connection.execute(select(tables.statistic_cells)):
        bucket = repositories[row.bucket] if row.topic == Topic.REPOSITORY else row.bucket
        cells[packages[row.package_id], Topic(row.topic), versions[row.version_id], bucket] = row.published
    return {
        "cells": cells,
        "dates": {
            (packages[row.package_id], versions[row.version_id]): row[2:]
            for row in connection.execute(select(tables.version_dates))
        },
        "packages": {
            packages[row.package_id]: (row.records, row.machines, row.earlier, row.seconds)
            for row in connection.execute(select(tables.package_statistics))
        },
        "machines": {
            (uuids[row.machine_id], row.week): (row.merges, row.seconds)
            for row in connection.execute(select(tables.machine_weeks))
        },
        "weeks": {
            row.week: (row.machines, row.merges, row.seconds, row.saved)
            for row in connection.execute(select(tables.fleet_weeks))
        },
    }


def ones() -> Iterator[int]:
    while True:
        yield 1000


def sizes(random: Random) -> Iterator[int]:
    while True:
        yield random.randint(1, 4)


def shuffled(random: Random, chains: Sequence[Sequence[bytes]]) -> list[list[bytes]]:
    """All segments in batches, each machine's in order, but otherwise mixed."""
    waiting = [list(each) for each in chains]
    order = [place for place, each in enumerate(waiting) for _ in each]
    random.shuffle(order)
    batches: list[list[bytes]] = [[]]
    for place in order:
        if random.random() < 0.4:
            batches.append([])
        batches[-1].append(waiting[place].pop(0))
    return [batch for batch in batches if batch]


def fleet(random: Random, count: int) -> dict[int, list[PackageStateChange]]:
    return {number: made for number in range(1, count + 1) if (made := history(random))}


@settings(max_examples=6, deadline=None, derandomize=True)  # each is two stores of its own
@given(seeds, seeds)
def test_any_order_and_any_batches_give_the_same(seed: int, mixing: int) -> None:
    made = fleet(Random(seed), 14)
    with empty_store(list(made)) as connection:
        store_all(connection, [chain(number, each, ones()) for number, each in made.items()])
        publish(connection)
        expected = statistics(connection)
    assert expected["cells"]
    random = Random(mixing)
    numbers = list(made)
    random.shuffle(numbers)
    with empty_store(numbers) as connection:
        chains = [chain(number, made[number], sizes(random)) for number in numbers]
        store_all(connection, shuffled(random, chains))
        publish(connection)
        assert statistics(connection) == expected


@settings(max_examples=3, deadline=None, derandomize=True)
@given(seeds)
def test_the_evidence_replayed_gives_the_same(seed: int) -> None:
    random = Random(seed)
    made = fleet(random, 12)
    with empty_store(list(made)) as connection:
        store_all(connection, shuffled(random, [chain(each, made[each], sizes(random)) for each in made]))
        publish(connection)
        expected = statistics(connection)
        kept = [list(evidence_of(connection, number)) for number in made]
    with empty_store(list(made)) as connection:
        store_all(connection, kept)
        publish(connection)
        assert statistics(connection) == expected


def evidence_of(connection: Connection, number: int) -> Iterator[bytes]:
    """Each segment of a machine, rebuilt from what is kept."""
    found = machines.find(connection, machine(number))
    assert found is not None
    query = (
        select(tables.segments, tables.audiences.c.url.label("audience"))
        .join(tables.audiences)
        .where(tables.segments.c.machine_id == found.id)
        .order_by(tables.segments.c.first_seq)
    )
    prev = None
    for row in connection.execute(query):
        yield segment_bytes(row, str(machine(number)), prev, CODEC)
        prev = row.digest


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seeds, st.booleans())
def test_to_be_forgotten_is_never_to_have_been_there(seed: int, published_before: bool) -> None:
    random = Random(seed)
    made = fleet(random, 18)
    leaving = set(random.sample(sorted(made), 6))
    with empty_store([each for each in made if each not in leaving]) as connection:
        store_all(connection, [chain(each, made[each], ones()) for each in made if each not in leaving])
        publish(connection)
        expected = statistics(connection)
    with empty_store(list(made)) as connection:
        store_all(connection, shuffled(random, [chain(each, made[each], sizes(random)) for each in made]))
        if published_before:
            publish(connection)
        for number in leaving:
            found = machines.find(connection, machine(number))
            assert found is not None
            forgetting.forget(connection, found)
        if published_before:  # what was published may stay until a crowd moves it: begin with nothing
            publish_anew(connection)
        else:
            publish(connection)
        assert statistics(connection) == expected


def publish_anew(connection: Connection) -> None:
    """Forget what was published, and what was folded in, then do both again."""
    made_of_records = (
        tables.statistic_cells,
        tables.version_dates,
        tables.package_statistics,
        tables.machine_weeks,
        tables.fleet_weeks,
    )
    for table in made_of_records:
        connection.execute(delete(table))
    connection.execute(delete(tables.sequences).where(tables.sequences.c.name.like("statistics%")))
    publish(connection)
