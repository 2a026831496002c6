# SPDX-License-Identifier: GPL-2.0-or-later
"""When queued jobs are likely to be done: the queue played through in advance. No I/O."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A job in flight, as far as the order of the queue goes."""

    id: int
    requester: int
    priority: int
    since: int
    """Since when it is queued, Unix seconds."""
    expected_seconds: int | None
    started_at: int | None = None
    """Since when it is built; None: it is not yet."""
    needs: frozenset[int] = frozenset()
    """Jobs in flight that must end before it; with any, it is not queued yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is foreseen for a job."""

    position: int | None
    """In the queue, from 1; None for one that is built, or waits for others."""
    finish_at: int | None
    """Unix seconds; None where nothing is known of how long builds take."""


def outlooks(jobs: Collection[Queued], *, builders: int, now: int) -> dict[int, Outlook]:
    """Return what is foreseen for each of the jobs in flight at one target, where so many are built at once.

    A job of unknown length counts as long as the median of the others.
    """
    building = [job for job in jobs if job.started_at is not None]
    order = in_turn([job for job in jobs if job.started_at is None and not job.needs], building)
    positions = {job.id: place for place, job in enumerate(order, 1)}
    finishes = _finishes(jobs, order, building, builders=builders, now=now)
    return {job.id: Outlook(position=positions.get(job.id), finish_at=finishes.get(job.id)) for job in jobs}


def in_turn(queued: Collection[Queued], building: Collection[Queued]) -> list[Queued]:
    """Return queued jobs in the order in which builders get them: fair between requesters."""
    running: defaultdict[int, int] = defaultdict(int)
    for job in building:
        running[job.requester] += 1
    turns = []
    for job in sorted(queued, key=lambda job: (-job.priority, job.since, job.id)):
        turns.append((-job.priority, running[job.requester], job.since, job.id, job))
        running[job.requester] += 1
    return [turn[-1] for turn in sorted(turns, key=lambda turn: turn[:-1])]


def _finishes(
    jobs: Collection[Queued],
    order: Sequence[Queued],
    building: Sequence[Queued],
    *,
    builders: int,
    now: int,
) -> Mapping[int, int]:
    known = [job.expected_seconds for job in jobs if job.expected_seconds is not None]
    if not known:
        return {}
    typical = round(median(known))

    def length(job: Queued) -> int:
        return typical if job.expected_seconds is None else job.expected_seconds

    finishes = {job.id: max(now, (job.started_at or now) + length(job)) for job in building}
    free = sorted(finishes.values())[-builders:]
    free += [now] * (builders - len(free))
    heapq.heapify(free)

    def run(job: Queued, ready_at: int) -> None:
        finishes[job.id] = max(heapq.heappop(free), ready_at) + length(job)
        heapq.heappush(free, finishes[job.id])

    for job in order:
        run(job, now)
    waiting = {job.id: job for job in jobs if job.needs and job.started_at is None}
    while waiting:
        ready = [job for job in waiting.values() if not job.needs & waiting.keys()]
        if not ready:
            break
        for job in sorted(ready, key=lambda job: job.id):
            run(job, max((finishes.get(need, now) for need in job.needs), default=now))
            del waiting[job.id]
    return finishes
