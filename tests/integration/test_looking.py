# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders that wait for work: they look together, and see what was there when each asked."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, event, update

from bdcs.errors import StoreUnavailable
from bdcs.services import builders as known_builders
from bdcs.services import queueing
from bdcs.services.jobs import Claimant, Jobs
from bdcs.services.looking import Looks
from bdcs.store import tables
from tests.integration.test_claims_together import JOBS, Scene

TARGET = 1
JOB = 1
WAITING = 60
"""Builders."""


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Builders, and jobs of which none is queued."""
    async with Scene(tmp_path / "bdcs.sqlite") as scene:

        def stop(connection: Connection) -> None:
            connection.execute(update(tables.jobs).values(state="cancelled"))
            connection.execute(delete(tables.queue))

        await scene.store.write(stop)
        yield scene


def queue(book: Jobs) -> None:
    """Queue one job."""
    book.connection.execute(update(tables.jobs).where(tables.jobs.c.id == JOB).values(state="queued"))
    queueing.renew(book.connection, [JOB])
    book.touched.targets.add(TARGET)


@contextmanager
def counted() -> Iterator[list[str]]:
    """The looks at what is queued, as statements, of all engines."""
    looks: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT targets.id"):
            looks.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield looks
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_of_many_who_wait_few_look_and_one_gets_the_job(scene: Scene) -> None:
    attempting = scene.attempting
    able = [builder for builder in scene.builders if "amd64" in builder.claim.targets][:WAITING]
    await asyncio.gather(*map(scene.claim, able))  # their keys are known now
    with counted() as looks:
        waiting = [
            asyncio.create_task(attempting.claim(builder.signed(time.time()), builder.claim, wait=600))
            for builder in able
        ]
        await attempting.transactions.write(queue)
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        attempting.transactions.bus.close()
        answers = await asyncio.gather(*waiting)
    assert sorted(answer.status for answer in answers) == [201, *[204] * (WAITING - 1)]
    assert 0 < len(looks) < WAITING / 2
    assert await scene.leased() == [JOB]


async def test_a_look_shows_what_was_there_before_it(scene: Scene) -> None:
    looks, store = Looks(), scene.store
    claimant = Claimant(machine_id=JOBS, name="b", target_ids=(TARGET, 2))
    elsewhere = Claimant(machine_id=JOBS, name="b", target_ids=(2, 3))
    with counted() as asked:
        before = await looks.since(time.monotonic(), store)
        assert not before.is_for(claimant)
        under_way = asyncio.create_task(looks.since(time.monotonic(), store))
        await scene.attempting.transactions.write(queue)
        found = await asyncio.gather(*(looks.since(time.monotonic(), store) for _ in range(WAITING)))
        await under_way
    assert all(work.is_for(claimant) and not work.is_for(elsewhere) for work in found)
    assert len(asked) == 3


async def test_who_was_not_woken_takes_what_another_saw(scene: Scene) -> None:
    looks, store = Looks(), scene.store
    moment = time.monotonic()
    seen = await looks.since(moment, store)
    await scene.attempting.transactions.write(queue)
    assert await looks.since(moment, store) is seen


async def test_nothing_is_there_for_who_was_drained(scene: Scene) -> None:
    builder = scene.builders[2]
    signed = builder.signed(time.time())
    assert (await scene.attempting.claim(signed, builder.claim, wait=0)).status == 204  # he is known now
    by = known_builders.OPERATOR
    await scene.store.write(lambda connection: known_builders.drain(connection, builder.claim.name, by))
    await scene.attempting.transactions.write(queue)
    work = await Looks().since(time.monotonic(), scene.store)
    ((machine, name),) = work.drained
    assert name == builder.claim.name
    assert not work.is_for(Claimant(machine_id=machine, name=name, target_ids=(TARGET,)))
    assert work.is_for(Claimant(machine_id=machine, name="another", target_ids=(TARGET,)))


async def test_a_look_that_failed_is_not_taken_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, moment = Looks(), time.monotonic()

    async def fail(_work: object) -> None:
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(scene.store, "read", fail)
        with pytest.raises(StoreUnavailable):
            await looks.since(moment, scene.store)
    assert not (await looks.since(moment, scene.store)).target_ids
