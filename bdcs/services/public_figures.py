# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading what may be said of the fleet in public. Nothing here looks at what is not published.

Lists are in order of the published figures, then of names, so that an order never tells what a figure hides.
A package that nobody has and one that a few machines have give the same answer.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, or_, select, tuple_

from bdcs.domain.thresholds import ROUNDING, Thresholds, settled_parts
from bdcs.services.figures import FLEET
from bdcs.services.quarantine import is_shown
from bdcs.store.tables import figures, fleet_figures, packages, versions
from gentwoo_client.wire.version import compare_versions

PAGE = 50
"""Rows of a list before the next page."""

NEAREST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFigure:
    """How many machines have a package; 0: fewer than the threshold, possibly none."""

    category: str
    name: str
    machines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFigure:
    """How many machines have this version; never 0."""

    version: str
    machines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFigures:
    """All that may be said of one package."""

    category: str
    name: str
    machines: int
    fleet: int
    versions: tuple[VersionFigure, ...]
    threshold: int

    def to_document(self) -> dict[str, object]:
        """The JSON document of the package; null where a figure is not shown."""
        return {
            "category": self.category,
            "name": self.name,
            "machines": self.machines or None,
            "fleet": self.fleet or None,
            "versions": [{"version": each.version, "machines": each.machines} for each in self.versions],
            "threshold": self.threshold,
            "rounding": ROUNDING,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageList:
    """One page of a list of packages, the most installed first."""

    rows: tuple[PackageFigure, ...]
    fleet: int
    after: str | None
    """What to ask for the next page with; None on the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The fleet at a glance; 0 where a figure is not shown."""

    fleet: int
    packages: int
    top: tuple[PackageFigure, ...]
    days: tuple[tuple[str, int], ...]
    """The last days, newest first, with the machines that reported on each; none while all are hidden."""


def fleet_figure(connection: Connection) -> int:
    """The published number of machines, or 0."""
    return connection.scalar(select(fleet_figures.c.published).where(fleet_figures.c.name == FLEET)) or 0


def overview(connection: Connection, rows: int = 10) -> Overview:
    """What the first page shows."""
    top = package_list(connection, rows=rows)
    shown = select(func.count()).select_from(figures).where(_shown_packages())
    day = fleet_figures.c.name
    days = select(day, fleet_figures.c.published).where(day != FLEET).order_by(day.desc()).limit(7)
    return Overview(
        fleet=top.fleet,
        packages=connection.scalar(shown) or 0,
        top=top.rows,
        days=_unless_all_hidden([(row.name, row.published) for row in connection.execute(days)]),
    )


_OF_PACKAGE: Final = (
    select(versions.c.text, figures.c.published)
    .select_from(figures.join(packages).outerjoin(versions))
    .where(
        packages.c.category == bindparam("in_category"),
        packages.c.name == bindparam("of_name"),
        is_shown(packages.c.id),
    )
)
"""What is published of a package: made once, since every page of a package asks for it."""


def package_figures(
    connection: Connection, category: str, name: str, thresholds: Thresholds
) -> PackageFigures:
    """All that may be said of `category/name`: the same where nobody has it as where a few have it."""
    rows = connection.execute(_OF_PACKAGE, {"in_category": category, "of_name": name})
    published = {row.text: row.published for row in rows}
    fleet = fleet_figure(connection)
    machines = published.pop(None, 0)
    machines = min(machines, fleet) if fleet else machines
    shown = settled_parts(machines, published, thresholds)
    return PackageFigures(
        category=category,
        name=name,
        machines=machines,
        fleet=fleet,
        versions=tuple(VersionFigure(version=each, machines=shown[each]) for each in _newest_first(shown)),
        threshold=thresholds.machines,
    )


def package_list(
    connection: Connection,
    *,
    search: str = "",
    category: str = "",
    after: str = "",
    rows: int = PAGE,
) -> PackageList:
    """One page of the packages whose name contains `search`, of `category` if given, that follow `after`.

    `search` with a slash is looked for in the full name. An `after` that no list gives starts at the
    beginning.
    """
    fleet = fleet_figure(connection)
    machines = _shown_machines(fleet)
    full_name = packages.c.category + "/" + packages.c.name
    query = (
        select(packages.c.category, packages.c.name, machines.label("machines"))
        .join(figures, figures.c.package_id == packages.c.id)
        .order_by(machines.desc(), packages.c.category, packages.c.name)
        .limit(rows + 1)
    )
    if (position := _position(after)) is not None:
        query = query.where(_follows(machines, position))
    if search:
        query = query.where(
            (full_name if "/" in search else packages.c.name).icontains(search, autoescape=True)
        )
    if category:
        query = query.where(packages.c.category == category)
    if search or category:
        query = query.where(_shown_packages())
    else:
        query = query.where(_is_near(connection, position[0] if position else None, fleet, rows))
    found = [
        PackageFigure(category=row.category, name=row.name, machines=row.machines)
        for row in connection.execute(query)
    ]
    shown = found[:rows]
    return PackageList(rows=tuple(shown), fleet=fleet, after=_mark(shown[-1]) if len(found) > rows else None)


def _is_near(connection: Connection, machines: int | None, fleet: int, rows: int) -> ColumnElement[bool]:
    """Whether a package may be among the first `rows` and one more that follow those on `machines`, or all.

    Of all packages these few are found by the index on what is published; then they are sorted as shown.
    """
    shown = figures.c.published
    lower = select(shown).where(_shown_packages())
    if machines is not None:
        lower = lower.where(shown < machines)
    least = connection.scalar(lower.order_by(shown.desc()).limit(1).offset(rows))
    near = _shown_packages() if least is None else _shown_packages(least)
    return and_(near, shown <= machines) if machines is not None and machines < fleet else near


def categories_of(connection: Connection, name: str) -> list[str]:
    """The categories in which a package of exactly this name is shown."""
    query = (
        select(packages.c.category)
        .join(figures, figures.c.package_id == packages.c.id)
        .where(_shown_packages(), packages.c.name == name)
        .order_by(packages.c.category)
    )
    return list(connection.scalars(query))


def nearest_packages(connection: Connection, search: str) -> list[str]:
    """Full names of shown packages that are written almost like `search`, the nearest first."""
    wanted = search.rpartition("/")[2].lower()
    if not wanted:
        return []
    query = (
        select(packages.c.category, packages.c.name)
        .join(figures, figures.c.package_id == packages.c.id)
        .where(_shown_packages(), func.length(packages.c.name).between(len(wanted) - 3, len(wanted) + 3))
        .where(
            or_(
                packages.c.name.istartswith(wanted[0], autoescape=True),
                packages.c.name.iendswith(wanted[-1], autoescape=True),
            )
        )
        .order_by(packages.c.category, packages.c.name)
    )
    by_name: dict[str, list[str]] = {}
    for category, name in connection.execute(query):
        by_name.setdefault(name, []).append(f"{category}/{name}")
    near = difflib.get_close_matches(wanted, by_name, n=NEAREST, cutoff=0.6)
    return [full_name for name in near for full_name in by_name[name]][:NEAREST]


def _shown_packages(least: int = ROUNDING) -> ColumnElement[bool]:
    """Whether a figure is a package's own and shown, and not below `least`."""
    return and_(figures.c.version_id.is_(None), figures.c.published >= least, is_shown(figures.c.package_id))


def _shown_machines(fleet: int) -> ColumnElement[int]:
    """The figure of a package as it is shown: at most the fleet's, which may have been published earlier."""
    if not fleet:
        return figures.c.published
    return case((figures.c.published > fleet, fleet), else_=figures.c.published)


def _mark(row: PackageFigure) -> str:
    return f"{row.machines}:{row.category}/{row.name}"


def _unless_all_hidden(days: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple(days) if any(published for _, published in days) else ()


def _position(after: str) -> tuple[int, str, str] | None:
    machines, separator, full_name = after.partition(":")
    category, slash, name = full_name.partition("/")
    if not (separator and slash and machines.isascii() and machines.isdigit() and len(machines) < 10):
        return None
    return int(machines), category, name


def _follows(machines: ColumnElement[int], position: tuple[int, str, str]) -> ColumnElement[bool]:
    number, category, name = position
    later_name = tuple_(packages.c.category, packages.c.name) > tuple_(category, name)
    return or_(machines < number, and_(machines == number, later_name))


def _newest_first(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=functools.cmp_to_key(compare_versions), reverse=True)
