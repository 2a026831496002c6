# SPDX-License-Identifier: GPL-2.0-or-later
"""Which cells of a package's statistics are published anew: histories and what was published in, moves out.

What was published is known by its number and by *as of* which change it was: the machines that it counts
follow from the records up to that one. So no list of machines is kept with a figure. Machines that were
erased are counted in `Published.gone`.

A series (`Topic.HOLDS`) keeps only the weeks in which it moved. A week without a row shows what the week
before it shows; a row comes only where at least `Thresholds.move` machines differ from those that the week
before shows. So neither looking twice nor looking along the weeks tells what one machine did.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final

from bdcs.domain.statistics import DAY, HOUR, NO_BUCKET, Change, Key, Story, Topic, crowd_time, story
from bdcs.domain.thresholds import Cell, Thresholds, figure, may_publish

NOBODY: Final[frozenset[int]] = frozenset()
_id_of = attrgetter("id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A cell as it was published last."""

    figure: int
    as_of: int
    """The last change that it knows of."""
    gone: int
    """Machines that it counts and that were erased since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDates:
    """When a crowd did something with a version; no single machine's time."""

    arrived_at: int | None = None
    """When the version was on as many machines as the threshold asks, to the hour, in Unix seconds."""
    holders: int = 0
    """How many machines had ever had it when that was found out. Not public."""
    failing_since: int | None = None
    """When it had failed on so many machines, to the day."""


@dataclass(slots=True)
class Release:
    """What changes of what is published."""

    put: dict[Key, int] = field(default_factory=dict)
    dropped: list[Key] = field(default_factory=list)
    dates: dict[int, VersionDates] = field(default_factory=dict)
    """Of all versions that have any."""


def release(
    histories: Mapping[int, Sequence[Change]],
    published: Mapping[Key, Published],
    dates: Mapping[int, VersionDates],
    *,
    ranks: Mapping[int, int],
    weeks: range,
    thresholds: Thresholds,
) -> Release:
    """Decide what may be published of a package now.

    `histories` are the records of each machine that counts, in its own order, which is that of their ids.
    """
    stories = {machine: story(changes, ranks) for machine, changes in histories.items()}
    outcome = Release(dates=_dates(stories.values(), dates, thresholds))
    now, before = _arrivals(outcome.dates), _arrivals(dates)
    members = _members(stories, weeks, now)
    past = _Past(histories, members, published, ranks, weeks, before, all_again=now != before)
    for key in sorted(members.keys() | published.keys()):
        if key[0] != Topic.HOLDS:
            _decide(outcome, key, members.get(key, NOBODY), past, thresholds)
    for version in sorted({key[1] for key in members.keys() | published.keys() if key[0] == Topic.HOLDS}):
        _decide_series(outcome, version, weeks, members, past, thresholds)
    _date_failures(outcome, stories.values(), thresholds)
    named = {version for _, version, _ in members.keys() | published.keys()}
    outcome.dates = {version: each for version, each in outcome.dates.items() if version in named}
    return outcome


def was_counted(
    changes: Sequence[Change],
    published: Mapping[Key, Published],
    dates: Mapping[int, VersionDates],
    *,
    ranks: Mapping[int, int],
    weeks: range,
) -> list[Key]:
    """Which of the `published` cells count the one machine that `changes` are of."""
    past = _Prefixes(changes, ranks, weeks, _arrivals(dates))
    return [key for key, each in published.items() if key in past.keys(each.as_of)]


def _members(stories: Mapping[int, Story], weeks: range, arrivals: Mapping[int, int]) -> dict[Key, Set[int]]:
    """Which machines are in each cell. Weeks of a series in which nobody came or left share one set."""
    timeless: dict[Key, set[int]] = defaultdict(set)
    came: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    left: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for machine, told in stories.items():
        for key in told.timeless(arrivals):
            timeless[key].add(machine)
        for version, first, last in told.stays_in(weeks):
            came[version][first].append(machine)
            left[version][last].append(machine)
    members: dict[Key, Set[int]] = dict(timeless)
    for version, firsts in came.items():
        holders = NOBODY
        for week in weeks:
            if week in firsts or week in left[version]:  # who leaves and comes again in a week is there
                holders = holders.difference(left[version][week]).union(firsts[week])
            if holders:
                members[Topic.HOLDS, version, week] = holders
    return members


class _Prefixes:
    """What one machine's records said at earlier times."""

    def __init__(
        self, changes: Sequence[Change], ranks: Mapping[int, int], weeks: range, arrivals: Mapping[int, int]
    ) -> None:
        self._changes = changes
        self._ranks = ranks
        self._weeks = weeks
        self._arrivals = arrivals
        self._known: dict[int, set[Key]] = {}

    def keys(self, as_of: int) -> Set[Key]:
        count = bisect_right(self._changes, as_of, key=_id_of)
        if count not in self._known:
            told = story(self._changes[:count], self._ranks)
            self._known[count] = told.keys(self._weeks, self._arrivals)
        return self._known[count]


