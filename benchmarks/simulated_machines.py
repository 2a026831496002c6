# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that merge packages, simulated: histories for the benchmark of predictions.

Cores are shared by what runs; a merge has a part that is done alone (the lock of installing); noise has heavy
tails; the machine has good and bad hours, is exchanged for another now and then, and some builds are spoilt.
Durations on a calm machine are those of a real log. What differs between machines is chosen, not measured:
figures found here say that a method holds up, not how well it does on anybody's machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gentwoo_client.log.merges import Beginning, Happening, read_happenings
from gentwoo_client.log.tracker import LoggedChange

LOG = Path(__file__).parents[1] / "tests" / "data" / "emerge-logs" / "emlop-10000.log"
CATEGORIES = ("dev-libs", "kde-apps", "app-misc", "sys-libs", "dev-python")
START = 1_500_000_000
LOCK = 0.3  # share of a small merge that is done alone; of a large one a few seconds
DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What a machine is like, and how it is used. Spreads are of logarithms."""

    packages: int = 200
    runs: int = 45
    cores: int = 8
    jobs: tuple[int, ...] = (1,)
    noise: float = 0.14
    session: float = 0.12
    """Spread of how it fares from hour to hour."""
    version: float = 0.06
    """Spread of what a new version changes."""
    exchanged: int = 0
    """How often the machine, or what it compiles with, is exchanged."""
    spoilt: float = 0.02
    speed: float = 0.0
    cached: float = 0.0
    """Share of rebuilds that a compiler cache makes quick."""
    after_the_last: float = 0.0
    """Share of merges that depend on the one before them in the list …"""
    after_another: float = 0.0
    """… and share of those that depend on another earlier one."""


REGIMES = {
    "calm": Habits(noise=0.05, session=0.02, version=0.03),
    "one by one": Habits(session=0.08),
    "desktop": Habits(session=0.2),
    "exchanged twice": Habits(session=0.08, exchanged=2),
    "slow and long": Habits(speed=0.8, runs=90),
    "fast": Habits(noise=0.12, speed=-1.2),
    "--jobs=4, 8 cores": Habits(jobs=(4,)),
    "--jobs=1 or 4": Habits(jobs=(1, 1, 4)),
    "--jobs=3, 4 cores": Habits(jobs=(3,), cores=4),
    "--jobs=8, 16 cores": Habits(jobs=(8,), cores=16),
    "--jobs=1 or 2, 2 cores": Habits(jobs=(1, 2), cores=2, session=0.15),
    "compiler cache": Habits(cached=0.8, jobs=(1, 2)),
    "years, exchanged twice": Habits(
        runs=130, packages=120, jobs=(1, 1, 3), exchanged=2, version=0.08, session=0.1
    ),
    "years, --jobs=4": Habits(runs=130, packages=120, jobs=(4,), exchanged=1, version=0.08, session=0.15),
    "wild": Habits(noise=0.3, spoilt=0.05),
}


@dataclass(slots=True)
class _Package:
    category: str
    name: str
    log: float
    parallel: int
    popularity: float
    version: int = 1


@dataclass(slots=True, eq=False)
class _Item:
    package: _Package
    position: int
    left: float
    lock: float
    started_at: float
    version: int
    done_at: float = 0.0


@cache
def durations() -> tuple[int, ...]:
    """Durations of a real machine's source builds, hardly anything beside them."""
    return tuple(
        each.time_delta
        for each in read_happenings([str(LOG)])
        if isinstance(each, LoggedChange)
        and each.event == "install"
        and each.install_type == "source"
        and each.time_delta is not None
        and (each.concurrency or 1.0) < 1.2
    )


def heavy(source: random.Random, spread: float) -> float:
    """A sample of Student's t with three degrees of freedom and that standard deviation."""
    sample = source.gauss(0, 1) / math.sqrt(sum(source.gauss(0, 1) ** 2 for _ in range(3)) / 3)
    return max(-6.0, min(6.0, sample)) * spread / math.sqrt(3)


def history(habits: Habits, seed: int) -> list[Happening]:
    """What the log of such a machine would tell."""
    source = random.Random(seed)
    machine = _Machine(habits, source)
    happenings: list[Happening] = []
    now = float(START)
    changes = {source.randrange(habits.runs) for _ in range(habits.exchanged)}
    for number in range(habits.runs):
        now += source.expovariate(1 / (2.5 * DAY))
        if number in changes:
            machine.level += source.choice((-0.6, -0.4, 0.5))
        size = source.randrange(10, 60) if source.random() < 0.3 else source.choice((1, 1, 1, 2, 3, 4))
        now, told = machine.run(now, size, source.choice(habits.jobs))
        happenings += told
    return happenings


