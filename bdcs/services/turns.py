# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose turn it is among those that wait for builders, for many who claim in one transaction.

    turns = Turns(connection, target_ids, expected=len(claimants))
    while (turn := turns.next(target_ids)) is not None: …
    turns.take(turn)

One look for each machine that waits finds the first of its jobs; from then on everything that decides is in
memory. A heap has for each machine a key that is at most what it is now, since within a transaction that
claims, who is served only moves back: what comes first and is still right is whose turn it is.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from bdcs.domain.jobs import JobState
from bdcs.store.listed import NUMBERS, Listed
from bdcs.store.slices import SLICE

HIGHEST: Final = 2**31 - 1  # above all priorities


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A job, and for whom it is built."""

    job_id: int
    machine_id: int
    build: int | None
    """… unless it is published already."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Line:
    """The jobs of one priority that one machine waits for at one target."""

    target: int
    priority: int
    machine: int
    jobs: deque[tuple[int, int]]
    """Since when each waits, and its id: the next few of them."""
    last: tuple[int, int]
    """Of those that were read."""
    is_over: bool = False


@dataclass(slots=True, kw_only=True)
class _Details:
    """What decides about a job beside its place."""

    state: str
    build: int | None
    machines: dict[int, int] = field(default_factory=dict)
    """Who waits for it, and how many times."""


