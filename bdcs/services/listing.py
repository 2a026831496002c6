# SPDX-License-Identifier: GPL-2.0-or-later
"""When the index lists what is published: of many publications in a row it waits for what else may come.

if seconds := listed_in(connection, builds):
    ...  # who runs emerge earlier does not get them
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from math import ceil
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Join,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
)

from bdcs.domain.packages_index import LEAD, STEP
from bdcs.services.indexing import INTERVAL, lead_of
from bdcs.store.clock import agreed_time, is_shared
from bdcs.store.slices import slices
from bdcs.store.tables import builds, generations, memberships


def listed_in(connection: Connection, ids: Collection[int], now: float | None = None) -> int:
    """Return after how many seconds, at most, the index lists these builds, which are published; 0: it does.

    `now`: another time to go by than that of the store.
    """
    if not ids:
        return 0
    lead = lead_of(connection)
    times = [connection.execute(_LAST, {"ids": some, "lead": lead}).scalar_one() or 0 for some in slices(ids)]
    return _seconds(connection, max(times), agreed_time(connection, now))


def needs_listed_in(connection: Connection, jobs: Sequence[tuple[int, int]]) -> list[int]:
    """Return that of what each job needs, by when it was queued and the TIMESTAMP of its target.

    What it needs was published when it was queued, and no publication puts TIMESTAMP further ahead than that.
    """
    times = [min(timestamp, queued_at + LEAD + STEP) for queued_at, timestamp in jobs]
    if max(times, default=0) < time.time() + LEAD / 2:
        return [0] * len(jobs)  # nearly always, and not worth a question for the time of the store
    now = agreed_time(connection)
    return [_seconds(connection, timestamp, now) for timestamp in times]


def _seconds(connection: Connection, timestamp: int, now: float) -> int:
    ahead = timestamp - now
    if ahead > LEAD + STEP:
        return 0  # the clock was set back, and nothing waits for it
    # Of a store that is shared, the index is written for who asks for it; else the keeper gets to it.
    return max(0, ceil(ahead - lead_of(connection) + (0 if is_shared(connection) else INTERVAL)))


def with_listing(source: FromClause) -> Join:
    """Return `source`, which has builds, joined with the generations in which the index listed them first."""
    return source.outerjoin(
        memberships, and_(memberships.c.build == builds.c.id, memberships.c.until.is_(None))
    ).outerjoin(
        generations,
        and_(generations.c.target_id == builds.c.target_id, generations.c.number == memberships.c.since),
    )


LISTED_AT: Final[ColumnElement[int]] = case(
    (generations.c.timestamp > generations.c.at + bindparam("lead"), generations.c.timestamp),
    else_=literal_column("0"),
)
"""Of a row of `with_listing`: the TIMESTAMP of that index; 0 where it did not have to wait, or nobody knows.

`lead`: by how much it could be ahead of the clock without waiting.
"""

_LAST: Final = (
    select(func.max(LISTED_AT))
    .select_from(with_listing(builds))
    .where(builds.c.id.in_(bindparam("ids", expanding=True)))
)
