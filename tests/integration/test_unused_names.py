# SPDX-License-Identifier: GPL-2.0-or-later
"""Names that only an erased machine used are nowhere any more, and nobody who remembers names is misled."""

import asyncio
import time
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, Table, insert, select, update

from bdcs.services import forgetting, machines, unused_names
from bdcs.services.ingest import Ingest
from bdcs.services.machines import Keys
from bdcs.services.unused_names import Search
from bdcs.store import tables
from bdcs.store.engine import create_reader
from bdcs.store.evidence import EvidenceCodec
from bdcs.store.names import Names, others_are_outdated
from bdcs.store.store import Store
from tests.integration.test_ingest import AUDIENCE, NOW, Chain, World, installs, world
from tests.peer import Peer, record
from tests.processes import Collector
from tests.waiting import until
from tests.wire_samples import machine

__all__ = ["world"]

SECRET = {
    "category": "private-category",
    "name": "secret-product",
    "version": "47.11.8",
    "replaces": "47.11.7",
    "repository": "confidential",
}
MARKS = [value.encode() for value in SECRET.values()]


async def forget(world: World, number: int) -> None:
    def erase(connection: Connection) -> None:
        forgetting.forget(connection, machines.require(connection, machine(number)))

    await world.store.write(erase)


async def stored(store: Store, table: Table) -> set[str]:
    """The names in one table, by its last column."""
    column = list(table.c)[-1]
    return set(await store.read(lambda connection: connection.scalars(select(column)).all()))


def found_in(path: Path) -> list[bytes]:
    """Which of the marks can be read in the files of the store."""
    content = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    return [mark for mark in MARKS if mark in content]


@pytest.mark.sqlite
async def test_nothing_of_them_is_left_in_the_files(world: World) -> None:
    only, others = Chain(1), Chain(2)
    crowd = [{**SECRET, "name": f"secret-product{number}"} for number in range(400)]
    await world.push(1, only.next(SECRET, *crowd, *installs("shared"), {"repository": None}))
    await world.push(2, others.next(*installs("shared")))
    await world.store.empty_log()
    assert found_in(world.path) == MARKS
    await forget(world, 1)
    await unused_names.drop(world.store)
    assert found_in(world.path) == []
    assert await stored(world.store, tables.packages) == {"shared"}
    assert await stored(world.store, tables.versions) == {"1.0"}
    assert await stored(world.store, tables.repositories) == {"gentoo"}
    assert world.check().differences == 0
    # The same names again, in another order, by the same process.
    await world.push(3, Chain(3).next(*crowd[:2], SECRET, *installs("other", "shared")))
    await world.push(2, others.next(SECRET))
    assert world.check().differences == 0
    assert [each["name"] for each in world.records()][-1] == "secret-product"


async def test_they_are_looked_for_once_an_erasure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    begin = Search.begin

    def counted(search: Search, connection: Connection) -> None:
        nonlocal looks
        looks += 1
        begin(search, connection)

    monkeypatch.setattr(Search, "begin", counted)
    await unused_names.drop(world.store)
    assert looks == 0
    for number in (1, 2):
        await forget(world, number)
        for _ in range(2):
            await unused_names.drop(world.store)
        assert looks == number


async def test_another_process_is_not_misled(world: World) -> None:
    """Two write the same store; one deletes names, and their numbers are given to others."""
    other_store = Store(world.path)
    codec = await other_store.read(EvidenceCodec.load)
    other = Ingest(other_store, Keys(other_store), codec, AUDIENCE, lambda: NOW)
    first, second, third = Chain(1), Chain(2), Chain(3)
    await world.push(2, second.next(*installs("stays")))
    await other.accept(machine(1), first.next(SECRET), None)
    await forget(world, 1)
    await unused_names.drop(world.store)
    await world.push(2, second.next(*installs("takes-the-number")))
    await other.accept(machine(3), third.next(SECRET, *installs("takes-the-number")), None)
    await other_store.close()
    assert world.check().differences == 0
    assert [each["name"] for each in world.records()] == [
        "stays",
        "takes-the-number",
        "secret-product",
        "takes-the-number",
    ]


async def test_a_deletion_that_is_rolled_back_misleads_nobody(world: World) -> None:
    chain = Chain(3)
    await world.push(1, Chain(1).next(SECRET))
    await world.push(2, Chain(2).next(*installs("stays")))
    await forget(world, 1)
    search = Search()
    await world.store.read(search.begin)
    while await world.store.read(search.go_on):
        pass

    def fail(connection: Connection) -> None:
        for table, unused in search.unused.items():
            search.drop(connection, table, sorted(unused))
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            await world.store.write(fail)
        together = asyncio.gather(
            world.push(3, chain.next(SECRET)), world.store.write(fail), return_exceptions=True
        )
        accepted, error = await together
        assert not isinstance(accepted, BaseException)
        assert isinstance(error, LookupError)
    assert world.check().differences == 0


