# SPDX-License-Identifier: GPL-2.0-or-later
"""The index keeper: whatever befell a publisher, its disk or the store, the index becomes what was published.

And it never gets a TIMESTAMP under which a client may have seen anything else.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from bdcs.blobs.index_files import LAYOUT, PACKED, PLAIN
from bdcs.blobs.target_lock import target_lock
from bdcs.domain.packages_index import LEAD, STEP, parse_entry
from bdcs.services import targets
from bdcs.services.indexing import IndexKeeper
from bdcs.store.engine import SQLITE_NAME
from bdcs.store.store import Store, transaction
from dev.places import ROOT
from tests import stores
from tests.faults import fill, small_disk
from tests.index_rows import NAME, START, IndexRows, made
from tests.processes import environment


class Clock:
    """The time, as the test says it is."""

    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def rows(tmp_path: Path) -> IndexRows:
    return IndexRows.create(tmp_path / "data")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def store(rows: IndexRows) -> AsyncIterator[Store]:
    store = Store(rows.data / SQLITE_NAME)
    yield store
    await store.close()


def keeper(store: Store, rows: IndexRows, clock: Clock) -> IndexKeeper:
    """One as a server has at its start."""
    return IndexKeeper(store, rows.data, clock)


def header(rows: IndexRows) -> dict[str, str]:
    return parse_entry(rows.files.path(PLAIN).read_text().partition("\n\n")[0])


def is_whole(rows: IndexRows) -> bool:
    """Whether the files agree with the rows, the TIMESTAMP and each other."""
    times = {rows.files.path(name).stat().st_mtime_ns for name in (PLAIN, PACKED)}
    timestamp = int(header(rows)["TIMESTAMP"])
    return rows.agrees() and times == {timestamp * 10**9} and timestamp == rows.target.timestamp


async def test_a_target_without_packages_has_an_index_with_a_header_alone(
    rows: IndexRows, store: Store, clock: Clock
) -> None:
    await keeper(store, rows, clock).look()
    assert header(rows)["PACKAGES"] == "0"
    assert rows.files.path(PLAIN).read_bytes().endswith(b"VERSION: 0\n\n")
    assert is_whole(rows)


async def test_what_a_publisher_committed_and_did_not_write_is_written(
    rows: IndexRows, store: Store, clock: Clock
) -> None:
    rows.publish([made("a/b-1")])
    rows.write()
    rows.publish([made("a/b-2"), made("a/c-1")])
    await keeper(store, rows, clock).look()
    assert header(rows)["PACKAGES"] == "3"
    assert is_whole(rows)


def start(script: str, rows: IndexRows, word: str) -> subprocess.Popen[bytes]:
    """A process of its own that does `script`."""
    store = stores.url(rows.data / SQLITE_NAME)
    command: list[str | Path] = [sys.executable, "-c", script, rows.data, word, store]
    return subprocess.Popen(command, env=environment(), cwd=ROOT)


KILLED = """
import os, signal, sys
from pathlib import Path
from bdcs.blobs import index_files
from tests.index_rows import IndexRows, made

rows, moment = IndexRows.open(Path(sys.argv[1]), sys.argv[3]), sys.argv[2]
rows.publish([made(f"b/new-{number}") for number in range(50)], [1, 2])
method = moment.partition("-")[0]
left = [int(moment.partition("-")[2])]
real = getattr(index_files._Draft, method)

def counted(*arguments):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return real(*arguments)

setattr(index_files._Draft, method, counted)
rows.write()
sys.exit("nobody was killed")
"""


@pytest.mark.parametrize(
    "moment", ["reserve-0", "append-0", "append-3", "append-5", "appear-0", "appear-1", "appear-2"]
)
async def test_a_publisher_killed_while_it_writes(
    moment: str, rows: IndexRows, store: Store, clock: Clock
) -> None:
    rows.publish([made(f"a/p{number}-1") for number in range(300)])
    rows.write()
    running = keeper(store, rows, clock)
    await running.look()
    assert start(KILLED, rows, moment).wait() == -signal.SIGKILL
    seen = rows.files.timestamp()
    was_seen_in_part = rows.files.layout() is None
    await running.look()
    assert header(rows)["PACKAGES"] == "348"
    assert is_whole(rows)
    assert rows.target.timestamp > seen if was_seen_in_part else rows.target.timestamp >= seen
    assert sorted(path.name for path in rows.files.directory.iterdir()) == [LAYOUT, ".lock", PLAIN, PACKED]


async def test_a_restart_leaves_alone_what_is_right(rows: IndexRows, store: Store, clock: Clock) -> None:
    rows.publish([made(f"a/p{number}-1") for number in range(300)])
    rows.write()
    before = [rows.files.path(name).stat() for name in (PLAIN, PACKED)]
    clock.now += 1000
    await keeper(store, rows, clock).look()
    assert [rows.files.path(name).stat().st_ino for name in (PLAIN, PACKED)] == [old.st_ino for old in before]
    assert rows.target.timestamp == START


def flip(path: Path) -> None:
    """One bit of the file becomes another, at the same size and time."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("name", [PLAIN, PACKED, LAYOUT])
