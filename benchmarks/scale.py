# SPDX-License-Identifier: GPL-2.0-or-later
"""Scale: what still holds when the store has ten million records, on PostgreSQL.

    python -m benchmarks scale [--records N] [--keep DIRECTORY] [--rounds N]

A cluster of its own with the records of a wide fleet, stored by the collector's own code as if they had come
in over the last year, a table for each month; all statistics are published by the collector's own code. Then,
from the same store and with every commit synced: live ingest and backfill over HTTP, all pages of statistics,
304s and publications into an index of 50,000. While it ingests, the collector has core 0, as has what it is
compared with; PostgreSQL and who pushes have the others. Times of the processor are those of the collector
and, where nothing else is said, of PostgreSQL's backends together; where others are at work on the machine,
they are the ones that count.

With `--keep` the cluster stays in that directory, and the next run there needs no load.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bdcs.services import targets
from bdcs.store import engine as engines
from bdcs.store import schema
from bdcs.store.places import PostgreSQL
from bdcs.store.store import Store, transaction
from benchmarks import backfill_ingest, index_304, index_publish, live_ingest, statistics_pages
from benchmarks.limits import MESSAGE_SIZE
from benchmarks.load import drive
from benchmarks.statistics_pages import AUDIENCE, PATIENCE, SEED, is_quiet, processor_time
from benchmarks.table import Row, print_table
from benchmarks.wide_fleet import load_wide_store
from tests.index_rows import NAME, START
from tests.postgresql import Server, open_postgresql
from tests.processes import BDCS, LISTENING, Collector, Process
from tests.waiting import until

RECORDS: Final = 10_000_000
ROUNDS: Final = 3
"""Of whatever is measured beside its limit: the median counts, the best one is shown."""
YEAR: Final = 365 * 86_400
PUBLICATIONS: Final = 8
COUNTED: Final = ("package", "adoption curves, versions", "most installed", "risers", "fallers", "slowest")
"""Pages that have a target; the others are shown beside it."""
DATABASE: Final = "gentwoo"
LOADED: Final = "loaded.json"
_COMMON: Final = "shared_buffers = 2GB\neffective_cache_size = 6GB\nmax_wal_size = 8GB\njit = on\n"
"""As for a host with 8 GB; all else is what PostgreSQL comes with."""
WHILE_LOADING: Final = f"{_COMMON}fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n"
WHILE_MEASURED: Final = f"{_COMMON}fsync = on\nsynchronous_commit = on\nfull_page_writes = on\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is measured on."""

    home: Path
    server: Server
    machines: int
    records: int

    @property
    def url(self) -> str:
        """Of the database."""
        return self.server.url_of(DATABASE)

    @property
    def place(self) -> PostgreSQL:
        return PostgreSQL(self.url)

    def backends(self) -> list[int]:
        """The processes that serve connections."""
        own = Path(f"/proc/{self.server.process.pid}/task/{self.server.process.pid}/children")
        found = []
        for pid in own.read_text().split():
            with contextlib.suppress(OSError):
                if b"127.0.0.1" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
        return found

    @contextlib.contextmanager
    def beside_the_collector(self) -> Iterator[None]:
        """In the block this process, what it starts, and PostgreSQL keep off the core that is measured."""
        cores = os.sched_getaffinity(0)
        try:
            self._run_on(cores - {live_ingest.CORE_NUMBER} or cores)
            yield
        finally:
            self._run_on(cores)

    def _run_on(self, cores: set[int]) -> None:
        server = self.server.process.pid
        served = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        for pid in (os.getpid(), server, *map(int, served)):  # what it starts from now on is where it is
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(pid, cores)

    @contextlib.contextmanager
    def collector(self, *, is_pinned: bool) -> Iterator[Collector]:
        """A collector with this store, in a fresh directory."""
        with tempfile.TemporaryDirectory(dir=self.home) as directory:
            home = Path(directory)
            (home / "bdcs.toml").write_text(live_ingest.SETTINGS)
            yield Collector(
                home,
                command=(*live_ingest.CORE, *BDCS) if is_pinned else BDCS,
                options=("--config", str(home / "bdcs.toml"), "--store", self.url),
            )


# Loading


@contextlib.contextmanager
def ground(home: Path, records: int) -> Iterator[Ground]:
    """A cluster in `home` with so many records; loaded unless it is there."""
    known = home / LOADED
    if not known.exists():
        shutil.rmtree(home / "postgresql", ignore_errors=True)
        server = open_postgresql(home, WHILE_LOADING)
        try:
            known.write_text(json.dumps(load(server, records)))
        finally:
            server.close()
    machines, loaded = json.loads(known.read_text())
    server = open_postgresql(home, WHILE_MEASURED)
    try:
        upgrade(PostgreSQL(server.url_of(DATABASE)))
        yield Ground(home=home, server=server, machines=machines, records=loaded)
    finally:
        server.close()


