# SPDX-License-Identifier: GPL-2.0-or-later
"""How the collector's work stands, as the store knows it: for `/metrics`, not for pages.

    examiner = Examiner(store, indexes=settings.data / "binhost", now=time.time)
    health = await examiner.health()        # None while the store is away

Everything is read in one transaction, by statements that an index answers or whose tables are short, and
remembered for some seconds; nobody waits for a look that takes long, as with a hundred thousand jobs, while
the last one is half a minute old. With several collectors each of them tells the same of the store.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, func, select

from bdcs.blobs.index_files import IndexFiles
from bdcs.domain import uploads
from bdcs.domain.jobs import IN_FLIGHT, AttemptState, JobState
from bdcs.domain.signing_keys import KeyState
from bdcs.domain.targets import Signatures
from bdcs.errors import StoreError
from bdcs.services import generations, machines, outbox, targets
from bdcs.services.builders import BUILDER_SEEN
from bdcs.services.targets import Target
from bdcs.store import tables
from bdcs.store.store import Store

log = logging.getLogger(__name__)

REMEMBERED: Final = 5.0  # seconds for which what was read is told again without another look
STALE: Final = 30.0  # … for which it is told while a look takes longer than `QUICK`
QUICK: Final = 0.02  # seconds
COUNTED: Final = 60.0  # … of machines, which are counted one by one
PATIENCE: Final = 3.0  # seconds in which the store has to answer where nothing is known
MOST_EVENTS: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Jobs in flight at one target."""

    jobs: Mapping[str, int]
    """How many, by state."""
    work: float
    """Seconds of one builder that those which nobody builds yet are likely to take."""
    oldest: int | None
    """Since when the first of them is queued, Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetHealth:
    """One target."""

    name: str
    generation: int
    packages: int
    timestamp: int
    """TIMESTAMP that its index is to have; 0 before the first generation."""
    index: int
    """… that the index on this host has; 0 where there is none."""
    queue: Queue
    builders: int
    """Those that were heard of lately and take work."""
    draining: int
    """… that take no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolHealth:
    """One pool of builders that come and go, as `bdcs autoscale` last saw it."""

    name: str
    builders: Mapping[str, int]
    """How many are needed, wanted (of the engine), ready and leaving."""
    looked_at: int
    has_trouble: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryHealth:
    """One ebuild repository of the catalogue."""

    name: str
    read_at: int | None
    has_problem: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How everything stood at one moment."""

    machines: Mapping[str, int]
    """How many, by state; as of a minute ago at most."""
    targets: Sequence[TargetHealth]
    pools: Sequence[PoolHealth]
    signed_targets: int
    """Targets that take only signed packages."""
    keys: Mapping[str, int | None]
    """When each active signing key expires, by fingerprint."""
    overdue: int
    """Attempts whose builders should have been heard of."""
    uploads: int
    """Packages in quarantine."""
    upload_bytes: int
    repositories: Sequence[RepositoryHealth]
    deliveries: int
    """Messages on their way to webhooks."""
    due_at: int | None
    """When the first of them was, or is, to be sent."""
    leases: Mapping[str, float]
    """Until when somebody has each lease, Unix seconds."""
    events: int
    """Events that no broker has taken yet; `MOST_EVENTS` stands for that many and more."""
    events_since: int | None
    """… when the first of them happened that is not set aside."""
    events_refused: int
    """… and are set aside, since the broker refuses them."""


class Examiner:
    """Looks, and remembers what it saw."""

    def __init__(self, store: Store, indexes: Path, now: Callable[[], float] = time.time) -> None:
        """`indexes`: the data directory, in which each target's index is."""
        self._store = store
        self._data = indexes
        self._now = now
        self._seen: Health | None = None
        self._seen_at = float("-inf")
        self._machines: Mapping[str, int] = {}
        self._counted_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def health(self) -> Health | None:
        """Return how everything stands, or stood some seconds ago; None where the store does not say."""
        if self._age > REMEMBERED:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
            await asyncio.wait([self._looking], timeout=QUICK if self._age <= STALE else PATIENCE)
        return self._seen if self._age <= STALE else None

    @property
    def _age(self) -> float:
        """Seconds since the store last said how everything stands."""
        return time.monotonic() - self._seen_at

    async def _look(self) -> None:
        try:
            self._seen = await self._store.read(self._examine)
        except StoreError as error:
            log.warning("how the store stands is not known: %s", error)
            self._seen_at = float("-inf")
        else:
            self._seen_at = time.monotonic()

    def _examine(self, connection: Connection) -> Health:
        now = int(self._now())
        if time.monotonic() - self._counted_at > COUNTED:
            self._machines = machines.count_by_state(connection)
            self._counted_at = time.monotonic()
        listed = targets.listed(connection)
        count, size = _quarantine(connection)
        deliveries, due_at = _deliveries(connection)
        return Health(
            machines=self._machines,
            targets=_targets(connection, listed, self._data, now),
            pools=_pools(connection),
            signed_targets=sum(target.signatures is Signatures.REQUIRED for target in listed),
            keys=_keys(connection),
            overdue=_overdue(connection, now),
            uploads=count,
            upload_bytes=size,
            repositories=_repositories(connection),
            deliveries=deliveries,
            due_at=due_at,
            leases=_leases(connection),
            events=_events(connection),
            events_since=connection.scalar(_FIRST_EVENT),
            events_refused=outbox.count_refused(connection),
        )


