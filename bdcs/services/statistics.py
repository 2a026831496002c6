# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading what may be said of packages and of the fleet over time. Nothing here looks at what is hidden.

Every answer is made of published cells alone (`bdcs.services.rollups`), and where one figure is a part of
another that is shown as well, they are settled against each other, so that no subtraction tells of a few.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, bindparam, func, select

from bdcs.domain.statistics import (
    ANY_VERSION,
    HOUR,
    NO_BUCKET,
    UNKNOWN_REPOSITORY,
    Interval,
    Topic,
    adoption_curve,
    adoption_hours,
    duration_edges,
    duration_quantile,
    two_digits,
    week_of,
    week_start,
    wilson,
)
from bdcs.domain.thresholds import Thresholds, proves_few, settled, settled_parts
from bdcs.services.figures import FLEET
from bdcs.services.quarantine import is_shown
from bdcs.services.rollups import TREND_WEEKS
from bdcs.store.tables import (
    figures,
    fleet_figures,
    fleet_weeks,
    package_statistics,
    packages,
    repositories,
    statistic_cells,
    version_dates,
    versions,
)
from gentwoo_client.wire.version import compare_versions

COMPARED: Final = 6
"""Packages that are compared at most."""
LINES: Final = 5
"""Versions that a chart shows, before the others."""
RANKED: Final = 50
STUCK_AFTER_WEEKS: Final = 8
"""A version is stuck when a newer one has been there for so long."""

_CHANGE: Final = package_statistics.c.machines - package_statistics.c.earlier

_CELLS: Final = statistic_cells.c
_ANY: Final = "any"
Cells = Mapping[tuple[int, str, int], int]
"""Published figures of a package, by topic, text of the version and bucket; 0: not shown."""
Series = Mapping[str, Mapping[int, int]]
"""Of each version, the weeks in which its published figure moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeekFigure:
    """How many machines had something at the end of a week; 0: not shown."""

    start: int
    """Unix seconds."""
    machines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSeries:
    """A version's share of a package's machines, week by week, in the order of `PackageStatistics.weeks`."""

    version: str
    machines: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """How fast a version was adopted by those who did."""

    version: str
    since: int
    """When it was on as many machines as the threshold asks, in Unix seconds."""
    holders: int
    hours: tuple[float | None, float | None, float | None]
    """Until 10, 50 and 90 % of its holders had it; None: later than is counted."""
    curve: tuple[tuple[float, float], ...]
    """Days since then, and the share of the holders that had it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some of a package's machines."""

    name: str
    machines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationBar:
    """Machines that build a package in a time between two edges, in seconds."""

    low: float
    high: float
    machines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureFigure:
    """How often building a version fails."""

    version: str
    tried: int
    failed: int
    """0: not shown."""
    interval: Interval | None
    """None where `failed` is not shown."""
    since: int | None
    """When it had failed on as many machines as the threshold asks."""
    stands_out: bool
    """Whether it surely fails more often than the package's versions do together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """A version that machines stay on, although there has been a newer one for long."""

    version: str
    machines: int
    peak: int
    newer: str
    since: int
    """When the newer one was on as many machines as the threshold asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageStatistics:
    """All that may be said of a package beside who has it now."""

    category: str
    name: str
    weeks: tuple[WeekFigure, ...] = ()
    shares: tuple[VersionSeries, ...] = ()
    """The versions on most machines now, the most first."""
    adoption: tuple[Adoption, ...] = ()
    stuck: tuple[Stuck, ...] = ()
    repositories: tuple[Part, ...] = ()
    source: int = 0
    binary: int = 0
    durations: tuple[DurationBar, ...] = ()
    typical: tuple[int, int, int] | None = None
    """Seconds that 10, 50 and 90 % of the machines build it in."""
    failures: tuple[FailureFigure, ...] = ()
    discarded: int = 0
    """Machines that removed it within a day; 0: not shown."""
    downgrades: tuple[Part, ...] = ()

    @property
    def trend(self) -> int | None:
        """How many machines more than some weeks ago; None where that is not shown."""
        if len(self.weeks) <= TREND_WEEKS or not self.weeks[-1 - TREND_WEEKS].machines:
            return None
        return self.weeks[-1].machines - self.weeks[-1 - TREND_WEEKS].machines


