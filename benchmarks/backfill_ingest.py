# SPDX-License-Identifier: GPL-2.0-or-later
"""Backfill ingest: segments of 500 records, beside plain `executemany` of the same rows into the same schema.

Both on the same core, both durable: WAL, synchronous=FULL. The peer knows all rows beforehand, and verifies,
parses and counts nothing.

    python -m benchmarks.backfill_ingest                    the benchmark
    python -m benchmarks.backfill_ingest copy FROM TO       the peer alone: prints the seconds it took
"""

import contextlib
import itertools
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

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
TRANSACTION: Final = 10_000  # rows that the peer commits at once
LEAST_RATE: Final = 40_000  # records a second
LEAST_RATIO: Final = 0.5
TABLES: Final = (
    "packages",
    "versions",
    "repositories",
    "audiences",
    "machines",
    "segments",
    "package_state_changes",
    "installations",
)


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
    engine.dispose()
    with contextlib.closing(sqlite3.connect(source)) as reading:
        rows = {table: reading.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as writing:
        writing.execute("PRAGMA journal_mode = WAL")
        writing.execute("PRAGMA synchronous = FULL")
        writing.execute("PRAGMA cache_size = -65536")
        writing.execute("PRAGMA wal_autocheckpoint = 4000")
        start = time.perf_counter()
        for table in TABLES:
            insert(writing, table, rows[table])
        return time.perf_counter() - start


def insert(connection: sqlite3.Connection, table: str, rows: list[Any]) -> None:
    """Insert `rows`, so many in each transaction."""
    pending = iter(rows)
    while batch := list(itertools.islice(pending, TRANSACTION)):
        marks = ", ".join("?" * len(batch[0]))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", batch)
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
