# SPDX-License-Identifier: GPL-2.0-or-later
"""The store's contract, here on SQLite: group commit, failures that stay alone, memory that is right then.

`tests/engines/test_postgresql_store.py` holds PostgreSQL to the same, with a fixture `place` of its own.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, literal_column, select, update

from bdcs.errors import StoreUnavailable
from bdcs.store import schema
from bdcs.store import store as stores
from bdcs.store.bulk import execute_rows, execute_together, insert_rows, insertion
from bdcs.store.engine import Place
from bdcs.store.listed import NUMBERS, TEXTS, Listed
from bdcs.store.lookups import Lookup, Lookups
from bdcs.store.names import Names
from bdcs.store.store import Store
from bdcs.store.tables import machines, sequences, versions
from bdcs.store.upserts import upsert


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return tmp_path / "bdcs.sqlite"


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    opened = Store(place)
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


async def test_closing_finishes_what_waits(place: Place) -> None:
    opened = Store(place)
    await opened.write(schema.upgrade)
    tasks = [asyncio.create_task(opened.write(insert(str(number)))) for number in range(10)]
    await asyncio.sleep(0)
    await opened.close()
    await asyncio.gather(*tasks)
    again = Store(place)
    assert await again.read(count) == 10
    await again.close()


async def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match=r"read-?only"):
        await store.read(insert("x"))


async def test_a_lookup_sees_what_is_committed(store: Store) -> None:
    """Where a lookup cannot be made at once, the same may be found by a read."""
    by_text = Lookup(select(versions.c.text).where(versions.c.text == bindparam("text")))

    def found(lookups: Lookups) -> object:
        return lookups.first(by_text, text="1.0")

    assert await store.read(lambda connection: found(Lookups.within(connection))) is None
    await store.write(insert("1.0"))
    assert await store.read(lambda connection: found(Lookups.within(connection))) == ("1.0",)


async def test_a_read_sees_one_state(store: Store) -> None:
    seen: list[int] = []
    first, second = threading.Event(), threading.Event()

    def twice(connection: Connection) -> None:
        seen.append(count(connection))
        first.set()
        assert second.wait(60)
        seen.append(count(connection))

    reading = asyncio.create_task(store.read(twice))
    await asyncio.to_thread(first.wait, 60)
    await store.write(insert("1"))
    second.set()
    await reading
    assert seen == [0, 0]
    assert await store.read(count) == 1


async def test_what_is_answered_is_seen_by_others(store: Store, place: Place) -> None:
    other = Store(place)
    for number in range(10):
        await store.write(insert(str(number)))
        assert await other.read(count) == number + 1
    await other.close()


async def test_writes_of_two_processes_are_one_after_another(store: Store, place: Place) -> None:
    """Each sees all that was committed before it: who counts up loses nothing."""
    other = Store(place)
    await store.write(lambda connection: connection.execute(sequences.insert().values(name="x", value=0)))

    def count_up(connection: Connection) -> int:
        value: int = connection.execute(select(sequences.c.value).where(sequences.c.name == "x")).scalar_one()
        connection.execute(update(sequences).where(sequences.c.name == "x").values(value=value + 1))
        return value + 1

    values = await asyncio.gather(*(each.write(count_up) for _ in range(50) for each in (store, other)))
    await other.close()
    assert sorted(values) == list(range(1, 101))


async def test_rows_are_inserted_in_any_number(store: Store) -> None:
    """One, a few, very many: the engine numbers them, and says how many a statement touched."""
    for number in (1, 3, 5000):
        rows = [(None, f"of {number}: {row}\t\\N é") for row in range(number)]
        await store.write(partial(insert_rows, table=versions, rows=rows))
    stored = await store.read(lambda connection: connection.execute(select(versions)).all())
    assert len({row.id for row in stored}) == 5004
    assert {row.text for row in stored} >= {"of 1: 0\t\\N é", "of 3: 2\t\\N é", "of 5000: 4999\t\\N é"}
    remove = delete(versions).where(versions.c.text == bindparam("gone"))
    gone = [(f"of 5000: {row}\t\\N é",) for row in range(1000)] + [("never there",)]
    assert await store.write(lambda connection: execute_rows(connection, remove, ("gone",), gone)) == 1000


@pytest.mark.parametrize("number", [3, 300])
async def test_a_statement_for_many_rows_does_what_it_does_for_each(store: Store, number: int) -> None:
    """Also where it updates what is there, or meets nothing; a value may be None, or bytes."""
    every = [(f"name {row}", row) for row in range(number)]
    more: ColumnElement[int] = literal_column("1000")
    put = upsert(sequences).values(name=bindparam("of"), value=bindparam("new"))
    put = put.on_conflict_do_update(index_elements=["name"], set_={"value": sequences.c.value + more})
    stored = select(sequences.c.name, sequences.c.value).where(sequences.c.name.startswith("name "))
    for expected in (0, 1000):
        await store.write(lambda connection: execute_rows(connection, put, ("of", "new"), every))
        found = await store.read(lambda connection: connection.execute(stored).all())
        assert sorted(map(tuple, found)) == sorted((name, value + expected) for name, value in every)
    uuids = [(None, f"{row}", b"key", "approved", 0, 0, None) for row in range(number)]
    await store.write(partial(insert_rows, table=machines, rows=uuids))
    move = update(machines).where(machines.c.uuid == bindparam("of")).values(head_digest=bindparam("head"))
    heads = [(None if row % 2 else b"\0\\%d" % row, f"{row}") for row in range(number)]
    move_all = partial(execute_rows, statement=move, names=("head", "of"), rows=[*heads, (b"", "nobody")])
    assert await store.write(move_all) == number
    moved = select(machines.c.head_digest, machines.c.uuid)
    assert set(await store.read(lambda connection: connection.execute(moved).all())) == set(heads)


async def test_statements_for_several_tables_are_run_together(store: Store) -> None:
    """For one row, for many, for none; a value may be None, bytes, or look like the syntax of an array."""
    odd = '{"a", NULL, \\\\x00}'
    remove = delete(versions).where(versions.c.text == bindparam("of"))
    move = update(machines).where(machines.c.uuid == bindparam("of"))
    move = move.values(head_digest=bindparam("head"))
    await store.write(partial(insert_rows, table=versions, rows=[(None, "leaves"), (None, odd)]))
    keyed = [(f"{row}", b'"\\,%d' % row, odd, 0, row, None) for row in range(300)]

    def work(connection: Connection) -> None:
        execute_together(
            connection,
            [(*insertion(machines), keyed), (remove, ("of",), [("leaves",)]), (remove, ("of",), [])],
        )
        heads = [(None if row % 2 else b"\\x\0", f"{row}") for row in range(300)]
        execute_together(connection, [(move, ("head", "of"), heads), (*insertion(versions), [("comes",)])])

    await store.write(work)
    found = await store.read(lambda c: set(c.scalars(select(versions.c.text))))
    assert found == {odd, "comes"}
    rows = await store.read(lambda c: c.execute(select(machines).order_by(machines.c.head_seq)).all())
    assert [tuple(row)[1:] for row in rows] == [
        (*row[:-1], None if number % 2 else b"\\x\0") for number, row in enumerate(keyed)
    ]
    assert len({row.id for row in rows}) == 300


async def test_text_is_sorted_by_code_points(store: Store) -> None:
    """… whatever language the database was made for."""
    texts = ["a", "B", "ä", "Z", "_", "-", "1.10", "1.9", "ab", "a b", "\U0001f427"]
    for text in texts:
        await store.write(insert(text))
    found = await store.read(lambda c: list(c.scalars(select(versions.c.text).order_by(versions.c.text))))
    assert found == sorted(texts)
    largest = await store.read(lambda c: c.scalar(select(func.max(versions.c.text))))
    assert largest == max(texts)
    after = select(versions.c.text).where(versions.c.text > "a")
    assert await store.read(lambda c: set(c.scalars(after))) == {text for text in texts if text > "a"}


async def test_a_list_is_one_parameter(store: Store) -> None:
    """Of rows, of texts and of numbers, beside plain values."""
    add = Listed(
        "INSERT INTO sequences (name, value) SELECT given.name, given.value + :more FROM {given}",
        given={"name": TEXTS, "value": NUMBERS},
    )
    named = Listed("SELECT value FROM sequences WHERE name {names} ORDER BY value {locked}", names=TEXTS)
    numbered = Listed("SELECT name FROM sequences WHERE value {values} AND name <> :but", values=NUMBERS)

    def work(connection: Connection) -> tuple[list[int], list[str]]:
        add.execute(connection, given=[('a "b" {c}, \\', 1), ("d", 2), ("é", 3), ("NULL", 4)], more=10)
        found = named.execute(connection, names=["é", 'a "b" {c}, \\', "nobody", "NULL"])
        assert named.rows(connection, names=["d"]) == [(12,)]
        assert named.rows(connection, names=[]) == []
        return (
            list(found.scalars()),
            list(numbered.execute(connection, values=[11, 12, 99], but="d").scalars()),
        )

    assert await store.write(work) == ([11, 13, 14], ['a "b" {c}, \\'])
