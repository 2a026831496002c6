# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics are kept up by a periodic job: records are folded in behind a durable cursor, then published.

Folding adds up what each machine did in each week, and notes which packages have new records. Publishing
reads the records of such a package, decides by the rules of `bdcs.domain.statistics_release`, and writes the
cells that move; that happens beside the writer, which only puts the outcome down. Pages read cells alone.

A package is looked at again when a tenth more is known of it, or after some hours: so a package that is built
all day costs a few looks, and a new one is on the pages within a minute. Nothing depends on when: what is
folded and published follows from the records alone as long as nothing was published before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key, partial
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    or_,
    select,
    true,
    update,
)

from bdcs.domain.codes import INSTALL, INSTALL_TYPE
from bdcs.domain.machines import State
from bdcs.domain.statistics import (
    ANY_VERSION,
    DAY,
    HOUR,
    MONDAY,
    WEEK,
    Change,
    Key,
    Topic,
    duration_quantile,
    is_dominated,
    two_digits,
    week_of,
)
from bdcs.domain.statistics_release import Published, Release, VersionDates, release, was_counted
from bdcs.domain.thresholds import Cell, Thresholds, figure, may_publish, rounded
from bdcs.store.arithmetic import larger, smaller
from bdcs.store.bulk import execute_rows, insert_rows
from bdcs.store.slices import slices
from bdcs.store.store import Store
from bdcs.store.tables import (
    fleet_weeks,
    machine_weeks,
    machines,
    package_state_changes,
    package_statistics,
    segments,
    sequences,
    statistic_cells,
    version_dates,
    versions,
)
from bdcs.store.upserts import upsert
from gentwoo_client.wire.version import compare_versions

CURSOR: Final = "statistics"
"""The sequence that says up to which change records were folded in."""
DEPARTURES: Final = "statistics-departures"
"""The sequence that counts machines that came to count no longer, or again: what was read is then no use."""
RELEASES: Final = "statistics-releases"
"""The sequence that counts plans that were carried out: others that were made before are of no use then."""
TREND_WEEK: Final = "statistics-week"
"""The sequence that says for which week the trends of packages were found out."""

WEEKS: Final = 60
"""How far back a series begins; what was published before stays."""
TREND_WEEKS: Final = 4
"""Risers and fallers are those of so many weeks."""
MOST_SECONDS: Final = DAY
"""Of compiling, that one machine adds to a week at most: one machine weighs one."""
CHANGES_AT_ONCE: Final = 5_000
"""Pushes wait while so many are folded in."""
RECORDS_AT_ONCE: Final = 20_000
"""So many are read for some packages together, before what they come to is written."""
FEW: Final = 5_000
"""Records that are read beside the server's other work, and not elsewhere."""
AT_ONCE: Final = 100
"""Packages of one transaction."""
PATIENCE: Final = 6 * HOUR
"""Seconds after which a package with any new record is looked at again."""
GROWTH: Final = 10
"""A package is looked at before that when this fraction of its records is new."""

_CHANGES: Final = package_state_changes.c
_STATISTICS: Final = package_statistics.c
_CELLS: Final = statistic_cells.c
_WEEKS: Final = machine_weeks.c
_OF_CHANGE: Final = (
    _CHANGES.id,
    _CHANGES.version_id,
    _CHANGES.event,
    _CHANGES.install_type,
    _CHANGES.cause,
    _CHANGES.replaces_id,
    _CHANGES.repository_id,
    _CHANGES.recorded_at,
    _CHANGES.time_delta,
)
"""What `Change` consists of."""
_SOURCE: Final = INSTALL_TYPE["source"]