class Sort(StrEnum):
    """In which order packages are ranked."""

    INSTALLED = "installed"
    RISERS = "risers"
    FALLERS = "fallers"
    SLOWEST = "slowest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A package in a ranking."""

    category: str
    name: str
    machines: int
    change: int | None
    """Machines more than some weeks ago; None: it was not shown then."""
    seconds: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetWeek:
    """What the fleet did in a week; None: not shown."""

    start: int
    machines: int | None
    merges_a_day: int | None
    hours: int | None
    saved: int | None
    """Hours of building that binary packages saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatistics:
    """The fleet over time."""

    machines: int
    """0: not shown."""
    weeks: tuple[FleetWeek, ...]
    """The oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What is installed of a repository or a category."""

    packages: int
    """Packages of it that are shown."""
    installations: int
    """Of these, on all machines together."""
    ranked: tuple[Ranked, ...]


def package(
    connection: Connection, category: str, name: str, thresholds: Thresholds, now: float
) -> PackageStatistics:
    """All that may be said of `category/name`; nothing where it is not shown."""
    number, machines = _shown(connection, category, name)
    if number is None or not machines:
        return PackageStatistics(category=category, name=name)
    cells = _cells_of(connection, number)
    holders = _version_figures(connection, number, machines, thresholds)
    dates = _dates_of(connection, number)
    series = _series(cells)
    weeks = _filled(series.pop(_ANY, {}), week_of(int(now)))
    bars = _bars(cells)
    return replace(
        _outline(category, name, cells, machines, thresholds, now),
        shares=_shares(series, weeks, holders, thresholds),
        adoption=_adoption(cells, dates),
        stuck=_stuck(series, holders, dates, now),
        repositories=_repositories(connection, cells, machines, thresholds),
        durations=tuple(
            DurationBar(low=duration_edges(bucket)[0], high=duration_edges(bucket)[1], machines=bars[bucket])
            for bucket in sorted(bars)
        ),
        failures=_failures(cells, holders, dates, thresholds),
        discarded=cells.get((Topic.DISCARDED, _ANY, NO_BUCKET), 0),
        downgrades=tuple(
            Part(name=version, machines=cells[Topic.DOWNGRADED, version, NO_BUCKET])
            for version in _newest_first(
                version for (topic, version, _), value in cells.items() if topic == Topic.DOWNGRADED and value
            )
        ),
    )


def ranking(connection: Connection, sort: Sort, *, rows: int = RANKED) -> tuple[Ranked, ...]:
    """The first packages in an order; only those that are shown."""
    counted = package_statistics.c
    if sort is Sort.INSTALLED:
        query = _by_figure()
    elif sort is Sort.SLOWEST:
        query = _by_statistics().where(counted.seconds.is_not(None)).order_by(counted.seconds.desc())
    elif sort is Sort.RISERS:
        query = _by_statistics().where(_CHANGE > 0).order_by(_CHANGE.desc())
    else:
        query = _by_statistics().where(_CHANGE < 0, counted.earlier > 0).order_by(_CHANGE)
    query = query.order_by(packages.c.category, packages.c.name).limit(rows)
    return tuple(_ranked(row) for row in connection.execute(query))


def category_overview(connection: Connection, category: str) -> Overview:
    """What is installed of a category."""
    query = _by_figure().where(packages.c.category == category)
    whole = query.subquery()
    totals = select(func.count(), func.coalesce(func.sum(whole.c.shown), 0)).select_from(whole)
    return _overview(connection, query, totals)


def repository_overview(connection: Connection, repository: str) -> Overview:
    """What is installed from an ebuild repository."""
    parts = and_(
        _CELLS.topic == Topic.REPOSITORY,
        _CELLS.bucket == select(repositories.c.id).where(repositories.c.name == repository).scalar_subquery(),
        _CELLS.published > 0,
        is_shown(_CELLS.package_id),
    )
    query = (
        select(*_OF_PACKAGE, _CELLS.published.label("shown"))
        .select_from(statistic_cells.join(packages, packages.c.id == _CELLS.package_id))
        .outerjoin(package_statistics, package_statistics.c.package_id == packages.c.id)
        .where(parts, _figure_of(_CELLS.package_id) > 0)
        .order_by(_CELLS.published.desc())
    )
    totals = select(func.count(), func.coalesce(func.sum(_CELLS.published), 0)).where(
        parts, _figure_of(_CELLS.package_id) > 0
    )
    return _overview(connection, query, totals)


def compared(
    connection: Connection, names: Sequence[tuple[str, str]], thresholds: Thresholds, now: float
) -> tuple[PackageStatistics, ...]:
    """Of several packages what is compared, in the order of `names`: weeks, build times, source or binary."""
    found = []
    for category, name in names:
        number, machines = _shown(connection, category, name)
        if number is None or not machines:
            found.append(PackageStatistics(category=category, name=name))
        else:
            rows = connection.execute(_OUTLINE_CELLS, {"package": number})
            cells = {(row.topic, _ANY, row.bucket): row.published for row in rows}
            found.append(_outline(category, name, cells, machines, thresholds, now))
    return tuple(found)


def fleet(connection: Connection) -> FleetStatistics:
    """The fleet over time, in weeks that are over."""
    query = (
        select(fleet_weeks).where(fleet_weeks.c.machines > 0).order_by(fleet_weeks.c.week.desc()).limit(60)
    )
    weeks = tuple(
        FleetWeek(
            start=week_start(row.week),
            machines=row.machines,
            merges_a_day=_part(row.merges, 7),
            hours=_part(row.seconds, HOUR),
            saved=_part(row.saved, HOUR),
        )
        for row in connection.execute(query)
    )
    machines = connection.scalar(select(fleet_figures.c.published).where(fleet_figures.c.name == FLEET)) or 0
    return FleetStatistics(machines=machines, weeks=weeks[::-1])


def _part(whole: int | None, size: int) -> int | None:
    """A sum in another unit, to two digits; None where it is not shown, or less than one."""
    return two_digits(whole / size) or None if whole is not None else None


def _outline(
    category: str, name: str, cells: Cells, machines: int, thresholds: Thresholds, now: float
) -> PackageStatistics:
    """What is said of a package as a whole."""
    moves = {
        bucket: value
        for (topic, version, bucket), value in cells.items()
        if topic == Topic.HOLDS and version == _ANY
    }
    origins = {topic: cells.get((topic, _ANY, NO_BUCKET), 0) for topic in (Topic.SOURCE, Topic.BINARY)}
    origins = settled_parts(machines, origins, thresholds)
    return PackageStatistics(
        category=category,
        name=name,
        weeks=tuple(
            WeekFigure(start=week_start(week), machines=value)
            for week, value in _filled(moves, week_of(int(now))).items()
        ),
        source=origins.get(Topic.SOURCE, 0),
        binary=origins.get(Topic.BINARY, 0),
        typical=_typical(_bars(cells)),
    )


def _bars(cells: Cells) -> dict[int, int]:
    """On how many machines it builds in each time that is shown."""
    return {bucket: value for (topic, _, bucket), value in cells.items() if topic == Topic.SECONDS and value}


# What every page of a package asks for: made once, since making it costs more than the answer.
_SHOWN: Final = (
    select(packages.c.id, figures.c.published)
    .join(figures, and_(figures.c.package_id == packages.c.id, figures.c.version_id.is_(None)))
    .where(
        packages.c.category == bindparam("in_category"),
        packages.c.name == bindparam("of_name"),
        is_shown(packages.c.id),
    )
)
_PACKAGE_CELLS: Final = (
    select(_CELLS.topic, versions.c.text, _CELLS.bucket, _CELLS.published)
    .outerjoin(versions, versions.c.id == _CELLS.version_id)
    .where(_CELLS.package_id == bindparam("package"))
)
_OUTLINE_CELLS: Final = select(_CELLS.topic, _CELLS.bucket, _CELLS.published).where(
    _CELLS.package_id == bindparam("package"),
    _CELLS.topic.in_([int(each) for each in (Topic.HOLDS, Topic.SECONDS, Topic.SOURCE, Topic.BINARY)]),
    _CELLS.version_id == ANY_VERSION,
)
_VERSIONS: Final = (
    select(versions.c.text, figures.c.published)
    .join(versions, versions.c.id == figures.c.version_id)
    .where(figures.c.package_id == bindparam("package"))
)
_DATES: Final = (
    select(versions.c.text, version_dates.c.arrived_at, version_dates.c.failing_since)
    .join(versions, versions.c.id == version_dates.c.version_id)
    .where(version_dates.c.package_id == bindparam("package"))
)


def _shown(connection: Connection, category: str, name: str) -> tuple[int | None, int]:
    """The number of a package, and on how many machines it is shown to be."""
    row = connection.execute(_SHOWN, {"in_category": category, "of_name": name}).one_or_none()
    return (None, 0) if row is None else (row.id, row.published)


def _cells_of(connection: Connection, package: int) -> Cells:
    rows = connection.execute(_PACKAGE_CELLS, {"package": package})
    return {(topic, text or _ANY, bucket): published for topic, text, bucket, published in rows}


def _version_figures(
    connection: Connection, package: int, machines: int, thresholds: Thresholds
) -> dict[str, int]:
    """On how many machines each version is now, as the package's page says it."""
    published = dict(connection.execute(_VERSIONS, {"package": package}).all())
    return settled_parts(machines, published, thresholds)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dates:
    arrived_at: int | None
    failing_since: int | None


