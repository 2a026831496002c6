# SPDX-License-Identifier: GPL-2.0-or-later
"""How many builders there should be. No I/O, no clock.

    decisions = decide(standings, patience=600, total=20, now=now)

What is asked for should be there `patience` seconds later than builds themselves take. Of the jobs that can
begin before a builder asked for now would long be at work (within start-up time and patience), let R be the
seconds of work that are left, and C those of the longest chain of jobs that need each other. Whatever order
builders take them in, n builders are done after at most (R - C) / n + C seconds (R. L. Graham: Bounds on
multiprocessing timing anomalies, 1969). C passes however many there are; so n has to be large enough for
(R - C) / n to be no more than what is left of the patience. Those that are still to be started miss their
start-up time of it. `docs/autoscaling.md` has the formula with an example.

Who gets what first is decided by priority: work that nobody waits for may take longer, and where the total
is limited those come first for whom somebody waits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Final

from bdcs.domain.capacity_pools import Limits
from bdcs.domain.forecast import Queued
from bdcs.domain.jobs import PRIORITIES, Origin

LEFT_AT_LEAST: Final = 4
"""Who has waited long makes builders hurry this many times as much at most."""
CAUTION: Final = 2
"""Who may go is who would not be needed with so many times less patience: the gap keeps it from flapping."""
UNKNOWN: Final = 300
"""Seconds that a job counts where nothing is known of any."""
_LEISURE: Final = ((PRIORITIES[Origin.REQUEST], 1), (PRIORITIES[Origin.NEW_VERSION], 4))
"""From which priority on how many times the patience is allowed."""
_MOST_LEISURE: Final = 16


class Standing(StrEnum):
    """How a builder stands."""

    READY = "ready"
    """It builds, or waits for work."""
    LEAVING = "leaving"
    """It was told to take no more, and may be told otherwise as long as it is there."""
    GOING = "going"
    """It takes no more, and nobody here can change that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """A builder of a pool that was heard of."""

    name: str
    standing: Standing = Standing.READY
    appeared_at: int
    idle_since: int | None = None
    """None: it builds something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStanding:
    """A pool, what there is to do for it, and whom it has."""

    name: str
    limits: Limits
    jobs: Sequence[Queued] = ()
    """In flight at its targets."""
    wanted: int = 0
    """Builders that its engine was told to have."""
    builders: Sequence[Builder] = ()
    """Those of them that were heard of."""
    outside: int = 0
    """Packages that builders of nobody's pool build for its targets at once."""
    quiet_since: int = 0
    """When something was last queued or ended there."""

    @property
    def ready(self) -> tuple[Builder, ...]:
        """Those that take work."""
        return tuple(one for one in self.builders if one.standing is Standing.READY)

    @property
    def leaving(self) -> tuple[Builder, ...]:
        """Those that could be called back."""
        return tuple(one for one in self.builders if one.standing is Standing.LEAVING)

    @property
    def starting(self) -> int:
        """How many were asked for and not heard of yet."""
        return max(0, self.wanted - len(self.builders))

    @property
    def capacity(self) -> int:
        """How many take work, or will."""
        return len(self.ready) + self.starting


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What is to be done, as far as it counts now."""

    jobs: int = 0
    work: int = 0
    """Seconds that builders have to spend: R."""
    chain: int = 0
    """Seconds of the longest chain: C."""
    waited: int = 0
    """Seconds that the one that could be built has waited longest."""
    patience: int = 0
    """Seconds that this kind of work may take besides."""

    @property
    def excess(self) -> int:
        """Seconds of work beside the longest chain: what more builders make shorter."""
        return self.work - self.chain


@dataclass(slots=True, kw_only=True)
class Decision:
    """What is to be done at a pool."""

    needed: int
    """Builders that should be there, within the pool's limits."""
    start: int = 0
    """How many more the engine is to be told to have."""
    recall: tuple[str, ...] = ()
    """Of those that were to leave, who is needed after all."""
    release: tuple[str, ...] = ()
    """Who takes no more work from now on."""
    forgo: int = 0
    """How many that did not come yet are not needed any more."""
    backlog: Backlog = field(default_factory=Backlog)
    """What was decided by."""


