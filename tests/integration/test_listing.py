# SPDX-License-Identifier: GPL-2.0-or-later
"""Who had something built is told when the index lists it: after many publications in a row that is later."""

import itertools
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from bdcs.services.indexing import IndexKeeper
from bdcs.services.listing import listed_in
from bdcs.store.engine import SQLITE_NAME
from bdcs.store.store import Store
from tests.builds import TARGET, HandBuilder, Wisher, specification
from tests.index_rows import START, IndexRows, made
from tests.peer import request
from tests.processes import Collector
from tests.shelf import Shelf
from tests.waiting import until

MANY = 20


@pytest.fixture
def rows(tmp_path: Path) -> IndexRows:
    return IndexRows.create(tmp_path / "data")


@pytest_asyncio.fixture
async def store(rows: IndexRows) -> AsyncIterator[Store]:
    store = Store(rows.data / SQLITE_NAME)
    yield store
    await store.close()


async def test_when_that_is_over_the_keeper_has_written_it(rows: IndexRows, store: Store) -> None:
    clock = itertools.count(START)
    waits = [await published(rows, store, number, next(clock)) for number in range(MANY)]
    assert not waits[0]
    assert waits[-1]
    then = float(next(clock) - 1 + waits[-1])
    assert await store.read(partial(listed_in, ids=[MANY], now=then - 1)) == 1  # it is due, and not written
    await IndexKeeper(store, rows.data, lambda: then).look()
    assert is_listed(rows, MANY - 1)
    assert await store.read(partial(listed_in, ids=range(1, MANY + 1), now=then)) == 0


async def published(rows: IndexRows, store: Store, number: int, now: float) -> int:
    """Publish that package; return after how many seconds it is said to be listed."""
    ids = rows.publish([made(f"a/p{number}-1")], now=now)
    rows.write(now=now)
    seconds = await store.read(partial(listed_in, ids=ids, now=now))
    assert is_listed(rows, number) == (not seconds)
    return seconds


def is_listed(rows: IndexRows, number: int) -> bool:
    return f"CPV: a/p{number}-1\n" in rows.files.path("Packages").read_text()


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with Collector(tmp_path) as collector:
        Shelf(collector.data).add_target(TARGET, signatures="optional")
        yield collector


def index(collector: Collector) -> str:
    answer = request(collector.url, "GET", f"/binhost/{TARGET}/Packages")
    assert answer.status == 200, answer
    return answer.body.decode()


def test_the_request_says_so(collector: Collector) -> None:
    builder = HandBuilder.approved(collector, TARGET)
    machine = Wisher(collector.url)
    machine.register()
    first = specification("app-misc/p0-1.0")
    cpv, number = published_as_a_new_index(collector, machine, builder)
    last = machine.state(number)
    assert last["state"] == "published"
    assert 0 < last["listed_in"] <= 15
    assert cpv not in index(collector)
    again, before = machine.ask(specification(cpv)), machine.ask(first)
    assert (again["state"], before["state"], before["listed_in"]) == ("published", "published", 0)
    assert again["listed_in"] > 0
    assert machine.ask(first, specification(cpv), commit=False)["listed_in"] > 0
    machine.ask(specification("app-misc/new-1.0", depend=f"={cpv}"))
    lease = builder.claim(TARGET)
    assert lease is not None
    assert 0 < lease["job"]["listed_in"] <= 15  # what it depends on might have been published just now
    until(lambda: machine.state(number)["listed_in"] == 0, what="the time being over")
    assert cpv in index(collector)


def published_as_a_new_index(collector: Collector, machine: Wisher, builder: HandBuilder) -> tuple[str, str]:
    """Publish more and more; return CPV and request of the first of many that share an index that waits."""
    shelf, before = Shelf(collector.data), 0
    for number in itertools.count():
        cpv = f"app-misc/p{number}-1.0"
        asked: str = machine.ask(specification(cpv))["id"]
        lease = builder.claim(TARGET)
        assert lease is not None
        assert builder.build(lease).status == 200
        timestamp = shelf.timestamp(TARGET)
        if number > MANY and timestamp > before:
            return cpv, asked
        before = timestamp
    raise AssertionError
