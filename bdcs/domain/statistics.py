# SPDX-License-Identifier: GPL-2.0-or-later
"""What one machine's records say of one package, as the public cells that the machine is in.

A *key* names a cell: a topic, a version's number (0: the package as a whole) and a bucket, whose meaning
the topic gives. A cell is a set of machines, whatever it is about: a machine that failed ten times is in the
cell "failed" once, and one that built a package fifty times is in one bar of its build times. So one machine
weighs one, the thresholds apply to everything alike, and no order or batching of records can matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from statistics import median_low
from typing import Final, NamedTuple

from bdcs.domain.codes import CAUSE, FAILURE, INSTALL, INSTALL_TYPE

HOUR: Final = 3600
DAY: Final = 86_400
WEEK: Final = 7 * DAY
MONDAY: Final = 3 * DAY  # the first of January 1970 was a Thursday

ANY_VERSION: Final = 0
NO_BUCKET: Final = 0
UNKNOWN_REPOSITORY: Final = 0

RECENT_BUILDS: Final = 5
"""A machine's build time of a package is the median of this many, the newest."""

ADOPTION_EDGES: Final = tuple(
    hours * HOUR for hours in (0, 6, 12, 24, 48, 96, 168, 336, 672, 1344, 2688, 5376)
)
"""Ends of the buckets of `Topic.ADOPTED`, in seconds after ten machines had the version; one more is open."""

_SOURCE: Final = INSTALL_TYPE["source"]
_BINARY: Final = INSTALL_TYPE["binary"]
_MANUAL: Final = CAUSE["manual"]
_REPLACED: Final = CAUSE["replaced"]
_NOT_THE_BUILD: Final = (CAUSE["fetch"], CAUSE["interrupted"])

Key = tuple[int, int, int]
"""Topic, version, bucket."""


class Topic(IntEnum):
    """What a cell is about. What a number means never changes, since they are kept."""

    HOLDS = 1
    """Has it at the end of a week, the bucket (`week_of`)."""
    REPOSITORY = 2
    """Has it now, from a repository; the bucket is the repository's number."""
    SOURCE = 3
    """Has it now, built from source."""
    BINARY = 4
    """Has it now, from a binary package."""
    SECONDS = 5
    """Builds it in a time, the bucket (`duration_bucket`)."""
    FETCHED = 6
    """Merged a binary package of it in a week, the bucket."""
    TRIED = 7
    """Tried to build the version."""
    FAILED = 8
    """Failed to build the version, at least once."""
    DISCARDED = 9
    """Removed it by hand within a day after it came."""
    DOWNGRADED = 10
    """Went from the version to an older one."""
    ADOPTED = 11
    """Installed the version first within a time, the bucket (`adoption_bucket`)."""


class Change(NamedTuple):
    """One record of a machine, as far as statistics need it. Names are numbers, words are codes."""

    id: int
    version: int
    event: int
    install_type: int | None
    cause: int | None
    replaces: int | None
    repository: int | None
    recorded_at: int
    time_delta: int | None


class Stay(NamedTuple):
    """A version, or any, was on the machine at the ends of these weeks; `until` is the first without it."""

    version: int
    since: int
    until: int | None


@dataclass(slots=True)
class Story:
    """What one machine did with one package, told once and asked often."""

    stays: list[Stay] = field(default_factory=list)
    marks: set[Key] = field(default_factory=set)
    """Cells that need nothing else to be known."""
    first_installs: dict[int, int] = field(default_factory=dict)
    """When each version first came, in Unix seconds."""
    first_failures: dict[int, int] = field(default_factory=dict)

    def keys(self, weeks: range, arrivals: Mapping[int, int]) -> set[Key]:
        """Every cell that the machine is in; versions without an arrival have no adoption."""
        keys = self.timeless(arrivals)
        for version, since, until in self.stays_in(weeks):
            keys.update((Topic.HOLDS, version, week) for week in range(since, until))
        return keys

    def timeless(self, arrivals: Mapping[int, int]) -> set[Key]:
        """Of these cells, all but those of a series."""
        keys = set(self.marks)
        for version, first in self.first_installs.items():
            if version in arrivals:
                keys.add((Topic.ADOPTED, version, adoption_bucket(first - arrivals[version])))
        return keys

    def stays_in(self, weeks: range) -> Iterator[tuple[int, int, int]]:
        """Yield each version that was there at the ends of some of `weeks`: the first, and the one after."""
        for version, since, until in self.stays:
            first = max(since, weeks.start)
            last = weeks.stop if until is None else min(until, weeks.stop)
            if first < last:
                yield version, first, last