def decide(
    standings: Collection[PoolStanding], *, patience: int, total: int | None, now: int
) -> dict[str, Decision]:
    """Return what is to be done at each pool, by its name. `total`: of builders of all pools, None: any.

    No more than each pool's `most` and the `total` are ever asked for; what is there already counts until it
    has gone. The same standings in any order give the same decisions.
    """
    decisions: dict[str, Decision] = {}
    short: dict[str, int] = {}
    for pool in sorted(standings, key=lambda pool: pool.name):
        decision = decisions[pool.name] = _needed(pool, patience, now)
        missing = decision.needed - pool.capacity
        if missing > 0:
            latest_first = sorted(pool.leaving, key=lambda one: (-one.appeared_at, one.name))
            decision.recall = tuple(one.name for one in latest_first[:missing])
            short[pool.name] = missing - len(decision.recall)
        else:
            _let_go(pool, decision, _builders(pool, patience, now, caution=CAUTION), now)
    if _share(standings, decisions, short, total):
        for pool in standings:
            if pool.name not in short and not (decisions[pool.name].release or decisions[pool.name].forgo):
                _make_room(pool, decisions[pool.name])
    return decisions


# How many are needed.


def _needed(pool: PoolStanding, patience: int, now: int) -> Decision:
    by_class = [backlog for _, backlog in backlogs(pool.jobs, pool.limits.startup, patience, now)]
    wanting = max(by_class, key=lambda backlog: (_slots(backlog, pool, 1), backlog.work), default=Backlog())
    return Decision(needed=_builders(pool, patience, now, caution=1), backlog=wanting)


