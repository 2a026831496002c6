# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs grow alike in files and in a store, from which they move to the blobs when they have ended."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from bdcs.blobs.attempt_logs import AttemptLogs, Logs
from bdcs.blobs.directory import Directory
from bdcs.services.log_windows import last_line, news, window
from bdcs.services.stored_logs import REST, StoredLogs
from bdcs.store import schema
from bdcs.store.engine import SQLITE_NAME, create_writer
from bdcs.store.store import transaction
from bdcs.store.tables import attempts, log_pieces

NOW = 1_700_000_000


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Callable[[int], StoredLogs]]:
    """Make logs in a store that has been set up."""
    writer = create_writer(tmp_path / SQLITE_NAME)
    with transaction(writer) as connection:
        schema.upgrade(connection)
    writer.dispose()
    made: list[StoredLogs] = []

    def make(largest: int) -> StoredLogs:
        logs = StoredLogs.of(tmp_path / SQLITE_NAME, Directory(tmp_path / "blobs"), largest)
        made.append(logs)
        return logs

    yield make
    for logs in made:
        logs.close()


@pytest.fixture(params=["files", "stored"])
def logs(
    request: pytest.FixtureRequest, stored: Callable[[int], StoredLogs], tmp_path: Path
) -> Callable[[int], Logs]:
    if request.param == "stored":
        return stored
    return lambda largest: AttemptLogs(tmp_path / "data", largest)


def test_pieces_go_where_they_belong(logs: Callable[[int], Logs]) -> None:
    there = logs(1 << 20)
    assert (there.size(7), there.read(7, 0, 100), there.listed()) == (0, b"", [])
    assert there.append(7, 0, b"one\n") == 4
    assert there.append(7, 0, b"one\n") == 4
    assert there.append(7, 2, b"e\ntwo\n") == 8
    assert there.append(7, 100, b"after a gap") == 8
    assert there.append(8, 0, b"other") == 5
    assert there.read(7, 0, 100) == b"one\ntwo\n"
    assert there.read(7, 3, 4) == b"\ntwo"
    assert there.read(7, 8, 100) == b""
    assert (there.size(7), sorted(there.listed())) == (8, [7, 8])
    there.remove(7)
    there.remove(7)
    assert (there.size(7), there.read(7, 0, 100), there.listed()) == (0, b"", [8])


def test_a_log_has_an_end(logs: Callable[[int], Logs]) -> None:
    there = logs(5)
    assert there.append(1, 0, "nine\N{EURO SIGN}".encode()) == 5
    assert there.append(1, 5, b"more") == 5
    assert there.read(1, 0, 100) == b"nine"


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    texts=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8),
    offset=st.integers(0, 100),
    most=st.integers(1, 60),
)
def test_any_part_can_be_read(logs: Callable[[int], Logs], texts: list[str], offset: int, most: int) -> None:
    there, text = logs(1 << 20), b""
    there.remove(1)
    for piece in texts:
        assert there.append(1, len(text), piece.encode()) == len(text) + len(piece.encode())
        text += piece.encode()
    part = text[offset : offset + most]
    read = there.read(1, offset, most)
    assert part.startswith(read)
    assert len(part) - len(read) < 4
    there.remove(1)


def test_what_has_ended_moves_and_reads_the_same(stored: Callable[[int], StoredLogs], tmp_path: Path) -> None:
    logs = stored(1 << 20)
    row = {"builder": "b", "started_at": 1, "lease_until": 2, "state": "failed", "log_size": 0}
    with transaction(logs.appender) as connection:
        connection.execute(
            insert(attempts),
            [
                {"id": 1, "job_id": 1, "number": 1, "finished_at": NOW - REST, **row},
                {"id": 2, "job_id": 1, "number": 2, "finished_at": None, **row},
                {"id": 3, "job_id": 1, "number": 3, "finished_at": NOW - REST, **row},
            ],
        )
    lines = [f"line {number} of the log\n".encode() for number in range(100)]
    for attempt in (1, 2):
        for number, line in enumerate(lines):
            logs.append(attempt, number * len(lines[0]) if number < 10 else logs.size(attempt), line)
    before = logs.read(1, 0, 1 << 20)
    assert before == b"".join(lines)
    shown = window(logs, 1, is_over=True)

    assert logs.keep(NOW) == 1
    with transaction(logs.reader) as connection:
        assert set(connection.scalars(select(log_pieces.c.attempt_id))) == {2}
    assert (tmp_path / "blobs" / "logs" / "1.log").read_bytes() == before
    assert logs.read(1, 0, 1 << 20) == before
    assert logs.read(1, 30, 50) == before[30:80]
    assert logs.size(1) == logs.size(2) == len(before)
    assert (logs.size(3), logs.read(3, 0, 10)) == (0, b"")
    assert window(logs, 1, is_over=True) == shown
    assert last_line(logs, 1) == "line 99 of the log"
    assert news(logs, 1, len(before), is_over=True).lines == ()
    assert logs.listed() == [1, 2]
    assert logs.keep(NOW) == 0
    logs.remove(1)
    assert (logs.size(1), logs.listed()) == (0, [2])