def story(changes: Iterable[Change], ranks: Mapping[int, int]) -> Story:
    """Tell what `changes` of one machine and one package, in the machine's own order, come to.

    `ranks` orders the versions. A time before that of the record before it counts as that one: clocks jump.
    """
    teller = _Teller(ranks)
    for change in changes:
        teller.take(change)
    return teller.end()


class _Teller:
    """Takes one machine's records of one package in order."""

    def __init__(self, ranks: Mapping[int, int]) -> None:
        self._ranks = ranks
        self._story = Story()
        self._now = 0
        self._held: dict[int, int] = {}  # versions, and the weeks in which they came
        self._since: int | None = None  # the week in which the package came
        self._arrived: int | None = None  # the second; an update does not change it
        self._builds: list[int] = []
        self._last: Change | None = None

    def take(self, change: Change) -> None:
        self._now = max(self._now, change.recorded_at)
        if change.event == INSTALL:
            self._install(change)
        elif change.event == FAILURE:
            self._fail(change)
        else:
            self._uninstall(change)

    def end(self) -> Story:
        story = self._story
        story.stays += [Stay(version, since, None) for version, since in self._held.items()]
        if self._since is not None:
            story.stays.append(Stay(ANY_VERSION, self._since, None))
        if self._held and self._last is not None:
            origin = {_SOURCE: Topic.SOURCE, _BINARY: Topic.BINARY}.get(self._last.install_type)
            if origin is not None:
                story.marks.add((origin, ANY_VERSION, NO_BUCKET))
            repository = self._last.repository or UNKNOWN_REPOSITORY
            story.marks.add((Topic.REPOSITORY, ANY_VERSION, repository))
        if self._builds:
            typical = median_low(self._builds[-RECENT_BUILDS:])
            story.marks.add((Topic.SECONDS, ANY_VERSION, duration_bucket(typical)))
        return story

    def _install(self, change: Change) -> None:
        version, marks, week = change.version, self._story.marks, week_of(self._now)
        replaced = change.replaces
        if replaced is not None and replaced != version:
            self._leave(replaced)
            if self._ranks[version] < self._ranks[replaced]:
                marks.add((Topic.DOWNGRADED, replaced, NO_BUCKET))
        if change.install_type == _BINARY:
            marks.add((Topic.FETCHED, ANY_VERSION, week))
        else:
            marks.add((Topic.TRIED, version, NO_BUCKET))
        if change.install_type == _SOURCE and change.time_delta:
            self._builds.append(change.time_delta)
        self._story.first_installs.setdefault(version, self._now)
        self._held.setdefault(version, week)
        if self._since is None:
            self._since = week
        if self._arrived is None:
            self._arrived = self._now
        self._last = change

    def _uninstall(self, change: Change) -> None:
        self._leave(change.version)
        if self._held or change.cause == _REPLACED:
            return
        if self._arrived is not None and change.cause == _MANUAL and self._now - self._arrived <= DAY:
            self._story.marks.add((Topic.DISCARDED, ANY_VERSION, NO_BUCKET))
        self._arrived = None

    def _fail(self, change: Change) -> None:
        if change.cause in _NOT_THE_BUILD or change.install_type == _BINARY:
            return
        self._story.marks.add((Topic.TRIED, change.version, NO_BUCKET))
        self._story.marks.add((Topic.FAILED, change.version, NO_BUCKET))
        self._story.first_failures.setdefault(change.version, self._now)

    def _leave(self, version: int) -> None:
        since, week = self._held.pop(version, None), week_of(self._now)
        if since is not None:
            self._story.stays.append(Stay(version, since, week))
        if not self._held and self._since is not None:
            self._story.stays.append(Stay(ANY_VERSION, self._since, week))
            self._since = None