def _targets(connection: Connection, listed: Sequence[Target], data: Path, now: int) -> list[TargetHealth]:
    queues, builders = _queues(connection), _builders(connection, now)
    found = []
    for target in listed:
        newest = generations.current(connection, target)
        found.append(
            TargetHealth(
                name=target.name,
                generation=target.generation,
                packages=0 if newest is None else newest.builds,
                timestamp=target.timestamp,
                index=IndexFiles.of(data, target.name).timestamp(),
                queue=queues.get(target.id, Queue(jobs={}, work=0, oldest=None)),
                builders=builders[target.name, False],
                draining=builders[target.name, True],
            )
        )
    return found


def _queues(connection: Connection) -> dict[int, Queue]:
    """Return what is in flight at each target that has any; a job of unknown length is an average one."""
    jobs = tables.jobs.c
    rows = connection.execute(
        select(
            jobs.target_id,
            jobs.state,
            func.count().label("count"),
            func.count(jobs.expected_seconds).label("known"),
            func.coalesce(func.sum(jobs.expected_seconds), 0).label("seconds"),
            func.min(jobs.queued_at).label("oldest"),
        )
        .where(jobs.state.in_([str(state) for state in IN_FLIGHT]))
        .group_by(jobs.target_id, jobs.state)
    )
    by_target: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for row in rows:
        by_target[row.target_id][row.state] = row
    return {target: _queue(states) for target, states in by_target.items()}


def _queue(states: Mapping[str, Any]) -> Queue:
    idle = [row for state, row in states.items() if state != JobState.BUILDING]
    known = sum(row.known for row in states.values())
    average = sum(float(row.seconds) for row in states.values()) / known if known else 0.0
    queued = states.get(str(JobState.QUEUED))
    return Queue(
        jobs={state: row.count for state, row in states.items()},
        work=sum(float(row.seconds) + (row.count - row.known) * average for row in idle),
        oldest=None if queued is None else queued.oldest,
    )


def _builders(connection: Connection, now: int) -> Counter[tuple[str, bool]]:
    """Count the builders that were heard of lately, by target and whether they leave."""
    allowed, builders = tables.builder_targets.c, tables.builders.c
    rows = connection.execute(
        select(tables.targets.c.name, builders.targets, builders.draining, builders.drained_by)
        .select_from(tables.builders)
        .join(tables.builder_targets, allowed.machine_id == builders.machine_id)
        .join(tables.targets, tables.targets.c.id == allowed.target_id)
        .where(builders.seen_at > now - BUILDER_SEEN)
    )
    return Counter(
        (row.name, bool(row.draining or row.drained_by))
        for row in rows
        if row.name in json.loads(row.targets)
    )


def _pools(connection: Connection) -> list[PoolHealth]:
    return [
        PoolHealth(
            name=row.name,
            builders={state: getattr(row, state) for state in ("needed", "wanted", "ready", "leaving")},
            looked_at=row.looked_at,
            has_trouble=row.trouble is not None,
        )
        for row in connection.execute(select(tables.pools).order_by(tables.pools.c.name))
    ]


def _keys(connection: Connection) -> dict[str, int | None]:
    keys = tables.signing_keys.c
    rows = connection.execute(
        select(keys.fingerprint, keys.expires_at).where(keys.state == str(KeyState.ACTIVE))
    )
    return {row.fingerprint: row.expires_at for row in rows}


def _overdue(connection: Connection, now: int) -> int:
    attempts = tables.attempts.c
    return _scalar(
        connection,
        select(func.count()).where(attempts.state == str(AttemptState.LEASED), attempts.lease_until < now),
    )


def _quarantine(connection: Connection) -> tuple[int, int]:
    row = connection.execute(
        select(func.count(), func.coalesce(func.sum(tables.uploads.c.size), 0)).where(
            tables.uploads.c.state == str(uploads.State.QUARANTINED)
        )
    ).one()
    return row[0], int(row[1])


def _repositories(connection: Connection) -> list[RepositoryHealth]:
    table = tables.catalogue_repositories.c
    rows = connection.execute(select(table.name, table.read_at, table.problem.is_not(None)))
    return [RepositoryHealth(name=row[0], read_at=row[1], has_problem=bool(row[2])) for row in rows]


def _deliveries(connection: Connection) -> tuple[int, int | None]:
    next_at = tables.deliveries.c.next_at
    row = connection.execute(select(func.count(next_at), func.min(next_at)).where(next_at.is_not(None))).one()
    return row[0], row[1]


def _leases(connection: Connection) -> dict[str, float]:
    leases = tables.leases.c
    return {row.name: row.until / 1000 for row in connection.execute(select(leases.name, leases.until))}


def _events(connection: Connection) -> int:
    """Count them, but not for ever: they pile up while the broker is away."""
    some = select(tables.outbox.c.id).limit(MOST_EVENTS).subquery()
    return _scalar(connection, select(func.count()).select_from(some))


_FIRST_EVENT: Final = (
    select(tables.outbox.c.at).where(tables.outbox.c.retry_at.is_(None)).order_by(tables.outbox.c.id).limit(1)
)


def _scalar(connection: Connection, query: Any) -> int:
    return int(connection.scalar(query) or 0)
