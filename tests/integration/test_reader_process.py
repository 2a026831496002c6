# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that reads what takes long: it finds the same, and never outlives who asks it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Connection, insert, select

from bdcs.domain.codes import INSTALL, INSTALL_TYPE
from bdcs.domain.machines import State
from bdcs.domain.statistics import week_of
from bdcs.domain.thresholds import Thresholds
from bdcs.errors import StoreUnavailable
from bdcs.services import predictions, reader_process, rollups
from bdcs.services.predictions import PredictionKeeper
from bdcs.services.reader_process import COMMAND, NICENESS, ReaderProcess
from bdcs.store import schema, tables
from bdcs.store.bulk import insert_rows
from bdcs.store.engine import create_writer
from bdcs.store.places import Place
from bdcs.store.store import Store, transaction
from tests import stores
from tests.processes import environment
from tests.waiting import until

JUNE = 1_780_272_000
TEN = Thresholds()
MACHINES = 14


def fill(connection: Connection) -> None:
    """Machines that all built the same two versions, one after the other."""
    connection.execute(insert(tables.packages).values(id=1, category="app-misc", name="p"))
    connection.execute(insert(tables.versions), [{"id": each, "text": f"{each}.0"} for each in (1, 2)])
    rows: list[tuple[object, ...]] = []
    for machine in range(1, MACHINES + 1):
        connection.execute(
            insert(tables.machines).values(
                id=machine,
                uuid=str(UUID(int=machine)),
                public_key=b"",
                state=State.APPROVED,
                registered_at=0,
                head_seq=1,
            )
        )
        for version in (1, 2):
            at = JUNE + version * 1000 + machine
            name = (len(rows) + 1, machine, version, 1, version, None)
            replaced = version - 1 or None
            source = INSTALL_TYPE["source"]
            rows.append((*name, INSTALL, source, None, replaced, at, JUNE, 60 + machine, 100, 0, 0, None))
    insert_rows(connection, tables.package_state_changes, rows)
    rollups.fold(connection)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    engine = create_writer(tmp_path / "bdcs.sqlite")
    with transaction(engine) as connection:
        schema.upgrade(connection)
        fill(connection)
    engine.dispose()
    opened = Store(tmp_path / "bdcs.sqlite")
    yield opened
    await opened.close()


PLAN = partial(rollups.plan_of, packages=[1], thresholds=TEN, week=week_of(JUNE))


async def test_it_finds_what_the_server_would(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await store.read(PLAN)
    assert here.packages[0].release.put
    asked = 0
    async with ReaderProcess(stores.place(tmp_path / "bdcs.sqlite")) as process:
        assert await process.read(PLAN) == here
        assert process._process is not None
        assert os.getpriority(os.PRIO_PROCESS, process._process.pid) == NICENESS

        async def read(work: Callable[[Connection], rollups.Plan]) -> rollups.Plan:
            nonlocal asked
            asked += 1
            return await process.read(work)

        monkeypatch.setattr(rollups, "FEW", 10)
        await rollups.renew(store, TEN, JUNE, read)
    assert process._process.returncode is not None
    assert asked == 1
    cells = select(tables.statistic_cells.c.topic, tables.statistic_cells.c.bucket)
    shown = await store.read(lambda connection: set(connection.execute(cells).all()))
    assert shown == {(key[0], key[2]) for key in here.packages[0].release.put}


async def test_of_two_plans_made_at_once_one_is_carried_out(store: Store) -> None:
    """As when who had the lease before is late."""
    plan = await store.read(PLAN)
    for _ in range(2):
        await store.write(partial(rollups.apply, plan=plan, now=JUNE))
    statistics = tables.package_statistics.c
    row = await store.read(
        lambda connection: connection.execute(select(statistics.records, statistics.pending)).one()
    )
    assert row == (2 * MACHINES, 0)


async def test_predictions_are_fitted_there_where_much_was_recorded(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is nowhere is read where little is, and cannot be read in the process."""

    async def published(place: Place) -> set[tuple[object, ...]]:
        await store.write(lambda connection: connection.execute(tables.predictions.delete()))
        await PredictionKeeper(store, TEN, lambda: JUNE, place).refresh()
        rows = await store.read(lambda connection: connection.execute(select(tables.predictions)).all())
        return {tuple(row) for row in rows}

    here = await published(tmp_path / "nowhere")
    assert here
    monkeypatch.setattr(predictions, "FEW", -1)
    assert await published(stores.place(tmp_path / "bdcs.sqlite")) == here
    with pytest.raises(StoreUnavailable):
        await published(tmp_path / "nowhere")


async def test_few_records_need_no_process(store: Store, tmp_path: Path) -> None:
    async with ReaderProcess(tmp_path / "nowhere") as process:
        await rollups.renew(store, TEN, JUNE, process.read)
        assert process._process is None


async def test_one_that_is_killed_is_a_store_that_cannot_be_read(store: Store, tmp_path: Path) -> None:
    async with ReaderProcess(stores.place(tmp_path / "bdcs.sqlite")) as process:
        await process.read(PLAN)
        assert process._process is not None
        process._process.send_signal(signal.SIGKILL)
        with pytest.raises(StoreUnavailable):
            await process.read(PLAN)
    assert process._process.returncode == -signal.SIGKILL


async def test_who_is_cancelled_does_not_wait_for_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when nobody reads any more, is larger than what asyncio keeps, and never ends."""
    answering = (
        "import sys, time; sys.stdin.buffer.read();"
        "sys.stdout.buffer.write(bytes(1 << 20)); sys.stdout.buffer.flush(); time.sleep(600)"
    )
    monkeypatch.setattr(reader_process, "COMMAND", (sys.executable, "-c", answering))
    process = ReaderProcess(tmp_path / "nowhere")
    asking = asyncio.create_task(process.read(PLAN))
    await asyncio.to_thread(until, lambda: process._process is not None)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(process.__aexit__(None, None, None), 60)
    assert process._process is not None
    assert process._process.returncode == -signal.SIGKILL


async def test_it_ends_when_nobody_can_ask_any_more(store: Store, tmp_path: Path) -> None:
    """As when the server is killed: its end of the pipe closes."""
    reading, writing = os.pipe()
    child = await asyncio.create_subprocess_exec(
        *COMMAND, stdin=reading, stdout=asyncio.subprocess.DEVNULL, env=environment()
    )
    os.close(reading)
    with contextlib.closing(os.fdopen(writing, "wb")) as pipe:
        pipe.write(reader_process._framed(stores.place(tmp_path / "bdcs.sqlite")))
        pipe.flush()
        assert child.returncode is None
    await asyncio.wait_for(child.wait(), 60)
    assert child.returncode == 0
