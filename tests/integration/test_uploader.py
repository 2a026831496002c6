# SPDX-License-Identifier: GPL-2.0-or-later
"""Sending until everything is acknowledged: real journal and HTTP, a collector that misbehaves on demand."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gentwoo_client import uploader as uploader_module
from gentwoo_client.collector_api import CollectorAPI
from gentwoo_client.errors import CollectorRefused, PushingStopped, TryLater
from gentwoo_client.journal import Journal, JournalRecord
from gentwoo_client.machine_key import KEY_NAME, MachineKey, create_key
from gentwoo_client.outbox import Outbox
from gentwoo_client.uploader import LONGEST_DELAY, Uploader, Wakes, back_off, linger
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import AwaitingApproval, Forgotten, TooLarge, Unregistered
from gentwoo_client.wire.records import PackageStateChange
from tests.collector_simulator import Answer, CollectorSimulator, Drop


def change(number: int, *, observed: str = "live") -> PackageStateChange:
    return PackageStateChange(
        seq=0,
        event="install",
        category="app-misc",
        name=f"package{number}",
        version="1",
        repository="gentoo",
        install_type="source",
        cause=None,
        replaces=None,
        recorded_at=1_763_771_625 + number,
        time_delta=4,
        concurrency=1.0,
        observed=observed,
        clock="unknown",
    )


def add_records(state_dir: Path, *numbers: int, withheld: str | None = None) -> None:
    journal = Journal.open(state_dir, create=True)
    records = [JournalRecord(change=change(number), root=None, withheld=withheld) for number in numbers]
    journal.commit(records, position=None, tracker="", state={})
    journal.close()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    add_records(tmp_path)
    return tmp_path


@pytest.fixture
def key(state_dir: Path) -> MachineKey:
    return create_key(state_dir / KEY_NAME)


@pytest.fixture
async def collector(key: MachineKey) -> AsyncIterator[CollectorSimulator]:
    async with CollectorSimulator() as simulator:
        async with CollectorAPI(simulator.url, key) as api:
            await api.register()
        yield simulator


@pytest.fixture
async def outbox(state_dir: Path) -> AsyncIterator[Outbox]:
    async with Outbox.open(state_dir) as outbox:
        yield outbox


@pytest.fixture
async def uploader(outbox: Outbox, collector: CollectorSimulator, key: MachineKey) -> AsyncIterator[Uploader]:
    async with CollectorAPI(collector.url, key) as api:
        yield Uploader(outbox, api, key)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are waited out in milliseconds."""
    monkeypatch.setattr(uploader_module, "FIRST_DELAY", 0.001)


def names(collector: CollectorSimulator, key: MachineKey) -> list[str]:
    return [record["name"] for record in collector.records(key.machine)]


def packages(*numbers: int) -> list[str]:
    return [f"package{number}" for number in numbers]


async def stopped(outbox: Outbox) -> Any:
    return json.loads(await outbox.get("stopped") or "null")


async def test_everything_arrives_in_order_and_once(
    uploader: Uploader, collector: CollectorSimulator, state_dir: Path, key: MachineKey, outbox: Outbox
) -> None:
    add_records(state_dir, 1, 2, 3)
    await uploader.send(patience=0)
    add_records(state_dir, 4)
    await uploader.send(patience=0)
    await uploader.send(patience=0)
    assert names(collector, key) == packages(1, 2, 3, 4)
    assert [record["seq"] for record in collector.records(key.machine)] == [1, 2, 3, 4]
    assert len(collector.bodies) == 2
    assert (await outbox.tally()).unsent == 0


async def test_withheld_records_are_never_sent(
    uploader: Uploader, collector: CollectorSimulator, state_dir: Path, key: MachineKey, outbox: Outbox
) -> None:
    add_records(state_dir, 1)
    add_records(state_dir, 2, withheld="repository")
    add_records(state_dir, 3)
    await uploader.send(patience=0)
    assert names(collector, key) == packages(1, 3)
    assert (await outbox.tally()).withheld == {"repository": 1}


async def test_a_long_history_goes_in_segments_of_the_protocol(
    uploader: Uploader, collector: CollectorSimulator, state_dir: Path, key: MachineKey
) -> None:
    count = 2 * limits.RECORDS_PER_SEGMENT + 1
    add_records(state_dir, *range(count))
    await uploader.send(patience=0)
    assert names(collector, key) == packages(*range(count))
    assert len(collector.bodies) == 3


TROUBLE = [
    [Answer(429, retry_after=0), Answer(429, retry_after=0)],
    [Answer(500), Answer(502), Answer(503, retry_after=0)],
    [Drop.BEFORE, Drop.BEFORE],
    [Drop.AFTER, Drop.AFTER],
    [Drop.MIDDLE],
    [Answer(404), Answer(200, body=b"not a collector"), Drop.AFTER, Drop.MIDDLE],
]


