# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is of a package as a binary, and what is on its way, by version and target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from bdcs.domain.jobs import JobState
from bdcs.services.jobs import in_flight
from bdcs.services.targets import Target
from bdcs.store.tables import builds, jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Available:
    """A version at one target."""

    target: str
    builds: int
    """How many the index lists."""
    job: int | None
    """One that is in flight, else the last one if that failed not long ago."""
    state: JobState | None
    """… and how it stands."""


def of_package(
    connection: Connection, targets: Sequence[Target], category: str, name: str, now: int
) -> dict[str, tuple[Available, ...]]:
    """Return, by version, at which of the targets there is anything of the package."""
    names = {target.id: target.name for target in targets}
    counts = _builds(connection, names.keys(), category, name)
    found = _jobs(connection, names.keys(), category, name, now)
    by_version: defaultdict[str, list[Available]] = defaultdict(list)
    for version, target in sorted(counts.keys() | found.keys(), key=lambda key: (key[0], names[key[1]])):
        job, state = found.get((version, target), (None, None))
        by_version[version].append(
            Available(target=names[target], builds=counts.get((version, target), 0), job=job, state=state)
        )
    return {version: tuple(each) for version, each in by_version.items()}


def _builds(
    connection: Connection, targets: Collection[int], category: str, name: str
) -> dict[tuple[str, int], int]:
    rows = connection.execute(
        select(builds.c.version, builds.c.target_id, func.count())
        .where(
            builds.c.target_id.in_(targets),
            builds.c.category == category,
            builds.c.name == name,
            builds.c.visible,
        )
        .group_by(builds.c.version, builds.c.target_id)
    )
    return {(version, target): count for version, target, count in rows}


def _jobs(
    connection: Connection, targets: Collection[int], category: str, name: str, now: int
) -> dict[tuple[str, int], tuple[int, JobState]]:
    rows = connection.execute(
        select(jobs.c.version, jobs.c.target_id, jobs.c.id, jobs.c.state)
        .where(
            jobs.c.target_id.in_(targets),
            jobs.c.category == category,
            jobs.c.name == name,
            in_flight() | ((jobs.c.state == str(JobState.FAILED)) & (jobs.c.failed_until > now)),
        )
        .order_by(in_flight(), jobs.c.id)
    )
    return {(version, target): (number, JobState(state)) for version, target, number, state in rows}
