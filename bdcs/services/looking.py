# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether there is work for builders, looked at once for all who wait for some in this process."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from sqlalchemy import Connection, exists, select

from bdcs.domain.jobs import JobState
from bdcs.services.finishing import in_common
from bdcs.services.jobs import Claimant
from bdcs.store.store import Store
from bdcs.store.tables import builders, jobs, targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is queued, as far as that is to be known before a builder claims."""

    target_ids: frozenset[int]
    """Targets with queued jobs."""
    drained: frozenset[tuple[int, str]]
    """Builders, by machine and name, of whom somebody said that they get no more work."""

    def is_for(self, claimant: Claimant) -> bool:
        """Whether the builder is likely to get something if it asks."""
        is_drained = (claimant.machine_id, claimant.name) in self.drained
        return not (is_drained or self.target_ids.isdisjoint(claimant.target_ids))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A look that somebody began."""

    began: float
    found: asyncio.Task[Work]


class Looks:
    """Looks at the store for work, of one event loop. Who asks at the same time shares one."""

    def __init__(self) -> None:
        self._last: _Look | None = None

    async def since(self, moment: float, store: Store) -> Work:
        """Return what a look found that began at `moment` (monotonic seconds) or later.

        Only one is under way at a time: who needs a later one waits for it, with all others who do. Raises
        `StoreUnavailable`.
        """
        while (last := self._last) is not None and last.began < moment and not last.found.done():
            await asyncio.wait([last.found])
        if last is None or last.began < moment:
            found = asyncio.create_task(store.read(_work))
            self._last = last = _Look(began=time.monotonic(), found=found)
        try:
            return await in_common(last.found)
        except Exception:
            if self._last is last:
                self._last = None  # the next one looks himself
            raise


def _work(connection: Connection) -> Work:
    is_queued = exists().where(jobs.c.state == str(JobState.QUEUED), jobs.c.target_id == targets.c.id)
    target_ids = frozenset(connection.scalars(select(targets.c.id).where(is_queued)))
    drained: frozenset[tuple[int, str]] = frozenset()
    if target_ids:
        rows = connection.execute(
            select(builders.c.machine_id, builders.c.name).where(builders.c.drained_by.is_not(None))
        )
        drained = frozenset((machine, name) for machine, name in rows)
    return Work(target_ids=target_ids, drained=drained)
