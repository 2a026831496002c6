# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases: one at a time, the next one when the first stops, dies or hangs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Connection, update

from bdcs.services import leases
from bdcs.services.leases import Leader, Lease, Work
from bdcs.store import schema, tables
from bdcs.store.store import Store

NAME = "anything"


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "bdcs.sqlite")
    await store.write(schema.upgrade)
    yield store
    await store.close()


async def taken(store: Store, holder: str) -> Lease | None:
    return await store.write(lambda connection: leases.take(connection, NAME, holder))


async def let_it_expire(store: Store) -> None:
    """As time does."""

    def expire(connection: Connection) -> None:
        connection.execute(update(tables.leases).values(until=1))

    await store.write(expire)


async def test_one_at_a_time_and_each_with_a_higher_number(store: Store) -> None:
    first = await taken(store, "a")
    assert first is not None
    assert await taken(store, "b") is None
    assert not await store.read(lambda connection: leases.is_free(connection, NAME))
    await store.write(lambda connection: leases.give_back(connection, first))
    assert await store.read(lambda connection: leases.is_free(connection, NAME))
    second = await taken(store, "b")
    assert second is not None
    assert second.number > first.number
    assert not await store.write(lambda connection: leases.renew(connection, first))
    await store.write(lambda connection: leases.give_back(connection, first))
    assert await taken(store, "a") is None


async def test_what_is_over_is_anybodys_until_its_holder_comes_back(store: Store) -> None:
    first = await taken(store, "a")
    assert first is not None
    await let_it_expire(store)
    assert await store.write(lambda connection: leases.renew(connection, first))
    assert await taken(store, "b") is None
    await let_it_expire(store)
    assert await taken(store, "b") is not None
    assert not await store.write(lambda connection: leases.renew(connection, first))


class Party:
    """Leaders that note who is at work."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.at_work: list[str] = []
        self.came: list[str] = []
        self.changed = asyncio.Condition()

    def start(self, name: str) -> asyncio.Task[None]:
        leader = Leader(self.store, NAME, seconds=4.0, holder=name)
        return asyncio.create_task(leader.run(lambda: [self.work(name)]))

    async def work(self, name: str) -> None:
        await self.change([*self.at_work, name])
        self.came.append(name)
        try:
            assert self.at_work == [name]
            await asyncio.Event().wait()
        finally:
            await self.change([other for other in self.at_work if other != name])

    async def change(self, at_work: list[str]) -> None:
        async with self.changed:
            self.at_work = at_work
            self.changed.notify_all()

    async def until_at_work(self, *names: str) -> None:
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(lambda: self.at_work == [*names])


async def stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_stops_is_followed_and_comes_back_when_the_other_stops(store: Store) -> None:
    party = Party(store)
    a = party.start("a")
    await party.until_at_work("a")
    b = party.start("b")
    await stop(a)
    await party.until_at_work("b")
    a = party.start("a")
    await stop(b)
    await party.until_at_work("a")
    await stop(a)
    assert party.came == ["a", "b", "a"]
    assert await store.read(lambda connection: leases.is_free(connection, NAME))


async def test_who_lost_it_stops_at_once_and_does_the_work_when_it_is_free_again(store: Store) -> None:
    party = Party(store)
    a = party.start("a")
    await party.until_at_work("a")
    thief: Lease | None = None
    async with asyncio.timeout(60):
        while thief is None:
            await let_it_expire(store)
            thief = await taken(store, "thief")
    await party.until_at_work()
    lease = thief
    await store.write(lambda connection: leases.give_back(connection, lease))
    await party.until_at_work("a")
    await stop(a)
    assert party.came == ["a", "a"]


async def test_who_cannot_reach_the_store_stops_before_another_may_begin(
    store: Store, tmp_path: Path
) -> None:
    party = Party(store)
    other = Store(tmp_path / "bdcs.sqlite")
    leader = Leader(other, NAME, seconds=4.0, holder="cut off")
    a = asyncio.create_task(leader.run(lambda: [party.work("cut off")]))
    await party.until_at_work("cut off")
    b = party.start("b")

    async def hang(connection: object) -> None:
        await asyncio.Event().wait()

    other.write = hang  # type: ignore[method-assign,assignment]
    await party.until_at_work("b")  # who asserts that nobody else is
    await stop(a, b)
    await other.close()


async def test_an_error_of_the_work_ends_all_and_it_is_begun_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leases, "PAUSE", 0.02)
    fails = [True]
    goes_on = asyncio.Event()

    async def fail() -> None:
        if fails.pop() if fails else False:
            raise ValueError("broken")
        goes_on.set()

    ended: list[str] = []

    async def go_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    def works() -> list[Work]:
        return [go_on(), fail()]

    leading = asyncio.create_task(Leader(store, NAME).run(works))
    async with asyncio.timeout(60):
        await goes_on.wait()
    assert ended == ["cancelled"]
    assert "ValueError: broken" in caplog.text
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    assert await store.read(lambda connection: leases.is_free(connection, NAME))