def _dates_of(connection: Connection, package: int) -> dict[str, _Dates]:
    return {
        row.text: _Dates(arrived_at=row.arrived_at, failing_since=row.failing_since)
        for row in connection.execute(_DATES, {"package": package})
    }


def _series(cells: Cells) -> dict[str, dict[int, int]]:
    """Of each version, the weeks in which its figure moved."""
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for (topic, version, bucket), value in cells.items():
        if topic == Topic.HOLDS:
            found[version][bucket] = value
    return found


def _filled(moves: Mapping[int, int], current: int, first: int | None = None) -> dict[int, int]:
    """The figure in each week from the first one shown; a week without a move shows what the last one did."""
    filled: dict[int, int] = {}
    value = 0
    start = min(moves, default=current + 1) if first is None else first
    for week in range(min([start, *moves]), current + 1):
        value = moves.get(week, value)
        if week >= start:
            filled[week] = value
    return filled


def _shares(
    series: Series, weeks: Mapping[int, int], holders: Mapping[str, int], thresholds: Thresholds
) -> tuple[VersionSeries, ...]:
    if not weeks:
        return ()
    first, current = min(weeks), max(weeks)
    filled = {version: _filled(moves, current, first) for version, moves in series.items()}
    largest = sorted(
        filled, key=lambda version: (-holders.get(version, 0), -max(filled[version].values()), version)
    )[:LINES]
    shown: dict[str, list[int]] = {version: [] for version in largest}
    for week, whole in weeks.items():
        parts = settled_parts(whole, {version: each[week] for version, each in filled.items()}, thresholds)
        for version in largest:
            shown[version].append(parts.get(version, 0))
    return tuple(VersionSeries(version=each, machines=tuple(shown[each])) for each in largest)


