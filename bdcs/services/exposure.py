# SPDX-License-Identifier: GPL-2.0-or-later
"""On how many machines some versions still are, and what would be left of them.

All is worked out from figures that are published anyway: nothing is counted for the question. So whoever asks
twice, or for two sets that differ by one version, learns no more than the package's page shows. What machines
have several of the versions, or of the packages, is therefore not known; the answer is an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import Connection, select

from bdcs.domain.affected import Affected
from bdcs.domain.statistics import ANY_VERSION, Topic, week_start
from bdcs.domain.thresholds import ROUNDING, Thresholds
from bdcs.services import catalogue, dependents
from bdcs.services.catalogue import CataloguePackage, CatalogueVersion
from bdcs.services.dependents import Dependents
from bdcs.services.public_figures import PackageFigures, VersionFigure, fleet_figure, package_figures
from bdcs.services.quarantine import is_shown
from bdcs.store.tables import packages, statistic_cells

TREND_WEEKS = 26
"""Weeks of a package's trend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many machines: at least and at most, of what is shown."""

    least: int
    most: int

    def to_document(self) -> dict[str, int]:
        """As the API says it."""
        return {"least": self.least, "most": self.most}


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What would be left to who has a version, if it went."""

    kind: str
    """`update`: another version in the same slot; `slot`: only in another slot; `nothing`; `unknown`: no
    repository is known here that has the package."""
    version: str | None = None
    slot: str | None = None

    def to_document(self) -> dict[str, str | None]:
        """As the API says it."""
        return {"kind": self.kind, "version": self.version, "slot": self.slot}


@dataclass(frozen=True, slots=True, kw_only=True)
class AffectedVersion:
    """A version that is asked about, and that enough machines have."""

    figure: VersionFigure
    slot: str | None
    """None: no repository has it any more."""
    left: Left

    def to_document(self) -> dict[str, object]:
        """As the API says it."""
        return {
            "version": self.figure.version,
            "machines": self.figure.machines,
            "slot": self.slot,
            "left": self.left.to_document(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """What was shown of a week, which begins on that Monday."""

    monday: date
    machines: int
    """0: too few to be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageExposure:
    """The answer for one package."""

    category: str
    name: str
    asked: str
    package: PackageFigures
    count: Count | None
    """None: too few machines have any of the versions to be shown."""
    versions: tuple[AffectedVersion, ...]
    others: tuple[VersionFigure, ...]
    """Versions that are not asked about."""
    trend: tuple[Week, ...]
    """Of the package in any version, the newest last."""

    def to_document(self) -> dict[str, object]:
        """As the API says it; null where a figure is not shown."""
        return {
            "category": self.category,
            "name": self.name,
            "asked": self.asked,
            "machines": self.package.machines or None,
            "affected": None if self.count is None else self.count.to_document(),
            "versions": [each.to_document() for each in self.versions],
            "others": [{"version": each.version, "machines": each.machines} for each in self.others],
            "trend": [
                {"monday": week.monday.isoformat(), "machines": week.machines or None} for week in self.trend
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """The answer for everything that was asked about."""

    packages: tuple[PackageExposure, ...]
    count: Count | None
    """Machines with any of it."""
    fleet: int
    threshold: int

    def to_document(self) -> dict[str, object]:
        """The JSON document; null where a figure is not shown."""
        return {
            "affected": None if self.count is None else self.count.to_document(),
            "fleet": self.fleet or None,
            "packages": [each.to_document() for each in self.packages],
            "threshold": self.threshold,
            "rounding": ROUNDING,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Whom it would hurt if everything went that was asked about."""

    exposure: Exposure
    dependents: tuple[Dependents | None, ...]
    """Of each package, in the order of the exposure's; None: no repository here has it."""

    def to_document(self) -> dict[str, object]:
        """The JSON document; null where a figure is not shown."""
        pairs = zip(self.exposure.packages, self.dependents, strict=True)
        more = {
            "packages": [
                {**each.to_document(), "dependents": who and who.to_document()} for each, who in pairs
            ]
        }
        return {**self.exposure.to_document(), **more}


def removal(connection: Connection, asked: Sequence[Affected], thresholds: Thresholds) -> Removal:
    """Say whom it would hurt if the versions went that are `asked` about."""
    return Removal(
        exposure=exposure(connection, asked, thresholds),
        dependents=tuple(dependents.of(connection, asked)),
    )


def exposure(connection: Connection, asked: Sequence[Affected], thresholds: Thresholds) -> Exposure:
    """Say on how many machines the versions are that are `asked` about."""
    fleet = fleet_figure(connection)
    found = tuple(_package(connection, each, thresholds) for each in asked)
    counts = [each.count for each in found if each.count is not None]
    whole = None
    if counts:
        most = sum(each.most for each in counts)
        least = max(each.least for each in counts)
        whole = Count(least=least, most=max(least, min(most, fleet) if fleet else most))
    return Exposure(packages=found, count=whole, fleet=fleet, threshold=thresholds.machines)


def _package(connection: Connection, asked: Affected, thresholds: Thresholds) -> PackageExposure:
    category, name = asked.category, asked.name
    figures = package_figures(connection, category, name, thresholds)
    offered = catalogue.package(connection, category, name)
    slots = _slots(offered)
    affected = [each for each in figures.versions if asked.has(each.version, slots.get(each.version))]
    others = [each for each in figures.versions if each not in affected]
    return PackageExposure(
        category=category,
        name=name,
        asked=str(asked),
        package=figures,
        count=_count(figures, affected, is_all=asked.is_all),
        versions=tuple(
            AffectedVersion(
                figure=each,
                slot=slots.get(each.version),
                left=_left(offered, slots.get(each.version), asked.has),
            )
            for each in affected
        ),
        others=tuple(others),
        trend=tuple(trend(connection, category, name)),
    )


def _count(figures: PackageFigures, affected: Iterable[VersionFigure], *, is_all: bool) -> Count | None:
    """How many machines have any of `affected`: one may have several, in different slots."""
    if is_all:
        return Count(least=figures.machines, most=figures.machines) if figures.machines else None
    machines = [each.machines for each in affected]
    if not machines:
        return None
    return Count(least=max(machines), most=max(max(machines), min(sum(machines), figures.machines)))


def _slots(offered: CataloguePackage | None) -> dict[str, str]:
    """The slot of each version that a repository has, without sub-slot."""
    versions = () if offered is None else offered.versions
    return {each.cpv.version: _slot(each) for each in versions}


def _slot(version: CatalogueVersion) -> str:
    return version.slot.partition("/")[0]


def _left(
    offered: CataloguePackage | None, slot: str | None, goes: Callable[[str, str | None], bool]
) -> Left:
    """What is left to who has a version of `slot`, where every version goes that `goes` names."""
    if offered is None:
        return Left(kind="unknown")
    stays = [
        each for each in offered.versions if not each.is_live and not goes(each.cpv.version, _slot(each))
    ]
    if not stays:
        return Left(kind="nothing")
    same = [each for each in stays if slot is not None and _slot(each) == slot]
    best = (same or stays)[0]  # the newest first
    return Left(kind="update" if same else "slot", version=best.cpv.version, slot=_slot(best))


def trend(connection: Connection, category: str, name: str) -> list[Week]:
    """Machines with the package at the ends of the last weeks, as published; the newest last.

    A week that nothing is published for shows what the one before it shows (`domain.statistics_release`).
    """
    cells = statistic_cells.c
    query = (
        select(cells.bucket, cells.published)
        .join(packages, packages.c.id == cells.package_id)
        .where(
            packages.c.category == category,
            packages.c.name == name,
            is_shown(packages.c.id),
            cells.topic == int(Topic.HOLDS),
            cells.version_id == ANY_VERSION,
        )
        .order_by(cells.bucket)
    )
    published = {row.bucket: row.published for row in connection.execute(query)}
    if not published:
        return []
    weeks, shown = [], 0
    for week in range(min(published), max(published) + 1):
        shown = published.get(week, shown)
        weeks.append(Week(monday=datetime.fromtimestamp(week_start(week), UTC).date(), machines=shown))
    return weeks[-TREND_WEEKS:]
