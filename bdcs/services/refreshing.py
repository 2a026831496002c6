# SPDX-License-Identifier: GPL-2.0-or-later
"""Refreshing the catalogue: a repository is brought up to date, and what changed of its cache is read.

    refresher = Refresher.of(store=path, data=settings.data)
    refreshed = refresher.refresh("gentoo")

Files are read outside of any transaction and written some hundreds at a time, so that nobody who writes has
to wait for long. Each transaction leaves a catalogue that is right as far as it goes; whoever is killed
between two of them goes on from there the next time, since a file that was not written down still differs.

All of it blocks; the server does it in a thread (`services.repository_keeper`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import Connection, Engine, and_, bindparam, delete, func, or_, select, update

from bdcs.domain.batches import batches
from bdcs.domain.md5_cache import CacheEntry, read_entry, read_needs
from bdcs.errors import (
    CollectorError,
    InvalidCacheEntry,
    NoSuchRepository,
    RepositoryUnusable,
    SyncFailed,
)
from bdcs.services import catalogue_packages, dependents, made_metadata, repositories, syncing
from bdcs.services.ebuild_trees import EbuildTree, Mark
from bdcs.services.made_metadata import Made
from bdcs.services.repositories import DIRECTORY, Repository
from bdcs.services.target_locks import locked
from bdcs.store import tables
from bdcs.store.bulk import insert_rows
from bdcs.store.engine import Place, create_reader, create_writer
from bdcs.store.slices import slices
from bdcs.store.store import transaction
from gentwoo_client.wire.build_messages import MadeEntry
from gentwoo_client.wire.cpv import CPV, split_cpv

log = logging.getLogger(__name__)

AT_ONCE: Final = 500
"""Cache entries in one transaction."""
NAMED: Final = 5  # entries that nothing could be learnt from, of those that the log names
LOCKS: Final = ".locks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What a refresh found."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    unreadable: int = 0
    """Files that changed and that nothing can be learnt from."""

    def to_json(self) -> dict[str, int]:
        """What `bdcs repository sync --json` prints."""
        return asdict(self)

    def __str__(self) -> str:
        amounts = ((getattr(self, part.name), part.name) for part in fields(self))
        return ", ".join(f"{amount} {name}" for amount, name in amounts if amount) or "nothing changed"


@contextlib.contextmanager
def repository_lock(engine: Engine, data: Path, name: str) -> Iterator[None]:
    """Keep others from refreshing or removing the repository, wherever. Raises `StoreUnavailable`."""
    with locked(engine, f"repository {name}", data / DIRECTORY / LOCKS / name):
        yield


class _Known(NamedTuple):
    """A version that is in the catalogue."""

    id: int
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A cache entry that was read, well or badly."""

    path: str
    """CATEGORY/PF."""
    mark: Mark
    entry: CacheEntry | None
    reason: str = ""
    needs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """What it needs of which packages."""

    @property
    def columns(self) -> tuple[Any, ...]:
        """Values of `_COLUMNS`."""
        assert self.entry is not None
        return (*astuple(self.entry), *self.mark)


