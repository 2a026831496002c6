# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that the collector knows of one machine, for the owner of its key and for nobody else."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Join, and_, func, select, tuple_

from bdcs.domain import codes
from bdcs.domain.installations import PRESENT
from bdcs.services.machines import Machine
from bdcs.store.records import StoredChange, numbered_changes
from bdcs.store.tables import (
    installations,
    package_state_changes,
    packages,
    repositories,
    segments,
    versions,
)

PAGE = 50
"""Rows of a list before the next page."""

DAY = 86_400  # seconds
DAYS = 30
MONTHS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedPage:
    """Records, the newest first; `before` asks for the next page, None on the last one."""

    rows: tuple[StoredChange, ...]
    before: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One version that is on the machine now, as its records tell."""

    category: str
    name: str
    version: str
    repository: str | None
    installed_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledPage:
    """What is installed, by name; `after` asks for the next page, None on the last one."""

    rows: tuple[Installed, ...]
    total: int
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What all records of a machine come to. Durations are seconds."""

    merges: int
    from_source: int
    as_binary: int
    unmerges: int
    failures: int
    compiled: int
    """Time that merges from source took, as far as their beginning was seen."""
    packages: int
    """Installed now."""
    days: tuple[tuple[date, int], ...]
    """Merges on each of the last days with records, gaps included, the oldest first."""
    months: tuple[tuple[date, int], ...]
    """Time compiled in each of the last months, by their first day, the oldest first."""


def last_received(connection: Connection, machine: Machine) -> int | None:
    """When the newest records arrived, or None before the first."""
    newest = segments.c.first_seq.desc()
    query = select(segments.c.created_at).where(_of(machine)).order_by(newest).limit(1)
    return connection.scalar(query)


def summary(connection: Connection, machine: Machine) -> Summary:
    """Add up all records of a machine."""
    changes = package_state_changes.c
    kinds = (changes.event, changes.install_type, changes.recorded_at // DAY)
    query = (
        select(*kinds, func.count(), func.coalesce(func.sum(changes.time_delta), 0))
        .select_from(_own())
        .where(_of(machine))
        .group_by(*kinds)
    )
    events: Counter[int] = Counter()
    types: Counter[int | None] = Counter()
    days: Counter[date] = Counter()
    months: Counter[date] = Counter()
    for event, install_type, number, count, seconds in connection.execute(query):
        events[event] += count
        if event != codes.INSTALL:
            continue
        day = datetime.fromtimestamp(number * DAY, UTC).date()
        types[install_type] += count
        days[day] += count
        if install_type == codes.INSTALL_TYPE["source"] and seconds:
            months[day.replace(day=1)] += seconds
    return Summary(
        merges=events[codes.INSTALL],
        from_source=types[codes.INSTALL_TYPE["source"]],
        as_binary=types[codes.INSTALL_TYPE["binary"]],
        unmerges=events[codes.UNINSTALL],
        failures=events[codes.FAILURE],
        compiled=months.total(),
        packages=_installed_count(connection, machine),
        days=_last_days(days),
        months=_last_months(months),
    )


def received(
    connection: Connection,
    machine: Machine,
    *,
    before: int | None = None,
    failures: bool = False,
    rows: int = PAGE,
) -> ReceivedPage:
    """Records of a machine, the newest first: those with a `seq` below `before`, or only its `failures`."""
    changes = package_state_changes.c
    newest = segments.c.first_seq.desc(), changes.id.desc()
    query = select(changes.id).select_from(_own()).where(_of(machine)).order_by(*newest).limit(rows + 1)
    if before is not None:
        query = query.where(segments.c.first_seq < before, changes.seq < before)
    if failures:
        query = query.where(changes.event == codes.FAILURE)
    found = numbered_changes(connection, connection.scalars(query).all())
    before = found[rows - 1].record.seq if len(found) > rows else None
    return ReceivedPage(rows=tuple(found[:rows]), before=before)


def installed(
    connection: Connection, machine: Machine, *, after: str = "", rows: int = PAGE
) -> InstalledPage:
    """What is installed on a machine, by name; what follows `after` (`category/name version`)."""
    query = (
        select(
            packages.c.category,
            packages.c.name,
            versions.c.text.label("version"),
            repositories.c.name.label("repository"),
            installations.c.installed_at,
        )
        .select_from(installations.join(packages).join(versions).outerjoin(repositories))
        .where(installations.c.machine_id == machine.id, _present())
        .order_by(packages.c.category, packages.c.name, versions.c.text)
        .limit(rows + 1)
    )
    full_name, _, version = after.partition(" ")
    category, slash, name = full_name.partition("/")
    if slash:
        key = tuple_(packages.c.category, packages.c.name, versions.c.text)
        query = query.where(key > tuple_(category, name, version))
    found = [
        Installed(
            category=row.category,
            name=row.name,
            version=row.version,
            repository=row.repository,
            installed_at=row.installed_at,
        )
        for row in connection.execute(query)
    ]
    last = found[rows - 1] if len(found) > rows else None
    return InstalledPage(
        rows=tuple(found[:rows]),
        total=_installed_count(connection, machine),
        after=f"{last.category}/{last.name} {last.version}" if last else None,
    )


def _installed_count(connection: Connection, machine: Machine) -> int:
    query = select(func.count()).select_from(installations)
    return connection.scalar(query.where(installations.c.machine_id == machine.id, _present())) or 0


def _own() -> Join:
    """Segments with their changes, which have consecutive ids."""
    change, first = package_state_changes.c.id, segments.c.first_change
    return segments.join(package_state_changes, and_(change >= first, change < first + segments.c.records))


def _of(machine: Machine) -> ColumnElement[bool]:
    return segments.c.machine_id == machine.id


def _present() -> ColumnElement[bool]:
    return installations.c.flags.bitwise_and(PRESENT) != 0


def _last_days(counts: Counter[date]) -> tuple[tuple[date, int], ...]:
    if not counts:
        return ()
    last = max(counts)
    days = [last - timedelta(days=back) for back in reversed(range(DAYS))]
    return tuple((day, counts[day]) for day in days)


def _last_months(counts: Counter[date]) -> tuple[tuple[date, int], ...]:
    if not counts:
        return ()
    last, first = max(counts), min(counts)
    span = min(MONTHS, 12 * (last.year - first.year) + last.month - first.month + 1)
    months = [_month_before(last, back) for back in reversed(range(max(span, 6)))]
    return tuple((month, counts[month]) for month in months)


def _month_before(month: date, back: int) -> date:
    number = 12 * month.year + month.month - 1 - back
    return date(number // 12, number % 12 + 1, 1)
