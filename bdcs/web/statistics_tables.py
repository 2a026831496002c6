# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics as tables of plain values: what JSON and CSV give, and what pages show, is the same.

None stands for "not shown" (fewer machines than the threshold); in a duration, for "later than is counted".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from bdcs.domain.thresholds import ROUNDING, Thresholds
from bdcs.services.public_figures import Overview as Home
from bdcs.services.public_figures import PackageFigure, PackageFigures
from bdcs.services.statistics import FailureFigure, FleetStatistics, Overview, PackageStatistics, Part, Ranked
from bdcs.web.data_tables import DataTable, Value, shown


def package_tables(found: PackageStatistics) -> dict[str, DataTable]:
    """All tables of a package's statistics, by name."""
    return {
        "history": DataTable.of(
            ("week", "machines"), ((day(each.start), shown(each.machines)) for each in found.weeks)
        ),
        "shares": _shares(found),
        "adoption": _adoption(found),
        "stuck": DataTable.of(
            ("version", "machines", "peak", "newer", "newer_since"),
            ((each.version, each.machines, each.peak, each.newer, day(each.since)) for each in found.stuck),
        ),
        "repositories": _parts("repository", found.repositories),
        "origins": DataTable.of(
            ("origin", "machines"), (("source", shown(found.source)), ("binary", shown(found.binary)))
        ),
        "times": DataTable.of(
            ("from_seconds", "to_seconds", "machines"),
            ((round(each.low, 1), round(each.high, 1), each.machines) for each in found.durations),
        ),
        "failures": DataTable.of(
            ("version", "tried", "failed", "rate", "low", "high", "failing_since"),
            map(_failure, found.failures),
        ),
        "discarded": DataTable.of(("machines",), ((shown(found.discarded),),)),
        "downgrades": _parts("version", found.downgrades),
    }


def _shares(found: PackageStatistics) -> DataTable:
    weeks = [day(week.start) for week in found.weeks]
    return DataTable.of(
        ("week", "version", "machines"),
        (
            (week, each.version, shown(machines))
            for each in found.shares
            for week, machines in zip(weeks, each.machines, strict=True)
        ),
    )


def _adoption(found: PackageStatistics) -> DataTable:
    return DataTable.of(
        ("version", "since", "holders", "hours_to_10", "hours_to_50", "hours_to_90"),
        (
            (each.version, day(each.since), each.holders, *map(_two_digits, each.hours))
            for each in found.adoption
        ),
    )


def _failure(each: FailureFigure) -> tuple[Value, ...]:
    rates: tuple[Value, ...] = (None, None, None)
    if each.interval is not None:
        rates = tuple(round(rate, 3) for rate in (each.interval.rate, each.interval.low, each.interval.high))
    since = None if each.since is None else day(each.since)
    return each.version, each.tried, shown(each.failed), *rates, since


def _parts(name: str, parts: Iterable[Part]) -> DataTable:
    return DataTable.of((name, "machines"), ((each.name, each.machines) for each in parts))


def versions_table(found: PackageFigures) -> DataTable:
    """Which versions of a package machines have now."""
    return DataTable.of(("version", "machines"), ((each.version, each.machines) for each in found.versions))


def packages_table(rows: Iterable[PackageFigure]) -> DataTable:
    """Packages that a search found."""
    return DataTable.of(
        ("category", "name", "machines"), ((each.category, each.name, each.machines) for each in rows)
    )


def days_table(found: Home) -> DataTable:
    """Machines that reported on the last days."""
    return DataTable.of(("day", "machines"), ((name, shown(machines)) for name, machines in found.days))


def package_document(found: PackageStatistics, thresholds: Thresholds) -> dict[str, object]:
    """The JSON document of a package's statistics."""
    return {
        "category": found.category,
        "name": found.name,
        **{name: table.to_objects() for name, table in package_tables(found).items()},
        "typical_seconds": None
        if found.typical is None
        else dict(zip(("p10", "p50", "p90"), found.typical, strict=True)),
        "threshold": thresholds.machines,
        "rounding": ROUNDING,
    }


def ranking_table(rows: Iterable[Ranked]) -> DataTable:
    """Packages in an order."""
    return DataTable.of(
        ("category", "name", "machines", "change", "seconds"),
        ((each.category, each.name, each.machines, each.change, each.seconds) for each in rows),
    )


def overview_document(name: str, found: Overview) -> dict[str, object]:
    """The JSON document of a repository or a category."""
    return {
        "name": name,
        "packages": found.packages,
        "installations": found.installations,
        "most_installed": ranking_table(found.ranked).to_objects(),
    }


def fleet_table(found: FleetStatistics) -> DataTable:
    """The fleet's weeks."""
    return DataTable.of(
        ("week", "machines", "merges_a_day", "compiling_hours", "saved_hours"),
        ((day(each.start), each.machines, each.merges_a_day, each.hours, each.saved) for each in found.weeks),
    )


def comparison_table(found: Sequence[PackageStatistics]) -> DataTable:
    """Several packages, week by week."""
    return DataTable.of(
        ("week", "package", "machines"),
        (
            (day(week.start), f"{each.category}/{each.name}", shown(week.machines))
            for each in found
            for week in each.weeks
        ),
    )


def side_by_side_table(found: Sequence[PackageStatistics]) -> DataTable:
    """Several packages as they are now."""
    return DataTable.of(
        ("package", "machines", "change", "seconds", "source", "binary"),
        (
            (
                f"{each.category}/{each.name}",
                shown(each.weeks[-1].machines) if each.weeks else None,
                each.trend,
                None if each.typical is None else each.typical[1],
                shown(each.source),
                shown(each.binary),
            )
            for each in found
        ),
    )


def day(seconds: int) -> str:
    """A day as ISO 8601 writes it."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _two_digits(hours: float | None) -> float | None:
    return None if hours is None else float(f"{hours:.2g}")
