# SPDX-License-Identifier: GPL-2.0-or-later
"""Storage: bytes a record, with tables, indexes and evidence, in segments of four on average.

The segments are real but for their signatures, which are random bytes and were never verified: that is what
takes time, and not space. Everything after that is the collector's own code. The whole target is
`--records 10000000`; it was set for SQLite, and `--store postgresql` says what rows take there.
"""

import argparse
import itertools
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from bdcs.domain import evidence
from bdcs.domain.machines import State
from bdcs.services.ingest import Accepted, SegmentWriter
from bdcs.services.opening import Arrived
from bdcs.store import engine as engines
from bdcs.store import schema, tables
from bdcs.store.evidence import EvidenceCodec
from bdcs.store.names import Names
from bdcs.store.places import Place, PostgreSQL
from benchmarks.load import numbered, real_changes
from benchmarks.table import Row, print_table
from gentwoo_client.wire import base64url, json_text
from gentwoo_client.wire.columns import Columns
from gentwoo_client.wire.identity import machine_uuid
from gentwoo_client.wire.records import PackageStateChange
from gentwoo_client.wire.segments import Segment
from tests.postgresql import Server, running_postgresql

AUDIENCE: Final = "https://bdcs.example.org"
RECORDS: Final = 1_000_000
RECORDS_PER_MACHINE: Final = 2_000
SIZES: Final = (1, 2, 3, 4, 5, 6, 7)  # records of a segment, each as likely
BATCH: Final = 5_000  # segments in a transaction
TARGET: Final = 160  # bytes a record


class Machine:
    """One machine's chain, without a key."""

    def __init__(self, number: int, changes: list[PackageStateChange], codec: EvidenceCodec) -> None:
        self.public_key = os.urandom(32)
        self.uuid = machine_uuid(self.public_key)
        self._records = numbered(changes, machine=number)
        self._codec = codec
        self._first = 1
        self._prev: bytes | None = None

    def next(self, size: int) -> Arrived:
        """The next segment, as it is once all checks were passed."""
        records = tuple(itertools.islice(self._records, size))
        prev = self._prev
        segment = Segment(
            machine=self.uuid,
            audience=AUDIENCE,
            first_seq=self._first,
            prev=None if prev is None else base64url.encode(prev),
            created_at=records[-1].recorded_at + 1,
            records=records,
        )
        envelope = evidence.Envelope(
            machine=str(self.uuid), audience=AUDIENCE, first_seq=self._first, prev=prev
        )
        form, kept = evidence.pack(envelope, envelope.header(), json_text.dump(segment.to_json()))
        self._first += size
        self._prev = os.urandom(32)
        return Arrived(
            machine=self.uuid,
            first_seq=segment.first_seq,
            prev=prev,
            digest=self._prev,
            audience=AUDIENCE,
            dictionary_id=self._codec.dictionary_id,
            form=int(form),
            signature=os.urandom(64),
            evidence=self._codec.compress(kept),
            records=Columns.of(records),
        )


def machines(engine: Engine, count: int) -> list[Machine]:
    """Machines that are registered in the store of `engine`."""
    changes = real_changes()
    with engine.begin() as connection:
        schema.upgrade(connection)
        codec = EvidenceCodec.load(connection)
        made = [Machine(number, changes, codec) for number in range(count)]
        connection.execute(
            tables.machines.insert(),
            [
                {
                    "uuid": str(machine.uuid),
                    "public_key": machine.public_key,
                    "state": str(State.APPROVED),
                    "registered_at": 0,
                    "head_seq": 0,
                }
                for machine in made
            ],
        )
    return made


def arrivals(made: list[Machine], records: int) -> Iterator[Arrived]:
    """Segments of all machines mixed, until there are so many records."""
    choice = random.Random(1)
    count = 0
    while count < records:
        size = choice.choice(SIZES)
        count += size
        yield choice.choice(made).next(size)


def fill(place: Place, records: int) -> int:
    """Fill a store; return the records it holds."""
    engine = engines.create_writer(place)
    made = machines(engine, max(records // RECORDS_PER_MACHINE, 1))
    writer = SegmentWriter(Names())
    coming = arrivals(made, records)
    stored = 0
    while batch := list(itertools.islice(coming, BATCH)):
        with engine.begin() as connection:
            outcomes = writer.store(connection, batch)
        writer.names.committed()
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        stored += sum(len(arrived.records) for arrived in batch)
    engine.dispose()  # the last connection moves what is in SQLite's write-ahead log to its place
    return stored


def fill_sqlite(home: Path, records: int) -> tuple[int, int]:
    """Fill a file; return the records it holds and the bytes that it takes."""
    path = home / engines.SQLITE_NAME
    return fill(path, records), path.stat().st_size


def fill_postgresql(home: Path, records: int) -> tuple[int, int]:
    """Fill a database; return the records it holds and the bytes that it takes more than an empty one."""
    with running_postgresql(home) as server:
        url = server.new_database()
        database = url.rpartition("/")[2]
        empty = _size_of(server, database)
        stored = fill(PostgreSQL(url), records)
        server.execute("VACUUM (ANALYZE)", database)
        for name, size in server.execute(_LARGEST, database):
            print(f"- {name}: {int(str(size)) / stored:.1f} bytes a record")
        print()
        return stored, _size_of(server, database) - empty


def _size_of(server: Server, database: str) -> int:
    return int(str(server.execute(f"SELECT pg_database_size('{database}')")[0][0]))


_LARGEST: Final = """
    SELECT relname, pg_table_size(oid) FROM pg_class
    WHERE relkind IN ('r', 'i') AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC LIMIT 8
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=RECORDS, help=f"how many (default: {RECORDS:,})")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        fill_it = fill_sqlite if given.store == "sqlite" else fill_postgresql
        records, size = fill_it(Path(scratch), given.records)
        seconds = time.perf_counter() - start
    each = size / records
    print_table(
        [
            Row(
                what=f"storage of {records:,} records in segments of 4 on average, {given.store}",
                target=f"<= {TARGET} bytes a record",
                measured=f"{each:.1f} bytes a record",
                beside=f"{size / 2**20:,.0f} MiB, filled in {seconds:,.0f} s",
                ratio=each / TARGET,
                is_met=each <= TARGET,
            )
        ]
    )


if __name__ == "__main__":
    main()
