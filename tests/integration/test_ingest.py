# SPDX-License-Identifier: GPL-2.0-or-later
"""Segments into a real store: what is accepted, what is refused, and what the evidence proves afterwards."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from sqlalchemy import Connection, delete, select, text, update

from bdcs.domain.installations import COUNTED_PACKAGE, PRESENT
from bdcs.domain.machines import State
from bdcs.errors import StoreDamaged, StoreFull
from bdcs.services import forgetting, machines
from bdcs.services.checking import Report, check
from bdcs.services.exporting import export
from bdcs.services.ingest import Accepted, Ingest
from bdcs.services.machines import Keys
from bdcs.services.opening import TOGETHER, decoded
from bdcs.store import schema, tables
from bdcs.store.engine import create_reader
from bdcs.store.evidence import EvidenceCodec
from bdcs.store.store import Store
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import (
    AwaitingApproval,
    BadSignature,
    Forgotten,
    Fork,
    Gap,
    Malformed,
    ProtocolError,
    Quarantined,
    Refused,
    TooLarge,
    Unregistered,
    UnsupportedMedia,
    WrongAudience,
    WrongMachine,
)
from gentwoo_client.wire.records import PackageStateChange
from gentwoo_client.wire.segments import Segment, digest, sign_segment
from tests.wire_samples import machine, private_key, public_key, record

AUDIENCE = "https://collector.example"
NOW = 1_790_000_000.0


@dataclass
class Chain:
    """A machine and where its chain stands."""

    number: int = 1
    seq: int = 0
    prev: str | None = None

    def next(self, *changes: dict[str, Any], audience: str = AUDIENCE) -> bytes:
        """The next segment, of one record for each of `changes`; the chain moves on."""
        records = tuple(record(seq=self.seq + place, **change) for place, change in enumerate(changes, 1))
        segment = Segment(
            machine=machine(self.number),
            audience=audience,
            first_seq=self.seq + 1,
            prev=self.prev,
            created_at=int(NOW),
            records=records,
        )
        compact = sign_segment(segment, private_key(self.number))
        self.seq, self.prev = segment.last_seq, digest(compact)
        return compact


@dataclass
class World:
    """A store with three machines, and what takes segments for it."""

    path: Path
    store: Store
    ingest: Ingest

    async def push(self, number: int, compact: bytes, encoding: str | None = None) -> Accepted:
        return await self.ingest.accept(machine(number), compact, encoding)

    def records(self) -> list[dict[str, object]]:
        engine = create_reader(self.path)
        try:
            return list(export(engine, 0))
        finally:
            engine.dispose()

    def check(self) -> Report:
        engine = create_reader(self.path)
        try:
            return check(engine, lambda _done, _all: None)
        finally:
            engine.dispose()

    async def installed(self) -> set[tuple[str, str, int]]:
        """Name, version and flags of all installations."""
        table = tables.installations
        query = (
            select(tables.packages.c.name, tables.versions.c.text, table.c.flags)
            .select_from(table)
            .join(tables.packages, tables.packages.c.id == table.c.package_id)
            .join(tables.versions, tables.versions.c.id == table.c.version_id)
        )
        return {
            tuple(row) for row in await self.store.read(lambda connection: connection.execute(query).all())
        }


def enrol(connection: Connection, number: int, state: State = State.APPROVED) -> None:
    connection.execute(
        tables.machines.insert().values(
            uuid=str(machine(number)),
            public_key=public_key(number),
            state=str(state),
            registered_at=int(NOW),
            head_seq=0,
        )
    )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    path = tmp_path / "bdcs.sqlite"
    store = Store(path)
    await store.write(schema.upgrade)
    for number in (1, 2, 3):
        await store.write(lambda connection, number=number: enrol(connection, number))  # type: ignore[misc]
    codec = await store.read(EvidenceCodec.load)
    yield World(path, store, Ingest(store, Keys(store), codec, AUDIENCE, lambda: NOW))
    await store.close()


def installs(*names: str) -> list[dict[str, Any]]:
    return [
        {"event": "install", "name": name, "version": "1.0", "cause": None, "replaces": None}
        for name in names
    ]


async def test_an_accepted_segment_is_in_the_tables_and_in_the_evidence(world: World) -> None:
    chain = Chain()
    accepted = await world.push(1, chain.next(*installs("a", "b")))
    assert (accepted.seq, accepted.segment, accepted.repeated) == (2, chain.prev, False)
    assert [(each["seq"], each["name"], each["id"]) for each in world.records()] == [(1, "a", 1), (2, "b", 2)]
    report = world.check()
    assert (report.machines, report.segments, report.records, report.differences) == (3, 1, 2, 0)


async def test_records_come_out_as_they_went_in(world: World) -> None:
    odd: list[dict[str, Any]] = [
        {"event": "failure", "cause": None, "replaces": None, "install_type": None, "repository": None},
        {"time_delta": None, "concurrency": None, "observed": "backfill", "clock": "unknown"},
        {"extra": {"root": "/", "nested": {"a": [1, None, "ü"]}}},
        {"concurrency": 1.37, "replaces": "0.9-r1", "clock": "unsynchronized"},
    ]
    sent = [record(seq=seq, **change) for seq, change in enumerate(odd, 1)]
    await world.push(1, Chain().next(*odd))
    for change, exported in zip(sent, world.records(), strict=True):
        assert (
            PackageStateChange.from_json(
                {
                    name: value
                    for name, value in exported.items()
                    if name not in ("machine", "created_at", "id")
                }
            )
            == change
        )
    assert world.check().differences == 0


async def test_the_same_segment_again_gets_the_same_answer(world: World) -> None:
    chain = Chain()
    segments = [chain.next(*installs(name)) for name in ("a", "b", "c")]
    first = [await world.push(1, segment) for segment in segments]
    again = [await world.push(1, segment) for segment in segments]
    assert [(answer.seq, answer.segment) for answer in again] == [
        (answer.seq, answer.segment) for answer in first
    ]
    assert all(answer.repeated for answer in again)
    assert len(world.records()) == 3


async def test_the_same_segment_twice_at_once_is_stored_once(world: World) -> None:
    segment = Chain().next(*installs("a"))
    answers = await asyncio.gather(*(world.push(1, segment) for _ in range(8)))
    assert {(answer.seq, answer.segment) for answer in answers} == {(1, digest(segment))}
    assert len(world.records()) == 1


async def test_two_branches_at_once_leave_one(world: World) -> None:
    left, right = Chain().next(*installs("left")), Chain().next(*installs("right"))
    results = await asyncio.gather(world.push(1, left), world.push(1, right), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Accepted", "Fork"]
    assert len(world.records()) == 1
    assert world.check().differences == 0


async def test_chains_pushed_at_once_are_taken_side_by_side(world: World) -> None:
    async def push_all(number: int) -> None:
        chain = Chain(number)
        for _ in range(5):
            await world.push(number, chain.next(*installs("a", "b")))

    await asyncio.gather(*map(push_all, (1, 2, 3)))
    assert len(world.records()) == 30
    assert [each["id"] for each in world.records()] == list(range(1, 31))
    assert world.check().differences == 0


async def test_a_gap_and_a_fork_carry_the_head(world: World) -> None:
    chain = Chain()
    await world.push(1, chain.next(*installs("a", "b")))
    head = chain.prev
    skipped = Chain(1, 2, head)
    skipped.next(*installs("lost"))
    with pytest.raises(Gap) as gap:
        await world.push(1, skipped.next(*installs("c")))
    assert (gap.value.seq, gap.value.segment) == (2, head)
    for other in (
        Chain().next(*installs("x")),
        Chain(1, 1, head).next(*installs("x")),
        Chain(1, 2, digest(b"")).next(*installs("x")),
    ):
        with pytest.raises(Fork) as fork:
            await world.push(1, other)
        assert (fork.value.seq, fork.value.segment) == (2, head)
    with pytest.raises(Gap):
        await world.push(2, Chain(2, 5, digest(b"")).next(*installs("x")))
    assert len(world.records()) == 2


async def test_whose_segment_it_is_and_for_whom(world: World) -> None:
    segment = Chain().next(*installs("a"))
    with pytest.raises(WrongMachine):
        await world.push(2, segment)
    with pytest.raises(Unregistered):
        await world.push(4, Chain(4).next(*installs("a")))
    with pytest.raises(WrongAudience):
        await world.push(1, Chain().next(*installs("a"), audience="https://other.example"))
    with pytest.raises(BadSignature):
        await world.push(1, segment[:-86] + (b"A" if segment[-86:-85] != b"A" else b"B") + segment[-85:])
    assert world.records() == []


def put_into(state: State, connection: Connection) -> None:
    machines.set_state(connection, machine(1), state)


async def test_only_an_approved_machine_may_send(world: World) -> None:
    segment = Chain().next(*installs("a"))
    refusals = {
        State.AWAITING_APPROVAL: AwaitingApproval,
        State.QUARANTINED: Quarantined,
        State.REFUSED: Refused,
    }
    for state, error in refusals.items():
        await world.store.write(partial(put_into, state))
        with pytest.raises(error):
            await world.push(1, segment)
    await world.store.write(partial(put_into, State.APPROVED))
    assert (await world.push(1, segment)).seq == 1


async def test_a_state_that_there_is_not_lets_nobody_send(world: World) -> None:
    unknown = update(tables.machines).where(tables.machines.c.id == 1).values(state="x")
    await world.store.write(lambda connection: connection.execute(unknown))
    pushes = (world.push(number, Chain(number).next(*installs("a"))) for number in (1, 2))
    results = await asyncio.gather(*pushes, return_exceptions=True)
    assert [type(result) for result in results] == [StoreDamaged, Accepted]


async def test_one_that_is_refused_does_not_hold_up_the_others(world: World) -> None:
    results = await asyncio.gather(
        world.push(1, Chain(1).next(*installs("a"))),
        world.push(2, Chain(2, 7, digest(b"")).next(*installs("a"))),
        world.push(3, Chain(3).next(*installs("a"))),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [Accepted, Gap, Accepted]
    assert len(world.records()) == 2


async def test_many_come_at_once_and_each_hears_what_became_of_his(world: World) -> None:
    good = Chain().next(*installs("a"))
    bad = forged(good)
    count = 2 * TOGETHER // len(good)
    pushes = [
        asyncio.ensure_future(world.push(1, bad if number % 3 == 1 else good)) for number in range(count)
    ]
    await asyncio.sleep(0)
    gone = {0, count // 2, count - 1}
    for number in gone:
        pushes[number].cancel()
    results = await asyncio.gather(*pushes, return_exceptions=True)
    for number, result in enumerate(results):
        kind = asyncio.CancelledError if number in gone else BadSignature if number % 3 == 1 else Accepted
        assert type(result) is kind
    assert len(world.records()) == 1


async def test_what_is_refused_is_forgotten_at_once(world: World) -> None:
    """A flood of it would fill the memory before Python looks for garbage: a segment may be a megabyte."""
    chain = Chain()
    first, second = chain.next(*installs("a")), chain.next(*installs("b"))
    gc.disable()
    try:
        left = [await refusal_of(world, forged(first)), await refusal_of(world, second)]
        await world.store.write(lambda _connection: None)  # so that the writer has something else in hand
        assert [error() for error in left] == [None, None]
    finally:
        gc.enable()


async def refusal_of(world: World, compact: bytes) -> weakref.ref[ProtocolError]:
    """Push what is refused; return the error, which nobody holds any more."""
    try:
        await world.push(1, compact)
    except ProtocolError as error:
        return weakref.ref(error)
    raise AssertionError("it was accepted")


def forged(compact: bytes) -> bytes:
    """Return a segment with another signature."""
    return compact[:-80] + (b"A" if compact[-80:-79] != b"A" else b"B") + compact[-79:]


async def test_installations_follow_the_records(world: World) -> None:
    chain = Chain()
    await world.push(1, chain.next(*installs("a", "b")))
    upgrade: list[dict[str, Any]] = [
        {
            "event": "uninstall",
            "name": "a",
            "version": "1.0",
            "cause": "replaced",
            "install_type": None,
            "replaces": None,
        },
        {"event": "install", "name": "a", "version": "2.0", "cause": None, "replaces": "1.0"},
        {"event": "failure", "name": "b", "version": "3.0", "cause": "build", "replaces": None},
    ]
    await world.push(1, chain.next(*upgrade))
    assert await world.installed() == {("a", "2.0", PRESENT), ("b", "1.0", PRESENT)}


async def test_an_installation_that_figures_count_stays_until_they_are_published(world: World) -> None:
    chain = Chain()
    await world.push(1, chain.next(*installs("a")))
    counted = update(tables.installations).values(flags=PRESENT | COUNTED_PACKAGE)
    await world.store.write(lambda connection: connection.execute(counted))
    removal: dict[str, Any] = {"event": "uninstall", "cause": "manual", "install_type": None}
    removal |= {"name": "a", "version": "1.0", "replaces": None}
    await world.push(1, chain.next(removal))
    assert await world.installed() == {("a", "1.0", COUNTED_PACKAGE)}
    await world.push(1, chain.next(*installs("a")))
    assert await world.installed() == {("a", "1.0", PRESENT | COUNTED_PACKAGE)}
    assert world.check().differences == 0


async def test_forgetting_leaves_nothing_but_a_mark(world: World) -> None:
    chains = {number: Chain(number) for number in (1, 2)}
    for _ in range(3):
        await asyncio.gather(
            *(world.push(number, chain.next(*installs("a", "b"))) for number, chain in chains.items())
        )

    def forget(connection: Connection) -> None:
        forgetting.forget(connection, machines.require(connection, machine(1)))

    await world.store.write(forget)
    assert {each["machine"] for each in world.records()} == {str(machine(2))}
    assert world.check().differences == 0
    with pytest.raises(Forgotten):
        await world.push(1, chains[1].next(*installs("c")))
    with pytest.raises(Forgotten):
        await world.store.read(lambda connection: machines.require(connection, machine(1)))
    accepted = await world.push(2, chains[2].next(*installs("c")))
    assert accepted.seq == 7
    assert max(int(str(each["id"])) for each in world.records()) == 13  # numbers are not given out again


async def test_an_id_is_not_reused_when_the_newest_records_are_forgotten(world: World) -> None:
    await world.push(1, Chain(1).next(*installs("a")))
    await world.push(2, Chain(2).next(*installs("a")))
    await world.store.write(
        lambda connection: forgetting.forget(connection, machines.require(connection, machine(2)))
    )
    await world.push(3, Chain(3).next(*installs("a")))
    assert [each["id"] for each in world.records()] == [1, 3]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (update(tables.package_state_changes).values(time_delta=7), "says something else than the evidence"),
        (update(tables.segments).values(created_at=7), "another time of receipt"),
        (
            delete(tables.package_state_changes).where(tables.package_state_changes.c.id == 2),
            "is missing in the table",
        ),
        (delete(tables.installations), "is installed by table or evidence"),
        (update(tables.installations).values(installed_at=5), "is installed by table or evidence"),
        (update(tables.machines).values(head_seq=1), "the head is at seq 1"),
        (delete(tables.segments).where(tables.segments.c.first_seq == 1), "where 1 is due"),
        (update(tables.segments).values(signature=b"\0" * 64), "signature"),
        (update(tables.segments).values(digest=b"\0" * 32), "digest is another"),
        (update(tables.segments).values(evidence=b"\0"), "segment at seq 1"),
        (delete(tables.machines), "belong to no machine"),
        (text("UPDATE versions SET text = '9.9'"), "says something else"),
        # What no record, segment or machine can be: SQLite takes any value in any column.
        (update(tables.package_state_changes).values(event=99), "is no record"),
        pytest.param(
            text("UPDATE package_state_changes SET concurrency = 'x'"),
            "is no record",
            marks=pytest.mark.sqlite,
        ),
        (update(tables.package_state_changes).values(extra="["), "is no record"),
        pytest.param(
            text("UPDATE segments SET records = 'x'"),
            "its row holds what cannot be",
            marks=pytest.mark.sqlite,
        ),
        pytest.param(
            text("UPDATE segments SET evidence = 'x'"),
            "its row holds what cannot be",
            marks=pytest.mark.sqlite,
        ),
        (update(tables.segments).values(audience_id=9), "segment at seq 1"),
        (update(tables.machines).values(state="x"), "is not a valid State"),
        (update(tables.machines).values(uuid=tables.machines.c.uuid + "x"), "badly formed"),
        (update(tables.installations).values(version_id=99), "is installed by table or evidence"),
    ],
)
async def test_the_check_finds_what_was_changed(world: World, statement: Any, told: str) -> None:
    chain = Chain()
    await world.push(1, chain.next(*installs("a", "b")))
    await world.push(1, chain.next(*installs("c")))
    await world.store.write(lambda connection: connection.execute(statement))
    report = world.check()
    assert report.differences
    assert any(told in difference for difference in report.first), report.first


async def test_evidence_of_a_full_segment_is_rebuilt(world: World) -> None:
    chain = Chain()
    segment = chain.next(*installs(*(f"package{number}" for number in range(limits.RECORDS_PER_SEGMENT))))
    assert (await world.push(1, zstd.compress(segment), "zstd")).records == limits.RECORDS_PER_SEGMENT
    report = world.check()
    assert (report.records, report.differences) == (limits.RECORDS_PER_SEGMENT, 0)


@pytest.mark.parametrize(
    ("body", "encoding", "error"),
    [
        (b"x" * (limits.ENCODED_BODY_SIZE + 1), None, TooLarge),
        (zstd.compress(b"x" * (limits.SEGMENT_SIZE + 1)), "zstd", TooLarge),
        (zstd.compress(b"x" * (1 << 28)), "zstd", TooLarge),
        (b"not zstd", "zstd", Malformed),
        (b"", "zstd", Malformed),
        (zstd.compress(b"x")[:-1], "zstd", Malformed),
        (zstd.compress(b"x") * 2, "zstd", Malformed),
        (b"x", "gzip", UnsupportedMedia),
        (b"x", "zstd, zstd", UnsupportedMedia),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_bodies_that_are_not_taken(body: bytes, encoding: str | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        decoded(body, encoding)


@pytest.mark.sqlite
async def test_a_store_that_is_full_takes_nothing_and_recovers(world: World) -> None:
    chain = Chain()
    await world.push(1, chain.next(*installs("a")))

    def pages(limit: Callable[[int], int]) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            count = int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())
            connection.exec_driver_sql(f"PRAGMA max_page_count = {limit(count)}")

        return work

    await world.store.write(pages(lambda count: count))
    segment = chain.next(*installs(*(f"package{number}" for number in range(1000))))
    with pytest.raises(StoreFull):
        await world.push(1, segment)
    assert len(world.records()) == 1
    await world.store.write(pages(lambda count: count * 1000))
    assert (await world.push(1, segment)).seq == 1001
    assert world.check().differences == 0
