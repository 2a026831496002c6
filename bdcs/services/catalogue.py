# SPDX-License-Identifier: GPL-2.0-or-later
"""Looking things up in the catalogue: what the ebuild repositories offer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, select, tuple_

from bdcs.store.slices import slices
from bdcs.store.tables import catalogue_packages, catalogue_repositories, catalogue_versions
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueVersion:
    """One version of a package, as a repository offers it."""

    id: int
    cpv: CPV
    repository: str
    slot: str
    """With sub-slot where it has one."""
    eapi: str
    keywords: tuple[str, ...]
    """As the ebuild has them: `amd64` stable, `~amd64` testing, `-amd64` not."""
    iuse: tuple[str, ...]
    """With `+` and `-` before flags that are on or off by default."""
    license: str
    restrict: str
    properties: str
    description: str
    homepage: str
    dependencies: str
    """SHA-256 of the dependencies as they are written."""
    added_at: int
    """When it came into the catalogue, Unix seconds."""

    @property
    def flags(self) -> frozenset[str]:
        """Flags of its IUSE."""
        return frozenset(flag.lstrip("+-") for flag in self.iuse)

    @property
    def is_live(self) -> bool:
        """Whether it is built of whatever is upstream's newest: nobody calls that a version."""
        return "live" in self.properties.split() or not self.keywords

    def to_json(self) -> dict[str, object]:
        """What the API says of it beside its package."""
        return {
            "version": self.cpv.version,
            "repository": self.repository,
            "slot": self.slot,
            "keywords": list(self.keywords),
            "iuse": list(self.iuse),
            "eapi": self.eapi,
            "license": self.license,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CataloguePackage:
    """A package that some repository has."""

    category: str
    name: str
    description: str
    homepages: tuple[str, ...]
    versions: tuple[CatalogueVersion, ...]
    """The newest first; of several repositories' the one that was added first."""


def has_repository(connection: Connection, name: str) -> bool:
    """Whether the catalogue knows what the repository offers."""
    table = catalogue_repositories
    query = select(table.c.id).where(table.c.name == name, table.c.read_at.is_not(None))
    return connection.execute(query).first() is not None


def find(connection: Connection, cpv: CPV, repository: str) -> CatalogueVersion | None:
    """Return the version that `repository` offers, or None."""
    query = _versions().where(
        catalogue_packages.c.category == cpv.category,
        catalogue_packages.c.name == cpv.name,
        catalogue_versions.c.version == cpv.version,
        catalogue_repositories.c.name == repository,
    )
    row = connection.execute(query).first()
    return None if row is None else _version(row)


def package(connection: Connection, category: str, name: str) -> CataloguePackage | None:
    """Return a package with its versions, or None where no repository has it."""
    table = catalogue_packages
    query = select(table).where(table.c.category == category, table.c.name == name)
    row = connection.execute(query).first()
    if row is None:
        return None
    found = connection.execute(_versions().where(table.c.id == row.id))
    return CataloguePackage(
        category=category,
        name=name,
        description=row.description,
        homepages=tuple(row.homepage.split()),
        versions=tuple(newest_first(map(_version, found))),
    )


def categories_of(connection: Connection, name: str) -> list[str]:
    """Return the categories in which there is a package of exactly this name."""
    table = catalogue_packages
    return list(connection.scalars(select(table.c.category).where(table.c.name == name)))


def new_versions(connection: Connection, limit: int) -> list[CatalogueVersion]:
    """Return versions that came since their repository was first read, and that nobody has looked at yet."""
    query = _versions().where(catalogue_versions.c.is_new).limit(limit)
    return list(map(_version, connection.execute(query)))


def objections(connection: Connection, specifications: Sequence[BuildSpecification]) -> list[str | None]:
    """Say of each why there can be no such package; None where there can, or where nothing is known of its
    repository.

    That what is built is what was wished for is seen when it is there.
    """
    table = catalogue_repositories
    rows = connection.execute(select(table.c.name, table.c.uncached).where(table.c.read_at.is_not(None)))
    uncached: dict[str, int] = {row.name: row.uncached for row in rows}
    wanted = [one for one in specifications if one.repository in uncached]
    flags = _flags_of(connection, {(one.cpv.category, one.cpv.name) for one in wanted}) if wanted else {}
    return [
        _objection(one, uncached[one.repository], flags.get((str(one.cpv), one.repository)))
        if one.repository in uncached
        else None
        for one in specifications
    ]


def _objection(specification: BuildSpecification, uncached: int, flags: str | None) -> str | None:
    name, cpv = specification.repository, specification.cpv
    if flags is None:
        perhaps = f", or it is one of {uncached} ebuilds without metadata cache" if uncached else ""
        return f"the collector's copy of {name} has no {cpv}{perhaps}"
    others = sorted(set(specification.iuse) - {flag.lstrip("+-") for flag in flags.split()})
    if others:
        return f"{cpv}::{name} has no such flags here: {' '.join(others[:10])}"
    return None


def _flags_of(connection: Connection, packages: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return the IUSE of every version of these packages, by CPV and repository."""
    found: dict[tuple[str, str], str] = {}
    for some in slices(packages):
        rows = connection.execute(_IUSE, {"packages": some})
        found.update(((f"{row.category}/{row.name}-{row.version}", row.repository), row.iuse) for row in rows)
    return found


_IUSE: Final = (
    select(
        catalogue_packages.c.category,
        catalogue_packages.c.name,
        catalogue_versions.c.version,
        catalogue_versions.c.iuse,
        catalogue_repositories.c.name.label("repository"),
    )
    .join(catalogue_versions, catalogue_versions.c.package_id == catalogue_packages.c.id)
    .join(catalogue_repositories, catalogue_repositories.c.id == catalogue_versions.c.repository_id)
    .where(
        tuple_(catalogue_packages.c.category, catalogue_packages.c.name).in_(
            bindparam("packages", expanding=True)
        )
    )
)


def newest_first(versions: Iterable[CatalogueVersion]) -> list[CatalogueVersion]:
    """Sort versions of a package; those of equal versions stay in order."""
    return sorted(versions, key=lambda version: Version.parse(version.cpv.version), reverse=True)


def _versions() -> Select[*tuple[Any, ...]]:
    return (
        select(
            catalogue_versions,
            catalogue_packages.c.category,
            catalogue_packages.c.name,
            catalogue_repositories.c.name.label("repository"),
        )
        .join(catalogue_packages, catalogue_packages.c.id == catalogue_versions.c.package_id)
        .join(catalogue_repositories, catalogue_repositories.c.id == catalogue_versions.c.repository_id)
        .order_by(catalogue_versions.c.repository_id)
    )


def _version(row: Row[*tuple[Any, ...]]) -> CatalogueVersion:
    return CatalogueVersion(
        id=row.id,
        cpv=CPV(row.category, row.name, row.version),
        repository=row.repository,
        slot=row.slot,
        eapi=row.eapi,
        keywords=tuple(row.keywords.split()),
        iuse=tuple(row.iuse.split()),
        license=row.license,
        restrict=row.restrict,
        properties=row.properties,
        description=row.description,
        homepage=row.homepage,
        dependencies=row.dependencies,
        added_at=row.added_at,
    )
