# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pages show of one job, and of one request to who has its id, which nobody guesses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from bdcs.domain.forecast import Outlook
from bdcs.domain.jobs import JobState
from bdcs.services import requests as wanted
from bdcs.services import targets as target_rows
from bdcs.services.build_documents import queue_of
from bdcs.services.builders import is_served
from bdcs.services.jobs import Attempt, attempt_of
from bdcs.services.queue_pages import first_line
from bdcs.services.requests import Request
from bdcs.services.targets import Target
from bdcs.services.variants import COLUMNS, Variant, variants
from bdcs.store import tables
from bdcs.store.tables import attempts, builds, job_dependencies, jobs, members, requests

_LIMIT: Final = 50  # jobs that are named as needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """A job in flight that another needs."""

    id: int
    cpv: str
    state: JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """All that may be told of a job."""

    id: int
    target: Target
    category: str
    name: str
    version: str
    repository: str
    slot: str
    digest: str
    state: JobState
    origin: str
    created_at: int
    queued_at: int
    finished_at: int | None
    expected_seconds: int | None
    position: int | None
    finish_at: int | None
    has_builder: bool
    needs: tuple[Needed, ...]
    attempts: tuple[Attempt, ...]
    """The first one first."""
    failure: str | None
    failure_text: str
    failed_until: int | None
    variant: Variant
    is_own: bool
    """Whether the reader asked for it."""
    built_against: Mapping[str, str]
    build_path: str | None
    """Where the file is that came of it, below the target."""
    build_id: int | None
    left_out: tuple[str, ...]
    """What the last attempt had to build as well and must not be passed on, where the reader may know."""

    @property
    def cpv(self) -> str:
        """CATEGORY/NAME-VERSION."""
        return f"{self.category}/{self.name}-{self.version}"

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state not in (JobState.WAITING, JobState.QUEUED, JobState.BUILDING)

    @property
    def shows_log(self) -> bool:
        """Whether the reader may see its logs: emerge prints flags there."""
        return not self.variant.is_hidden

    def attempt(self, number: int | None) -> Attempt | None:
        """Return its attempt of that number, the last where it is None; None where there is none."""
        if number is None:
            return self.attempts[-1] if self.attempts else None
        return next((attempt for attempt in self.attempts if attempt.number == number), None)

    def late(self, now: int) -> int:
        """By how many seconds it takes longer than was expected."""
        if self.state is not JobState.BUILDING or not self.attempts or self.expected_seconds is None:
            return 0
        return max(0, now - self.attempts[-1].started_at - self.expected_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What changes of a job in flight."""

    state: JobState
    attempt: int | None
    """The id of the last one."""
    number: int | None
    """… and which of the job's it is."""
    is_open: bool
    """Whether more of that attempt's log may come."""


def target_of(connection: Connection, job: int) -> str | None:
    """Return the name of the target of a job; None where there is no such job."""
    name: str | None = connection.scalar(
        select(tables.targets.c.name)
        .join(jobs, jobs.c.target_id == tables.targets.c.id)
        .where(jobs.c.id == job)
    )
    return name


def find(
    connection: Connection, number: int, now: int, *, crowd: int, request: str, knows_all: bool
) -> JobView | None:
    """Return what may be told of a job to who has the id of a `request` of his own, or "" for none.

    `knows_all`: the reader may know everything.
    """
    row = connection.execute(
        select(
            *COLUMNS,
            jobs.c.digest,
            jobs.c.origin,
            jobs.c.created_at,
            jobs.c.queued_at,
            jobs.c.finished_at,
            jobs.c.expected_seconds,
            jobs.c.failure,
            jobs.c.failure_text,
            jobs.c.failed_until,
            tables.targets.c.name.label("target"),
            builds.c.path,
            builds.c.build_id,
        )
        .join(tables.targets, tables.targets.c.id == jobs.c.target_id)
        .outerjoin(builds, builds.c.id == jobs.c.build_id)
        .where(jobs.c.id == number)
    ).first()
    if row is None:
        return None
    is_own = _is_of(connection, number, request)
    may_know = knows_all or is_own
    variant = variants(connection, [row], crowd=crowd, may_know=lambda _job: may_know)[number]
    return _view(connection, row, variant, now, is_own=is_own)


def standing(connection: Connection, number: int) -> Standing | None:
    """Return how a job stands; None where it is gone."""
    state = connection.scalar(select(jobs.c.state).where(jobs.c.id == number))
    if state is None:
        return None
    row = connection.execute(
        select(attempts.c.id, attempts.c.number, attempts.c.finished_at)
        .where(attempts.c.job_id == number)
        .order_by(attempts.c.id.desc())
        .limit(1)
    ).first()
    return Standing(
        state=JobState(state),
        attempt=None if row is None else row.id,
        number=None if row is None else row.number,
        is_open=row is not None and row.finished_at is None,
    )


def request(connection: Connection, number: str) -> Request | None:
    """Return a request, whoever made it; None where there is none."""
    row = connection.execute(select(requests.c.machine_id).where(requests.c.id == number)).first()
    return None if row is None else wanted.require(connection, number, row.machine_id)


def _is_of(connection: Connection, job: int, request: str) -> bool:
    """Whether the request wants the job."""
    query = select(members.c.job_id).where(members.c.request_id == request, members.c.job_id == job)
    return bool(request) and connection.execute(query).first() is not None


def _view(
    connection: Connection, row: Row[*tuple[Any, ...]], variant: Variant, now: int, *, is_own: bool
) -> JobView:
    specification = json.loads(row.specification)
    target = target_rows.require(connection, row.target)
    state = JobState(row.state)
    is_queued = state in (JobState.WAITING, JobState.QUEUED, JobState.BUILDING)
    outlook = queue_of(connection, target, now).get(row.id, _NOTHING) if is_queued else _NOTHING
    tried = connection.execute(
        select(attempts).where(attempts.c.job_id == row.id).order_by(attempts.c.id)
    ).all()
    text = first_line(row.failure, row.failure_text, variant) if variant.is_hidden else row.failure_text or ""
    return JobView(
        id=row.id,
        target=target,
        category=row.category,
        name=row.name,
        version=row.version,
        repository=row.repository,
        slot=specification["slot"],
        digest=row.digest,
        state=state,
        origin=row.origin,
        created_at=row.created_at,
        queued_at=row.queued_at,
        finished_at=row.finished_at,
        expected_seconds=row.expected_seconds,
        position=outlook.position,
        finish_at=outlook.finish_at,
        has_builder=is_served(connection, target, now),
        needs=_needs(connection, row.id),
        attempts=tuple(attempt_of(each) for each in tried),
        failure=row.failure,
        failure_text=text,
        failed_until=row.failed_until,
        variant=variant,
        is_own=is_own,
        built_against=specification["built_against"],
        build_path=row.path,
        build_id=row.build_id,
        left_out=() if variant.is_hidden or not tried else tuple(json.loads(tried[-1].left_out or "[]")),
    )


_NOTHING: Final = Outlook(position=None, finish_at=None)


def _needs(connection: Connection, job: int) -> tuple[Needed, ...]:
    rows = connection.execute(
        select(jobs.c.id, jobs.c.cpv, jobs.c.state)
        .join(job_dependencies, job_dependencies.c.needs_job_id == jobs.c.id)
        .where(job_dependencies.c.job_id == job)
        .order_by(jobs.c.id)
        .limit(_LIMIT)
    )
    return tuple(Needed(id=row.id, cpv=row.cpv, state=JobState(row.state)) for row in rows)
