# SPDX-License-Identifier: GPL-2.0-or-later
"""Regular work on jobs: what builders lost runs again, and what others published need not be built."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

from sqlalchemy import Connection, select

from bdcs.domain.jobs import AttemptState, JobState
from bdcs.errors import StoreUnavailable
from bdcs.services import build_digests
from bdcs.services.jobs import Jobs
from bdcs.services.regular_work import regularly
from bdcs.services.waking import Transactions
from bdcs.store.tables import attempts, builds, jobs

log = logging.getLogger(__name__)

INTERVAL: Final = 5.0  # seconds from one look to the next


async def look_regularly(transactions: Transactions) -> None:
    """Look every `INTERVAL` seconds until cancelled."""
    await regularly(
        partial(look, transactions),
        name="lost-attempts",
        seconds=INTERVAL,
        passing=StoreUnavailable,
        tell=partial(log.warning, "lost attempts were not looked for: %s"),
    )


async def look(transactions: Transactions) -> None:
    """Do what is to be done; where nothing is, nothing is written."""
    if await transactions.store.read(partial(_is_due, now=transactions.now())):
        await transactions.write(_do)


def _do(book: Jobs) -> None:
    build_digests.fill_in(book.connection)
    book.expire()
    book.finish_published()


def _is_due(connection: Connection, now: float) -> bool:
    lost = select(attempts.c.id).where(
        attempts.c.state == str(AttemptState.LEASED), attempts.c.lease_until < int(now)
    )
    published = (
        select(jobs.c.id)
        .join(builds, (builds.c.target_id == jobs.c.target_id) & (builds.c.digest == jobs.c.digest))
        .where(jobs.c.state.in_((str(JobState.WAITING), str(JobState.QUEUED))), builds.c.visible)
    )
    return build_digests.missing(connection) or any(
        connection.execute(query.limit(1)).first() is not None for query in (lost, published)
    )
