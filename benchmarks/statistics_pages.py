# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics: how long it takes to keep them up, and what each page costs, with a simulated fleet.

A real collector serves a store that `benchmarks.wide_fleet` fills, and whose statistics the collector's own
code publishes. Each page is asked for over loopback, as by a browser; half of the packages are of the most
installed, whose pages are the largest. Two times are taken of each answer: the processor's, of all threads of
the collector, and the one on the wall, into which other work on the machine enters. The first one counts. The
whole target is `--records 10000000`.
"""

import argparse
import asyncio
import contextlib
import http.client
import itertools
import os
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import quote, urlsplit
from uuid import UUID

from sqlalchemy import Connection, select

from bdcs.domain.thresholds import Thresholds
from bdcs.services import anomalies, figures, forgetting, machines, rollups
from bdcs.services.predictions import PredictionKeeper
from bdcs.store.engine import SQLITE_NAME, Place
from bdcs.store.store import Store
from bdcs.store.tables import figures as shown
from bdcs.store.tables import machines as registered
from bdcs.store.tables import packages
from benchmarks.table import Row, print_table
from benchmarks.wide_fleet import load_wide_store
from tests.peer import request
from tests.processes import Collector
from tests.waiting import until

RECORDS: Final = 300_000
REQUESTS: Final = 300
"""For each page."""
WARMING: Final = 10
"""… before these, so that statements and templates are made."""
SLOW: Final = REQUESTS * 99 // 100
FIGURES: Final = "figures"
"""The regular work that brings statistics up."""
LARGEST: Final = 200
COMPARED: Final = 6
SEED: Final = 1
TARGET: Final = 0.02  # seconds
AUDIENCE: Final = "https://bdcs.example.org"
QUIET: Final = 0.02
"""How much of a second the collector may work when nobody asks for anything."""
PATIENCE: Final = 3600.0  # seconds in which its own work has to be done

Name = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What something took."""

    processor: float  # seconds, as all below
    wall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What many answers took, each in its order."""

    processor: tuple[float, ...]
    wall: tuple[float, ...]

    def told(self, *, wall: bool = False) -> str:
        """The median and the slowest of a hundred."""
        taken = self.wall if wall else self.processor
        return f"{1000 * taken[REQUESTS // 2]:.1f}, p99 {1000 * taken[SLOW]:.1f} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a page took, of many packages where there are any in it: at first, and when asked for again."""

    first: Answers
    again: Answers


# Keeping up


async def publish(store: Store) -> None:
    """Publish whatever may be published."""
    await figures.renew(store, Thresholds())
    await rollups.renew(store, Thresholds(), time.time())


def kept_up(place: Place) -> Iterator[tuple[str, Spent]]:
    """Do what the collector does beside serving; yield what it was and what it took."""
    store = Store(place)
    thresholds = Thresholds()
    keeper = PredictionKeeper(store, thresholds, time.time)

    async def look_again() -> None:
        await rollups.renew(store, thresholds, time.time() + rollups.PATIENCE + 1)

    async def forget() -> None:
        await store.write(_forget_one)

    async def look_for_anomalies() -> None:
        await store.read(partial(_count_anomalies, thresholds=thresholds))

    works: dict[str, Callable[[], Awaitable[object]]] = {
        "all statistics published, from records alone": partial(publish, store),
        "a look whether there is anything new": partial(publish, store),
        "predictions fitted": keeper.refresh,
        "`bdcs anomalies`": look_for_anomalies,
        "one machine forgotten": forget,
        "… and all its packages looked at again": look_again,
    }

    async def spend(work: Callable[[], Awaitable[object]]) -> Spent:
        processor, wall = time.process_time(), time.perf_counter()
        await work()
        return Spent(processor=time.process_time() - processor, wall=time.perf_counter() - wall)

    with asyncio.Runner() as runner:
        for what, work in works.items():
            yield what, runner.run(spend(work))
        runner.run(store.close())