@pytest.mark.parametrize("faults", TROUBLE)
async def test_trouble_that_passes_neither_loses_nor_repeats(
    uploader: Uploader,
    collector: CollectorSimulator,
    state_dir: Path,
    key: MachineKey,
    outbox: Outbox,
    faults: list[Any],
) -> None:
    add_records(state_dir, 1, 2)
    collector.script(*faults)
    await uploader.send(patience=30)
    assert names(collector, key) == packages(1, 2)
    assert len(set(collector.bodies)) == 1, "a segment is signed once and sent again byte for byte"
    assert await outbox.get("retry_at") is None


async def test_a_lost_acknowledgement_is_asked_for_again(
    uploader: Uploader, collector: CollectorSimulator, state_dir: Path, key: MachineKey, outbox: Outbox
) -> None:
    add_records(state_dir, 1)
    collector.script(Drop.MIDDLE)
    with pytest.raises(TryLater):
        await uploader.send(patience=-1)
    assert await outbox.get("retry_at") is not None
    add_records(state_dir, 2)
    await uploader.send(patience=0)
    assert names(collector, key) == packages(1, 2)
    assert await outbox.get("retry_at") is None


async def test_a_sender_that_dies_before_sending_leaves_the_segment(
    outbox: Outbox, uploader: Uploader, collector: CollectorSimulator, state_dir: Path, key: MachineKey
) -> None:
    add_records(state_dir, 1)
    sealed = await outbox.seal(key, audience=collector.url)
    assert sealed is not None
    add_records(state_dir, 2)
    await uploader.send(patience=0)
    assert collector.bodies[0] == sealed.compact
    assert names(collector, key) == packages(1, 2)


@pytest.mark.parametrize("remaining", [0, 1, 3])
async def test_what_the_collector_lost_is_made_again_exactly(
    uploader: Uploader, collector: CollectorSimulator, state_dir: Path, key: MachineKey, remaining: int
) -> None:
    for numbers in ((1,), (2, 3), (4, 5)):
        add_records(state_dir, *numbers)
        await uploader.send(patience=0)
    before = list(collector.bodies)
    collector.lose(key.machine, after=remaining)
    add_records(state_dir, 6)
    await uploader.send(patience=0)
    assert names(collector, key) == packages(1, 2, 3, 4, 5, 6)
    assert [compact for _, _, compact in collector.machines[key.machine].segments][:3] == before


async def test_a_cloned_state_directory_stops_and_names_the_repair(
    uploader: Uploader,
    collector: CollectorSimulator,
    state_dir: Path,
    key: MachineKey,
    outbox: Outbox,
    tmp_path: Path,
) -> None:
    import shutil

    add_records(state_dir, 1)
    await uploader.send(patience=0)
    clone = tmp_path / "clone"
    shutil.copytree(state_dir, clone, ignore=shutil.ignore_patterns("clone"))
    add_records(clone, 2)
    async with Outbox.open(clone) as theirs, CollectorAPI(collector.url, key) as api:
        await Uploader(theirs, api, key).send(patience=0)
    add_records(state_dir, 3)
    with pytest.raises(PushingStopped) as caught:
        await uploader.send(patience=0)
    assert caught.value.reason == "fork"
    assert "gentwoo register --renew" in str(caught.value.advice)
    assert (await stopped(outbox))["reason"] == "fork"
    assert names(collector, key) == packages(1, 2)


async def test_a_restored_backup_stops_too(
    uploader: Uploader, collector: CollectorSimulator, state_dir: Path, key: MachineKey, tmp_path: Path
) -> None:
    import shutil

    add_records(state_dir, 1)
    await uploader.send(patience=0)
    backup = tmp_path / "backup"
    shutil.copytree(state_dir, backup, ignore=shutil.ignore_patterns("backup"))
    add_records(state_dir, 2)
    add_records(state_dir, 3)
    await uploader.send(patience=0)
    add_records(backup, 4, 5, 6)
    async with Outbox.open(backup) as restored, CollectorAPI(collector.url, key) as api:
        with pytest.raises(PushingStopped, match="another history"):
            await Uploader(restored, api, key).send(patience=0)
    assert names(collector, key) == packages(1, 2, 3)


