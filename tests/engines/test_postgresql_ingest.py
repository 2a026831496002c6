# SPDX-License-Identifier: GPL-2.0-or-later
"""Two collectors on one PostgreSQL: each record once, in the order of commit, also when the primary dies."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text

from bdcs.errors import StoreUnavailable
from bdcs.services import forgetting, machines, unused_names
from bdcs.services.checking import check
from bdcs.services.exporting import export
from bdcs.services.ingest import Accepted, Ingest
from bdcs.services.machines import Keys
from bdcs.store import tables
from bdcs.store.engine import Place, PostgreSQL, create_reader
from bdcs.store.evidence import EvidenceCodec
from bdcs.store.store import Store
from gentwoo_client.wire.errors import Fork, Gap
from tests.integration.test_ingest import AUDIENCE, Chain, enrol, installs
from tests.postgresql import Server, running_postgresql
from tests.waiting import until
from tests.wire_samples import machine

pytestmark = pytest.mark.engines

MACHINES = 8
JUNE, JULY = 1_780_272_000, 1_782_864_000  # 2026-06-01, 2026-07-01


@dataclass
class Cluster:
    """Two collectors, as far as ingest goes, and their common clock."""

    place: Place
    stores: Sequence[Store]
    now: float = JUNE
    ingests: list[Ingest] = field(default_factory=list)

    async def push(self, collector: int, number: int, compact: bytes) -> Accepted:
        return await self.ingests[collector].accept(machine(number), compact, None)

    async def push_somewhere(self, number: int, compact: bytes) -> Accepted:
        """Push to the collectors in turn until one has it, as clients do."""
        for attempt in range(2000):
            with contextlib.suppress(StoreUnavailable):
                return await self.push((number + attempt) % 2, number, compact)
            await asyncio.sleep(0.03)
        raise AssertionError("no collector takes anything")

    def records(self) -> list[tuple[object, ...]]:
        """Id, machine and name of each record, in order."""
        reader = create_reader(self.place)
        try:
            return [(each["id"], each["machine"], each["name"]) for each in export(reader, 0)]
        finally:
            reader.dispose()

    def differences(self) -> list[str]:
        reader = create_reader(self.place)
        try:
            return list(check(reader, lambda _done, _all: None).first)
        finally:
            reader.dispose()


def forget(connection: Connection, number: int) -> None:
    found = machines.find(connection, machine(number))
    assert found is not None
    forgetting.forget(connection, found)


@contextlib.asynccontextmanager
async def cluster_at(place: Place) -> AsyncIterator[Cluster]:
    cluster = Cluster(place, [Store(place), Store(place)])
    for number in range(MACHINES):
        await cluster.stores[0].write(partial(enrol, number=number))
    for store in cluster.stores:
        codec = await store.read(EvidenceCodec.load)
        cluster.ingests.append(Ingest(store, Keys(store), codec, AUDIENCE, lambda: cluster.now))
    yield cluster
    for store in cluster.stores:
        await store.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_postgresql(tmp_path_factory.mktemp("postgresql")) as running:
        yield running


@pytest.fixture
async def cluster(server: Server) -> AsyncIterator[Cluster]:
    async with cluster_at(PostgreSQL(server.new_database())) as running:
        yield running


async def test_chains_that_go_to_any_collector_are_each_there_once(cluster: Cluster) -> None:
    async def send(number: int) -> None:
        chain = Chain(number)
        for segment in range(20):
            compact = chain.next(*installs(f"p{number}x{segment}", f"q{number}x{segment}"))
            accepted = await cluster.push((number + segment) % 2, number, compact)
            assert accepted.seq == chain.seq

    await asyncio.gather(*map(send, range(MACHINES)))
    records = await asyncio.to_thread(cluster.records)
    assert [number for number, _, _ in records] == list(range(1, MACHINES * 40 + 1))
    assert len({(machine, name) for _, machine, name in records}) == MACHINES * 40
    assert await asyncio.to_thread(cluster.differences) == []


async def test_one_segment_at_both_collectors_is_stored_once(cluster: Cluster) -> None:
    chain = Chain(1)
    for segment in range(20):
        compact = chain.next(*installs(f"p{segment}"))
        answers = await asyncio.gather(*(cluster.push(collector, 1, compact) for collector in (0, 1, 0, 1)))
        assert {(answer.seq, answer.segment) for answer in answers} == {(segment + 1, chain.prev)}
        assert sum(not answer.repeated for answer in answers) == 1
    assert len(cluster.records()) == 20


async def test_of_two_branches_at_two_collectors_one_is_taken(cluster: Cluster) -> None:
    for number in range(MACHINES):
        left, right = Chain(number), Chain(number)
        outcomes = await asyncio.gather(
            cluster.push(0, number, left.next(*installs("left"))),
            cluster.push(1, number, right.next(*installs("right"))),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, Fork) for outcome in outcomes) == 1, outcomes
    assert len(cluster.records()) == MACHINES


async def test_who_follows_misses_nothing(cluster: Cluster) -> None:
    """Ids become visible in their order: none appears later before one that was seen."""
    stop, seen = threading.Event(), [0]

    def follow() -> None:
        reader = create_reader(cluster.place)
        ids = select(tables.package_state_changes.c.id).order_by(tables.package_state_changes.c.id)
        while True:
            is_last = stop.is_set()
            with reader.connect() as connection:
                seen.extend(connection.scalars(ids.where(tables.package_state_changes.c.id > seen[-1])).all())
            if is_last:
                break
        reader.dispose()

    async def send(number: int) -> None:
        chain = Chain(number)
        for segment in range(25):
            await cluster.push((number + segment) % 2, number, chain.next(*installs("a", "b", "c")))

    following = asyncio.create_task(asyncio.to_thread(follow))
    await asyncio.gather(*map(send, range(MACHINES)))
    stop.set()
    await following
    assert seen == list(range(MACHINES * 75 + 1))


async def test_a_name_that_one_collector_dropped_is_not_used_by_the_other(cluster: Cluster) -> None:
    """Both remember numbers of names; who deletes one says so to all."""
    first, second = Chain(1), Chain(2)
    await cluster.push(0, 1, first.next(*installs("rare")))
    await cluster.push(1, 2, second.next(*installs("common")))
    await cluster.push(1, 2, second.next(*installs("rare")))
    for number in (1, 2):
        await cluster.stores[0].write(partial(forget, number=number))
    await unused_names.drop(cluster.stores[0])
    third = Chain(3)
    for collector, name in enumerate(("rare", "common", "rare")):
        await cluster.push(collector % 2, 3, third.next(*installs(name)))
    assert [name for _, _, name in cluster.records()] == ["rare", "common", "rare"]
    assert cluster.differences() == []


async def test_a_month_that_begins_at_two_collectors_at_once_begins_once(cluster: Cluster) -> None:
    chains = [Chain(number) for number in range(MACHINES)]
    for month in (JUNE, JULY):
        cluster.now = month
        await asyncio.gather(
            *(
                cluster.push(number % 2, number, chain.next(*installs("a")))
                for number, chain in enumerate(chains)
            )
        )
    where = text("SELECT tableoid::regclass::text, count(*) FROM package_state_changes GROUP BY 1 ORDER BY 1")
    assert await cluster.stores[0].read(
        lambda connection: [tuple(row) for row in connection.execute(where)]
    ) == [
        ("package_state_changes_202606", MACHINES),
        ("package_state_changes_202607", MACHINES),
    ]
    assert cluster.differences() == []


async def test_a_gap_carries_the_head_that_the_other_collector_stored(cluster: Cluster) -> None:
    chain = Chain(1)
    await cluster.push(0, 1, chain.next(*installs("a")))
    head = chain.prev
    chain.next(*installs("lost"))
    with pytest.raises(Gap) as caught:
        await cluster.push(1, 1, chain.next(*installs("b")))
    assert (caught.value.seq, caught.value.segment) == (1, head)


async def test_when_the_primary_dies_nothing_that_was_accepted_is_lost(tmp_path: Path) -> None:
    with running_postgresql(tmp_path, is_durable=True) as primary:
        replica = primary.add_replica()
        name = primary.new_database().rpartition("/")[2]
        place = PostgreSQL(f"postgresql://postgres@{primary.host},{replica.host}/{name}")
        accepted: list[tuple[int, str]] = []
        promoted: list[float] = []
        stopping = asyncio.Event()
        async with cluster_at(place) as cluster:

            async def send(number: int) -> None:
                chain = Chain(number)
                segment = 0
                while not stopping.is_set():
                    segment += 1
                    await cluster.push_somewhere(number, chain.next(*installs(f"p{segment}")))
                    accepted.append((number, f"p{segment}"))

            sending = [asyncio.create_task(send(number)) for number in range(MACHINES)]
            await asyncio.to_thread(until, lambda: len(accepted) > 100)
            await asyncio.to_thread(primary.kill)
            before = len(accepted)
            await asyncio.to_thread(replica.promote)
            promoted.append(time.monotonic())
            await asyncio.to_thread(until, lambda: len(accepted) > before + MACHINES)
            print(f"writes again {time.monotonic() - promoted[0]:.2f} s after promotion")
            stopping.set()
            await asyncio.gather(*sending)
            records = await asyncio.to_thread(cluster.records)
            assert sorted((who, name) for _, who, name in records) == sorted(
                (str(machine(number)), name) for number, name in accepted
            )
            assert await asyncio.to_thread(cluster.differences) == []
