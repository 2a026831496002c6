# SPDX-License-Identifier: GPL-2.0-or-later
"""What the store says of pools: what is to be built for them, and who is there.

Nobody is remembered: who is starting is whom the engine has and the store has not heard of.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, func, select, update

from bdcs.capacity.drivers import Fleet
from bdcs.domain.capacity import Builder, PoolStanding, Standing
from bdcs.domain.capacity_pools import Pool
from bdcs.domain.forecast import Queued
from bdcs.domain.jobs import AttemptState
from bdcs.services.builders import AUTOSCALE
from bdcs.services.jobs import COLLECTOR, in_flight
from bdcs.store.tables import attempts, builder_targets, builders, job_dependencies, jobs, pools, targets
from bdcs.store.upserts import upsert

HERE: Final = 90
"""Seconds after which a builder that was not heard of is no help: it asks, or says that it builds, thrice."""
LATEST: Final = 20_000
"""Attempts, the latest, in which it is looked when a builder last had something to do."""


@dataclass(frozen=True, slots=True)
class _Present:
    """Who is there, and what is known of them all."""

    rows: Sequence[Row[Any]]
    building: Mapping[tuple[int | None, str], int]
    """How many packages each builds."""
    ended: Mapping[tuple[int | None, str], int]
    """When each last ended something."""


def standings(connection: Connection, fleets: Mapping[Pool, Fleet], now: int) -> dict[Pool, PoolStanding]:
    """Return how each pool stands."""
    present = _present(connection, now)
    return {pool: _standing(connection, pool, fleet, present, now) for pool, fleet in fleets.items()}


def release(connection: Connection, names: Collection[str]) -> None:
    """Let these builders get no more work; what the operator said of them stays."""
    _say(connection, names, before=None, after=AUTOSCALE)


def recall(connection: Connection, names: Collection[str]) -> None:
    """Let those of these builders get work again that were let go here."""
    _say(connection, names, before=AUTOSCALE, after=None)


def may_go(connection: Connection, members: Collection[str]) -> list[str]:
    """Return those who were let go here, and build nothing: nothing can be given to them any more."""
    building = select(attempts.c.builder).where(attempts.c.state == str(AttemptState.LEASED))
    names = connection.scalars(
        select(builders.c.name).where(builders.c.drained_by == AUTOSCALE, builders.c.name.not_in(building))
    )
    return sorted(set(names) & set(members))


def forget(connection: Connection, name: str, machine_id: int) -> None:
    """Take a builder for one that was never there: another is started under its name."""
    is_it = and_(builders.c.machine_id == machine_id, builders.c.name == name)
    connection.execute(builders.delete().where(is_it))


def keep_only(connection: Connection, names: Sequence[str]) -> None:
    """Forget the pools that are not among these."""
    connection.execute(pools.delete().where(pools.c.name.not_in(names)))


def note(connection: Connection, row: Mapping[str, Any]) -> None:
    """Write down how a pool stands."""
    values = {name: value for name, value in row.items() if name != "name"}
    connection.execute(
        upsert(pools).values(**row).on_conflict_do_update(index_elements=["name"], set_=values)
    )


def note_trouble(connection: Connection, name: str, trouble: str) -> None:
    """Write down why nothing is known of a pool; how it stood before stays, and how old that is."""
    connection.execute(update(pools).where(pools.c.name == name).values(trouble=trouble))


def last_wanted(connection: Connection, names: Sequence[str]) -> int:
    """Return how many builders the engines of these pools were last told to have."""
    total: int | None = connection.scalar(select(func.sum(pools.c.wanted)).where(pools.c.name.in_(names)))
    return total or 0


# How it is done.


def _say(connection: Connection, names: Collection[str], *, before: str | None, after: str | None) -> None:
    was = builders.c.drained_by.is_(None) if before is None else builders.c.drained_by == before
    for name in sorted(names):
        connection.execute(update(builders).where(builders.c.name == name, was).values(drained_by=after))


def _present(connection: Connection, now: int) -> _Present:
    leased = attempts.c.state == str(AttemptState.LEASED)
    who = (attempts.c.machine_id, attempts.c.builder)
    building = Counter(
        {
            (row[0], row[1]): row[2]
            for row in connection.execute(select(*who, func.count()).where(leased).group_by(*who))
        }
    )
    newest = select(func.max(attempts.c.id)).scalar_subquery()
    ended = connection.execute(
        select(*who, func.max(attempts.c.finished_at)).where(attempts.c.id > newest - LATEST).group_by(*who)
    )
    rows = connection.execute(select(builders).order_by(builders.c.name, builders.c.machine_id)).all()
    return _Present(
        rows=[row for row in rows if row.seen_at > now - HERE or (row.machine_id, row.name) in building],
        building=building,
        ended={(row[0], row[1]): row[2] or 0 for row in ended},
    )


def _standing(connection: Connection, pool: Pool, fleet: Fleet, present: _Present, now: int) -> PoolStanding:
    ids = list(connection.scalars(select(targets.c.id).where(targets.c.name.in_(pool.targets))))
    allowed = set(
        connection.scalars(
            select(builder_targets.c.machine_id).where(builder_targets.c.target_id.in_(ids)).distinct()
        )
    )
    serving = [
        row
        for row in present.rows
        if row.machine_id in allowed and not set(pool.targets).isdisjoint(json.loads(row.targets))
    ]
    mine = _members(serving, fleet)
    names = {row.name for row in mine}
    others = [row for row in serving if row.name not in names and not (row.draining or row.drained_by)]
    quiet_since = connection.scalar(
        select(func.max(func.coalesce(jobs.c.finished_at, jobs.c.queued_at))).where(jobs.c.target_id.in_(ids))
    )
    return PoolStanding(
        name=pool.name,
        limits=pool.limits.within(fleet.least, fleet.most),
        jobs=_jobs(connection, ids),
        wanted=fleet.wanted,
        builders=[_builder(row, present) for row in mine],
        outside=len(others),
        quiet_since=quiet_since or 0,
    )


def _members(serving: Sequence[Row[Any]], fleet: Fleet) -> list[Row[Any]]:
    """Return those who are of the pool. Where the engine does not name them, as many as it may have."""
    if fleet.members is not None:
        return [row for row in serving if row.name in fleet.members]
    return [row for row in serving if not row.draining][: fleet.wanted]


def _builder(row: Row[Any], present: _Present) -> Builder:
    key = (row.machine_id, row.name)
    appeared_at = row.appeared_at or row.seen_at
    if row.drained_by == AUTOSCALE and not row.draining:
        standing = Standing.LEAVING
    else:
        standing = Standing.GOING if row.draining or row.drained_by else Standing.READY
    return Builder(
        name=row.name,
        standing=standing,
        appeared_at=appeared_at,
        idle_since=None if key in present.building else max(appeared_at, present.ended.get(key, 0)),
    )


def _jobs(connection: Connection, ids: Sequence[int]) -> list[Queued]:
    here = and_(jobs.c.target_id.in_(ids), in_flight())
    needs = _needs(
        connection.execute(
            select(job_dependencies).join(jobs, jobs.c.id == job_dependencies.c.job_id).where(here)
        )
    )
    started = {
        row[0]: row[1]
        for row in connection.execute(
            select(attempts.c.job_id, func.max(attempts.c.started_at))
            .where(attempts.c.state == str(AttemptState.LEASED))
            .group_by(attempts.c.job_id)
        )
    }
    rows = connection.execute(
        select(jobs.c.id, jobs.c.priority, jobs.c.queued_at, jobs.c.expected_seconds).where(here)
    )
    return [
        Queued(
            id=row.id,
            requester=COLLECTOR,
            priority=row.priority,
            since=row.queued_at,
            expected_seconds=row.expected_seconds,
            started_at=started.get(row.id),
            needs=frozenset(needs[row.id]),
        )
        for row in rows
    ]


def _needs(edges: Iterable[Row[Any]]) -> defaultdict[int, set[int]]:
    needs: defaultdict[int, set[int]] = defaultdict(set)
    for edge in edges:
        needs[edge.job_id].add(edge.needs_job_id)
    return needs