async def test_records_changed_after_sending_are_not_passed_off_as_the_same(
    uploader: Uploader, collector: CollectorSimulator, state_dir: Path, key: MachineKey
) -> None:
    import sqlite3

    add_records(state_dir, 1)
    await uploader.send(patience=0)
    with sqlite3.connect(state_dir / "journal.sqlite") as connection:
        connection.execute("UPDATE records SET record = replace(record, 'package1', 'package9')")
    connection.close()
    collector.lose(key.machine, after=0)
    add_records(state_dir, 2)
    with pytest.raises(PushingStopped, match="no longer has the records"):
        await uploader.send(patience=0)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (Unregistered(), "gentwoo register"),
        (AwaitingApproval(), "operator"),
        (Forgotten(), "gentwoo register --renew"),
        (TooLarge(), "limits"),
    ],
)
async def test_a_refusal_stops_and_is_remembered_until_it_is_repaired(
    uploader: Uploader,
    collector: CollectorSimulator,
    state_dir: Path,
    outbox: Outbox,
    key: MachineKey,
    problem: Any,
    words: str,
) -> None:
    add_records(state_dir, 1)
    collector.script(Answer(problem.status, problem=problem))
    with pytest.raises(CollectorRefused) as caught:
        await uploader.send(patience=30)
    assert words in str(caught.value.advice)
    assert (await stopped(outbox))["reason"] == problem.slug
    await uploader.send(patience=0)
    assert await stopped(outbox) is None
    assert names(collector, key) == packages(1)


async def test_impatience_says_when_to_come_back(
    uploader: Uploader, collector: CollectorSimulator, state_dir: Path, outbox: Outbox
) -> None:
    import time

    add_records(state_dir, 1)
    collector.script(Answer(503, retry_after=600))
    with pytest.raises(TryLater):
        await uploader.send(patience=10)
    assert int(await outbox.get("retry_at") or 0) >= time.time() + 500
    assert await outbox.get("attempts") == "1"


def test_back_off_has_jitter_and_a_ceiling() -> None:
    assert all(0 <= back_off(attempts) <= LONGEST_DELAY for attempts in range(1000))
    assert len({back_off(5) for _ in range(10)}) > 1


async def test_a_collector_that_contradicts_itself_is_not_believed(
    uploader: Uploader, collector: CollectorSimulator, state_dir: Path, key: MachineKey
) -> None:
    add_records(state_dir, 1)
    collector.script(Answer(200, body=b'{"head": {"seq": 0, "segment": null}}'))
    with pytest.raises(TryLater, match="does not take"):
        await uploader.send(patience=-1)
    collector.script(Answer(200, body=b'{"head": {"seq": 1, "segment": "AAAA"}}'))
    with pytest.raises(PushingStopped):
        await uploader.send(patience=-1)
    await uploader.send(patience=0)
    assert names(collector, key) == packages(1)


class Lingering:
    """`linger` on the reading end of a pipe, as the daemon's child has it."""

    def __init__(self, uploader: Uploader) -> None:
        reading, self.writing = os.pipe()
        self.reading = reading
        self.task = asyncio.create_task(linger(uploader, Wakes(reading), seconds=30, patience=5))

    def wake(self) -> None:
        os.write(self.writing, b"\n")

    async def end(self) -> None:
        os.close(self.writing)
        await self.task
        os.close(self.reading)


async def test_each_wake_sends_what_came_over_one_connection(
    uploader: Uploader, collector: CollectorSimulator, state_dir: Path, key: MachineKey
) -> None:
    add_records(state_dir, 1)
    connections = collector.connections
    lingering = Lingering(uploader)
    await collector.until_records(key.machine, 1)
    for number in (2, 3, 4):
        await asyncio.to_thread(add_records, state_dir, number)
        lingering.wake()
        await collector.until_records(key.machine, number)
    await lingering.end()
    assert names(collector, key) == packages(1, 2, 3, 4)
    assert collector.connections == connections + 1


async def test_the_end_of_the_pipe_ends_it_after_a_last_look(
    uploader: Uploader, collector: CollectorSimulator, state_dir: Path, key: MachineKey
) -> None:
    lingering = Lingering(uploader)
    add_records(state_dir, 1)
    await lingering.end()
    assert names(collector, key) == packages(1)


async def test_nobody_waits_for_an_absent_collector_after_the_end(
    uploader: Uploader, collector: CollectorSimulator, state_dir: Path
) -> None:
    add_records(state_dir, 1)
    collector.script(*[Answer(503, retry_after=4)] * 5)
    lingering = Lingering(uploader)
    with pytest.raises(TryLater):
        async with asyncio.timeout(3):
            await lingering.end()
    os.close(lingering.reading)


async def test_without_wakes_it_goes(uploader: Uploader) -> None:
    reading, writing = os.pipe()
    async with asyncio.timeout(20):
        await linger(uploader, Wakes(reading), seconds=0.01, patience=0)
    os.close(reading)
    os.close(writing)