_Key = tuple[int, ...]
_Heap = list[tuple[_Key, int, _Line]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    """What has the best priority that is left at a target; None where nothing is left."""

    priority: int | None
    heap: _Heap


class Turns:
    """Whose turn it is, in a transaction in which nothing else happens to jobs than is said here."""

    def __init__(
        self, connection: Connection, target_ids: Collection[int] = (), *, expected: int = 1
    ) -> None:
        """`expected` are the turns that are likely to be asked for, at the targets: what they need is read at
        once.
        """
        self.wrong: list[int] = []
        """Jobs that the queue has although they are not queued."""
        self._connection = connection
        self._targets = frozenset(target_ids)
        self._ahead = min(max(len(self._targets), 2) * expected, SLICE) if expected > 1 else 1
        self._running = Counter({row.machine: row.jobs for row in _RUNNING.execute(connection).all()})
        self._served: dict[int, int] = {}
        self._taken: set[int] = set()
        self._serial = itertools.count()
        self._last = itertools.count(2**63)  # later than whatever was begun before
        self._clear()

    def next(self, target_ids: Collection[int]) -> Turn | None:
        """Return whose turn it is at these targets; None where nothing is queued.

        Of the best priority, the requester's with the fewest jobs that are built now, of these the one's that
        got one started longest ago; of its jobs the oldest.
        """
        while fronts := [front for target in target_ids if (front := self._front(target)) is not None]:
            line = min(fronts)[-1]
            job = line.jobs[0][1]
            details = self._details.get(job) or self._looked_up(line)
            if details.state == JobState.QUEUED:
                return Turn(job_id=job, machine_id=line.machine, build=details.build)
            self._taken.add(job)
            self.wrong.append(job)
        return None

    def take(self, turn: Turn) -> None:
        """Its job is given to a builder."""
        self._taken.add(turn.job_id)
        self._running.update(self._details[turn.job_id].machines)
        self._served[turn.machine_id] = next(self._last)

    def ended(self, turn: Turn) -> None:
        """Its job ended, and others may be queued since."""
        self._taken.add(turn.job_id)
        self._clear()

    def _clear(self) -> None:
        self._levels: dict[int, _Level] = {}
        self._details: dict[int, _Details] = {}

    def _front(self, target: int) -> tuple[_Key, int, _Line] | None:
        """Return what comes first at a target; None where nothing is queued there."""
        level = self._levels.get(target)
        if level is None:
            self._read_levels((self._targets | {target}).difference(self._levels), HIGHEST)
            level = self._levels[target]
        while level.priority is not None:
            heap = level.heap
            while heap:
                key, _, line = heap[0]
                now = self._key(line)
                if now is None:
                    heapq.heappop(heap)
                elif now != key:
                    heapq.heapreplace(heap, (now, next(self._serial), line))
                elif not line.jobs:
                    self._read_more(level)
                else:
                    return heap[0]
            self._read_levels([target], level.priority)
            level = self._levels[target]
        return None

    def _read_levels(self, targets: Collection[int], below: int) -> None:
        """Read what has the best priority below that one at each of these targets."""
        levels = {target: _Level(priority=None, heap=[]) for target in targets}
        rows = _FIRST.execute(self._connection, given=[(target,) for target in sorted(targets)], below=below)
        for target, priority, machine, queued_at, job, served in rows.all():
            self._served.setdefault(machine, served)
            first = (queued_at, job)
            line = _Line(target=target, priority=priority, machine=machine, jobs=deque([first]), last=first)
            if levels[target].priority is None:
                levels[target] = _Level(priority=priority, heap=[])
            key = self._key(line)
            if key is not None:
                levels[target].heap.append((key, next(self._serial), line))
        for level in levels.values():
            heapq.heapify(level.heap)
        self._levels.update(levels)

    def _key(self, line: _Line) -> _Key | None:
        """Return what decides when it is the line's turn; None where nothing is left in it.

        Of jobs that were not read yet it is known that they come after the last that was.
        """
        jobs = line.jobs
        while jobs and jobs[0][1] in self._taken:
            jobs.popleft()
        if not jobs and line.is_over:
            return None
        queued_at, job = jobs[0] if jobs else line.last
        machine = line.machine
        return (-line.priority, self._running[machine], self._served[machine], queued_at, job, machine)

    def _read_more(self, level: _Level) -> None:
        """Read what comes next in the line that is first at a level, and in those whose turn is near."""
        near = (line for _, _, line in heapq.nsmallest(self._ahead, level.heap))
        lines = {line.machine: line for line in near if len(line.jobs) <= 1 and not line.is_over}
        target = level.heap[0][-1].target
        rows = _MORE.execute(
            self._connection,
            given=[(machine, *line.last) for machine, line in lines.items()],
            target=target,
            priority=level.priority,
            most=1 + self._ahead // (len(lines) * max(len(self._targets), 1)),
        )
        read = set()
        for machine, queued_at, job in rows.all():
            line = lines[machine]
            line.last = (queued_at, job)
            line.jobs.append(line.last)
            read.add(machine)
        for machine in lines.keys() - read:
            lines[machine].is_over = True

    def _looked_up(self, line: _Line) -> _Details:
        """Return what is known of the line's first job; look at those as well whose turn may be next."""
        job = line.jobs[0][1]
        lines = [line]
        if self._ahead > 1:
            heaps = itertools.chain.from_iterable(level.heap for level in self._levels.values())
            lines += (other for _, _, other in heapq.nsmallest(self._ahead, heaps))
        ranks = itertools.zip_longest(*(other.jobs for other in lines))
        coming = dict.fromkeys(place[1] for place in itertools.chain.from_iterable(ranks) if place)
        new = (number for number in coming if number not in self._details)
        ids = list(itertools.islice(new, self._ahead))
        for number, state, build, machine, times in _DETAILS.execute(self._connection, ids=ids).all():
            details = self._details.setdefault(number, _Details(state=state, build=build))
            if times:
                details.machines[machine] = times
        return self._details.setdefault(job, _Details(state="", build=None))


_RUNNING: Final = Listed(
    """
    SELECT coalesce(requests.machine_id, 0) AS machine, count(*) AS jobs FROM jobs
    JOIN members ON members.job_id = jobs.id
    JOIN requests ON requests.id = members.request_id
    WHERE jobs.state = 'building' AND members.state = 'waiting' GROUP BY 1
    """
)
_FIRST: Final = Listed(
    """
    WITH RECURSIVE best (target, priority) AS (
        SELECT given.id, (SELECT max(priority) FROM queue WHERE target_id = given.id AND priority < :below)
        FROM {given}
    ), waiting (target, priority, machine) AS (
        SELECT target, priority, (SELECT min(machine_id) FROM queue
                                  WHERE target_id = target AND queue.priority = best.priority)
        FROM best WHERE priority IS NOT NULL
        UNION ALL
        SELECT target, priority, (SELECT min(machine_id) FROM queue
                                  WHERE target_id = target AND queue.priority = waiting.priority
                                  AND machine_id > machine)
        FROM waiting WHERE machine IS NOT NULL
    ), first (target, priority, machine, job) AS MATERIALIZED (
        SELECT target, priority, machine, (SELECT job_id FROM queue
                                           WHERE target_id = target AND queue.priority = waiting.priority
                                           AND machine_id = machine
                                           ORDER BY queued_at, job_id LIMIT 1)
        FROM waiting WHERE machine IS NOT NULL
    )
    SELECT first.target, first.priority, first.machine, queue.queued_at, first.job,
           coalesce(requesters.served, 0)
    FROM first
    JOIN queue ON queue.job_id = first.job AND queue.machine_id = first.machine
    LEFT JOIN requesters ON requesters.machine_id = first.machine
    """,
    given={"id": NUMBERS},
)
"""From one machine to the next by the index: of ten thousand jobs of a machine, one is looked at."""
_MORE: Final = Listed(
    """
    WITH RECURSIVE later (machine, queued_at, job, rank) AS (
        SELECT machine, queued_at, job, 0 FROM {given}
        UNION ALL
        SELECT machine, queue.queued_at, CAST(queue.job_id AS bigint), rank + 1
        FROM later
        JOIN queue ON queue.machine_id = machine AND queue.job_id = (
            SELECT job_id FROM queue
            WHERE target_id = :target AND priority = :priority AND machine_id = machine
            AND (queue.queued_at, job_id) > (later.queued_at, job)
            ORDER BY queue.queued_at, job_id LIMIT 1)
        WHERE rank < :most
    )
    SELECT machine, queued_at, job FROM later WHERE rank > 0 ORDER BY rank
    """,
    given={"machine": NUMBERS, "queued_at": NUMBERS, "job": NUMBERS},
)
_DETAILS: Final = Listed(
    """
    SELECT jobs.id, jobs.state, (SELECT max(builds.id) FROM builds
                                 WHERE builds.target_id = jobs.target_id
                                 AND builds.digest = jobs.digest AND builds.visible) AS build,
           coalesce(requests.machine_id, 0) AS machine, count(members.request_id) AS times
    FROM jobs
    LEFT JOIN members ON members.job_id = jobs.id AND members.state = 'waiting'
    LEFT JOIN requests ON requests.id = members.request_id
    WHERE jobs.id {ids} GROUP BY jobs.id, 4
    """,
    ids=NUMBERS,
)