class _Machine:
    def __init__(self, habits: Habits, source: random.Random) -> None:
        self._habits = habits
        self._source = source
        self.level = 0.0
        self._session, self._session_at = 0.0, float(START)
        self._packages = [
            _Package(
                category=source.choice(CATEGORIES),
                name=f"package{number}",
                log=math.log(max(1, source.choice(durations()))) + habits.speed,
                parallel=source.choice((1, 1, 2, 3, 5)),
                popularity=source.lognormvariate(0, 1),
            )
            for number in range(habits.packages)
        ]

    def run(self, now: float, size: int, jobs: int) -> tuple[float, list[Happening]]:
        """One emerge: return when it ends, and what is logged."""
        waiting = list(enumerate(self._chosen(size)))
        needed = self._needed(size)
        done: set[int] = set()
        building: list[_Item] = []
        installing: list[_Item] = []
        began: list[_Item] = []
        order: list[tuple[float, bool, _Item, int]] = []
        free_at = 0.0
        while waiting or building or installing:
            while len(building) < jobs and not (jobs == 1 and installing):
                ready = next((each for each in waiting if needed[each[0]] <= done), None)
                if ready is None:
                    break
                waiting.remove(ready)
                item = self._item(*ready, now)
                building.append(item)
                began.append(item)
                order.append((now, True, item, len(building) + len(installing)))
            demand = sum(item.package.parallel if item.left > 3 else 1 for item in building)
            rate = min(1.0, self._habits.cores / demand) if demand else 1.0
            step = min(
                min((item.left / rate for item in building), default=math.inf),
                installing[0].done_at - now if installing else math.inf,
            )
            now += step
            for item in building:
                item.left -= step * rate
            for item in [item for item in building if item.left <= 1e-6]:
                building.remove(item)
                free_at = item.done_at = max(now, free_at) + item.lock
                installing.append(item)
            while installing and installing[0].done_at <= now + 1e-6:
                done.add(installing[0].position)
                order.append((now, False, installing.pop(0), 0))
        return now, list(self._told(order, began, size, jobs))

    def _chosen(self, size: int) -> list[_Package]:
        chosen: list[_Package] = []
        while len(chosen) < size:
            package = self._source.choices(self._packages, [each.popularity for each in self._packages])[0]
            if package not in chosen:
                chosen.append(package)
        return chosen

    def _needed(self, size: int) -> list[set[int]]:
        """Of each position of a list, those that must be done before."""
        habits, source = self._habits, self._source
        needed: list[set[int]] = [set() for _ in range(size)]
        for position in range(1, size):
            if habits.after_the_last and source.random() < habits.after_the_last:
                needed[position].add(position - 1)
            if habits.after_another and source.random() < habits.after_another:
                needed[position].add(source.randrange(position))
        return needed

    def _item(self, position: int, package: _Package, now: float) -> _Item:
        habits, source = self._habits, self._source
        fading = math.exp(-max(0.0, now - self._session_at) / 7200)
        self._session = self._session * fading + source.gauss(
            0, habits.session * math.sqrt(max(0.0, 1 - fading * fading))
        )
        self._session_at = now
        is_new = source.random() < 0.85
        if is_new:
            package.version += 1
            package.log += source.gauss(0, habits.version)
        log = package.log + self._session + self.level + heavy(source, habits.noise)
        if not is_new and source.random() < habits.cached:
            log -= 1.0
        if source.random() < habits.spoilt:
            log += source.gauss(0, 1.2)
        seconds = max(0.3, math.exp(log))
        lock = min(seconds * LOCK, 1 + seconds * 0.02)
        return _Item(
            package=package,
            position=position,
            left=seconds - lock,
            lock=lock,
            started_at=now,
            version=package.version,
        )

    def _told(
        self, order: Sequence[tuple[float, bool, _Item, int]], items: Sequence[_Item], size: int, jobs: int
    ) -> Iterator[Happening]:
        phase = self._source.random()
        started = 0
        for at, begins, item, at_work in order:
            package, stamp = item.package, int(at + phase)
            version = str(item.version)
            if begins:
                started += 1
                yield Beginning(
                    package.category, package.name, version, "/", stamp, at_work, started, size, jobs
                )
                continue
            took = max(1e-6, item.done_at - item.started_at)
            shared = sum(
                max(0.0, min(at, other.done_at) - max(item.started_at, other.started_at)) for other in items
            )
            yield LoggedChange(
                "install", package.category, package.name, version, "/", None, "source", None,
                str(item.version - 1), stamp, stamp - int(item.started_at + phase),
                round(max(1.0, shared / took), 2), True, 0,
            )  # fmt: skip
