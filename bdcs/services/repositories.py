# SPDX-License-Identifier: GPL-2.0-or-later
"""Ebuild repositories of the catalogue: which there are, where they are, how the last look at them went."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, select, update

from bdcs.domain import ebuild_repositories as rules
from bdcs.domain.ebuild_repositories import SyncType
from bdcs.errors import NoSuchRepository, RepositoryExists, RepositoryRefused
from bdcs.services import catalogue_packages, dependents
from bdcs.store.tables import (
    catalogue_repositories,
    catalogue_unreadable,
    catalogue_versions,
    made_metadata,
)
from gentwoo_client.wire.records import format_time

DIRECTORY: Final = "repositories"
"""Below the data directory: where repositories are that are synced, unless they are told another place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """One ebuild repository."""

    id: int
    name: str
    location: Path
    sync_type: SyncType
    sync_uri: str
    """Empty for a local directory."""
    own_mirror: bool
    """It may be asked as often as a local directory is read."""
    added_at: int
    tried_at: int | None
    """When it was last looked at, Unix seconds."""
    read_at: int | None
    """When the catalogue was last known to have what the repository has."""
    problem: str | None
    """Why the last look came to nothing."""
    revision: str | None
    """The commit that was read to its end, of a git repository."""
    packages: int
    versions: int
    uncached: int
    """Ebuilds that the metadata cache does not have; the catalogue does not know them."""

    @property
    def due_at(self) -> int:
        """When it is to be looked at again."""
        return (self.tried_at or 0) + rules.interval(self.sync_type, own_mirror=self.own_mirror)

    def to_json(self) -> dict[str, object]:
        """What `bdcs repository list --json` prints of it."""
        return {
            "name": self.name,
            "location": str(self.location),
            "sync_type": str(self.sync_type),
            "sync_uri": self.sync_uri,
            "own_mirror": self.own_mirror,
            "added_at": format_time(self.added_at),
            "tried_at": None if self.tried_at is None else format_time(self.tried_at),
            "read_at": None if self.read_at is None else format_time(self.read_at),
            "problem": self.problem,
            "revision": self.revision,
            "packages": self.packages,
            "versions": self.versions,
            "uncached": self.uncached,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A file of a metadata cache that nothing can be learnt from."""

    path: str
    """CATEGORY/PF."""
    reason: str


def add(
    connection: Connection,
    name: str,
    *,
    data: Path,
    sync_type: SyncType,
    sync_uri: str = "",
    location: Path | None = None,
    own_mirror: bool = False,
    now: float,
) -> Repository:
    """Add a repository, which nothing is known of yet, and return it.

    `location` is its directory, below `data` by default; a local one must be named. Raises
    `RepositoryRefused`, `RepositoryExists`.
    """
    rules.check_name(name)
    rules.check_uri(sync_type, sync_uri)
    if location is None and sync_type is SyncType.LOCAL:
        raise RepositoryRefused("a local repository needs the directory that it is in: --location DIR")
    place = (data / DIRECTORY / name if location is None else location).absolute()
    if find(connection, name) is not None:
        raise RepositoryExists(name)
    if not str(place).isprintable() or any(other.location == place for other in listed(connection)):
        raise RepositoryRefused(f"{str(place)!r} is no place for it, or another repository's")
    connection.execute(
        catalogue_repositories.insert().values(
            name=name,
            location=str(place),
            sync_type=str(sync_type),
            sync_uri=sync_uri,
            own_mirror=own_mirror,
            added_at=int(now),
            packages=0,
            versions=0,
            uncached=0,
        )
    )
    return require(connection, name)


def find(connection: Connection, name: str) -> Repository | None:
    """Return the repository, or None."""
    row = connection.execute(
        select(catalogue_repositories).where(catalogue_repositories.c.name == name)
    ).first()
    return None if row is None else _repository(row)


def require(connection: Connection, name: str) -> Repository:
    """Return the repository. Raises `NoSuchRepository`, which names those that are there."""
    found = find(connection, name)
    if found is None:
        raise NoSuchRepository(name, [repository.name for repository in listed(connection)])
    return found


def listed(connection: Connection) -> list[Repository]:
    """Return all repositories in the order in which they were added."""
    rows = connection.execute(select(catalogue_repositories).order_by(catalogue_repositories.c.id))
    return list(map(_repository, rows))


def unreadable(connection: Connection, repository: Repository, limit: int) -> tuple[int, list[Unreadable]]:
    """Return how many files of its metadata cache nothing can be learnt from, and the first of them."""
    table = catalogue_unreadable
    of_it = table.c.repository_id == repository.id
    count = connection.scalar(select(func.count()).select_from(table).where(of_it)) or 0
    rows = connection.execute(select(table).where(of_it).order_by(table.c.path).limit(limit))
    return count, [Unreadable(path=row.path, reason=row.reason) for row in rows]


def unreadable_counts(connection: Connection) -> dict[int, int]:
    """Return, by the repository's number, how many files of its metadata cache nothing can be learnt from."""
    table = catalogue_unreadable
    rows = connection.execute(select(table.c.repository_id, func.count()).group_by(table.c.repository_id))
    return {row[0]: row[1] for row in rows}


def tried(connection: Connection, repository: Repository, problem: str | None, now: float) -> None:
    """Note that it was looked at just now, and why that came to nothing if it did."""
    which = catalogue_repositories.c.id == repository.id
    values: dict[str, Any] = {"tried_at": int(now), "problem": problem}
    if problem is None:
        values["read_at"] = int(now)
    connection.execute(update(catalogue_repositories).where(which).values(**values))


def remove(connection: Connection, repository: Repository) -> None:
    """Remove it with all that it offers. Its files are not touched."""
    versions = catalogue_versions
    of_it = versions.c.repository_id == repository.id
    touched = set(connection.scalars(select(versions.c.package_id).where(of_it).distinct()))
    dependents.forget(connection, of_it)
    connection.execute(delete(versions).where(of_it))
    connection.execute(
        delete(catalogue_unreadable).where(catalogue_unreadable.c.repository_id == repository.id)
    )
    connection.execute(delete(made_metadata).where(made_metadata.c.repository_id == repository.id))
    connection.execute(delete(catalogue_repositories).where(catalogue_repositories.c.id == repository.id))
    catalogue_packages.settle(connection, touched)


def _repository(row: Row[*tuple[Any, ...]]) -> Repository:
    values = dict(row._mapping)
    values["location"] = Path(values["location"])
    values["sync_type"] = SyncType(values["sync_type"])
    return Repository(**values)
