# SPDX-License-Identifier: GPL-2.0-or-later
"""Backfill ingest: segments of 500 records, beside plain `executemany` of the same rows into the same schema.

Both on the same core, with the same settings of SQLite, and as durable: a commit for as many segments as can
come together. The peer has every row made beforehand: of each segment, of each change, what arrived and what
left `installations`. It verifies and parses nothing, and in the end has the same tables as the collector.

    python -m benchmarks.backfill_ingest                    the benchmark
    python -m benchmarks.backfill_ingest copy FROM TO       the peer alone: prints the seconds it took
"""

import contextlib
import itertools
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bdcs.domain import installations
from bdcs.domain.installations import PRESENT
from bdcs.services.ingest import EFFECT
from bdcs.store import engine as engines
from bdcs.store import schema
from benchmarks.live_ingest import CORE, pinned_collector, registered
from benchmarks.load import chain, drive, numbered, push_request, real_changes
from benchmarks.table import Row, print_table
from tests.processes import Collector, run

CONNECTIONS: Final = 12
SEGMENTS: Final = 25
"""For each connection."""
SIZE: Final = 500  # records
LEAST_RATE: Final = 40_000  # records a second
LEAST_RATIO: Final = 0.5
BEFORE: Final = ("packages", "versions", "repositories", "audiences", "machines")
"""Tables that the peer finds filled."""
COMPARED: Final = ("segments", "package_state_changes", "installations")
KEY: Final = "machine_id = ? AND package_id = ? AND version_id = ?"
LEAVE: Final = f"DELETE FROM installations WHERE {KEY}"
ARRIVE: Final = "INSERT OR REPLACE INTO installations VALUES (?, ?, ?, ?, ?, ?)"
MOVE_HEAD: Final = "UPDATE machines SET head_seq = ?, head_digest = ? WHERE id = ?"

Rows = list[tuple[Any, ...]]
Commit = list[tuple[str, Rows]]
"""Statements with the rows they are for, committed together."""


def ingest(collector: Collector) -> float:
    """Push everything; return records a second."""
    changes = real_changes()
    queues = [
        [
            push_request(peer, compact)
            for compact in chain(peer, numbered(changes, machine=number), segments=SEGMENTS, size=SIZE)
        ]
        for number, peer in enumerate(registered(collector.url, CONNECTIONS))
    ]
    return drive(collector.url, queues).rate * SIZE


def copy(source: Path, target: Path) -> float:
    """Put all rows of `source` into a new store at `target` by executemany; return the seconds it took."""
    engine = engines.create_writer(target)
    with engine.begin() as connection:
        schema.upgrade(connection)
    with contextlib.closing(sqlite3.connect(source)) as reading:
        names = {table: everything(reading, table) for table in BEFORE}
        work = list(commits(reading))
        expected = {table: everything(reading, table) for table in COMPARED}
    writing = engine.raw_connection().driver_connection
    assert isinstance(writing, sqlite3.Connection)
    commit(writing, [(insertion(table, rows), rows) for table, rows in names.items()])
    start = time.perf_counter()
    for each in work:
        commit(writing, each)
    seconds = time.perf_counter() - start
    assert all(everything(writing, table) == rows for table, rows in expected.items())
    return seconds


def commits(reading: sqlite3.Connection) -> Iterator[Commit]:
    """What the collector wrote, a commit for every round of all connections."""
    segments = iter(everything(reading, "segments"))
    while batch := list(itertools.islice(segments, CONNECTIONS)):
        changes: Rows = []
        for segment in batch:
            records, first_change = segment[3:5]
            query = "SELECT * FROM package_state_changes WHERE id BETWEEN ? AND ?"
            changes += reading.execute(query, (first_change, first_change + records - 1))
        outcome = installations.effects(map(EFFECT, changes))
        yield [
            (insertion("segments", batch), batch),
            (insertion("package_state_changes", changes), changes),
            (LEAVE, [key for key, arrival in outcome.items() if arrival is None]),
            (ARRIVE, [(*key, of, at, PRESENT) for key, (at, of) in arrivals(outcome)]),
            (MOVE_HEAD, [(segment[2] + segment[3] - 1, segment[9], segment[1]) for segment in batch]),
        ]


def arrivals(outcome: dict[Any, Any]) -> Iterator[Any]:
    """Key and arrival of what did not leave."""
    return ((key, arrival) for key, arrival in outcome.items() if arrival is not None)


def everything(connection: sqlite3.Connection, table: str) -> Rows:
    """All rows of `table`."""
    return connection.execute(f"SELECT * FROM {table}").fetchall()


def insertion(table: str, rows: Rows) -> str:
    """The statement that inserts one of `rows`."""
    return f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})"


def commit(connection: sqlite3.Connection, work: Commit) -> None:
    """Do `work` in a transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for statement, rows in work:
        connection.executemany(statement, rows)
    connection.execute("COMMIT")


def main() -> None:
    """Measure and print."""
    with pinned_collector() as collector, tempfile.TemporaryDirectory() as scratch:
        rate = ingest(collector)
        collector.stop()
        target = Path(scratch, "plain.sqlite")
        command = [*CORE, sys.executable, "-m", "benchmarks.backfill_ingest", "copy"]
        seconds = float(run([*command, collector.data / "bdcs.sqlite", target], check=True).stdout)
    plain = CONNECTIONS * SEGMENTS * SIZE / seconds
    print_table(
        [
            Row(
                what=f"backfill ingest, segments of {SIZE}, {CONNECTIONS} connections",
                target=f">= {LEAST_RATE:,} records/s, >= {LEAST_RATIO} of executemany",
                measured=f"{rate:,.0f} records/s",
                beside=f"{plain:,.0f} rows/s by executemany",
                ratio=rate / plain,
                is_met=rate >= LEAST_RATE and rate / plain >= LEAST_RATIO,
            )
        ]
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["copy"]:
        print(copy(Path(sys.argv[2]), Path(sys.argv[3])))
    else:
        main()
