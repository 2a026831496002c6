# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a build is likely to take: what earlier ones took here, or else on the machines of the fleet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from statistics import median
from typing import Final

from sqlalchemy import Connection, select, tuple_

from bdcs.domain import codes
from bdcs.domain.jobs import AttemptState
from bdcs.store.tables import attempts, jobs, package_state_changes, packages

LAST: Final = 5
"""Attempts, the latest of a package, whose median is taken."""
RECORDS: Final = 200
"""Records of a package, the latest of the fleet, that are looked at."""
LOOKS: Final = 200
"""Packages whose records are looked at, at most: a plan of thousands must not take long."""
SLICE: Final = 200

Name = tuple[str, str]
"""Category and name."""


def expected_seconds(
    connection: Connection, target_id: int, names: Collection[Name], *, machines: int
) -> dict[Name, int]:
    """Return the seconds that builds of these packages are likely to take at that target, where it is known.

    Records of the fleet count where at least `machines` machines have any: nobody's single machine shows.
    """
    expected = _from_attempts(connection, target_id, names)
    for name in sorted(set(names) - expected.keys())[:LOOKS]:
        seconds = _from_fleet(connection, name, machines)
        if seconds is not None:
            expected[name] = seconds
    return expected


def _from_attempts(connection: Connection, target_id: int, names: Collection[Name]) -> dict[Name, int]:
    took: defaultdict[Name, list[int]] = defaultdict(list)
    for some in _slices(names):
        rows = connection.execute(
            select(jobs.c.category, jobs.c.name, attempts.c.finished_at - attempts.c.started_at)
            .join(attempts, attempts.c.job_id == jobs.c.id)
            .where(
                tuple_(jobs.c.category, jobs.c.name).in_(some),
                jobs.c.target_id == target_id,
                attempts.c.state == str(AttemptState.PUBLISHED),
            )
            .order_by(attempts.c.id.desc())
        )
        for category, name, seconds in rows:
            if len(took[category, name]) < LAST:
                took[category, name].append(seconds)
    return {name: round(median(seconds)) for name, seconds in took.items()}


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


def _slices(names: Iterable[Name]) -> Iterator[list[Name]]:
    ordered = sorted(set(names))
    for start in range(0, len(ordered), SLICE):
        yield ordered[start : start + SLICE]
