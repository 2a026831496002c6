# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose turn it is among those that wait for builders, found without looking at all that waits.

`queue` has a row for each queued job and each machine that waits for it, so that the jobs of one machine lie
side by side in their order. It says nothing that `jobs`, `members` and `requests` do not say: whoever changes
a queued job, or who waits for it, calls `renew`; `bdcs check` looks whether somebody forgot to.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, bindparam, delete, func, insert, select, text

from bdcs.domain.jobs import JobState, MemberState
from bdcs.store.slices import slices
from bdcs.store.tables import jobs, members, queue, requests

COLLECTOR: Final = 0
"""Stands for a machine where the collector itself wants something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A job, and for whom it is built."""

    job_id: int
    machine_id: int
    build: int | None
    """… unless it is published already."""


def renew(connection: Connection, ids: Collection[int]) -> None:
    """Bring the queue to what is said elsewhere of these jobs."""
    for some in slices(ids):
        connection.execute(delete(queue).where(queue.c.job_id.in_(some)))
        connection.execute(_INSERT.from_select(_NAMES, _wanted().where(jobs.c.id.in_(some))))


def drop(connection: Connection, ids: Collection[int]) -> None:
    """Take jobs out that are queued no more."""
    for some in slices(ids):
        connection.execute(delete(queue).where(queue.c.job_id.in_(some)))


def wrong(connection: Connection) -> list[int]:
    """Return the jobs of which the queue does not say what is said elsewhere."""
    there, wanted = select(*queue.c), _wanted()
    differing = [*connection.execute(wanted.except_(there)), *connection.execute(there.except_(wanted))]
    return sorted({row.job_id for row in differing})


def turn(connection: Connection, target_ids: Sequence[int]) -> Turn | None:
    """Return whose turn it is at these targets; None where nothing is queued.

    Of the best priority, the requester's with the fewest jobs that are built now, of these the one's that
    got one started longest ago; of its jobs the oldest.
    """
    best = connection.scalar(_BEST, {"targets": list(target_ids)})
    if best is None:
        return None
    row = connection.execute(_TURN, {"targets": list(target_ids), "priority": best}).one()
    return Turn(job_id=row.job, machine_id=row.machine, build=row.build)


def _wanted() -> Select[Any]:
    """What the queue has to be."""
    waits = and_(members.c.job_id == jobs.c.id, members.c.state == str(MemberState.WAITING))
    machine = func.coalesce(requests.c.machine_id, COLLECTOR).label("machine_id")
    return (
        select(jobs.c.target_id, jobs.c.priority, machine, jobs.c.queued_at, jobs.c.id.label("job_id"))
        .select_from(jobs)
        .outerjoin(members, waits)
        .outerjoin(requests, requests.c.id == members.c.request_id)
        .where(jobs.c.state == str(JobState.QUEUED))
        .distinct()
    )


_INSERT: Final = insert(queue)
_NAMES: Final = [column.name for column in queue.c]
_BEST: Final = text("SELECT max(priority) FROM queue WHERE target_id IN :targets").bindparams(
    bindparam("targets", expanding=True)
)
_TURN: Final = text(
    """
    WITH RECURSIVE machines (target, machine) AS (
        SELECT id, (SELECT min(machine_id) FROM queue WHERE target_id = targets.id AND priority = :priority)
        FROM targets WHERE id IN :targets
        UNION ALL
        SELECT target, (SELECT min(machine_id) FROM queue
                        WHERE target_id = target AND priority = :priority AND machine_id > machine)
        FROM machines WHERE machine IS NOT NULL
    ), running (machine, jobs) AS (
        SELECT coalesce(requests.machine_id, 0), count(*) FROM jobs
        JOIN members ON members.job_id = jobs.id
        JOIN requests ON requests.id = members.request_id
        WHERE jobs.state = 'building' AND members.state = 'waiting' GROUP BY 1
    ), ranked (target, machine, jobs, served) AS MATERIALIZED (
        SELECT target, machines.machine, coalesce(running.jobs, 0), coalesce(requesters.served, 0)
        FROM machines
        LEFT JOIN running ON running.machine = machines.machine
        LEFT JOIN requesters ON requesters.machine_id = machines.machine
        WHERE machines.machine IS NOT NULL
    ), fewest (jobs) AS (
        SELECT min(jobs) FROM ranked
    ), longest (served) AS (
        SELECT min(served) FROM ranked WHERE jobs = (SELECT jobs FROM fewest)
    ), first (machine, job) AS MATERIALIZED (
        SELECT machine, (SELECT job_id FROM queue
                         WHERE target_id = target AND priority = :priority AND machine_id = machine
                         ORDER BY queued_at, job_id LIMIT 1)
        FROM ranked
        WHERE jobs = (SELECT jobs FROM fewest) AND served = (SELECT served FROM longest)
    )
    SELECT first.machine, first.job, (SELECT max(builds.id) FROM builds
                                      WHERE builds.target_id = jobs.target_id
                                      AND builds.digest = jobs.digest AND builds.visible) AS build
    FROM first JOIN jobs ON jobs.id = first.job
    ORDER BY jobs.queued_at, jobs.id LIMIT 1
    """
).bindparams(bindparam("targets", expanding=True))
"""From one machine to the next by the index: of ten thousand jobs of a machine, one is looked at."""