_COLUMNS: Final = (*(part.name for part in fields(CacheEntry)), "cache_size", "cache_mtime_ns")
"""Columns of a version that follow from its cache entry, in the order of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresher:
    """Brings repositories and the catalogue up to date, one caller at a time for each repository."""

    reader: Engine
    writer: Engine
    data: Path
    now: Callable[[], float] = time.time
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set: whatever is under way ends soon, by `SyncFailed`."""

    @classmethod
    def of(cls, *, store: Place, data: Path) -> Self:
        """Make one for `store`, which exists. Raises `NoStore`, `NoPermission`."""
        return cls(reader=create_reader(store), writer=create_writer(store), data=data)

    def close(self) -> None:
        """Let go of the store."""
        self.reader.dispose()
        self.writer.dispose()

    def refresh(self, name: str) -> Refreshed:
        """Bring the repository up to date and read what changed; return what that was.

        How it went is noted in its row. Raises `NoSuchRepository`, `SyncFailed`, `RepositoryUnusable`,
        `RepositoryRefused`; what was read before still counts then. Raises `StoreUnavailable`.
        """
        with repository_lock(self.reader, self.data, name):
            with transaction(self.reader) as connection:
                repository = repositories.require(connection, name)
            try:
                refreshed = self._refresh(repository)
            except NoSuchRepository:
                raise
            except CollectorError as error:
                if not self.stopping.is_set():
                    self._note(repository, str(error))
                raise
            except OSError as error:
                problem = f"{error.filename or repository.location}: {error.strerror}"
                self._note(repository, problem)
                raise RepositoryUnusable(problem) from error
            self._note(repository, None)
            return refreshed

    def wanted(self) -> dict[str, list[tuple[str, str]]]:
        """Return the ebuilds, some of each repository, that nothing is known of: CATEGORY/PF, and MD5.

        Repositories that cannot be read are passed over. Raises `StoreUnavailable`.
        """
        found = {}
        with transaction(self.reader) as connection:
            for repository in repositories.listed(connection):
                if repository.uncached or repository.problem is not None:
                    with contextlib.suppress(RepositoryUnusable, OSError):
                        found[repository.name] = made_metadata.wanted(connection, repository)
        return {name: ebuilds for name, ebuilds in found.items() if ebuilds}

    def take_made(self, name: str, entries: Sequence[MadeEntry]) -> dict[str, str]:
        """Take cache entries that a builder made, and read them; return why which ones are not taken.

        Raises `NoSuchRepository`, `RepositoryUnusable`, `StoreUnavailable`, `SyncFailed`, `OSError`.
        """
        with repository_lock(self.reader, self.data, name):
            with transaction(self.reader) as connection:
                repository = repositories.require(connection, name)
            refused = made_metadata.objections(repository, entries)
            good = [entry for entry in entries if entry.cpv not in refused]
            if good:
                with self._writing(repository) as connection:
                    made_metadata.take(connection, repository, good, int(self.now() * 1e9))
                with EbuildTree(repository.location) as tree:
                    self._read(repository, tree, repository.revision)
                self._note(repository, None)
        return refused

    def _refresh(self, repository: Repository) -> Refreshed:
        syncing.sync(repository, self.stopping)
        revision = syncing.revision(repository, self.stopping)
        if revision is not None and revision == repository.revision:
            return Refreshed()
        with EbuildTree(repository.location) as tree:
            name = tree.name()
            if name != repository.name:
                raise RepositoryUnusable(
                    f"{repository.location} calls itself {name}: add it by that name, which packages bear too"
                )
            return self._read(repository, tree, revision)

    def _read(self, repository: Repository, tree: EbuildTree, revision: str | None) -> Refreshed:
        listing = tree.listing()
        with transaction(self.reader) as connection:
            known = _known(connection, repository)
            broken = _known_broken(connection, repository)
            made = made_metadata.valid(connection, repository, tree, listing.missing)
        if not listing.has_cache and not made:
            raise RepositoryUnusable(
                f"{repository.location} has no metadata cache (metadata/md5-cache), and no ebuild is sourced"
                f" here: a builder whose root has {repository.name} makes it, or `egencache --update` where"
                " Portage is"
            )
        marks = listing.entries | {path: one.mark for path, one in made.items()}
        last_marks = broken | {path: row.mark for path, row in known.items()}
        to_read = sorted(path for path, mark in marks.items() if mark != last_marks.get(path))
        added = changed = 0
        lost: list[int] = []
        spoilt: list[_Read] = []
        for paths in batches(to_read, AT_ONCE):
            read = [one for path in paths if (one := _read_one(tree, path, marks[path], made.get(path)))]
            good = [one for one in read if one.entry is not None]
            changed += sum(one.path in known for one in good)
            added += sum(one.path not in known for one in good)
            spoilt += [one for one in read if one.entry is None]
            lost += [known[one.path].id for one in read if one.entry is None and one.path in known]
            self._write(repository, known, read)
        gone = [row.id for path, row in known.items() if path not in marks]
        mended = [path for path in broken if path not in marks]
        uncached = len(listing.missing) - len(made)
        self._finish(repository, uncached, revision, made, gone=[*gone, *lost], mended=mended)
        _tell_of_spoilt(repository, spoilt)
        removed = len(gone) + len(lost)
        return Refreshed(added=added, changed=changed, removed=removed, unreadable=len(spoilt))

    def _write(self, repository: Repository, known: Mapping[str, _Known], read: Sequence[_Read]) -> None:
        """Write down what was read; versions whose entry is spoilt now stay until the end."""
        now = int(self.now())
        is_new = repository.read_at is not None
        with self._writing(repository) as connection:
            good = [(one, CPV.parse(one.path)) for one in read if one.entry is not None]
            numbers = catalogue_packages.numbers(connection, {(cpv.category, cpv.name) for _, cpv in good})
            _forget_broken(connection, repository, [one.path for one in read])
            insert_rows(
                connection,
                tables.catalogue_versions,
                [
                    (None, numbers[cpv[:2]], repository.id, cpv.version, *one.columns, now, is_new)
                    for one, cpv in good
                    if one.path not in known
                ],
            )
            _change(connection, {known[one.path].id: one for one, _ in good if one.path in known})
            needs = {(numbers[cpv[:2]], cpv.version): one.needs for one, cpv in good}
            dependents.note(connection, repository.id, needs)
            insert_rows(
                connection,
                tables.catalogue_unreadable,
                [(repository.id, one.path, *one.mark, one.reason) for one in read if one.entry is None],
            )
            catalogue_packages.settle(connection, set(numbers.values()))

    def _finish(
        self,
        repository: Repository,
        uncached: int,
        revision: str | None,
        made: Collection[str],
        *,
        gone: Sequence[int],
        mended: Sequence[str],
    ) -> None:
        """Remove what the repository has no more, and say how much it has."""
        versions = tables.catalogue_versions
        with self._writing(repository) as connection:
            touched: set[int] = set()
            for some in slices(gone):
                which = versions.c.id.in_(some)
                touched.update(connection.scalars(select(versions.c.package_id).where(which)))
                dependents.forget(connection, which)
                connection.execute(delete(versions).where(which))
            catalogue_packages.settle(connection, touched)
            _forget_broken(connection, repository, mended)
            made_metadata.forget_others(connection, repository, made)
            of_it = versions.c.repository_id == repository.id
            packages = func.count(versions.c.package_id.distinct())
            counted = connection.execute(select(func.count(), packages).where(of_it)).one()
            values = {"versions": counted[0], "packages": counted[1], "uncached": uncached}
            table = tables.catalogue_repositories
            connection.execute(
                update(table).where(table.c.id == repository.id).values(revision=revision, **values)
            )

    @contextlib.contextmanager
    def _writing(self, repository: Repository) -> Iterator[Connection]:
        """Give a connection whose changes are durable in the end. Raises `NoSuchRepository`, `SyncFailed`."""
        if self.stopping.is_set():
            raise SyncFailed("interrupted, since the collector stops")
        with transaction(self.writer) as connection:
            repositories.require(connection, repository.name)
            yield connection

    def _note(self, repository: Repository, problem: str | None) -> None:
        with transaction(self.writer) as connection:
            repositories.tried(connection, repository, problem, self.now())