@pytest.mark.parametrize("damage", [flip, cut, remove])
async def test_a_start_repairs_what_a_power_failure_left(
    name: str, damage: Callable[[Path], None], rows: IndexRows, store: Store, clock: Clock
) -> None:
    rows.publish([made(f"a/p{number}-1") for number in range(300)])
    rows.write()
    damage(rows.files.path(name))
    await keeper(store, rows, clock).look()
    assert is_whole(rows)
    assert rows.target.timestamp >= START


async def test_an_index_that_was_seen_damaged_gets_a_new_timestamp(
    rows: IndexRows, store: Store, clock: Clock
) -> None:
    rows.publish([made("a/b-1")])
    rows.write()
    flip(rows.files.path(PACKED))
    await keeper(store, rows, clock).look()
    assert rows.target.timestamp == START + STEP


@pytest.mark.sqlite  # a shared store also reckons with the time that a commit takes
async def test_publications_far_ahead_are_written_together_when_they_are_due(
    rows: IndexRows, store: Store, clock: Clock
) -> None:
    running = keeper(store, rows, clock)
    written = []
    for number in range(20):
        rows.publish([made(f"a/p{number}-1")], now=clock.now)
        written.append(rows.write(now=clock.now))
    assert written == [True] * 11 + [False] * 9
    await running.look()
    assert header(rows)["PACKAGES"] == "11"
    assert rows.target.timestamp <= clock.now + LEAD + STEP
    clock.now = rows.target.timestamp - LEAD
    await running.look()
    assert header(rows)["PACKAGES"] == "20"
    assert is_whole(rows)
    rows.publish([made("a/last-1")], now=clock.now)
    assert rows.target.timestamp == clock.now + LEAD + STEP


async def test_a_clock_set_back_stops_nothing(rows: IndexRows, store: Store, clock: Clock) -> None:
    rows.publish([made("a/b-1")], now=clock.now)
    rows.write(now=clock.now)
    running = keeper(store, rows, clock)
    clock.now -= 86_400
    last = START
    for number in range(3):
        rows.publish([made(f"a/p{number}-1")], now=clock.now)
        rows.write(now=clock.now)
        await running.look()
        assert header(rows)["PACKAGES"] == str(number + 2)
        assert is_whole(rows)
        assert rows.target.timestamp >= last + STEP
        last = rows.target.timestamp


@pytest.mark.parametrize("publications", [0, 1, 2, 3])
async def test_a_restored_store_never_lowers_the_timestamp(
    publications: int, rows: IndexRows, clock: Clock, tmp_path: Path
) -> None:
    """In the restored store there may again be as many generations, and made at the same time."""
    rows.publish([made("a/kept-1")], now=clock.now)
    rows.write(now=clock.now)
    rows.engine.dispose()
    stores.copy(rows.data / SQLITE_NAME, tmp_path / "backup")
    for number in range(2):
        rows.publish([made(f"a/lost-{number}")], now=clock.now)
        assert rows.write(now=clock.now)
    seen = rows.files.timestamp()
    rows.engine.dispose()
    stores.copy(tmp_path / "backup", rows.data / SQLITE_NAME)
    for number in range(publications):
        rows.publish([made(f"a/after-{number}")], now=clock.now)
    restored = Store(rows.data / SQLITE_NAME)
    await keeper(restored, rows, clock).look()
    await restored.close()
    assert b"lost" not in rows.files.path(PLAIN).read_bytes()
    assert header(rows)["PACKAGES"] == str(1 + publications)
    assert is_whole(rows)
    assert rows.target.timestamp > seen


@pytest.mark.sqlite  # with a shared store it is another collector's directory that lacks them
async def test_a_restored_store_without_index_files_begins_with_the_time_of_now(
    rows: IndexRows, store: Store, clock: Clock
) -> None:
    rows.publish([made("a/b-1")], now=clock.now)
    rows.write(now=clock.now)
    shutil.rmtree(rows.data / "binhost")
    clock.now += 1_000_000
    await keeper(store, rows, clock).look()
    assert is_whole(rows)
    assert rows.target.timestamp == clock.now