def week_of(seconds: int) -> int:
    """The week of a moment, counted from the one of 1 January 1970; weeks begin on Monday, in UTC."""
    return (seconds + MONDAY) // WEEK


def week_start(week: int) -> int:
    """The first second of a week, in Unix seconds."""
    return week * WEEK - MONDAY


def duration_bucket(seconds: int) -> int:
    """The bar of a duration: each is longer by the square root of two than the one before it."""
    return math.floor(2 * math.log2(max(seconds, 1)) + 1e-9)


def duration_edges(bucket: int) -> tuple[float, float]:
    """From when to when a bar reaches, in seconds."""
    return 2.0 ** (bucket / 2), 2.0 ** ((bucket + 1) / 2)


def adoption_bucket(seconds: int) -> int:
    """The bucket of a machine that installed a version so long after it had arrived; before: the first."""
    for bucket, edge in enumerate(ADOPTION_EDGES):
        if seconds <= edge:
            return bucket
    return len(ADOPTION_EDGES)


def duration_quantile(bars: Mapping[int, int], fraction: float) -> int | None:
    """The duration that `fraction` of the machines in `bars` stay below, in whole seconds; None without any.

    Within a bar it is interpolated on the logarithmic scale: no machine's own duration is given.
    """
    whole = sum(bars.values())
    if not whole:
        return None
    wanted, passed, last = fraction * whole, 0.0, max(bars)
    for bucket in sorted(bars):
        if passed + bars[bucket] >= wanted or bucket == last:
            low, high = duration_edges(bucket)
            inside = min(1.0, max(0.0, (wanted - passed) / bars[bucket]))
            return max(1, round(low * math.pow(high / low, inside)))
        passed += bars[bucket]
    return None


def adoption_hours(buckets: Mapping[int, int], fraction: float) -> float | None:
    """Hours until `fraction` of a version's holders had it, interpolated; None where nobody can say."""
    whole = sum(buckets.values())
    if not whole:
        return None
    wanted, passed = fraction * whole, 0
    for bucket, edge in enumerate(ADOPTION_EDGES):
        here = buckets.get(bucket, 0)
        if here and passed + here >= wanted:
            start = ADOPTION_EDGES[bucket - 1] if bucket else 0
            return (start + (edge - start) * (wanted - passed) / here) / HOUR
        passed += here
    return None


def adoption_curve(buckets: Mapping[int, int]) -> Iterator[tuple[float, float]]:
    """Yield points of the curve: days since the version arrived, and the share of its holders that had it."""
    whole, passed = sum(buckets.values()), 0
    for bucket, edge in enumerate(ADOPTION_EDGES):
        passed += buckets.get(bucket, 0)
        yield edge / DAY, passed / whole


class Interval(NamedTuple):
    """A rate and what it may be, all between 0 and 1."""

    low: float
    rate: float
    high: float


def wilson(part: int, whole: int) -> Interval:
    """The 95 % score interval of `part` of `whole` (Wilson 1927), which holds for few and rare ones too."""
    z = 1.959964
    rate = part / whole
    spread = z * math.sqrt(rate * (1 - rate) / whole + z * z / (4 * whole * whole))
    middle, scale = rate + z * z / (2 * whole), 1 + z * z / whole
    return Interval(max(0.0, (middle - spread) / scale), rate, min(1.0, (middle + spread) / scale))


def two_digits(value: float) -> int:
    """`value` rounded to two significant digits, and to a whole number."""
    if value < 1:
        return round(value)
    return int(round(value, 1 - math.floor(math.log10(value))))


def is_dominated(parts_whole: int, largest: int) -> bool:
    """Whether a sum tells too much about its largest part to be shown: that is more than a quarter."""
    return 4 * largest > parts_whole


def crowd_time(times: Sequence[int], machines: int) -> int:
    """When the last of the first so many machines did it."""
    return sorted(times)[machines - 1]
