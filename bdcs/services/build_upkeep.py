# SPDX-License-Identifier: GPL-2.0-or-later
"""Upkeep of builds on request: what ended long ago goes, a few rows in one transaction.

- logs of attempts, those of failures later than those of successes;
- requests that have ended;
- jobs that have ended and that no request names any more, with their attempts and the last of their logs;
- builders that are not heard of any more, save whom the operator gave no more work: if one returns, it holds;
- logs that no row names: somebody died between a transaction and the files that it was about, or the store
  was restored from a backup.

A row says that its log is deleted before the file is, so that at no moment a row promises what is not there.
What has not ended stays, however old it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, delete, exists, or_, select, tuple_, update

from bdcs.blobs.attempt_logs import Logs
from bdcs.domain.build_policy import DAY, Keeping
from bdcs.domain.jobs import IN_FLIGHT, AttemptState
from bdcs.errors import StoreError
from bdcs.services.builders import OPERATOR
from bdcs.services.finishing import to_its_end
from bdcs.services.regular_work import regularly
from bdcs.store.slices import slices
from bdcs.store.store import transaction
from bdcs.store.tables import attempts, builders, job_dependencies, jobs, members, requests

log = logging.getLogger(__name__)

INTERVAL: Final = 3600.0  # seconds from one look to the next
AT_ONCE: Final = 200
"""Rows that one transaction deletes: who waits for the writer waits for no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What went, or would go."""

    logs: int = 0
    requests: int = 0
    jobs: int = 0
    builders: int = 0
    orphans: int = 0
    """Logs that no row named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildUpkeep:
    """Does it: in the server at its start and every hour, or when an operator says so; beside all others."""

    reader: Engine
    writer: Engine
    logs: Logs
    keeping: Keeping
    now: Callable[[], float]

    async def run(self) -> None:
        """Tidy up until cancelled."""
        await regularly(
            self._once,
            name="build-upkeep",
            seconds=INTERVAL,
            passing=(StoreError, OSError),
            tell=partial(log.warning, "upkeep of builds came to no end: %s"),
        )

    def tidy(self) -> Dropped:
        """Remove all that is to go, and return how much that was. Raises `StoreError`, `OSError`."""
        return Dropped(
            logs=self._drop_logs(),
            requests=self._drop_requests(),
            jobs=self._drop_jobs(),
            builders=self._drop_builders(),
            orphans=self._drop_orphans(),
        )

    def close(self) -> None:
        """Close both engines."""
        self.reader.dispose()
        self.writer.dispose()

    def planned(self) -> Dropped:
        """Return what `tidy` would remove now; nothing is."""
        held = exists().where(
            members.c.job_id == jobs.c.id,
            requests.c.id == members.c.request_id,
            or_(requests.c.finished_at.is_(None), ~self._old_requests()),
        )
        with transaction(self.reader) as connection:
            return Dropped(
                logs=len(_ids(connection, attempts.c.id, self._old_logs(), None)),
                requests=len(_ids(connection, requests.c.id, self._old_requests(), None)),
                jobs=len(_ids(connection, jobs.c.id, self._old_jobs(held), None)),
                builders=len(connection.execute(select(builders.c.name).where(self._old_builders())).all()),
                orphans=len(_orphans(connection, self.logs.listed())),
            )

    async def _once(self) -> None:
        dropped = await to_its_end(None, self.tidy)  # whoever cancels us closes the engines next
        if dropped != Dropped():
            log.info("upkeep of builds removed %s", dropped)

    def _drop_logs(self) -> int:
        return self._drop(attempts.c.id, self._old_logs(), self._give_up_logs)

    def _drop_requests(self) -> int:
        return self._drop(requests.c.id, self._old_requests(), _delete_requests)

    def _drop_jobs(self) -> int:
        named = exists().where(members.c.job_id == jobs.c.id)
        return self._drop(jobs.c.id, self._old_jobs(named), _delete_jobs)

    def _drop_builders(self) -> int:
        """Forget builders; what they built keeps their names."""
        key, count = (builders.c.machine_id, builders.c.name), 0
        while True:
            with transaction(self.reader) as connection:
                some = connection.execute(select(*key).where(self._old_builders()).limit(AT_ONCE)).all()
            if not some:
                return count
            with transaction(self.writer) as connection:
                which = tuple_(*key).in_([tuple(row) for row in some])
                count += connection.execute(delete(builders).where(which, self._old_builders())).rowcount

    def _drop_orphans(self) -> int:
        there = self.logs.listed()  # before the rows are read: each log that is being written has one by then
        with transaction(self.reader) as connection:
            orphans = _orphans(connection, there)
        for attempt in orphans:
            self.logs.remove(attempt)
        return len(orphans)

    def _drop(
        self,
        column: ColumnElement[Any],
        old: ColumnElement[bool],
        do: Callable[[Connection, Sequence[Any]], Collection[int]],
    ) -> int:
        """Have `do` remove the rows that are `old`, some at a time; then the logs that it names."""
        count = 0
        while True:
            with transaction(self.reader) as connection:  # looking takes long where there are many
                some = _ids(connection, column, old, AT_ONCE)
            if not some:
                return count
            with transaction(self.writer) as connection:
                still = list(connection.scalars(select(column).where(column.in_(some), old)))
                logs = do(connection, still)
            for attempt in logs:
                self.logs.remove(attempt)
            count += len(still)

    def _give_up_logs(self, connection: Connection, some: Sequence[Any]) -> Collection[int]:
        which = attempts.c.id.in_(some)
        connection.execute(update(attempts).where(which).values(log_deleted_at=int(self.now())))
        return some

    def _old_logs(self) -> ColumnElement[bool]:
        good = attempts.c.state == str(AttemptState.PUBLISHED)
        ended = attempts.c.finished_at
        return attempts.c.log_deleted_at.is_(None) & or_(
            good & (ended < self._before(self.keeping.logs)),
            ~good & (ended < self._before(self.keeping.failed_logs)),
        )

    def _old_requests(self) -> ColumnElement[bool]:
        return requests.c.finished_at < self._before(self.keeping.requests)

    def _old_jobs(self, held: ColumnElement[bool]) -> ColumnElement[bool]:
        remembered = jobs.c.failed_until > int(self.now())
        return (
            (jobs.c.finished_at < self._before(self.keeping.requests))
            & jobs.c.state.not_in([str(state) for state in IN_FLIGHT])
            & or_(jobs.c.failed_until.is_(None), ~remembered)
            & ~held
        )

    def _old_builders(self) -> ColumnElement[bool]:
        at_work = exists().where(
            attempts.c.state == str(AttemptState.LEASED),
            attempts.c.machine_id == builders.c.machine_id,
            attempts.c.builder == builders.c.name,
        )
        return (
            (builders.c.seen_at < self._before(self.keeping.builders))
            & builders.c.drained_by.is_distinct_from(OPERATOR)
            & ~at_work
        )

    def _before(self, days: int) -> int:
        return int(self.now()) - days * DAY


