# SPDX-License-Identifier: GPL-2.0-or-later
"""Looking through everything for what is implausible (`domain.anomalies` says when something is).

Each look reads the records once or twice; it is made for a command that runs now and then, beside a server.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Final

from sqlalchemy import BigInteger, Connection, Select, and_, case, cast, func, select

from bdcs.domain import anomalies
from bdcs.domain.anomalies import (
    BUSY_PART,
    FAST_PACKAGES,
    FUTURE,
    HOUR,
    MERGES_PER_HOUR,
    SLOW_BUILD,
    TOO_FAST,
    WEEK,
    Finding,
    Holder,
    Kind,
)
from bdcs.domain.codes import INSTALL, INSTALL_TYPE
from bdcs.domain.installations import PRESENT
from bdcs.domain.machines import State
from bdcs.domain.thresholds import Thresholds
from bdcs.services.quarantine import is_shown
from bdcs.store.tables import installations, machines, package_state_changes, package_statistics, packages

_CHANGES: Final = package_state_changes.c
_PRESENT: Final = installations.c.flags.bitwise_and(PRESENT) != 0
_MODULUS: Final = 1_000_003


def find(connection: Connection, thresholds: Thresholds) -> list[Finding]:
    """Return what is implausible among what counts, machines first, by their numbers."""
    found = [
        *_copies(connection),
        *_bursts(connection),
        *_future(connection),
        *_too_busy(connection),
        *_too_fast(connection),
        *_alike(connection),
    ]
    return sorted(found, key=lambda each: (each.subject, each.kind)) + list(_pushed(connection, thresholds))


def _approved() -> Select[tuple[int]]:
    return select(machines.c.id).where(machines.c.state == State.APPROVED)


def _copies(connection: Connection) -> Iterator[Finding]:
    """Merges to the second: two machines seldom end the same one together, and never dozens."""
    same = (
        select(_CHANGES.package_id, _CHANGES.version_id, _CHANGES.recorded_at)
        .where(_CHANGES.event == INSTALL, _CHANGES.machine_id.in_(_approved()))
        .group_by(_CHANGES.package_id, _CHANGES.version_id, _CHANGES.recorded_at)
        .having(func.count(_CHANGES.machine_id.distinct()) > 1)
        .subquery()
    )
    rows = connection.execute(
        select(same, _CHANGES.machine_id, machines.c.registered_at)
        .join(
            same,
            and_(
                same.c.package_id == _CHANGES.package_id,
                same.c.version_id == _CHANGES.version_id,
                same.c.recorded_at == _CHANGES.recorded_at,
            ),
        )
        .join(machines, machines.c.id == _CHANGES.machine_id)
        .where(_CHANGES.event == INSTALL, machines.c.state == State.APPROVED)
        .distinct()
    )
    groups: dict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
    for package, version, at, machine, registered_at in rows:
        groups[package, version, at].append((registered_at, machine))
    shared: dict[tuple[int, int], int] = defaultdict(int)
    for members in groups.values():
        ordered = sorted(members)
        for (_, earlier), (_, later) in pairwise(ordered):
            shared[earlier, later] += 1
    merges = _merges(connection, {later for _, later in shared})
    found = anomalies.copies(((*pair, count) for pair, count in shared.items()), merges)
    for each in found:
        yield replace(
            each, facts={**each.facts, "machine": machine_name(connection, int(each.facts["machine"]))}
        )


def _merges(connection: Connection, wanted: set[int]) -> dict[int, int]:
    counts = (
        select(_CHANGES.machine_id, func.count())
        .where(_CHANGES.event == INSTALL)
        .group_by(_CHANGES.machine_id)
    )
    return {machine: count for machine, count in connection.execute(counts) if machine in wanted}


def _bursts(connection: Connection) -> Iterator[Finding]:
    hour = _CHANGES.recorded_at // HOUR
    merges = func.count().label("merges")
    hours = (
        select(_CHANGES.machine_id, merges)
        .where(_CHANGES.event == INSTALL, _CHANGES.machine_id.in_(_approved()))
        .group_by(_CHANGES.machine_id, hour)
        .having(merges > MERGES_PER_HOUR)
        .subquery()
    )
    worst = select(hours.c.machine_id, func.max(hours.c.merges)).group_by(hours.c.machine_id)
    for machine, count in connection.execute(worst):
        yield Finding(
            kind=Kind.BURST,
            subject=machine,
            reason=f"it says that it merged {count} packages within an hour",
            facts={"merges": count},
        )


def _future(connection: Connection) -> Iterator[Finding]:
    ahead = _CHANGES.recorded_at - _CHANGES.created_at
    rows = connection.execute(
        select(_CHANGES.machine_id, func.count(), func.max(ahead))
        .where(ahead > FUTURE, _CHANGES.machine_id.in_(_approved()))
        .group_by(_CHANGES.machine_id)
    )
    for machine, count, most in rows:
        yield Finding(
            kind=Kind.FUTURE,
            subject=machine,
            reason=f"{count} of its records are later than their arrival, by up to"
            f" {most // anomalies.DAY} days",
            facts={"records": count, "seconds": most},
        )


def _too_busy(connection: Connection) -> Iterator[Finding]:
    week = _CHANGES.recorded_at // WEEK
    busy = func.sum(
        _CHANGES.time_delta * 100.0 / case((_CHANGES.concurrency > 100, _CHANGES.concurrency), else_=100)
    )
    weeks = (
        select(_CHANGES.machine_id, busy.label("busy"))
        .where(_CHANGES.time_delta.is_not(None), _CHANGES.machine_id.in_(_approved()))
        .group_by(_CHANGES.machine_id, week)
        .having(busy > 2 * BUSY_PART * WEEK)  # one that began in the week before may take all of that, too
        .subquery()
    )
    worst = select(weeks.c.machine_id, func.max(weeks.c.busy)).group_by(weeks.c.machine_id)
    for machine, seconds in connection.execute(worst):
        yield Finding(
            kind=Kind.DURATION,
            subject=machine,
            reason=f"its merges of one week took {round(seconds / anomalies.DAY)} days",
            facts={"seconds": round(seconds)},
        )


def _too_fast(connection: Connection) -> Iterator[Finding]:
    typical = package_statistics.c.seconds
    different = func.count(_CHANGES.package_id.distinct())
    rows = connection.execute(
        select(_CHANGES.machine_id, different)
        .join(package_statistics, package_statistics.c.package_id == _CHANGES.package_id)
        .where(
            typical >= SLOW_BUILD,
            _CHANGES.event == INSTALL,
            _CHANGES.install_type == INSTALL_TYPE["source"],
            _CHANGES.time_delta * TOO_FAST < typical,
            _CHANGES.machine_id.in_(_approved()),
        )
        .group_by(_CHANGES.machine_id)
        .having(different >= FAST_PACKAGES)
    )
    for machine, count in rows:
        yield Finding(
            kind=Kind.DURATION,
            subject=machine,
            reason=f"it built {count} packages more than {TOO_FAST} times as fast as others do",
            facts={"packages": count},
        )


def _alike(connection: Connection) -> Iterator[Finding]:
    package, version = (cast(installations.c[name], BigInteger) for name in ("package_id", "version_id"))
    mark = func.sum((package * _MODULUS + version * 7919) % (1 << 40))
    rows = connection.execute(
        select(installations.c.machine_id, machines.c.registered_at, func.count(), mark)
        .join(machines, machines.c.id == installations.c.machine_id)
        .where(_PRESENT, machines.c.state == State.APPROVED)
        .group_by(installations.c.machine_id, machines.c.registered_at)
    )
    return anomalies.alike(
        (Holder(machine, registered_at), count, mark) for machine, registered_at, count, mark in rows
    )


def _pushed(connection: Connection, thresholds: Thresholds) -> Iterator[Finding]:
    fleet = sorted(
        connection.scalars(
            select(machines.c.registered_at).where(
                machines.c.state == State.APPROVED, machines.c.head_seq > 0
            )
        )
    )
    rows = connection.execution_options(yield_per=1000).execute(
        select(installations.c.package_id, machines.c.registered_at)
        .join(machines, machines.c.id == installations.c.machine_id)
        .where(_PRESENT, machines.c.state == State.APPROVED, is_shown(installations.c.package_id))
        .group_by(installations.c.package_id, installations.c.machine_id, machines.c.registered_at)
        .order_by(installations.c.package_id, machines.c.registered_at)
    )
    holders: list[int] = []
    current: int | None = None
    for package, registered_at in rows:
        if package != current and current is not None:
            yield from _pushed_one(current, holders, fleet, thresholds)
            holders = []
        current = package
        holders.append(registered_at)
    if current is not None:
        yield from _pushed_one(current, holders, fleet, thresholds)


def _pushed_one(
    package: int, holders: list[int], fleet: list[int], thresholds: Thresholds
) -> Iterator[Finding]:
    finding = anomalies.pushed(package, holders, fleet, crowd=thresholds.machines)
    if finding is not None:
        yield finding


def name_of(connection: Connection, finding: Finding) -> str:
    """Return the machine's UUID, or the package's full name."""
    if finding.is_package:
        row = connection.execute(select(packages).where(packages.c.id == finding.subject)).one()
        return f"{row.category}/{row.name}"
    return machine_name(connection, finding.subject)


def machine_name(connection: Connection, number: int) -> str:
    """Return the machine's UUID."""
    uuid: str = connection.execute(select(machines.c.uuid).where(machines.c.id == number)).scalar_one()
    return uuid
