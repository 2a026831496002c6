# SPDX-License-Identifier: GPL-2.0-or-later
"""A day of load, played through: builders that come late, never come or die, under the real decision.

Beside it two who decide nothing: as many builders as there may be, all day long, and a single one. All three
get the same packages at the same times.
"""

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from statistics import quantiles

from bdcs.domain.capacity import Builder, PoolStanding, Standing, decide
from bdcs.domain.capacity_pools import Limits
from bdcs.domain.forecast import Queued

DAY = 86_400
HOUR = 3600
LIMITS = Limits(least=0, most=20, idle=300, startup=120)
PATIENCE = 600
LOOK = 30  # seconds between two decisions
LEASE = 60  # seconds after which a lost builder's job runs again
NEVER_COMES = 0.1  # of those that are started
GIVEN_UP = 600  # seconds after which the engine sees that one never came
HOURS_TO_DEATH = 40  # of one builder, on average
REQUESTS = [2, 2, 2, 2, 2, 4, 10, 25, 40, 30, 15, 12, 12, 12, 12, 12, 14, 16, 20, 20, 16, 10, 6, 4]
"""Requests in each hour: most come in the morning."""
NOON = 12 * HOUR
WORLD = 250  # packages of the @world that comes then


@dataclass(slots=True)
class Package:
    """A job of the day."""

    id: int
    asked_at: int
    seconds: int
    needs: frozenset[int]
    began_at: int | None = None
    waited: int | None = None
    """From when it could have been built until it first was."""
    ended_at: int | None = None


def requests(chance: random.Random) -> Iterator[tuple[int, int, float]]:
    """When somebody asks, for how many packages, and how many seconds most of them take."""
    for hour, count in enumerate(REQUESTS):
        for _ in range(count):
            yield hour * HOUR + chance.randrange(HOUR), chance.randint(1, 6), 90
    yield NOON, WORLD, 240


def packages() -> dict[int, Package]:
    """The same day each time."""
    chance = random.Random(2026)
    found: dict[int, Package] = {}
    for asked_at, count, typical in sorted(requests(chance)):
        mine: list[int] = []
        for number in range(len(found), len(found) + count):
            needs = chance.sample(mine[-30:], min(len(mine), chance.choice((0, 0, 1, 2))))
            seconds = max(5, round(typical * chance.lognormvariate(0, 1)))
            found[number] = Package(number, asked_at, seconds, frozenset(needs))
            mine.append(number)
    return found


@dataclass(slots=True)
class Machine:
    """A builder of the day, from the moment when it was asked for."""

    name: str
    asked_at: int
    ready_at: int | None = None
    ended_at: int | None = None
    builds: int | None = None
    idle_since: int = 0
    is_leaving: bool = False
    has_died: bool = False


