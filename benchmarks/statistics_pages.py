# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics: how long it takes to keep them up, and to read them for a page, with a simulated fleet.

Pages read published cells, whose number does not grow with the records; `--machines` says how large the fleet
is, each with some two hundred records. Times are of the processor, so that other work does not spoil them.
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select

from bdcs.domain.thresholds import Thresholds
from bdcs.services import figures, rollups, statistics
from bdcs.store.engine import create_reader
from bdcs.store.store import Store
from bdcs.store.tables import packages
from benchmarks.fleet import load_store
from benchmarks.table import Row, print_table

MACHINES: Final = 500
UNTIL: Final = 1_795_305_600
TIMES: Final = 300
TARGET: Final = 0.02  # seconds
AUDIENCE: Final = "https://bdcs.example.org"


def renewed(data: Path) -> float:
    """Publish everything; return the seconds it took."""

    async def renew() -> float:
        store = Store(data / "bdcs.sqlite")
        await figures.renew(store, Thresholds())
        start = time.process_time()
        await rollups.renew(store, Thresholds(), UNTIL)
        seconds = time.process_time() - start
        await store.close()
        return seconds

    return asyncio.run(renew())


def slowest_of_hundred(work: Callable[[], object]) -> float:
    """The 99th percentile of many times, in seconds."""
    taken = []
    for _ in range(TIMES):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return sorted(taken)[TIMES * 99 // 100]


def readings(connection: Connection) -> dict[str, Callable[[], object]]:
    """What pages read."""
    names = connection.execute(select(packages.c.category, packages.c.name)).all()
    endless = itertools.cycle(names)
    return {
        "package page and adoption": lambda: statistics.package(
            connection, *next(endless), Thresholds(), UNTIL
        ),
        "top lists": lambda: [statistics.ranking(connection, sort) for sort in statistics.Sort],
        "fleet": lambda: statistics.fleet(connection),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--machines", type=int, default=MACHINES, help=f"how many (default: {MACHINES:,})")
    wanted = parser.parse_args().machines
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        records = load_store(data, AUDIENCE, wanted, 1, UNTIL)
        seconds = renewed(data)
        print(f"{records:,} records folded in and published in {seconds:.1f} s of CPU\n")
        reader = create_reader(data / "bdcs.sqlite")
        with reader.connect() as connection:
            rows = [
                Row(
                    what=f"{what}, {wanted:,} machines, {records:,} records",
                    target=f"p99 <= {1000 * TARGET:.0f} ms",
                    measured=f"{1000 * taken:.1f} ms",
                    beside="",
                    ratio=taken / TARGET,
                    is_met=taken <= TARGET,
                )
                for what, work in readings(connection).items()
                for taken in [slowest_of_hundred(work)]
            ]
        reader.dispose()
    print_table(rows)


if __name__ == "__main__":
    main()