def _ids(
    connection: Connection, column: ColumnElement[Any], which: ColumnElement[bool], most: int | None
) -> list[Any]:
    return list(connection.scalars(select(column).where(which).limit(most)))


def _delete_requests(connection: Connection, some: Sequence[Any]) -> Collection[int]:
    connection.execute(delete(members).where(members.c.request_id.in_(some)))
    connection.execute(delete(requests).where(requests.c.id.in_(some)))
    return ()


def _delete_jobs(connection: Connection, some: Sequence[Any]) -> Collection[int]:
    """Delete jobs with their attempts; return these."""
    edges = job_dependencies.c
    which = edges.job_id.in_(some) | edges.needs_job_id.in_(some)
    connection.execute(delete(job_dependencies).where(which))
    tried = connection.scalars(delete(attempts).where(attempts.c.job_id.in_(some)).returning(attempts.c.id))
    gone = list(tried)
    connection.execute(delete(jobs).where(jobs.c.id.in_(some)))
    return gone


def _orphans(connection: Connection, there: Collection[int]) -> list[int]:
    """Return those of the logs that no row promises."""
    orphans = set(there)
    for some in slices(there):
        promised = select(attempts.c.id).where(attempts.c.id.in_(some), attempts.c.log_deleted_at.is_(None))
        orphans.difference_update(connection.scalars(promised))
    return sorted(orphans)
