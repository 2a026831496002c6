# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a build is likely to take: by earlier ones at the target, and by the fleet's table scaled to it.

What the table does not have yet is the median of what machines recorded.
"""

from __future__ import annotations

from collections.abc import Collection
from statistics import median
from typing import Final

from sqlalchemy import Connection, select, tuple_

from bdcs.domain import codes
from bdcs.domain.jobs import AttemptState
from bdcs.services import predictions
from bdcs.store.slices import slices
from bdcs.store.tables import attempts, jobs, package_state_changes, packages
from gentwoo_client.prediction.history import Walk
from gentwoo_client.prediction.merges import Circumstances, Merge

LATEST: Final = 500
"""Attempts, the latest, that are looked at: of the target, and of some packages there."""
ROOT: Final = "/"
RECORDS: Final = 200
"""Records of a package, the latest of the fleet, that are looked at."""
LOOKS: Final = 200
"""Packages whose records are looked at, at most: a plan of thousands must not take long."""

Name = tuple[str, str]
"""Category and name."""


def expected_seconds(
    connection: Connection, target_id: int, names: Collection[Name], *, machines: int
) -> dict[Name, int]:
    """Return the seconds that builds of these packages are likely to take at that target, where it is known.

    Records of the fleet count where at least `machines` machines have any: nobody's single machine shows.
    """
    expected = _foretold(connection, target_id, names)
    for name in sorted(set(names) - expected.keys())[:LOOKS]:
        seconds = _from_fleet(connection, name, machines)
        if seconds is not None:
            expected[name] = seconds
    return expected


def _foretold(connection: Connection, target_id: int, names: Collection[Name]) -> dict[Name, int]:
    """Return what earlier attempts say, and the fleet's table scaled to the builders of the target."""
    done = _attempts(connection, target_id, names)
    walk = Walk()
    for merge, started_at, finished_at in done:
        circumstances = Circumstances(started_at, 1)
        walk.began(merge, ROOT, circumstances, foretell=False)
        walk.completed(merge, ROOT, ended_at=finished_at, seconds=finished_at - started_at, concurrency=1.0)
    built = {(merge.category, merge.name) for merge, _, _ in done}
    walk.consult(predictions.table_of(connection, built.union(names)))
    newest = {(merge.category, merge.name): merge.version for merge, _, _ in done}
    now = done[-1][2] if done else 0
    found = {}
    for name in names:
        forecast = walk.foretell(Merge(*name, newest.get(name, "")), Circumstances(now, 1))
        if forecast is not None:
            found[name] = round(forecast.seconds)
    return found


def _attempts(
    connection: Connection, target_id: int, names: Collection[Name]
) -> list[tuple[Merge, int, int]]:
    """Return published attempts at a target, oldest first: the latest ones, and those of these packages."""
    query = (
        select(
            attempts.c.id,
            jobs.c.category,
            jobs.c.name,
            jobs.c.version,
            attempts.c.started_at,
            attempts.c.finished_at,
        )
        .join(attempts, attempts.c.job_id == jobs.c.id)
        .where(jobs.c.target_id == target_id, attempts.c.state == str(AttemptState.PUBLISHED))
        .order_by(attempts.c.id.desc())
    )
    rows = {row.id: row for row in connection.execute(query.limit(LATEST))}
    for some in slices(names):
        these = query.where(tuple_(jobs.c.category, jobs.c.name).in_(some)).limit(LATEST)
        rows.update((row.id, row) for row in connection.execute(these))
    return [
        (Merge(row.category, row.name, row.version), row.started_at, row.finished_at)
        for _, row in sorted(rows.items())
        if row.finished_at >= row.started_at
    ]


def _from_fleet(connection: Connection, name: Name, machines: int) -> int | None:
    changes = package_state_changes
    rows = connection.execute(
        select(changes.c.machine_id, changes.c.time_delta)
        .join(packages, packages.c.id == changes.c.package_id)
        .where(
            packages.c.category == name[0],
            packages.c.name == name[1],
            changes.c.event == codes.INSTALL,
            changes.c.install_type == codes.INSTALL_TYPE["source"],
            changes.c.time_delta.is_not(None),
        )
        .order_by(changes.c.id.desc())
        .limit(RECORDS)
    ).all()
    if len({machine for machine, _ in rows}) < machines:
        return None
    return round(float(median(seconds for _, seconds in rows)))