def load(server: Server, records: int) -> tuple[int, int]:
    """Fill the database and publish; return how many machines and records there are."""
    server.execute(f"CREATE DATABASE {DATABASE}")
    place = PostgreSQL(server.url_of(DATABASE))
    start = time.perf_counter()
    loaded = load_wide_store(place, AUDIENCE, records, SEED, int(time.time()), arriving=YEAR)
    print(f"- {loaded[0]:,} machines, {loaded[1]:,} records stored: {time.perf_counter() - start:,.0f} s")
    start = time.perf_counter()
    asyncio.run(publish(place))
    print(f"- all statistics published, from records alone: {time.perf_counter() - start:,.0f} s", flush=True)
    start = time.perf_counter()
    server.execute("VACUUM (ANALYZE)", DATABASE)  # as autovacuum would have done in a year
    print(f"- vacuum: {time.perf_counter() - start:,.0f} s\n", flush=True)
    return loaded


async def publish(place: PostgreSQL) -> None:
    """Publish all statistics."""
    store = Store(place)
    await statistics_pages.publish(store)
    await store.close()


def upgrade(place: PostgreSQL) -> None:
    """Bring a database that was kept to the present schema."""
    engine = engines.create_writer(place)
    with transaction(engine) as connection:
        schema.upgrade(connection)
    engine.dispose()


# Ingest


def verification() -> float:
    """Seconds of the processor that one verification takes."""
    key = Ed25519PrivateKey.generate()
    public, message = key.public_key(), bytes(MESSAGE_SIZE)
    signature = key.sign(message)
    start = time.process_time()
    for _ in range(2000):
        public.verify(signature, message)
    return (time.process_time() - start) / 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest:
    """Live ingest of one round."""

    rate: float
    limit: float
    p99: float
    """Seconds until a push is answered."""
    processor: float
    """Seconds of the collector's for a push."""
    least: float
    """… of a bare handler and a verification."""
    backend: float
    """… of PostgreSQL."""


def live(ground: Ground) -> Ingest:
    """One round of live ingest, beside its limit."""
    with tempfile.TemporaryDirectory() as directory:
        bare = [*live_ingest.CORE, sys.executable, "-m", "benchmarks.limits", "handler"]
        with Process(bare, log=Path(directory, "handler.log")) as process:
            url = process.until_printed(LISTENING)[1]
            before = processor_time(lambda: [process.pid])
            handled = live_ingest.handle(url)
            handling = (processor_time(lambda: [process.pid]) - before) / handled.requests
            process.stop()
    limit = 1 / (1 / handled.rate + 1 / live_ingest.verifications())
    with ground.collector(is_pinned=True) as prepared, prepared as collector:
        assert collector.process is not None
        own = collector.process.pid
        queues = live_ingest.queues(collector.url)
        until(partial(is_quiet, lambda: [own, *ground.backends()]), PATIENCE)
        before, served = processor_time(lambda: [own]), processor_time(ground.backends)
        done = drive(collector.url, queues)
        processor = (processor_time(lambda: [own]) - before) / done.requests
        backend = (processor_time(ground.backends) - served) / done.requests
    return Ingest(
        rate=done.rate,
        limit=limit,
        p99=done.p99,
        processor=processor,
        least=handling + verification(),
        backend=backend,
    )


def ingest_rows(ground: Ground, rounds: int) -> list[Row]:
    """Live ingest and backfill."""
    lives = [live(ground) for _ in range(rounds)]
    backfills = []
    for _ in range(rounds):
        with ground.collector(is_pinned=True) as prepared, prepared as collector:
            backfills.append(backfill_ingest.ingest(collector))
    ratio = statistics.median(each.rate / each.limit for each in lives)
    rates = [each.rate for each in lives]
    share = statistics.median(each.least / each.processor for each in lives)
    processor, backend = (
        statistics.median(values) * 1000
        for values in ([each.processor for each in lives], [each.backend for each in lives])
    )
    rate = statistics.median(backfills)
    return [
        Row(
            what=f"live ingest, one record a push, {live_ingest.CONNECTIONS} connections",
            target=f">= {live_ingest.TARGET} of 1/(1/h + 1/v)",
            measured=f"{statistics.median(rates):,.0f} pushes/s (best {max(rates):,.0f})",
            beside=f"{statistics.median(each.limit for each in lives):,.0f}/s",
            ratio=ratio,
            is_met=ratio >= live_ingest.TARGET,
        ),
        Row(
            what="… the processor's time of it, beside handler and verification",
            target="-",
            measured=f"{processor:.2f} ms, PostgreSQL {backend:.2f} ms",
            beside=f"{statistics.median(each.least for each in lives) * 1000:.2f} ms",
            ratio=share,
            is_met=True,
        ),
        Row(
            what="… p99 of an answer while all 64 push",
            target="-",
            measured=f"{statistics.median(each.p99 for each in lives) * 1000:,.0f} ms",
            is_met=True,
        ),
        Row(
            what=f"backfill ingest, segments of {backfill_ingest.SIZE}",
            target=f">= {backfill_ingest.LEAST_RATE:,} records/s",
            measured=f"{rate:,.0f} records/s (best {max(backfills):,.0f})",
            ratio=rate / backfill_ingest.LEAST_RATE,
            is_met=rate >= backfill_ingest.LEAST_RATE,
        ),
    ]


