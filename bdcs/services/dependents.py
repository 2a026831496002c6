# SPDX-License-Identifier: GPL-2.0-or-later
"""What in the repositories depends on what: kept with the catalogue, asked when something is to go."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, select

from bdcs.domain.affected import Affected
from bdcs.domain.needs import PERHAPS, Need
from bdcs.services import catalogue
from bdcs.services.catalogue import CatalogueVersion
from bdcs.services.public_figures import fleet_figure
from bdcs.services.quarantine import is_shown
from bdcs.store.bulk import insert_rows
from bdcs.store.tables import (
    catalogue_dependencies,
    catalogue_packages,
    catalogue_versions,
    figures,
    packages,
)
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.version import Version

MOST: Final = 100
"""Packages that an answer names."""

Package = tuple[str, str]
"""Category and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependent:
    """A package that would miss what goes, in some versions."""

    category: str
    name: str
    versions: tuple[str, ...]
    """Those that would, the newest first."""
    atoms: tuple[str, ...]
    """What they need, and nothing that stays is."""
    perhaps: bool
    """Whether all of them need it only with some flags, or as one of several."""
    machines: int
    """That have the package; 0: not shown."""

    def to_document(self) -> dict[str, object]:
        """As the API says it."""
        return {
            "category": self.category,
            "name": self.name,
            "versions": list(self.versions),
            "atoms": list(self.atoms),
            "perhaps": self.perhaps,
            "machines": self.machines or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependents:
    """Packages that would miss what goes, those first that need it in any case and are on most machines."""

    rows: tuple[Dependent, ...] = ()
    """The first ones."""
    count: int = 0

    def to_document(self) -> dict[str, object]:
        """As the API says it."""
        return {"count": self.count, "first": [row.to_document() for row in self.rows]}


@dataclass(slots=True)
class _Missing:
    versions: list[str] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    """What they need and nothing that stays is, as `Need` writes it."""

    @property
    def perhaps(self) -> bool:
        return all(word.startswith(PERHAPS) for word in self.words)


def note(
    connection: Connection, repository: int, needs: Mapping[tuple[int, str], Mapping[Package, str]]
) -> None:
    """Keep what versions of a repository, by the package's number and the version, need of which packages."""
    table = catalogue_versions
    rows = connection.execute(
        select(table.c.id, table.c.package_id, table.c.version).where(
            table.c.repository_id == repository, table.c.package_id.in_({package for package, _ in needs})
        )
    )
    numbers = {(row.package_id, row.version): row.id for row in rows}
    these = {numbers[key]: needed for key, needed in needs.items()}
    forget(connection, table.c.id.in_(these))
    insert_rows(
        connection,
        catalogue_dependencies,
        [(*package, number, atoms) for number, needed in these.items() for package, atoms in needed.items()],
    )


def forget(connection: Connection, versions: ColumnElement[bool]) -> None:
    """Let go of what the versions of the catalogue need that `versions` says."""
    which = select(catalogue_versions.c.id).where(versions)
    table = catalogue_dependencies
    connection.execute(delete(table).where(table.c.version_id.in_(which)))


def of(connection: Connection, asked: Sequence[Affected]) -> list[Dependents | None]:
    """Return, for each of `asked`, who needs a version that goes where no version that stays will do.

    Who goes as well is no dependent. None: no repository here has the package.
    """
    going = {(each.category, each.name): each for each in asked}
    found = [_missing(connection, each, going) for each in asked]
    machines = _machines(connection, {package for missing in found for package in missing or ()})
    return [None if missing is None else _dependents(missing, machines) for missing in found]


def _missing(
    connection: Connection, gone: Affected, going: Mapping[Package, Affected]
) -> dict[Package, _Missing] | None:
    offered = catalogue.package(connection, gone.category, gone.name)
    if offered is None:
        return None
    goes = [each for each in offered.versions if gone.has(each.cpv.version, each.slot)]
    stays = [each for each in offered.versions if each not in goes]

    @cache  # thousands of versions write the same few atoms
    def is_missed(word: str) -> bool:
        need = Need.read(word)
        return _is_any(need, goes) and not _is_any(need, stays)

    @cache
    def missed(words: str) -> frozenset[str]:
        return frozenset(filter(is_missed, words.split()))

    found: defaultdict[Package, _Missing] = defaultdict(_Missing)
    for cpv, slot, words in _needing(connection, gone):
        if (same := going.get(cpv[:2])) is not None and same.has(cpv.version, slot):
            continue
        if these := missed(words):
            known = found[cpv[:2]]
            known.versions.append(cpv.version)
            known.words |= these
    return found


def _needing(connection: Connection, gone: Affected) -> Iterable[tuple[CPV, str, str]]:
    """Yield each version that needs the package in some form: its name, its slot, what it needs."""
    table, versions, names = catalogue_dependencies, catalogue_versions, catalogue_packages
    rows = connection.execute(
        select(names.c.category, names.c.name, versions.c.version, versions.c.slot, table.c.atoms)
        .join(versions, versions.c.id == table.c.version_id)
        .join(names, names.c.id == versions.c.package_id)
        .where(table.c.category == gone.category, table.c.name == gone.name)
    )
    for row in rows:
        yield CPV(row.category, row.name, row.version), row.slot, row.atoms


def _is_any(need: Need, versions: Iterable[CatalogueVersion]) -> bool:
    return any(need.atom.matches(each.cpv, slot=each.slot, repository=each.repository) for each in versions)


def _machines(connection: Connection, wanted: Iterable[Package]) -> dict[Package, int]:
    """On how many machines packages are shown to be: no more than there are."""
    by_category: dict[str, set[str]] = defaultdict(set)
    for category, name in wanted:
        by_category[category].add(name)
    fleet = fleet_figure(connection)
    found = {}
    for category, names in by_category.items():
        rows = connection.execute(
            select(packages.c.name, figures.c.published)
            .join(figures, figures.c.package_id == packages.c.id)
            .where(packages.c.category == category, packages.c.name.in_(names))
            .where(figures.c.version_id.is_(None), is_shown(packages.c.id))
        )
        for row in rows:
            found[category, row.name] = min(row.published, fleet) if fleet else row.published
    return found


def _dependents(missing: Mapping[Package, _Missing], machines: Mapping[Package, int]) -> Dependents:
    def place(package: Package) -> tuple[bool, int, Package]:
        return missing[package].perhaps, -machines.get(package, 0), package

    rows = [
        Dependent(
            category=package[0],
            name=package[1],
            versions=tuple(sorted(set(missing[package].versions), key=Version.parse, reverse=True)),
            atoms=tuple(sorted({word.removeprefix(PERHAPS) for word in missing[package].words})),
            perhaps=missing[package].perhaps,
            machines=machines.get(package, 0),
        )
        for package in heapq.nsmallest(MOST, missing, key=place)
    ]
    return Dependents(rows=tuple(rows), count=len(missing))
