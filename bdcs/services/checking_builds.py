# SPDX-License-Identifier: GPL-2.0-or-later
"""Compare requests, jobs and attempts with each other, and attempts with their logs.

A job is being built exactly while one builder has it; a package of a request waits exactly while its job is
on its way; a request is open exactly while something of it waits; the queue has what is queued, for those who
want it. Each log that an attempt promises is there, as long as it was noted at its end, and there is none
that no attempt promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Select, func, or_, select

from bdcs.blobs.attempt_logs import AttemptLogs, Logs
from bdcs.domain.jobs import IN_FLIGHT, AttemptState, JobState, MemberState
from bdcs.services import outbox, queueing
from bdcs.services.differences import Differences
from bdcs.store.store import transaction
from bdcs.store.tables import attempts, jobs, members, requests

_WAITS: Final = members.c.state == str(MemberState.WAITING)


@dataclass(slots=True)
class BuildsReport(Differences):
    """What was looked at and what was found."""

    requests: int = 0
    jobs: int = 0
    attempts: int = 0
    logs: int = 0
    size: int = 0
    """Bytes of the logs."""
    events: int = 0
    """That are set aside, since the broker refuses them; no difference."""


def check_builds(engine: Engine, data: Path, logs: Logs | None = None) -> BuildsReport:
    """Compare everything; may run beside a server. Logs are files below `data` by default."""
    report, logs = BuildsReport(), logs or AttemptLogs(data)
    there = logs.listed()  # before the rows: each log that is being written has one by then
    with transaction(engine) as connection:
        report.requests = _count(connection, requests)
        report.jobs = _count(connection, jobs)
        report.attempts = _count(connection, attempts)
        report.events = outbox.count_refused(connection)
        for text, query in _CONTRADICTIONS:
            for number in connection.scalars(query):
                report.differ(text.format(number))
        for number in queueing.wrong(connection):
            report.differ(f"job {number} does not stand in the queue as it should")
    _check_logs(engine, logs, there, report)
    return report


def _check_logs(engine: Engine, logs: Logs, there: Sequence[int], report: BuildsReport) -> None:
    with transaction(engine) as connection:
        promised = {row.id: row for row in connection.execute(_PROMISED)}
    for number in there:
        if number not in promised and logs.size(number):
            report.differ(f"there is a log of attempt {number}, and no attempt that promises it")
    for number, row in promised.items():
        size = logs.size(number)
        report.logs += size > 0
        report.size += size
        if row.finished_at is not None and size < row.log_size and not _is_gone(engine, number):
            report.differ(f"the log of attempt {number} has {size} bytes, and had {row.log_size} at its end")


def _is_gone(engine: Engine, attempt: int) -> bool:
    """Whether the log of an attempt was deleted, or the attempt, since its row was read."""
    with transaction(engine) as connection:
        return connection.execute(_PROMISED.where(attempts.c.id == attempt)).first() is None


def _count(connection: Connection, table: Any) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


_PROMISED: Final = select(attempts.c.id, attempts.c.finished_at, attempts.c.log_size).where(
    attempts.c.log_deleted_at.is_(None)
)
_LEASES: Final = (
    select(func.count())
    .where(attempts.c.job_id == jobs.c.id, attempts.c.state == str(AttemptState.LEASED))
    .correlate(jobs)
    .scalar_subquery()
)
_WAITING: Final = (
    select(func.count()).where(members.c.request_id == requests.c.id, _WAITS).correlate(requests)
).scalar_subquery()
_BUILDING: Final = jobs.c.state == str(JobState.BUILDING)
_ON_ITS_WAY: Final = jobs.c.state.in_([str(state) for state in IN_FLIGHT])

_CONTRADICTIONS: Final[Sequence[tuple[str, Select[Any]]]] = (
    (
        "job {} is being built, and not one builder has it",
        select(jobs.c.id).where(_BUILDING, _LEASES != 1),
    ),
    ("job {} is not being built, and a builder has it", select(jobs.c.id).where(~_BUILDING, _LEASES != 0)),
    (
        "attempt {} is at no job",
        select(attempts.c.id).outerjoin(jobs, jobs.c.id == attempts.c.job_id).where(jobs.c.id.is_(None)),
    ),
    (
        "a package of request {} waits for no job that is on its way",
        select(members.c.request_id)
        .outerjoin(jobs, jobs.c.id == members.c.job_id)
        .where(_WAITS, or_(jobs.c.id.is_(None), ~_ON_ITS_WAY)),
    ),
    (
        "a package of request {} names a job that is not there",
        select(members.c.request_id)
        .outerjoin(jobs, jobs.c.id == members.c.job_id)
        .where(~_WAITS, members.c.job_id.is_not(None), jobs.c.id.is_(None)),
    ),
    (
        "a package belongs to request {}, which is not there",
        select(members.c.request_id)
        .outerjoin(requests, requests.c.id == members.c.request_id)
        .where(requests.c.id.is_(None)),
    ),
    (
        "request {} has ended, and something of it waits",
        select(requests.c.id).where(requests.c.finished_at.is_not(None), _WAITING != 0),
    ),
    (
        "request {} is open, and nothing of it waits",
        select(requests.c.id).where(requests.c.finished_at.is_(None), _WAITING == 0),
    ),
)