async def test_a_header_that_changed_is_written_under_a_new_timestamp(
    rows: IndexRows, store: Store, clock: Clock
) -> None:
    rows.publish([made("a/b-1")], now=clock.now)
    rows.write(now=clock.now)
    with transaction(rows.engine) as connection:
        targets.change(connection, rows.target_in(connection), now=clock.now, header={"ARCH": "amd64"})
    await keeper(store, rows, clock).look()
    assert header(rows)["ARCH"] == "amd64"
    assert rows.target.timestamp >= START + STEP
    assert is_whole(rows)


async def test_a_target_somebody_works_on_is_left_to_them(
    rows: IndexRows, store: Store, clock: Clock
) -> None:
    rows.publish([made("a/b-1")])
    running = keeper(store, rows, clock)
    with target_lock(rows.files.directory):
        await running.look()
        assert not rows.files.path(PLAIN).exists()
    await running.look()
    assert is_whole(rows)


async def test_a_target_that_is_removed_while_it_is_looked_after(
    rows: IndexRows, store: Store, clock: Clock
) -> None:
    def remove_target() -> float:
        with transaction(rows.engine) as connection:
            connection.exec_driver_sql("DELETE FROM targets")
        return clock.now

    await IndexKeeper(store, rows.data, remove_target).look()
    assert not rows.files.path(PLAIN).exists()


async def test_a_header_that_no_index_can_hold_harms_no_other_target(
    rows: IndexRows, store: Store, clock: Clock
) -> None:
    with transaction(rows.engine) as connection:
        targets.add(connection, "bad", now=START, chost="x86_64-pc-linux-gnu", profile="default")
        connection.exec_driver_sql("""UPDATE targets SET header = '{"TTL": "soon"}' WHERE name = 'bad'""")
    rows.publish([made("a/b-1")])
    running = keeper(store, rows, clock)
    await running.look()
    await running.look()
    assert is_whole(rows)


async def test_a_removed_target_that_comes_again_begins_anew(
    rows: IndexRows, store: Store, clock: Clock
) -> None:
    rows.publish([made("a/b-1")])
    rows.write()
    seen = rows.files.timestamp()
    with transaction(rows.engine) as connection:
        targets.remove(connection, rows.target_in(connection), force=True)
        targets.add(connection, NAME, now=START, chost="x86_64-pc-linux-gnu", profile="y")
    await keeper(store, rows, clock).look()
    assert header(rows)["PACKAGES"] == "0"
    assert rows.target.timestamp > seen


async def test_a_full_disk_leaves_the_old_index_and_is_reported_once(
    rows: IndexRows, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A tmpfs of its own is filled up; the test needs root, to mount it."""
    with small_disk(rows.data / "binhost", size=1_000_000) as disk:
        rows.publish([made(f"a/p{number}-1") for number in range(900)], now=clock.now)
        rows.write(now=clock.now)
        old = rows.files.path(PLAIN).read_bytes()
        ballast = fill(disk)
        rows.publish([made("a/new-1")], now=clock.now)
        running = keeper(store, rows, clock)
        with caplog.at_level(logging.WARNING):
            await running.look()
            await running.look()
        assert len(caplog.records) == 1
        assert "No space left" in caplog.text
        assert rows.files.path(PLAIN).read_bytes() == old
        assert rows.files.layout() is not None
        assert not list(rows.files.directory.glob(".*.new"))
        ballast.unlink()
        await running.look()
        assert header(rows)["PACKAGES"] == "901"
        assert is_whole(rows)


PUBLISHES = """
import sys
from pathlib import Path
from bdcs.blobs.target_lock import target_lock
from bdcs.services.indexing import write_index
from bdcs.store.store import transaction
from tests.index_rows import IndexRows, made

rows, who = IndexRows.open(Path(sys.argv[1]), sys.argv[3]), sys.argv[2]
for number in range(8):
    with target_lock(rows.files.directory):
        rows.publish([made(f"{who}/p{number}-1")])
        with transaction(rows.engine) as connection:
            write_index(connection, rows.target_in(connection), rows.files, {f"{who}/p{number}-1"})
"""


async def test_publishers_in_several_processes_take_turns(
    rows: IndexRows, store: Store, clock: Clock
) -> None:
    rows.publish([made(f"c/p{number}-1") for number in range(300)])
    rows.write()
    processes = [start(PUBLISHES, rows, who) for who in "abde"]
    running = keeper(store, rows, clock)
    while any(process.poll() is None for process in processes):
        await running.look()
    assert [process.returncode for process in processes] == [0] * 4
    clock.now += 1000
    await running.look()
    assert header(rows)["PACKAGES"] == "332"
    assert is_whole(rows)
