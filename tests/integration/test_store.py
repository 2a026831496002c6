# SPDX-License-Identifier: GPL-2.0-or-later
"""The store on real SQLite: group commit, failures that stay alone, memory that agrees after a rollback."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, bindparam, func, select

from bdcs.errors import NoStore, StoreUnavailable
from bdcs.store import schema
from bdcs.store import store as stores
from bdcs.store.engine import create_reader
from bdcs.store.lookups import Lookup, LookupConnection, Lookups
from bdcs.store.names import Names
from bdcs.store.store import Store
from bdcs.store.tables import versions


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store(tmp_path / "bdcs.sqlite")
    await opened.write(schema.upgrade)
    yield opened
    await opened.close()


def count(connection: Connection) -> int:
    return connection.scalar(select(func.count()).select_from(versions)) or 0


def insert(text: str) -> stores.Work:
    return lambda connection: connection.execute(versions.insert().values(text=text))


class Blocked:
    """Keeps the writer busy until told, so that others queue up behind it."""

    def __init__(self) -> None:
        self.entered, self.free = threading.Event(), threading.Event()

    def work(self, _connection: Connection) -> None:
        self.entered.set()
        assert self.free.wait(30)


async def test_what_waits_is_committed_together(store: Store) -> None:
    blocked = Blocked()
    first = asyncio.create_task(store.write(blocked.work))
    await asyncio.to_thread(blocked.entered.wait, 30)
    groups: list[int] = []

    def apply(_connection: Connection, items: Sequence[int]) -> list[int]:
        groups.append(len(items))
        return [item * 2 for item in items]

    waiting = [asyncio.create_task(store.write_grouped(apply, number, 1)) for number in range(20)]
    await asyncio.sleep(0)
    blocked.free.set()
    assert await asyncio.gather(first, *waiting) == [None, *(number * 2 for number in range(20))]
    assert groups == [20]


async def test_a_work_that_fails_takes_only_its_own_changes_along(store: Store) -> None:
    blocked = Blocked()
    first = asyncio.create_task(store.write(blocked.work))
    await asyncio.to_thread(blocked.entered.wait, 30)

    def fail(connection: Connection) -> None:
        insert("lost")(connection)
        raise LookupError("mine")

    works = [store.write(insert("1")), store.write(fail), store.write(insert("2"))]
    tasks = [asyncio.create_task(work) for work in works]
    await asyncio.sleep(0)
    blocked.free.set()
    results = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert isinstance(results[2], LookupError)
    assert await store.read(lambda connection: set(connection.scalars(select(versions.c.text)))) == {"1", "2"}


async def test_a_poisonous_item_does_not_harm_its_group(store: Store) -> None:
    blocked = Blocked()
    first = asyncio.create_task(store.write(blocked.work))
    await asyncio.to_thread(blocked.entered.wait, 30)

    def apply(connection: Connection, items: Sequence[str]) -> list[str]:
        for item in items:
            insert(item)(connection)
            if item == "poison":
                raise ArithmeticError(item)
        return list(items)

    tasks = [asyncio.create_task(store.write_grouped(apply, item, 1)) for item in ("a", "poison", "b")]
    await asyncio.sleep(0)
    blocked.free.set()
    results = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert results[1] == "a"
    assert isinstance(results[2], ArithmeticError)
    assert results[3] == "b"
    assert await store.read(count) == 2


async def test_an_error_of_one_item_may_be_its_result(store: Store) -> None:
    def apply(_connection: Connection, items: Sequence[int]) -> list[object]:
        return [KeyError(item) for item in items]

    with pytest.raises(KeyError):
        await store.write_grouped(apply, 1, 1)


async def test_names_that_were_rolled_back_are_not_remembered(store: Store) -> None:
    names = Names()
    store.mirror(names)

    def learn_and_fail(connection: Connection) -> None:
        names.versions.learn(connection, ["1.0"])
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(learn_and_fail)
    assert names.versions.known == {}
    await store.write(insert("another takes the number"))
    await store.write(lambda connection: names.versions.learn(connection, ["1.0", "2.0", "1.0"]))
    stored = await store.read(
        lambda connection: {row.text: row.id for row in connection.execute(select(versions))}
    )
    assert names.versions.known == {text: stored[text] for text in ("1.0", "2.0")}


async def test_names_are_numbered_in_any_quantity(store: Store) -> None:
    names = Names()
    wanted = [("dev-libs", f"p{number}") for number in range(1000)]
    await store.write(lambda connection: names.packages.learn(connection, wanted))
    assert len(set(names.packages.known.values())) == 1000
    again = Names()
    await store.write(lambda connection: again.packages.learn(connection, wanted))
    assert again.packages.known == names.packages.known


async def test_too_much_waiting_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "WAITING_WEIGHT", 10)
    with pytest.raises(StoreUnavailable):
        await store.write_grouped(lambda _connection, items: items, 1, 11)
    assert store.waiting == 0


async def test_closing_finishes_what_waits(tmp_path: Path) -> None:
    opened = Store(tmp_path / "bdcs.sqlite")
    await opened.write(schema.upgrade)
    tasks = [asyncio.create_task(opened.write(insert(str(number)))) for number in range(10)]
    await asyncio.sleep(0)
    await opened.close()
    await asyncio.gather(*tasks)
    again = Store(tmp_path / "bdcs.sqlite")
    assert await again.read(count) == 10
    await again.close()


async def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store.read(insert("x"))


def test_a_reader_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(NoStore):
        create_reader(tmp_path / "absent.sqlite")


async def test_a_lookup_sees_what_is_committed(store: Store) -> None:
    by_text = Lookup(select(versions.c.text).where(versions.c.text == bindparam("text")))

    def found(lookups: Lookups) -> object:
        return lookups.first(by_text, text="1.0")

    assert store.look_up(found) is None
    await store.write(insert("1.0"))
    assert store.look_up(found) == ("1.0",)
    assert await store.read(lambda connection: found(Lookups.within(connection))) == ("1.0",)


def test_a_lookup_does_not_wait(tmp_path: Path) -> None:
    """Where the store cannot be opened just now, it says so."""
    all_of_them = Lookup(select(versions.c.text))
    missing = LookupConnection(tmp_path / "missing" / "bdcs.sqlite")
    with pytest.raises(StoreUnavailable), missing.transaction() as lookups:
        lookups.first(all_of_them)