@dataclass(slots=True, kw_only=True)
class Day:
    """The simulation: what happens, in order of time."""

    limits: Limits
    is_reliable: bool = False
    """Whether no builder ever fails."""
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    packages: dict[int, Package] = field(default_factory=packages)
    machines: list[Machine] = field(default_factory=list)
    now: int = 0
    quiet_since: int = 0
    changes: list[tuple[int, int]] = field(default_factory=list)
    """When how many more were asked for, or fewer."""
    _events: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    _happened: int = 0
    _flying: dict[int, Package] = field(default_factory=dict)
    _left: int = 0
    """Packages that are not built yet."""

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Have something happen then."""
        self._happened += 1
        heapq.heappush(self._events, (round(when), self._happened, what))

    def play(self) -> None:
        """Until all is built and everybody who may go has gone."""
        self._left = len(self.packages)
        for package in self.packages.values():
            self.at(package.asked_at, partial(self.is_asked_for, package))
        if self.limits.least == self.limits.most:
            for _ in range(self.limits.most):
                self.start()
        else:
            self.at(0, self.look)
        while self._left or len(self.there()) > self.limits.least:
            self.now, _, what = heapq.heappop(self._events)
            assert self.now < 10 * DAY, "it never ends"
            what()
            self.hand_out()

    # What happens.

    def is_asked_for(self, package: Package) -> None:
        self._flying[package.id] = package
        self.quiet_since = self.now

    def look(self) -> None:
        """What the autoscaler does."""
        decision = decide([self.standing()], patience=PATIENCE, total=None, now=self.now)["all"]
        for machine in self.there():
            machine.is_leaving = machine.name not in decision.recall and (
                machine.is_leaving or machine.name in decision.release
            )
            if machine.is_leaving and machine.builds is None:
                machine.ended_at = self.now
        coming = [machine for machine in self.there() if machine.ready_at is None]
        for machine in coming[: decision.forgo]:
            machine.ended_at = self.now
        for _ in range(decision.start):
            self.start()
        change = decision.start - len(decision.release) - decision.forgo
        if change:
            self.changes.append((self.now, change))
        self.at(self.now + LOOK, self.look)

    def start(self) -> None:
        machine = Machine(f"b{len(self.machines)}", self.now)
        self.machines.append(machine)
        if not self.is_reliable and self.chance.random() < NEVER_COMES:
            self.at(self.now + GIVEN_UP, partial(self.dies, machine))
        else:
            self.at(self.now + LIMITS.startup * self.chance.uniform(0.7, 1.5), partial(self.comes, machine))

    def comes(self, machine: Machine) -> None:
        if machine.ended_at is None:
            machine.ready_at = machine.idle_since = self.now
            if not self.is_reliable:
                lives = self.chance.expovariate(1 / (HOURS_TO_DEATH * HOUR))
                self.at(self.now + lives, partial(self.dies, machine))

    def dies(self, machine: Machine) -> None:
        if machine.ended_at is None:
            machine.ended_at, machine.has_died = self.now, True
            if machine.builds is not None:
                self.at(self.now + LEASE, partial(self.is_lost, self.packages[machine.builds]))

    def is_lost(self, package: Package) -> None:
        package.began_at = None

    def is_done(self, machine: Machine, package: Package) -> None:
        if machine.has_died:
            return
        machine.builds, machine.idle_since = None, self.now
        package.ended_at = self.quiet_since = self.now
        del self._flying[package.id]
        self._left -= 1

    def hand_out(self) -> None:
        """Give free builders what can be built."""
        idle = [one for one in self.there() if one.ready_at is not None and one.builds is None]
        takers = [one for one in idle if not one.is_leaving]
        for package in self._flying.values() if takers else ():
            if package.began_at is None and package.needs.isdisjoint(self._flying):
                self.begin(takers.pop(), package)
                if not takers:
                    break

    def begin(self, machine: Machine, package: Package) -> None:
        package.began_at = self.now
        if package.waited is None:
            built = [self.packages[need].ended_at or 0 for need in package.needs]
            package.waited = self.now - max([package.asked_at, *built])
        machine.builds = package.id
        self.at(self.now + package.seconds, partial(self.is_done, machine, package))

    # What is seen of it.

    def there(self) -> list[Machine]:
        return [machine for machine in self.machines if machine.ended_at is None]

    def standing(self) -> PoolStanding:
        jobs = [
            Queued(
                id=package.id,
                requester=0,
                priority=100,
                since=package.asked_at,
                expected_seconds=round(package.seconds * 1.2),
                started_at=package.began_at,
                needs=package.needs & self._flying.keys(),
            )
            for package in self._flying.values()
        ]
        builders = [
            Builder(
                name=machine.name,
                standing=Standing.LEAVING if machine.is_leaving else Standing.READY,
                appeared_at=machine.ready_at,
                idle_since=machine.idle_since if machine.builds is None else None,
            )
            for machine in self.there()
            if machine.ready_at is not None
        ]
        return PoolStanding(
            name="all",
            limits=self.limits,
            jobs=jobs,
            wanted=len(self.there()),
            builders=builders,
            quiet_since=self.quiet_since,
        )

    # What came of it.

    @property
    def hours(self) -> float:
        """Builder-hours that were paid for."""
        ends = [self.now if machine.ended_at is None else machine.ended_at for machine in self.machines]
        return sum(end - one.asked_at for one, end in zip(self.machines, ends, strict=True)) / HOUR

    def waited(self, hundredth: int) -> float:
        """That percentile of the seconds that packages waited for a builder."""
        return quantiles([package.waited or 0 for package in self.packages.values()], n=100)[hundredth - 1]


@cache
def played(least: int, most: int, *, is_reliable: bool = False) -> Day:
    day = Day(
        limits=Limits(least=least, most=most, idle=LIMITS.idle, startup=LIMITS.startup),
        is_reliable=is_reliable,
    )
    day.play()
    return day


def decided() -> Day:
    return played(LIMITS.least, LIMITS.most)


def test_everything_is_built_although_builders_fail() -> None:
    day = decided()
    assert all(package.ended_at is not None for package in day.packages.values())
    assert sum(machine.has_died for machine in day.machines) >= 3
    assert len(day.there()) == LIMITS.least


def test_nearly_as_fast_as_with_all_builders_all_day_for_a_fraction_of_their_hours() -> None:
    day, always_most, always_one = decided(), played(20, 20, is_reliable=True), played(1, 1, is_reliable=True)
    figures = {
        name: (round(one.waited(50)), round(one.waited(90)), round(one.waited(99)), round(one.hours, 1))
        for name, one in (("decided", day), ("most", always_most), ("one", always_one))
    }
    assert day.waited(90) <= PATIENCE, figures
    assert day.waited(90) <= always_one.waited(90) / 10, figures
    assert day.hours <= always_most.hours / 3, figures
    work = sum(package.seconds for package in day.packages.values()) / HOUR
    assert day.hours <= 2 * work, (work, figures)


def test_it_does_not_flap() -> None:
    """Who comes stays for a while, and hardly ever is one let go just before another is fetched."""
    day = decided()
    for machine in day.machines:
        if machine.ready_at is not None and machine.ended_at is not None and not machine.has_died:
            assert machine.ended_at - machine.ready_at >= LIMITS.idle
    turns = sum(
        (before < 0 < after) and later - earlier <= LIMITS.idle
        for (earlier, before), (later, after) in zip(day.changes, day.changes[1:], strict=False)
    )
    assert turns <= len(day.changes) / 6, day.changes
    assert day.hours * HOUR / len(day.machines) >= 5 * LIMITS.idle