def _adoption(cells: Cells, dates: Mapping[str, _Dates]) -> tuple[Adoption, ...]:
    buckets: dict[str, dict[int, int]] = defaultdict(dict)
    for (topic, version, bucket), value in cells.items():
        if topic == Topic.ADOPTED and value:
            buckets[version][bucket] = value
    found = []
    for version in _newest_first(buckets):
        since = dates[version].arrived_at if version in dates else None
        if since is None:
            continue
        hours = [adoption_hours(buckets[version], share) for share in (0.1, 0.5, 0.9)]
        found.append(
            Adoption(
                version=version,
                since=since,
                holders=sum(buckets[version].values()),
                hours=(hours[0], hours[1], hours[2]),
                curve=tuple(adoption_curve(buckets[version])),
            )
        )
    return tuple(found)


def _stuck(
    series: Series, holders: Mapping[str, int], dates: Mapping[str, _Dates], now: float
) -> tuple[Stuck, ...]:
    long_ago = int(now) - STUCK_AFTER_WEEKS * 7 * 86_400
    arrived = [
        version
        for version in _newest_first(dates)
        if (at := dates[version].arrived_at) is not None and at <= long_ago
    ]
    found = []
    for version in _newest_first(holders):
        newer = [each for each in arrived if compare_versions(each, version) > 0]
        if not newer:
            continue
        since = dates[newer[-1]].arrived_at
        peak = max([holders[version], *series.get(version, {}).values()])
        found.append(
            Stuck(version=version, machines=holders[version], peak=peak, newer=newer[-1], since=since or 0)
        )
    return tuple(found)


