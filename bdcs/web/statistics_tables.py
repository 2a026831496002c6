# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics as tables of plain values: what JSON and CSV give, and what pages show, is the same.

None stands for "not shown" (fewer machines than the threshold); in a duration, for "later than is counted".
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bdcs.domain.thresholds import ROUNDING, Thresholds
from bdcs.services.statistics import FleetStatistics, Overview, PackageStatistics, Ranked

Value = str | int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTable:
    """Rows of values, and what their columns are called."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    def to_objects(self) -> list[dict[str, Value]]:
        """Each row as a JSON object."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_csv(self) -> str:
        """The table as RFC 4180 has it; what is not shown is empty."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue()


def package_tables(found: PackageStatistics) -> dict[str, DataTable]:
    """All tables of a package, by name."""
    weeks = [day(week.start) for week in found.weeks]
    return {
        "history": _table(
            ("week", "machines"), ((day(each.start), _shown(each.machines)) for each in found.weeks)
        ),
        "shares": _table(
            ("week", "version", "machines"),
            (
                (week, each.version, _shown(machines))
                for each in found.shares
                for week, machines in zip(weeks, each.machines, strict=True)
            ),
        ),
        "adoption": _table(
            ("version", "since", "holders", "hours_to_10", "hours_to_50", "hours_to_90"),
            (
                (each.version, day(each.since), each.holders, *(_two_digits(hours) for hours in each.hours))
                for each in found.adoption
            ),
        ),
        "stuck": _table(
            ("version", "machines", "peak", "newer", "newer_since"),
            ((each.version, each.machines, each.peak, each.newer, day(each.since)) for each in found.stuck),
        ),
        "repositories": _table(
            ("repository", "machines"), ((each.name, each.machines) for each in found.repositories)
        ),
        "origins": _table(
            ("origin", "machines"), (("source", _shown(found.source)), ("binary", _shown(found.binary)))
        ),
        "times": _table(
            ("from_seconds", "to_seconds", "machines"),
            ((round(each.low, 1), round(each.high, 1), each.machines) for each in found.durations),
        ),
        "failures": _table(
            ("version", "tried", "failed", "rate", "low", "high", "failing_since"),
            (
                (
                    each.version,
                    each.tried,
                    _shown(each.failed),
                    *(
                        (None, None, None)
                        if each.interval is None
                        else map(_three_places, (each.interval.rate, each.interval.low, each.interval.high))
                    ),
                    None if each.since is None else day(each.since),
                )
                for each in found.failures
            ),
        ),
        "discarded": _table(("machines",), ((_shown(found.discarded),),)),
        "downgrades": _table(
            ("version", "machines"), ((each.name, each.machines) for each in found.downgrades)
        ),
    }


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
    return _table(
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
    return _table(
        ("week", "machines", "merges_a_day", "compiling_hours", "saved_hours"),
        ((day(each.start), each.machines, each.merges_a_day, each.hours, each.saved) for each in found.weeks),
    )


def comparison_table(found: Sequence[PackageStatistics]) -> DataTable:
    """Several packages, week by week."""
    return _table(
        ("week", "package", "machines"),
        (
            (day(week.start), f"{each.category}/{each.name}", _shown(week.machines))
            for each in found
            for week in each.weeks
        ),
    )


def day(seconds: int) -> str:
    """A day as ISO 8601 writes it."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _table(columns: tuple[str, ...], rows: Iterable[tuple[Value, ...]]) -> DataTable:
    return DataTable(columns=columns, rows=tuple(rows))


def _shown(machines: int) -> int | None:
    return machines or None


def _two_digits(hours: float | None) -> float | None:
    return None if hours is None else float(f"{hours:.2g}")


def _three_places(rate: float) -> float:
    return round(rate, 3)