def _builders(pool: PoolStanding, patience: int, now: int, *, caution: int) -> int:
    """Return how many builders of the pool are needed, within its limits."""
    found = backlogs(pool.jobs, pool.limits.startup, patience, now)
    slots = max((_slots(backlog, pool, caution) for _, backlog in found), default=0)
    builders = -(-(slots - pool.outside) // pool.limits.slots)
    return min(max(builders, pool.limits.least), pool.limits.most)


def _slots(backlog: Backlog, pool: PoolStanding, caution: int) -> int:
    """Return how many packages have to be built at once; no more than there are."""
    if not backlog.jobs:
        return 0
    left = max(backlog.patience - backlog.waited, backlog.patience // LEFT_AT_LEAST, 1)
    left = max(1, left // caution)
    there = len(pool.ready) * pool.limits.slots + pool.outside
    if backlog.excess <= there * left:
        return min(backlog.jobs, max(1, -(-backlog.excess // left)))
    if there and backlog.chain + backlog.excess / there <= pool.limits.startup:
        return min(backlog.jobs, there)  # all is done before another could begin
    of_newcomers = max(left - pool.limits.startup, left // LEFT_AT_LEAST, 1)
    return min(backlog.jobs, there - (there * left - backlog.excess) // of_newcomers)


def backlogs(jobs: Sequence[Queued], startup: int, patience: int, now: int) -> list[tuple[int, Backlog]]:
    """Return what is to be done of each priority and all above it, the highest first.

    What a job needs is as urgent as itself. A job counts when all that it needs can have ended within
    start-up time and patience; until then a builder for it would be idle.
    """
    if not jobs:
        return []
    lengths = _lengths(jobs, now)
    order = _in_order(jobs)
    begins: dict[int, int] = {}
    for job in order:
        begins[job.id] = max((begins[n] + lengths[n] for n in job.needs if n in begins), default=0)
    urgency = {job.id: job.priority for job in jobs}
    for job in reversed(order):
        for need in job.needs & urgency.keys():
            urgency[need] = max(urgency[need], urgency[job.id])
    found = []
    for priority in sorted(set(urgency.values()), reverse=True):
        allowed = patience * _leisure(priority)
        some = [j for j in jobs if urgency[j.id] >= priority and begins[j.id] <= startup + allowed]
        if not some:
            continue
        free = [job.since for job in some if job.started_at is None and not job.needs & lengths.keys()]
        found.append(
            (
                priority,
                Backlog(
                    jobs=len(some),
                    work=sum(lengths[job.id] for job in some),
                    chain=max(begins[job.id] + lengths[job.id] for job in some),
                    waited=max(0, now - min(free, default=now)),
                    patience=allowed,
                ),
            )
        )
    return found


def _leisure(priority: int) -> int:
    return next((times for least, times in _LEISURE if priority >= least), _MOST_LEISURE)


def _lengths(jobs: Sequence[Queued], now: int) -> dict[int, int]:
    """Return the seconds that are left of each; what takes longer than expected is not done at once."""
    known = [job.expected_seconds for job in jobs if job.expected_seconds is not None]
    typical = round(median(known)) if known else UNKNOWN
    lengths = {}
    for job in jobs:
        length = max(1, typical if job.expected_seconds is None else job.expected_seconds)
        spent = 0 if job.started_at is None else max(0, now - job.started_at)
        lengths[job.id] = max(length - spent, length // 10, 1)
    return lengths


def _in_order(jobs: Sequence[Queued]) -> list[Queued]:
    """Return the jobs so that each stands behind those that it needs."""
    by_id = {job.id: job for job in jobs}
    open_needs = {job.id: len(job.needs & by_id.keys()) for job in jobs}
    dependents: defaultdict[int, list[int]] = defaultdict(list)
    for job in jobs:
        for need in job.needs & by_id.keys():
            dependents[need].append(job.id)
    ready = sorted((number for number, count in open_needs.items() if not count), reverse=True)
    order: list[Queued] = []
    while ready:
        number = ready.pop()
        order.append(by_id[number])
        for dependent in dependents[number]:
            open_needs[dependent] -= 1
            if not open_needs[dependent]:
                ready.append(dependent)
    return order


# Who goes.


def _let_go(pool: PoolStanding, decision: Decision, kept: int, now: int) -> None:
    """Release who has been idle long enough and would not be missed, and whom there is no room for."""
    over = pool.capacity - pool.limits.most
    surplus = pool.capacity - kept
    if surplus <= 0:
        return
    quiet_at = now - pool.limits.idle
    if over > 0 or pool.quiet_since <= quiet_at:
        decision.forgo = min(pool.starting, surplus)
    may_go, over = surplus - decision.forgo, over - decision.forgo
    if over > 0:
        idle_first = sorted(
            pool.ready, key=lambda one: (one.idle_since is None, one.idle_since or 0, one.name)
        )
        decision.release = tuple(one.name for one in idle_first[: min(may_go, over)])
    elif not any(one.appeared_at > quiet_at for one in pool.ready):
        decision.release = tuple(one.name for one in _idle(pool, quiet_at)[:may_go])


def _make_room(pool: PoolStanding, decision: Decision) -> None:
    """Release who is idle and not needed, since others have no room."""
    surplus = pool.capacity - decision.needed
    decision.release = tuple(one.name for one in _idle(pool)[: max(0, surplus)])


def _idle(pool: PoolStanding, until: int | None = None) -> list[Builder]:
    """Return who has had nothing to do, since `until` at the latest; the longest first."""
    idle = [
        (one.idle_since, one.name, one)
        for one in pool.ready
        if one.idle_since is not None and (until is None or one.idle_since <= until)
    ]
    return [one for *_, one in sorted(idle, key=lambda entry: entry[:2])]


# Who gets what, where not all can have what they need.


def _share(
    standings: Collection[PoolStanding],
    decisions: Mapping[str, Decision],
    short: Mapping[str, int],
    total: int | None,
) -> bool:
    """Grant builders one by one: first what each has at least, then where somebody waits, most in need.

    Return whether the total left anybody short.
    """
    pools = {pool.name: pool for pool in standings}
    free = (
        None
        if total is None
        else total
        - sum(max(pool.wanted, len(pool.builders)) - decisions[pool.name].forgo for pool in standings)
    )

    def room(name: str) -> int:
        pool, decision = pools[name], decisions[name]
        there = max(pool.wanted, len(pool.builders)) + decision.start
        return min(short[name] - decision.start, pool.limits.most - there)

    def turn(name: str) -> tuple[bool, int, float, str]:
        pool, decision = pools[name], decisions[name]
        has = pool.capacity + len(decision.recall) + decision.start
        return (
            has >= pool.limits.least,
            decision.backlog.patience,
            has / decision.needed,
            name,
        )

    while free is None or free > 0:
        asking = [name for name in short if room(name) > 0]
        if not asking:
            return False
        first = min(asking, key=turn)
        granted = room(first) if free is None else 1
        decisions[first].start += granted
        free = None if free is None else free - granted
    return any(room(name) > 0 for name in short)
