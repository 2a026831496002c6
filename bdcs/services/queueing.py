# SPDX-License-Identifier: GPL-2.0-or-later
"""What waits for builders, so that `services.turns` finds whose turn it is without looking at all of it.

`queue` has a row for each queued job and each machine that waits for it, so that the jobs of one machine lie
side by side in their order. It says nothing that `jobs`, `members` and `requests` do not say: whoever changes
a queued job, or who waits for it, calls `renew`; `bdcs check` looks whether somebody forgot to.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, func, insert, select

from bdcs.domain.jobs import JobState, MemberState
from bdcs.store.listed import NUMBERS, Listed
from bdcs.store.slices import slices
from bdcs.store.tables import jobs, members, queue, requests

COLLECTOR: Final = 0
"""Stands for a machine where the collector itself wants something."""


def renew(connection: Connection, ids: Collection[int]) -> None:
    """Bring the queue to what is said elsewhere of these jobs."""
    for some in slices(ids):
        _DROP.execute(connection, ids=some)
        connection.execute(_INSERT.from_select(_NAMES, _wanted().where(jobs.c.id.in_(some))))


def drop(connection: Connection, ids: Collection[int]) -> None:
    """Take jobs out that are queued no more."""
    for some in slices(ids):
        _DROP.execute(connection, ids=some)


def wrong(connection: Connection) -> list[int]:
    """Return the jobs of which the queue does not say what is said elsewhere."""
    there, wanted = select(*queue.c), _wanted()
    differing = [*connection.execute(wanted.except_(there)), *connection.execute(there.except_(wanted))]
    return sorted({row.job_id for row in differing})


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


_DROP: Final = Listed("DELETE FROM queue WHERE job_id {ids}", ids=NUMBERS)
_INSERT: Final = insert(queue)
_NAMES: Final = [column.name for column in queue.c]