def _read_one(tree: EbuildTree, path: str, mark: Mark, made: Made | None) -> _Read | None:
    """Read a cache entry, which was `mark` before; None where it is gone: the next refresh sees that."""
    try:
        content, mark = tree.entry(path) if made is None else (made.content, made.mark)
        if split_cpv(path) is None:
            raise InvalidCacheEntry("its name is no CATEGORY/PF")
        return _Read(path=path, mark=mark, entry=read_entry(content), needs=read_needs(content))
    except FileNotFoundError:
        return None
    except InvalidCacheEntry as error:
        return _Read(path=path, mark=mark, entry=None, reason=error.reason)


def _tell_of_spoilt(repository: Repository, spoilt: Sequence[_Read]) -> None:
    """Say of entries that nothing could be learnt from what is wrong with them, whenever they change."""
    for one in spoilt[:NAMED]:
        log.warning(
            "repository %s: the cache entry of %s is passed over: %s", repository.name, one.path, one.reason
        )
    if len(spoilt) > NAMED:
        log.warning(
            "repository %s: so are %d more; `bdcs repository status %s` names the first of them",
            repository.name,
            len(spoilt) - NAMED,
            repository.name,
        )


def _known(connection: Connection, repository: Repository) -> dict[str, _Known]:
    """Versions of the repository that are in the catalogue, by CATEGORY/PF."""
    versions, packages = tables.catalogue_versions, tables.catalogue_packages
    path = packages.c.category + "/" + packages.c.name + "-" + versions.c.version
    rows = connection.execute(
        select(path, versions.c.id, versions.c.cache_size, versions.c.cache_mtime_ns)
        .join(packages, packages.c.id == versions.c.package_id)
        .where(versions.c.repository_id == repository.id)
    )
    return {path: _Known(number, Mark(size, mtime)) for path, number, size, mtime in rows}


def _known_broken(connection: Connection, repository: Repository) -> dict[str, Mark]:
    table = tables.catalogue_unreadable
    rows = connection.execute(
        select(table.c.path, table.c.cache_size, table.c.cache_mtime_ns).where(
            table.c.repository_id == repository.id
        )
    )
    return {path: Mark(size, mtime) for path, size, mtime in rows}


def _forget_broken(connection: Connection, repository: Repository, paths: Sequence[str]) -> None:
    if paths:
        table = tables.catalogue_unreadable
        of_it = and_(table.c.repository_id == repository.id, table.c.path == bindparam("entry"))
        connection.execute(delete(table).where(of_it), [{"entry": path} for path in paths])


def _change(connection: Connection, changed: Mapping[int, _Read]) -> None:
    """Have versions, by their numbers, say what was read of them.

    With other keywords one is as good as new: stable machines have not had it yet.
    """
    if changed:
        table = tables.catalogue_versions
        statement = (
            update(table)
            .where(table.c.id == bindparam("number"))
            .values({name: bindparam(f"new_{name}") for name in _COLUMNS})
            .values(is_new=or_(table.c.is_new, table.c.keywords != bindparam("new_keywords")))
        )
        names = [f"new_{name}" for name in _COLUMNS]
        connection.execute(
            statement,
            [
                {"number": number, **dict(zip(names, one.columns, strict=True))}
                for number, one in changed.items()
            ],
        )