class _Past:
    """Which machines the published figures count."""

    def __init__(
        self,
        histories: Mapping[int, Sequence[Change]],
        members: Mapping[Key, Set[int]],
        published: Mapping[Key, Published],
        ranks: Mapping[int, int],
        weeks: range,
        arrivals: Mapping[int, int],
        *,
        all_again: bool,
    ) -> None:
        self.published = published
        self._members = members
        self._all_again = all_again
        self._prefixes = {
            machine: _Prefixes(changes, ranks, weeks, arrivals) for machine, changes in histories.items()
        }
        self._last = {machine: changes[-1].id for machine, changes in histories.items() if changes}
        self._later: dict[int, frozenset[int]] = {}

    def counted(self, key: Key) -> Set[int]:
        """The machines that the published figure of `key` counts and that are still known."""
        as_of = self.published[key].as_of
        later = self._changed_since(as_of)
        if not later:
            return self._members.get(key, NOBODY)
        then = {machine for machine in later if key in self._prefixes[machine].keys(as_of)}
        return then | (self._members.get(key, NOBODY) - later)

    def _changed_since(self, as_of: int) -> frozenset[int]:
        if as_of not in self._later:
            self._later[as_of] = frozenset(
                machine for machine, last in self._last.items() if self._all_again or last > as_of
            )
        return self._later[as_of]


def _cell(now: Set[int], then: Set[int], published: int | None, gone: int) -> Cell:
    if now is then:
        return Cell(present=len(now), joined=0, left=0, gone=gone, published=published)
    return Cell(
        present=len(now), joined=len(now - then), left=len(then - now), gone=gone, published=published
    )


def _decide(outcome: Release, key: Key, now: Set[int], past: _Past, thresholds: Thresholds) -> None:
    before = past.published.get(key)
    if before is None:
        cell = _cell(now, NOBODY, None, 0)
    else:
        cell = _cell(now, past.counted(key), before.figure, before.gone)
    if may_publish(cell, thresholds):
        outcome.put[key] = figure(len(now), thresholds)


def _decide_series(
    outcome: Release,
    version: int,
    weeks: range,
    members: Mapping[Key, Set[int]],
    past: _Past,
    thresholds: Thresholds,
) -> None:
    """Go along the weeks; what the week before shows is the machines `shown` and the figure `value`."""
    shown: Set[int] = NOBODY
    value: int | None = None
    gone = 0
    for week in weeks:
        key = (Topic.HOLDS, version, week)
        now, before = members.get(key, NOBODY), past.published.get(key)
        if before is not None:
            counted = past.counted(key)
            if not may_publish(_cell(now, counted, before.figure, before.gone), thresholds):
                shown, value, gone = counted, before.figure, before.gone
                continue
        if may_publish(_cell(now, shown, value, gone), thresholds):
            outcome.put[key] = figure(len(now), thresholds)
            shown, value, gone = now, outcome.put[key], 0
        elif before is not None:
            outcome.dropped.append(key)


def _dates(
    stories: Iterable[Story], before: Mapping[int, VersionDates], thresholds: Thresholds
) -> dict[int, VersionDates]:
    """When versions arrived. It is found out anew when twice as many machines know: the first may be late."""
    firsts: dict[int, list[int]] = defaultdict(list)
    for told in stories:
        for version, first in told.first_installs.items():
            firsts[version].append(first)
    dates = dict(before)
    for version, times in firsts.items():
        known = before.get(version, VersionDates())
        if len(times) >= max(thresholds.machines, 2 * known.holders):
            arrived_at = crowd_time(times, thresholds.machines) // HOUR * HOUR
            dates[version] = replace(known, arrived_at=arrived_at, holders=len(times))
    return dates


def _arrivals(dates: Mapping[int, VersionDates]) -> dict[int, int]:
    return {version: each.arrived_at for version, each in dates.items() if each.arrived_at is not None}


def _date_failures(outcome: Release, stories: Iterable[Story], thresholds: Thresholds) -> None:
    """Date the failures of each version whose figure of failures moves."""
    moved = {version for topic, version, _ in outcome.put if topic == Topic.FAILED}
    failures: dict[int, list[int]] = defaultdict(list)
    for told in stories:
        for version in moved & told.first_failures.keys():
            failures[version].append(told.first_failures[version])
    for version in moved:
        since = None
        if outcome.put[Topic.FAILED, version, NO_BUCKET]:
            since = crowd_time(failures[version], thresholds.machines) // DAY * DAY
        known = outcome.dates.get(version, VersionDates())
        outcome.dates[version] = replace(known, failing_since=since)