async def renew(store: Store, thresholds: Thresholds, now: float, read_much: Read | None = None) -> None:
    """Fold in what came, and publish whatever may be published. Cheap when nothing changed.

    `read_much` does what `store.read` does, where many records have to be read.
    """
    while await store.read(_next_changes) is not None:
        await store.write(fold)
    current, released = week_of(int(now)), False
    while (due := await store.read(partial(due_packages, now=now))).packages:
        read = store.read if read_much is None or due.records <= FEW else read_much
        plan = await read(partial(plan_of, packages=due.packages, thresholds=thresholds, week=current))
        await store.write(partial(apply, plan=plan, now=now))
        released = True
    if await store.read(lambda connection: _due_weeks(connection, current)):
        await store.write(lambda connection: publish_weeks(connection, thresholds, current))
        released = True
    if released or await store.read(_sequence_of(TREND_WEEK)) != current:
        savings = await store.read(savings_by_week)
        await store.write(lambda connection: finish(connection, savings, current))


# Folding


def fold(connection: Connection) -> None:
    """Fold in the next few changes."""
    step = _next_changes(connection)
    if step is None:
        return
    these = _CHANGES.id.between(*step)
    _fold_weeks(connection, these)
    _mark_packages(connection, these)
    _set_sequence(connection, CURSOR, step[1])


def _next_changes(connection: Connection) -> tuple[int, int] | None:
    """The first and the last change to be folded in next, or None when there are none."""
    cursor = _sequence_of(CURSOR)(connection)
    later = select(_CHANGES.id).where(_CHANGES.id > cursor).order_by(_CHANGES.id)
    step = later.limit(CHANGES_AT_ONCE).subquery()
    first, last = connection.execute(select(func.min(step.c.id), func.max(step.c.id))).one()
    return None if first is None else (first, last)