async def test_an_edition_that_never_came_about_is_not_taken_for_the_next(world: World) -> None:
    """What is learnt in a transaction with a deletion, and rolled back with it, is forgotten."""
    names = Names()
    world.store.mirror(names)
    await world.push(1, Chain(1).next(SECRET))

    def learn(connection: Connection) -> int:
        names.refresh(connection)
        names.versions.learn(connection, [SECRET["version"]])
        return names.versions.known[SECRET["version"]]

    def fail(connection: Connection) -> None:
        others_are_outdated(connection)
        learn(connection)
        raise LookupError

    def give_it_another_number(connection: Connection) -> None:
        connection.execute(update(tables.versions).values(id=tables.versions.c.id + 100))
        others_are_outdated(connection)

    before = await world.store.write(learn)
    with pytest.raises(LookupError):
        await world.store.write(fail)
    await world.store.write(give_it_another_number)
    assert await world.store.write(learn) == before + 100


async def test_names_in_use_again_stay(world: World) -> None:
    """A record arrives after readers found its names unused, and before these are deleted."""
    await world.push(1, Chain(1).next(SECRET))
    await forget(world, 1)
    search = Search()
    await world.store.read(search.begin)
    assert not await world.store.read(search.go_on)
    assert all(search.unused.values())
    await world.push(2, Chain(2).next(SECRET))
    for table, unused in search.unused.items():
        await world.store.write(partial(search.drop, table=table, few=sorted(unused)))
    assert world.check().differences == 0
    assert await stored(world.store, tables.versions) == {SECRET["version"], SECRET["replaces"]}
    assert await stored(world.store, tables.repositories) == {SECRET["repository"]}


async def test_all_changes_are_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused_names, "CHANGES_AT_ONCE", 3)
    monkeypatch.setattr(unused_names, "NAMES_AT_ONCE", 2)
    names = [f"package{number}-x" for number in range(10)]
    erased, kept = Chain(1), Chain(2)
    for name in names:
        await world.push(1, erased.next(*installs(name, f"only-{name}")))
        await world.push(2, kept.next(*installs(name)))
    await forget(world, 1)
    await unused_names.drop(world.store)
    assert await stored(world.store, tables.packages) == set(names)
    assert world.check().differences == 0


async def test_a_published_name_stays(world: World) -> None:
    await world.push(1, Chain(1).next(*installs("public", "private")))

    def publish(connection: Connection) -> None:
        wanted = select(tables.packages.c.id).where(tables.packages.c.name == "public")
        package = connection.scalars(wanted).one()
        version = connection.scalars(select(tables.versions.c.id)).one()
        for each in (None, version):
            connection.execute(
                insert(tables.figures).values(package_id=package, version_id=each, published=10, gone=0)
            )

    await world.store.write(publish)
    await forget(world, 1)
    await unused_names.drop(world.store)
    assert await stored(world.store, tables.packages) == {"public"}
    assert await stored(world.store, tables.versions) == {"1.0"}
    touched = tables.touched_packages.c.package_id
    left = await world.store.read(lambda connection: connection.scalars(select(touched)).all())
    assert len(left) == 1, "what is to be published no longer is looked at"


@pytest.mark.sqlite
async def test_while_an_older_state_is_read_it_is_not_done(world: World) -> None:
    await world.push(1, Chain(1).next(SECRET))
    reader = create_reader(world.path)
    with reader.connect() as connection:
        connection.execute(select(tables.machines)).all()
        await forget(world, 1)
        await unused_names.drop(world.store)
        assert found_in(world.path) == MARKS
    reader.dispose()
    await unused_names.drop(world.store)
    assert found_in(world.path) == []


@pytest.mark.sqlite
def test_a_server_does_it_also_for_what_was_erased_beside_it_and_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "data" / "bdcs.sqlite"
    with Collector(tmp_path) as collector:
        stays = Peer(collector.url)
        stays.register()
        for turn in range(4):
            peer = Peer(collector.url)
            peer.register()
            records = [record(1, **SECRET), *(record(seq, name=f"n{turn}x{seq}") for seq in range(2, 900))]
            assert peer.send(peer.signed(peer.payload(records=records))).status == 200
            stays.push()
            if turn % 2:
                assert peer.authorized("DELETE", peer.path).status == 204
            else:
                collector.bdcs("admin", "machines", "forget", str(peer.machine))
            collector.kill()
            collector.start()
            time.sleep(0.05 * turn)  # and it is killed at one point or another of its work
            collector.kill()
            collector.start()
            until(lambda: found_in(path) == [], what="the names are gone")
            assert "no differences" in collector.bdcs("check").stdout
            stays.push()
        assert len(collector.export()) == stays.seq == 8
