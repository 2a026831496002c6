# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pages show of all jobs: those in flight, those that ended, and how that goes altogether.

Nothing here says who asked, or how many did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, select, tuple_

from bdcs.domain.forecast import Outlook
from bdcs.domain.jobs import ENDS, Answer, Failure, JobState
from bdcs.services.build_documents import queue_of
from bdcs.services.builders import is_served
from bdcs.services.jobs import in_flight
from bdcs.services.targets import Target
from bdcs.services.variants import COLUMNS, Variant, variants
from bdcs.store import tables
from bdcs.store.tables import attempts, jobs, members, requests

PAGE: Final = 50
"""Jobs of a list before the next page."""
DAY: Final = 86_400
_ORDER: Final = {JobState.BUILDING: 0, JobState.QUEUED: 1, JobState.WAITING: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job in a list."""

    id: int
    target: str
    category: str
    name: str
    version: str
    state: JobState
    origin: str
    queued_at: int
    finished_at: int | None
    expected_seconds: int | None
    position: int | None
    finish_at: int | None
    builder: str | None
    """Who is, or was last, at it."""
    attempts: int
    started_at: int | None
    """When the last attempt began."""
    seconds: int | None
    """How long the last attempt took; None while it does, and where there was none."""
    failure: str | None
    failure_text: str
    """The first line of what is told of it."""
    variant: Variant

    def late(self, now: int) -> int:
        """By how many seconds it takes longer than was expected."""
        if self.state is not JobState.BUILDING or self.started_at is None or self.expected_seconds is None:
            return 0
        return max(0, now - self.started_at - self.expected_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRows:
    """One page of jobs."""

    rows: tuple[JobRow, ...]
    after: str | None
    """What the next page has to be asked with; None on the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flying:
    """All jobs in flight, in the order in which they are likely to end up with a builder."""

    ids: tuple[int, ...]
    states: Mapping[int, JobState]
    outlooks: Mapping[int, Outlook]
    work: int
    """Seconds of building that wait, of jobs of which it is known."""
    oldest: int | None
    """Since when the one waits that has waited longest."""
    unserved: tuple[str, ...]
    """Targets with jobs that nobody builds for."""

    @property
    def counts(self) -> Counter[JobState]:
        """How many are in each state."""
        return Counter(self.states.values())

    @property
    def empty_at(self) -> int | None:
        """When the last of them is likely to be done; None where that of one is not known."""
        times = [outlook.finish_at for outlook in self.outlooks.values()]
        return max((time for time in times if time), default=None) if all(times) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lately:
    """The last 24 hours."""

    served: int
    """Packages that were there when they were asked for."""
    joined: int
    asked: int
    machines: int
    """How many asked: decides whether the figures above may be shown."""
    ended: int
    """Jobs that were published, failed, or became something else."""
    failed: int


def flying(connection: Connection, targets: Sequence[Target], now: int) -> Flying:
    """Return the jobs in flight at these targets."""
    names = {target.id: target for target in targets}
    rows = connection.execute(
        select(jobs.c.id, jobs.c.state, jobs.c.target_id, jobs.c.queued_at, jobs.c.expected_seconds).where(
            jobs.c.target_id.in_(names), in_flight()
        )
    ).all()
    outlooks: dict[int, Outlook] = {}
    unserved = []
    for number in sorted({row.target_id for row in rows}, key=lambda number: names[number].name):
        outlooks.update(queue_of(connection, names[number], now))
        if not is_served(connection, names[number], now):
            unserved.append(names[number].name)
    waiting = [row for row in rows if row.state != JobState.BUILDING]
    states = {row.id: JobState(row.state) for row in rows}

    def turn(number: int) -> tuple[int, int, int]:
        position = outlooks[number].position if number in outlooks else None
        return _ORDER[states[number]], position or 0, number

    return Flying(
        ids=tuple(sorted(states, key=turn)),
        states=states,
        outlooks=outlooks,
        work=sum(row.expected_seconds or 0 for row in waiting),
        oldest=min((row.queued_at for row in waiting), default=None),
        unserved=tuple(unserved),
    )


def queue(
    connection: Connection,
    found: Flying,
    *,
    states: Collection[JobState],
    after: str = "",
    limit: int = PAGE,
    crowd: int,
    knows_all: bool = False,
) -> JobRows:
    """Return those of `found` that are in `states`, from behind the job `after` on."""
    ids = [number for number in found.ids if found.states[number] in states]
    if after.isascii() and after.isdigit() and int(after) in ids:
        ids = ids[ids.index(int(after)) + 1 :]
    some = ids[:limit]
    rows = _rows(connection, jobs.c.id.in_(some), found.outlooks, crowd=crowd, knows_all=knows_all)
    by_id = {row.id: row for row in rows}
    more = len(ids) > limit
    shown = tuple(by_id[number] for number in some if number in by_id)
    return JobRows(rows=shown, after=str(some[-1]) if more else None)


def ended(
    connection: Connection,
    targets: Sequence[Target],
    *,
    states: Collection[JobState] = tuple(ENDS),
    after: str = "",
    limit: int = PAGE,
    crowd: int,
    knows_all: bool = False,
) -> JobRows:
    """Return jobs that ended at these targets, the last first, from behind `after` on."""
    which = and_(
        jobs.c.target_id.in_([target.id for target in targets]),
        jobs.c.state.in_([str(state) for state in states]),
    )
    if (place := _place(after)) is not None:
        which &= tuple_(jobs.c.finished_at, jobs.c.id) < place
    latest = (
        select(jobs.c.id).where(which).order_by(jobs.c.finished_at.desc(), jobs.c.id.desc()).limit(limit + 1)
    )
    ids = list(connection.scalars(latest))
    rows = _rows(connection, jobs.c.id.in_(ids[:limit]), {}, crowd=crowd, knows_all=knows_all)
    by_id = {row.id: row for row in rows}
    shown = tuple(by_id[number] for number in ids[:limit])
    more = len(ids) > limit
    return JobRows(rows=shown, after=f"{shown[-1].finished_at}-{shown[-1].id}" if more else None)


def ends_since(connection: Connection, targets: Sequence[Target], since: int) -> Counter[JobState]:
    """Return how many jobs ended how at these targets since then."""
    rows = connection.execute(
        select(jobs.c.state, func.count())
        .where(
            jobs.c.target_id.in_([target.id for target in targets]),
            jobs.c.state.in_([str(state) for state in ENDS]),
            jobs.c.finished_at >= since,
        )
        .group_by(jobs.c.state)
    )
    return Counter({JobState(state): count for state, count in rows})


def lately(connection: Connection, targets: Sequence[Target], now: int) -> Lately:
    """Return how the last 24 hours went."""
    ids = [target.id for target in targets]
    answered = connection.execute(
        select(
            func.count(),
            func.count(case((members.c.answer == str(Answer.PUBLISHED), 1))),
            func.count(case((members.c.answer == str(Answer.JOINED), 1))),
            func.count(requests.c.machine_id.distinct()),
        )
        .select_from(members)
        .join(requests, requests.c.id == members.c.request_id)
        .where(
            requests.c.target_id.in_(ids),
            requests.c.created_at >= now - DAY,
            members.c.answer != str(Answer.REFUSED),
        )
    ).one()
    counts = ends_since(connection, targets, now - DAY)
    failed = counts[JobState.FAILED]
    return Lately(
        asked=answered[0],
        served=answered[1],
        joined=answered[2],
        machines=answered[3],
        ended=counts[JobState.PUBLISHED] + counts[JobState.MISMATCH] + failed,
        failed=failed,
    )


def _rows(
    connection: Connection,
    which: ColumnElement[bool],
    outlooks: Mapping[int, Outlook],
    *,
    crowd: int,
    knows_all: bool,
) -> list[JobRow]:
    last = (
        select(attempts.c.job_id, func.max(attempts.c.id).label("id"), func.count().label("n"))
        .group_by(attempts.c.job_id)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(which)
        .subquery()
    )
    found = connection.execute(
        select(
            *COLUMNS,
            jobs.c.origin,
            jobs.c.queued_at,
            jobs.c.finished_at,
            jobs.c.expected_seconds,
            jobs.c.failure,
            jobs.c.failure_text,
            last.c.n,
            attempts.c.builder,
            attempts.c.started_at,
            attempts.c.finished_at.label("stopped_at"),
            tables.targets.c.name.label("target"),
        )
        .join(tables.targets, tables.targets.c.id == jobs.c.target_id)
        .outerjoin(last, last.c.job_id == jobs.c.id)
        .outerjoin(attempts, attempts.c.id == last.c.id)
        .where(which)
    ).all()
    known = variants(connection, found, crowd=crowd, may_know=lambda _job: knows_all)
    return [_row(row, outlooks.get(row.id, _NOTHING), known[row.id]) for row in found]


_NOTHING: Final = Outlook(position=None, finish_at=None)


def _row(row: Row[*tuple[Any, ...]], outlook: Outlook, variant: Variant) -> JobRow:
    is_over = row.stopped_at is not None
    return JobRow(
        id=row.id,
        target=row.target,
        category=row.category,
        name=row.name,
        version=row.version,
        state=JobState(row.state),
        origin=row.origin,
        queued_at=row.queued_at,
        finished_at=row.finished_at,
        expected_seconds=row.expected_seconds,
        position=outlook.position,
        finish_at=outlook.finish_at,
        builder=row.builder,
        attempts=row.n or 0,
        started_at=row.started_at,
        seconds=row.stopped_at - row.started_at if is_over else None,
        failure=row.failure,
        failure_text=first_line(row.failure, row.failure_text, variant),
        variant=variant,
    )


def first_line(failure: str | None, text: str | None, variant: Variant) -> str:
    """Return the first line of what is told of a failure; nothing where hidden flags may stand there."""
    if variant.is_hidden and failure in _TELLING:
        return ""
    return (text or "").partition("\n")[0]


_TELLING: Final = (Failure.MISMATCH, Failure.REFUSED)
"""Failures whose texts may name flags."""


def _place(after: str) -> tuple[int, int] | None:
    time, dash, number = after.partition("-")
    is_one = dash and all(part.isascii() and part.isdigit() and len(part) < 16 for part in (time, number))
    return (int(time), int(number)) if is_one else None