def _fold_weeks(connection: Connection, these: ColumnElement[bool]) -> None:
    """Add to what each machine did in each week."""
    week = ((_CHANGES.recorded_at + MONDAY) // WEEK).label("week")
    is_merge = case((_CHANGES.event == INSTALL, 1), else_=0)
    is_timed = and_(
        _CHANGES.event == INSTALL, _CHANGES.install_type == _SOURCE, _CHANGES.time_delta.is_not(None)
    )
    shared = _CHANGES.time_delta * 100 // larger(func.coalesce(_CHANGES.concurrency, 100), 100)
    folded = (
        select(
            _CHANGES.machine_id,
            week,
            func.sum(is_merge),
            func.sum(case((is_timed, shared), else_=0)),
            func.min(_CHANGES.id),
            func.max(_CHANGES.id),
        )
        .where(these)
        .group_by(_CHANGES.machine_id, week)
    )
    names = ["machine_id", "week", "merges", "seconds", "first_change", "last_change"]
    new = upsert(machine_weeks).from_select(names, folded)
    added = {
        "merges": _WEEKS.merges + new.excluded.merges,
        "seconds": _WEEKS.seconds + new.excluded.seconds,
        "first_change": smaller(_WEEKS.first_change, new.excluded.first_change),
        "last_change": larger(_WEEKS.last_change, new.excluded.last_change),
    }
    connection.execute(new.on_conflict_do_update(index_elements=["machine_id", "week"], set_=added))
    _mark_weeks(connection, select(week).where(these).distinct())


def _mark_weeks(connection: Connection, weeks: Select[tuple[int]]) -> None:
    """Have these weeks looked at."""
    columns = [weeks.selected_columns[0], true(), literal_column("0"), literal_column("0")]
    rows = weeks.with_only_columns(*columns)
    new = upsert(fleet_weeks).from_select(["week", "due", "as_of", "gone"], rows)
    connection.execute(new.on_conflict_do_update(index_elements=["week"], set_={"due": True}))


def _mark_packages(connection: Connection, these: ColumnElement[bool]) -> None:
    """Note that packages have these records more to look at."""
    zero: ColumnElement[int] = literal_column("0")
    rows = (
        select(_CHANGES.package_id, zero, func.count(), zero, zero).where(these).group_by(_CHANGES.package_id)
    )
    names = ["package_id", "records", "pending", "machines", "earlier"]
    new = upsert(package_statistics).from_select(names, rows)
    pending = _STATISTICS.pending + new.excluded.pending
    connection.execute(new.on_conflict_do_update(index_elements=["package_id"], set_={"pending": pending}))


# Packages


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagePlan:
    """What is to be written of one package."""

    package: int
    records: int
    pending: int
    """Records that were pending when this was made; those that came later still are."""
    release: Release
    machines: int
    earlier: int
    seconds: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be written of some packages, if no machine came or went and nobody else wrote meanwhile."""

    packages: tuple[PackagePlan, ...]
    as_of: int
    departures: int
    releases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is to be looked at together."""

    packages: tuple[int, ...]
    records: int
    """How many these have, about."""


Read = Callable[[Callable[[Connection], Plan]], Awaitable[Plan]]


def due_packages(connection: Connection, now: float) -> Due:
    """Packages to be looked at next: as many as have a fair number of records together."""
    is_due = or_(
        _STATISTICS.released_at.is_(None),
        _STATISTICS.pending * GROWTH >= _STATISTICS.records,
        _STATISTICS.released_at <= int(now) - PATIENCE,
    )
    query = (
        select(_STATISTICS.package_id, _STATISTICS.records + _STATISTICS.pending)
        .where(_STATISTICS.pending > 0, is_due)
        .order_by(_STATISTICS.package_id)
        .limit(AT_ONCE)
    )
    chosen: list[int] = []
    records = 0
    for package, expected in connection.execute(query):
        chosen.append(package)
        records += expected
        if records >= RECORDS_AT_ONCE:
            break
    return Due(packages=tuple(chosen), records=records)


def plan_of(connection: Connection, packages: Sequence[int], thresholds: Thresholds, week: int) -> Plan:
    """Decide what may be published of `packages`; `week` is the one that it is."""
    histories = _histories(connection, _CHANGES.package_id.in_(packages))
    published = _published(connection, packages)
    dates = _version_dates(connection, packages)
    pending = dict(
        connection.execute(
            select(_STATISTICS.package_id, _STATISTICS.pending).where(_STATISTICS.package_id.in_(packages))
        ).all()
    )
    texts = _texts(connection, histories.values())
    return Plan(
        packages=tuple(
            _package_plan(
                package,
                histories.get(package, {}),
                published[package],
                dates[package],
                pending=pending.get(package, 0),
                texts=texts,
                thresholds=thresholds,
                week=week,
            )
            for package in packages
        ),
        as_of=_sequence_of(CURSOR)(connection),
        departures=_sequence_of(DEPARTURES)(connection),
        releases=_sequence_of(RELEASES)(connection),
    )


def apply(connection: Connection, plan: Plan, now: float) -> None:
    """Write what was decided; nothing where it may be true no more: it will be decided anew.

    Another plan may have been written meanwhile by who had the lease before, and was late.
    """
    there = (_sequence_of(DEPARTURES)(connection), _sequence_of(RELEASES)(connection))
    if there != (plan.departures, plan.releases):
        return
    _set_sequence(connection, RELEASES, plan.releases + 1)
    dropped = [(each.package, *key) for each in plan.packages for key in each.release.dropped]
    put = [
        (each.package, *key, value, plan.as_of)
        for each in plan.packages
        for key, value in each.release.put.items()
    ]
    execute_rows(connection, _DROP_CELL, _CELL_KEY, dropped)
    execute_rows(connection, _PUT_CELL, (*_CELL_KEY, "value", "at"), put)
    _write_dates(connection, plan.packages)
    _write_summaries(connection, plan.packages, now)


def _package_plan(
    package: int,
    histories: Mapping[int, Sequence[Change]],
    published: Mapping[Key, Published],
    dates: Mapping[int, VersionDates],
    *,
    pending: int,
    texts: Mapping[int, str],
    thresholds: Thresholds,
    week: int,
) -> PackagePlan:
    decided = release(
        histories,
        published,
        dates,
        ranks=_ranks(histories.values(), texts),
        weeks=weeks_until(week, published),
        thresholds=thresholds,
    )
    shown = {key: each.figure for key, each in published.items()} | decided.put
    for key in decided.dropped:
        del shown[key]
    bars = {key[2]: value for key, value in shown.items() if key[0] == Topic.SECONDS and value}
    series = {key[2]: value for key, value in shown.items() if key[:2] == (Topic.HOLDS, ANY_VERSION)}
    return PackagePlan(
        package=package,
        records=sum(map(len, histories.values())),
        pending=pending,
        release=decided,
        machines=_at(series, week),
        earlier=_at(series, week - TREND_WEEKS),
        seconds=duration_quantile(bars, 0.5),
    )


def weeks_until(week: int, published: Iterable[Key]) -> range:
    """The weeks that series consist of: the last ones, and all from the first that was published."""
    first = min((key[2] for key in published if key[0] == Topic.HOLDS), default=week)
    return range(min(first, week - WEEKS + 1), week + 1)


def _at(series: Mapping[int, int], week: int) -> int:
    """What a series shows in a week."""
    return series[max(weeks)] if (weeks := [each for each in series if each <= week]) else 0


def _histories(connection: Connection, these: ColumnElement[bool]) -> dict[int, dict[int, list[Change]]]:
    """The records of approved machines that `these` are, by package and machine, each in its order."""
    query = (
        select(_CHANGES.package_id, _CHANGES.machine_id, *_OF_CHANGE)
        .join(machines, machines.c.id == _CHANGES.machine_id)
        .where(these, machines.c.state == State.APPROVED, _CHANGES.id <= _sequence_of(CURSOR)(connection))
        .order_by(_CHANGES.package_id, _CHANGES.machine_id, _CHANGES.id)
    )
    found: dict[int, dict[int, list[Change]]] = defaultdict(lambda: defaultdict(list))
    for row in connection.execute(query):
        found[row[0]][row[1]].append(Change._make(row[2:]))
    return found


def _published(connection: Connection, packages: Sequence[int]) -> dict[int, dict[Key, Published]]:
    found: dict[int, dict[Key, Published]] = {package: {} for package in packages}
    query = select(statistic_cells).where(_CELLS.package_id.in_(packages))
    for package, topic, version, bucket, value, as_of, gone in connection.execute(query):
        found[package][topic, version, bucket] = Published(figure=value, as_of=as_of, gone=gone)
    return found


def _version_dates(connection: Connection, packages: Sequence[int]) -> dict[int, dict[int, VersionDates]]:
    found: dict[int, dict[int, VersionDates]] = {package: {} for package in packages}
    query = select(version_dates).where(version_dates.c.package_id.in_(packages))
    for package, version, arrived_at, holders, failing_since in connection.execute(query):
        found[package][version] = VersionDates(
            arrived_at=arrived_at, holders=holders, failing_since=failing_since
        )
    return found


def _texts(connection: Connection, packages: Iterable[Mapping[int, Sequence[Change]]]) -> dict[int, str]:
    """The versions that these records name."""
    wanted = {number for histories in packages for number in _versions_in(histories.values())}
    found: dict[int, str] = {}
    for few in slices(wanted):
        query = select(versions.c.id, versions.c.text).where(versions.c.id.in_(few))
        found.update(connection.execute(query).all())
    return found


def _versions_in(histories: Iterable[Sequence[Change]]) -> set[int]:
    changes = [change for history in histories for change in history]
    replaced = {change.replaces for change in changes if change.replaces is not None}
    return replaced.union(change.version for change in changes)


def _ranks(histories: Iterable[Sequence[Change]], texts: Mapping[int, str]) -> dict[int, int]:
    """The versions of these records in their order."""
    newest = cmp_to_key(compare_versions)
    ordered = sorted(_versions_in(histories), key=lambda number: newest(texts[number]))
    return {number: rank for rank, number in enumerate(ordered)}


def _write_dates(connection: Connection, plans: Sequence[PackagePlan]) -> None:
    execute_rows(connection, _DROP_DATES, ("package",), [(each.package,) for each in plans])
    rows = [
        (each.package, version, dates.arrived_at, dates.holders, dates.failing_since)
        for each in plans
        for version, dates in each.release.dates.items()
    ]
    insert_rows(connection, version_dates, rows)


_DROP_DATES: Final = delete(version_dates).where(version_dates.c.package_id == bindparam("package"))


def _write_summaries(connection: Connection, plans: Sequence[PackagePlan], now: float) -> None:
    rows = [
        (each.package, each.records, each.pending, int(now), each.machines, each.earlier, each.seconds)
        for each in plans
    ]
    names = ("package", "known", "looked_at", "at", "on", "before", "taking")
    execute_rows(connection, _SUMMARIZE, names, rows)
    for each in plans:
        if not each.records:
            this = _STATISTICS.package_id == each.package
            cells = select(_CELLS.package_id).where(_CELLS.package_id == each.package)
            connection.execute(
                delete(package_statistics).where(this, _STATISTICS.pending == 0, ~cells.exists())
            )


_SUMMARIZE: Final = (
    update(package_statistics)
    .where(_STATISTICS.package_id == bindparam("package"))
    .values(
        records=bindparam("known"),
        pending=_STATISTICS.pending - bindparam("looked_at"),
        released_at=bindparam("at"),
        machines=bindparam("on"),
        earlier=bindparam("before"),
        seconds=bindparam("taking"),
    )
)


_CELL_KEY: Final = ("package", "topic", "version", "bucket")
_IS_CELL: Final = and_(
    _CELLS.package_id == bindparam("package"),
    _CELLS.topic == bindparam("topic"),
    _CELLS.version_id == bindparam("version"),
    _CELLS.bucket == bindparam("bucket"),
)
_DROP_CELL: Final = delete(statistic_cells).where(_IS_CELL)
_ONE: Final[ColumnElement[int]] = literal_column("1")  # a value would be one more parameter
_LEAVE_CELL: Final = update(statistic_cells).where(_IS_CELL).values(gone=_CELLS.gone + _ONE)
_REJOIN_CELL: Final = (
    update(statistic_cells).where(_IS_CELL, _CELLS.gone >= _ONE).values(gone=_CELLS.gone - _ONE)
)
_NEW_CELL: Final = upsert(statistic_cells).values(
    package_id=bindparam("package"),
    topic=bindparam("topic"),
    version_id=bindparam("version"),
    bucket=bindparam("bucket"),
    published=bindparam("value"),
    as_of=bindparam("at"),
    gone=literal_column("0"),
)
_PUT_CELL: Final = _NEW_CELL.on_conflict_do_update(
    index_elements=["package_id", "topic", "version_id", "bucket"],
    set_={
        "published": _NEW_CELL.excluded.published,
        "as_of": _NEW_CELL.excluded.as_of,
        "gone": literal_column("0"),
    },
)


# The fleet's weeks


def publish_weeks(connection: Connection, thresholds: Thresholds, current: int) -> None:
    """Publish what may be published of the weeks that are over."""
    as_of = _sequence_of(CURSOR)(connection)
    for week in _due_weeks(connection, current):
        before = connection.execute(select(fleet_weeks).where(fleet_weeks.c.week == week)).one()
        seen = connection.execute(_week_query(week, before.as_of)).one()
        cell = Cell(
            present=seen.present,
            joined=seen.joined,
            left=seen.changed - seen.joined,
            gone=before.gone,
            published=before.machines,
        )
        values: dict[str, object] = {"due": False}
        if may_publish(cell, thresholds):
            values.update(machines=figure(seen.present, thresholds), as_of=as_of, gone=0)
            values.update(_sums(seen) if seen.present >= thresholds.machines else _NO_SUMS)
        connection.execute(update(fleet_weeks).where(fleet_weeks.c.week == week).values(**values))


def _due_weeks(connection: Connection, current: int) -> list[int]:
    week = fleet_weeks.c.week
    return list(connection.scalars(select(week).where(fleet_weeks.c.due, week < current).order_by(week)))


def _week_query(week: int, as_of: int) -> Select[Any]:
    """Machines and sums of a week, and how many machines are new or did more since `as_of`."""
    seconds = smaller(_WEEKS.seconds, literal_column(str(MOST_SECONDS)))
    return (
        select(
            func.count().label("present"),
            _count(_WEEKS.first_change > as_of).label("joined"),
            _count(_WEEKS.last_change > as_of).label("changed"),
            func.coalesce(func.sum(_WEEKS.merges), 0).label("merges"),
            func.coalesce(func.max(_WEEKS.merges), 0).label("most_merges"),
            func.coalesce(func.sum(seconds), 0).label("seconds"),
            func.coalesce(func.max(seconds), 0).label("most_seconds"),
        )
        .join(machines, machines.c.id == _WEEKS.machine_id)
        .where(_WEEKS.week == week, machines.c.state == State.APPROVED)
    )


def _sums(seen: Row[Any]) -> dict[str, int | None]:
    """The sums of a week, to two digits; none of which more than a quarter is one machine's."""
    return {
        "merges": None if is_dominated(seen.merges, seen.most_merges) else two_digits(seen.merges),
        "seconds": None if is_dominated(seen.seconds, seen.most_seconds) else two_digits(seen.seconds),
    }


_NO_SUMS: Final[Mapping[str, object]] = {"merges": None, "seconds": None}


def savings_by_week(connection: Connection) -> dict[int, int]:
    """Seconds of building that binary packages saved in each week: from published figures alone.

    Every machine that merged a package as a binary would have built it for the median time.
    """
    query = (
        select(_CELLS.bucket, func.sum(_CELLS.published * cast(_STATISTICS.seconds, BigInteger)))
        .join(package_statistics, _STATISTICS.package_id == _CELLS.package_id)
        .where(_CELLS.topic == Topic.FETCHED, _CELLS.published > 0, _STATISTICS.seconds.is_not(None))
        .group_by(_CELLS.bucket)
    )
    return {week: two_digits(seconds) for week, seconds in connection.execute(query)}


def finish(connection: Connection, savings: Mapping[int, int], current: int) -> None:
    """Write what follows from published figures: hours saved, and trends where a new week has begun."""
    known = connection.execute(select(fleet_weeks.c.week, fleet_weeks.c.saved)).all()
    changed = [(savings[week], week) for week, saved in known if savings.get(week, saved) != saved]
    execute_rows(connection, _SAVE, ("seconds", "of"), changed)
    if _sequence_of(TREND_WEEK)(connection) != current:
        machines_in = {"machines": current, "earlier": current - TREND_WEEKS}
        values = {name: _series_at(week) for name, week in machines_in.items()}
        connection.execute(update(package_statistics).values(**values))
        _set_sequence(connection, TREND_WEEK, current)


_SAVE: Final = (
    update(fleet_weeks).where(fleet_weeks.c.week == bindparam("of")).values(saved=bindparam("seconds"))
)


def _series_at(week: int) -> ColumnElement[int]:
    """What the series of a row's package shows in a week."""
    newest = (
        select(_CELLS.published)
        .where(
            _CELLS.package_id == _STATISTICS.package_id,
            _CELLS.topic == Topic.HOLDS,
            _CELLS.version_id == ANY_VERSION,
            _CELLS.bucket <= week,
        )
        .order_by(_CELLS.bucket.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(newest, 0)


def hide_small(connection: Connection, thresholds: Thresholds) -> None:
    """Hide at once what was published under a lower threshold than the one now set."""
    least = rounded(thresholds.machines)
    connection.execute(update(statistic_cells).where(_CELLS.published < least).values(published=0))
    small = fleet_weeks.c.machines < least
    connection.execute(update(fleet_weeks).where(small).values(machines=0, **_NO_SUMS))


# Machines that come and go


def machine_leaves(connection: Connection, machine: int) -> None:
    """Prepare statistics for the erasure of a machine, whose records must still be there.

    What is published goes on counting it until it may move; all else of it goes with this. One that counts no
    longer has left already: it must not leave twice.
    """
    if _is_approved(connection, machine):
        _stop_counting(connection, machine)
    else:
        _look_again(connection, machine)
    connection.execute(delete(machine_weeks).where(_WEEKS.machine_id == machine))
    is_used = select(_WEEKS.week).where(_WEEKS.week == fleet_weeks.c.week).exists()
    connection.execute(delete(fleet_weeks).where(fleet_weeks.c.machines.is_(None), ~is_used))


def machine_changes(connection: Connection, machine: int) -> None:
    """Look at everything of a machine again, since it counts no longer, or again."""
    if _is_approved(connection, machine):
        _count_again(connection, machine)
    else:
        _stop_counting(connection, machine)


def _is_approved(connection: Connection, machine: int) -> bool:
    return connection.scalar(select(machines.c.state).where(machines.c.id == machine)) == State.APPROVED


def _stop_counting(connection: Connection, machine: int) -> None:
    execute_rows(connection, _LEAVE_CELL, _CELL_KEY, _cells_with(connection, machine))
    counted = and_(fleet_weeks.c.machines.is_not(None), _is_in_week(machine))
    connection.execute(update(fleet_weeks).where(counted).values(gone=fleet_weeks.c.gone + 1))
    _look_again(connection, machine)


def _count_again(connection: Connection, machine: int) -> None:
    execute_rows(connection, _REJOIN_CELL, _CELL_KEY, _cells_with(connection, machine))
    counted = and_(fleet_weeks.c.gone > 0, _is_in_week(machine))
    connection.execute(update(fleet_weeks).where(counted).values(gone=fleet_weeks.c.gone - 1))
    _look_again(connection, machine)


def _is_in_week(machine: int) -> ColumnElement[bool]:
    """Whether the published figures of a week count the machine."""
    return (
        select(_WEEKS.week)
        .where(
            _WEEKS.machine_id == machine,
            _WEEKS.week == fleet_weeks.c.week,
            _WEEKS.first_change <= fleet_weeks.c.as_of,
        )
        .exists()
    )


def _cells_with(connection: Connection, machine: int) -> list[tuple[int, ...]]:
    """The published cells of packages that count the machine."""
    of_machine: dict[int, list[Change]] = defaultdict(list)
    for package, change in _records_of(connection, machine):
        of_machine[package].append(change)
    texts = _texts(connection, [of_machine])
    found: list[tuple[int, ...]] = []
    for packages in slices(of_machine):
        published, dates = _published(connection, packages), _version_dates(connection, packages)
        for package in packages:
            counted = was_counted(
                of_machine[package],
                published[package],
                dates[package],
                ranks=_ranks([of_machine[package]], texts),
                weeks=_weeks_of(published[package]),
            )
            found += [(package, *key) for key in counted]
    return found


def _weeks_of(published: Iterable[Key]) -> range:
    weeks = [key[2] for key in published if key[0] == Topic.HOLDS]
    return range(min(weeks), max(weeks) + 1) if weeks else range(0)


def _records_of(connection: Connection, machine: int) -> Iterator[tuple[int, Change]]:
    """All that was folded in of a machine, and the packages that it is of."""
    query = (
        select(_CHANGES.package_id, *_OF_CHANGE)
        .join(segments, _is_in_segment())
        .where(segments.c.machine_id == machine, _CHANGES.id <= _sequence_of(CURSOR)(connection))
        .order_by(_CHANGES.id)
    )
    for row in connection.execute(query):
        yield row[0], Change._make(row[1:])


def _look_again(connection: Connection, machine: int) -> None:
    records = select(_CHANGES.id).join(segments, _is_in_segment()).where(segments.c.machine_id == machine)
    _mark_packages(connection, _CHANGES.id.in_(records))
    _mark_weeks(connection, select(_WEEKS.week).where(_WEEKS.machine_id == machine))
    _set_sequence(connection, DEPARTURES, _sequence_of(DEPARTURES)(connection) + 1)


def _is_in_segment() -> ColumnElement[bool]:
    last = segments.c.first_change + segments.c.records - 1
    return _CHANGES.id.between(segments.c.first_change, last)


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _sequence_of(name: str) -> Callable[[Connection], int]:
    """What reads the value of a sequence; 0 before the first."""
    query = select(sequences.c.value).where(sequences.c.name == name)
    return lambda connection: connection.scalar(query) or 0


def _set_sequence(connection: Connection, name: str, value: int) -> None:
    new = upsert(sequences).values(name=name, value=value)
    connection.execute(new.on_conflict_do_update(index_elements=["name"], set_={"value": value}))