def _forget_one(connection: Connection) -> None:
    uuid = connection.scalars(select(registered.c.uuid).order_by(registered.c.id).limit(1)).one()
    forgetting.forget(connection, machines.require(connection, UUID(uuid)))


def _count_anomalies(connection: Connection, thresholds: Thresholds) -> int:
    return len(anomalies.find(connection, thresholds))


# Pages


def addresses(names: Sequence[Name]) -> dict[str, Iterator[str]]:
    """What is asked for, again and again: each time of other packages where there are any in it."""
    endless = itertools.cycle(names)
    categories = itertools.cycle(sorted({category for category, _ in names}))

    def of_package(pattern: str) -> Iterator[str]:
        return (pattern.format("/".join(name)) for name in endless)

    def of_packages(path: str) -> Iterator[str]:
        while True:
            yield f"{path}?" + "&".join("p=" + "/".join(next(endless)) for _ in range(COMPARED))

    def of_advisory(path: str) -> Iterator[str]:
        return (f"{path}?atoms=" + quote(f"<{category}/{name}-99", safe="") for category, name in endless)

    def of_any(pattern: str) -> Iterator[str]:
        return (pattern.format(category) for category in categories)

    return {
        "package": of_package("/packages/{}"),
        "adoption curves, versions": of_package("/packages/{}/versions"),
        "failures": of_package("/packages/{}/failures"),
        "build times": of_package("/packages/{}/times"),
        "package, JSON": of_package("/v1/packages/{}"),
        "its statistics, JSON": of_package("/v1/packages/{}/statistics"),
        "most installed": itertools.repeat("/packages?sort=installed"),
        "risers": itertools.repeat("/packages?sort=risers"),
        "fallers": itertools.repeat("/packages?sort=fallers"),
        "slowest": itertools.repeat("/packages?sort=slowest"),
        "top list, JSON": itertools.repeat("/v1/packages?sort=installed"),
        "first page": itertools.repeat("/"),
        "list of packages": itertools.repeat("/packages"),
        "search": (f"/packages?q={name[:3]}" for _, name in endless),
        "category": of_any("/packages/{}"),
        "category, JSON": of_any("/v1/categories/{}"),
        "repository": itertools.cycle(["/repositories/gentoo", "/repositories/guru"]),
        "repository, JSON": itertools.cycle(["/v1/repositories/gentoo", "/v1/repositories/guru"]),
        "six packages compared": of_packages("/compare"),
        "… JSON": of_packages("/v1/compare"),
        "fleet": itertools.repeat("/fleet"),
        "fleet, JSON": itertools.repeat("/v1/fleet"),
        "exposure": of_advisory("/exposure"),
        "exposure, JSON": of_advisory("/v1/exposure"),
        "removal": of_advisory("/removal"),
    }


def names_of(connection: Connection) -> list[Name]:
    """Packages that are shown, in any order: one in two among the most installed."""
    found = [
        (row.category, row.name)
        for row in connection.execute(
            select(packages.c.category, packages.c.name)
            .join(shown, shown.c.package_id == packages.c.id)
            .where(shown.c.version_id.is_(None), shown.c.published > 0)
            .order_by(shown.c.published.desc(), packages.c.category, packages.c.name)
        )
    ]
    random = Random(SEED)
    largest, any_of_them = found[:LARGEST], random.sample(found, min(LARGEST, len(found)))
    return random.sample(largest, len(largest)) + any_of_them


Pids = Callable[[], Iterable[int]]
"""Says which processes answer."""


def processor_time(pids: Pids) -> float:
    """Seconds that all threads of the processes have worked."""
    spent = 0
    for pid in pids():
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    spent += int((thread / "schedstat").read_text().split()[0])
    return spent / 1e9


def is_quiet(pids: Pids) -> bool:
    """Whether the collector has done what it does by itself."""
    before = processor_time(pids)
    time.sleep(1)
    return processor_time(pids) - before < QUIET