def _repositories(
    connection: Connection, cells: Cells, machines: int, thresholds: Thresholds
) -> tuple[Part, ...]:
    found = {
        bucket: value
        for (topic, _, bucket), value in cells.items()
        if topic == Topic.REPOSITORY and bucket != UNKNOWN_REPOSITORY
    }
    query = select(repositories.c.id, repositories.c.name).where(repositories.c.id.in_(found))
    names = {row.id: row.name for row in connection.execute(query)}
    parts = settled_parts(machines, {names[each]: found[each] for each in found if each in names}, thresholds)
    ordered = sorted(parts, key=lambda name: (-parts[name], name))
    return tuple(Part(name=name, machines=parts[name]) for name in ordered)


def _typical(bars: Mapping[int, int]) -> tuple[int, int, int] | None:
    low, middle, high = (duration_quantile(bars, share) for share in (0.1, 0.5, 0.9))
    return None if low is None or middle is None or high is None else (low, middle, high)


def _failures(
    cells: Cells, holders: Mapping[str, int], dates: Mapping[str, _Dates], thresholds: Thresholds
) -> tuple[FailureFigure, ...]:
    """Who holds a version tried it or took a binary; who failed tried it: so they are settled in turn."""
    counts: dict[str, tuple[int, int]] = {}
    for (topic, version, _), published in cells.items():
        if topic == Topic.TRIED and published:
            tried = published
            held = holders.get(version, 0)
            if held and held < tried and proves_few(tried, [held], thresholds):
                tried = held
            failed = cells.get((Topic.FAILED, version, NO_BUCKET), 0)
            counts[version] = tried, settled(tried, failed, thresholds) if failed else 0
    all_tried = sum(tried for tried, _ in counts.values())
    overall = sum(failed for _, failed in counts.values()) / all_tried if all_tried else 0.0
    found = []
    for version in _newest_first(counts):
        tried, failed = counts[version]
        interval = wilson(failed, tried) if failed else None
        found.append(
            FailureFigure(
                version=version,
                tried=tried,
                failed=failed,
                interval=interval,
                since=dates[version].failing_since if failed and version in dates else None,
                stands_out=interval is not None and interval.low > overall,
            )
        )
    return tuple(found)


def _overview(connection: Connection, query: Select[Any], totals: Select[Any]) -> Overview:
    count, total = connection.execute(totals).one()
    first = query.order_by(packages.c.category, packages.c.name).limit(RANKED)
    return Overview(
        packages=count,
        installations=total,
        ranked=tuple(_ranked(row) for row in connection.execute(first)),
    )


_OF_PACKAGE: Final = (
    packages.c.category,
    packages.c.name,
    package_statistics.c.machines,
    package_statistics.c.earlier,
    package_statistics.c.seconds,
)


def _by_figure() -> Select[Any]:
    """Packages that are shown, the most installed first: by an index, so that the first ones cost little."""
    return (
        select(*_OF_PACKAGE, figures.c.published.label("shown"))
        .join(figures, and_(figures.c.package_id == packages.c.id, figures.c.version_id.is_(None)))
        .outerjoin(package_statistics, package_statistics.c.package_id == packages.c.id)
        .where(figures.c.published > 0, is_shown(packages.c.id))
        .order_by(figures.c.published.desc())
    )


def _by_statistics() -> Select[Any]:
    """Packages that are shown, in an order for which `package_statistics` has an index."""
    shown = _figure_of(package_statistics.c.package_id)
    return (
        select(*_OF_PACKAGE, shown.label("shown"))
        .join(package_statistics, package_statistics.c.package_id == packages.c.id)
        .where(shown > 0, is_shown(package_statistics.c.package_id))
    )


def _figure_of(package: ColumnElement[int]) -> ColumnElement[int]:
    """What is published of a package as a whole."""
    return (
        select(figures.c.published)
        .where(figures.c.package_id == package, figures.c.version_id.is_(None))
        .scalar_subquery()
    )


def _ranked(row: Row[Any]) -> Ranked:
    return Ranked(
        category=row.category,
        name=row.name,
        machines=row.shown,
        change=row.machines - row.earlier if row.earlier else None,
        seconds=row.seconds,
    )


def _newest_first(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=functools.cmp_to_key(compare_versions), reverse=True)