# Pages


def page_rows(ground: Ground) -> list[Row]:
    """All pages of statistics."""
    names = asyncio.run(statistics_pages.shown_names(ground.place))
    rows = []
    with ground.collector(is_pinned=False) as collector:
        for what, asked in statistics_pages.served(collector, names, ground.backends):
            row = statistics_pages.row_of(what, asked)
            rows.append(row if what in COUNTED else statistics_pages.without_target(row))
    return sorted(rows, key=lambda row: row.target == "-")


# Index


def index_rows(ground: Ground, rounds: int) -> list[Row]:
    """304s, and publications into an index."""
    remove_target(ground)
    with ground.collector(is_pinned=True) as prepared:
        prepared.data.mkdir()
        rows = index_publish.filled(prepared.data, index_publish.ENTRIES, ground.url)
        taken = []
        for number in range(PUBLICATIONS):
            _, path = index_publish.new_package(prepared.home / f"new-{number}", number)
            taken.append(index_publish.publish(rows, path, START + 10 + 10 * number))
        assert rows.agrees()
        rows.engine.dispose()
        bare = [*live_ingest.CORE, sys.executable, "-m", "benchmarks.limits", "handler"]
        with Process(bare, log=prepared.home / "bare.log") as process, prepared as collector:
            url = process.until_printed(LISTENING)[1]
            rates = [
                (index_304.measure(url).rate, index_304.measure(collector.url).rate) for _ in range(rounds)
            ]
            process.stop()
    ratio = statistics.median(ours / limit for limit, ours in rates)
    best = min(taken)
    return [
        Row(
            what=f"304 for an index, {index_304.CONNECTIONS} connections",
            target=f">= {index_304.TARGET} of a bare aiohttp handler",
            measured=f"{statistics.median(ours for _, ours in rates):,.0f}/s",
            beside=f"{statistics.median(limit for limit, _ in rates):,.0f}/s",
            ratio=ratio,
            is_met=ratio >= index_304.TARGET,
        ),
        Row(
            what=f"publish one package into an index of {index_publish.ENTRIES:,}",
            target=f"<= {index_publish.SECONDS * 1000:.0f} ms",
            measured=f"{best * 1000:.1f} ms, median {statistics.median(taken) * 1000:.1f} ms",
            ratio=best / index_publish.SECONDS,
            is_met=best <= index_publish.SECONDS,
        ),
    ]


def remove_target(ground: Ground) -> None:
    """Remove what a run before this one has left."""
    engine = engines.create_writer(ground.place)
    with transaction(engine) as connection:
        if (target := targets.find(connection, NAME)) is not None:
            targets.remove(connection, target, force=True)
    engine.dispose()


def describe(ground: Ground) -> None:
    """Say what there is."""
    (size,) = ground.server.execute(f"SELECT pg_database_size('{DATABASE}')")[0]
    (months,) = ground.server.execute(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'package_state_changes'::regclass", DATABASE
    )[0]
    (version,) = ground.server.execute("SHOW server_version")[0]
    print(
        f"PostgreSQL {version}: {ground.machines:,} machines, {ground.records:,} records in {months} months, "
        f"{int(str(size)) / 2**20:,.0f} MiB; load average {os.getloadavg()[0]:.1f}\n",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=RECORDS, help=f"how many (default: {RECORDS:,})")
    parser.add_argument("--keep", type=Path, help="where the cluster is, or is to stay")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if given.keep is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gentwoo-scale-")))
        else:
            home = given.keep
        found = stack.enter_context(ground(home, given.records))
        describe(found)
        with found.beside_the_collector():
            print_table(ingest_rows(found, given.rounds))
        print_table(page_rows(found))
        print_table(index_rows(found, given.rounds))
        print(f"load average {os.getloadavg()[0]:.1f}\n")


if __name__ == "__main__":
    main()