def is_level(url: str) -> bool:
    """Whether the collector has done all its regular works since it started, so that nothing is to be
    brought up: it may have waited, quietly, for the lease of the one before."""
    shown = request(url, "GET", "/metrics").body.decode()
    begun = set(re.findall(r'^bdcs_work_errors_total{work="(.+)"}', shown, re.MULTILINE))
    done = set(re.findall(r'^bdcs_work_last_success_timestamp_seconds{work="(.+)"}', shown, re.MULTILINE))
    return FIGURES in begun and begun <= done


def ask(url: str, pids: Pids, paths: Iterable[str]) -> Answers:
    """Ask one after the other over one connection. Raises `AssertionError` where an answer is none."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    processor, wall = [], []
    for path in paths:
        worked, start = processor_time(pids), time.perf_counter()
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        answer.read()
        wall.append(time.perf_counter() - start)
        processor.append(processor_time(pids) - worked)
        assert answer.status in (200, 303), f"{path}: {answer.status}"
    connection.close()
    return Answers(processor=tuple(sorted(processor)), wall=tuple(sorted(wall)))


def served(collector: Collector, names: Sequence[Name], beside: Pids = tuple) -> Iterator[tuple[str, Asked]]:
    """Start a collector; yield each page and what its answers took, of it and the processes `beside` it."""
    with collector:
        assert collector.process is not None
        own = collector.process.pid

        def pids() -> Iterable[int]:
            return (own, *beside())

        until(lambda: is_quiet(pids) and is_level(collector.url), PATIENCE, what="all that is due done")
        for what, paths in addresses(names).items():
            ask(collector.url, pids, itertools.islice(paths, WARMING))
            these = list(itertools.islice(paths, REQUESTS))
            first = ask(collector.url, pids, these)
            yield what, Asked(first=first, again=ask(collector.url, pids, these))


def row_of(what: str, asked: Asked) -> Row:
    """A page beside the target."""
    taken = asked.first.processor[SLOW]
    return Row(
        what=what,
        target=f"p99 <= {1000 * TARGET:.0f} ms",
        measured=f"{asked.first.told()} of CPU",
        beside=f"again {asked.again.told()}; {asked.first.told(wall=True)} on the wall",
        ratio=taken / TARGET,
        is_met=taken <= TARGET,
    )


def without_target(row: Row) -> Row:
    """A page that nothing was asked of."""
    return replace(row, target="-", ratio=None, is_met=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=RECORDS, help=f"how many (default: {RECORDS:,})")
    wanted = parser.parse_args().records
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        data = home / "data"
        data.mkdir()
        processor, wall = time.process_time(), time.perf_counter()
        count, records = load_wide_store(data / SQLITE_NAME, AUDIENCE, wanted, SEED, int(time.time()))
        print(f"{count:,} machines, {records:,} records\n", flush=True)
        loaded = Spent(processor=time.process_time() - processor, wall=time.perf_counter() - wall)
        for what, spent in itertools.chain([("stored", loaded)], kept_up(data / SQLITE_NAME)):
            print(f"- {what}: {spent.processor:,.1f} s of CPU, {spent.wall:,.1f} s", flush=True)
        size = (data / SQLITE_NAME).stat().st_size
        print(f"\nThe store has {size / 2**20:,.0f} MiB; load average {os.getloadavg()[0]:.1f}\n", flush=True)
        names = asyncio.run(shown_names(data / SQLITE_NAME))
        rows = []
        for what, asked in served(Collector(home), names):
            rows.append(row_of(what, asked))
            print(".", end="", flush=True)
    print("\n")
    print_table(rows)


async def shown_names(place: Place) -> list[Name]:
    """`names_of` a store."""
    store = Store(place)
    try:
        return await store.read(names_of)
    finally:
        await store.close()


if __name__ == "__main__":
    main()
