# SPDX-License-Identifier: GPL-2.0-or-later
"""A store that comes from a backup knows less than machines, builders and clients have seen of it since.

    settle(connection, now)          # before anything is served from it
    drop_indexes(data)

What was given out after the backup must not be given out again for something else: BUILD_IDs, since caches
keep a package under its name for good; ids of changes, after which exports go on; and the numbers of jobs
and attempts, which builders still hold. So all of them go on behind a gap. Indexes are written anew with a
TIMESTAMP that is later than any that clients hold.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, case, delete, select, update

from bdcs.blobs.directory import sync_file_system
from bdcs.blobs.index_files import LAYOUT, PACKED, PLAIN
from bdcs.blobs.server_lock import LOCK
from bdcs.domain.packages_index import STEP
from bdcs.errors import NoBackup, RestoreUnfinished, StoreFull
from bdcs.services.build_rows import BUILDS
from bdcs.store import numbering
from bdcs.store.places import SQLITE_NAME
from bdcs.store.store import Store
from bdcs.store.tables import build_numbers, metadata, sequences, targets
from bdcs.store.upserts import upsert

log = logging.getLogger(__name__)

MARK: Final = "backup"
"""Name, among the sequences, of when a copy was made that nobody has served from."""
CHANGES: Final = "change"
"""… of the last id of a change (`services.ingest`)."""
PACKAGES: Final = "packages"
"""The directory, below that of all data, in which package files are."""
BUILD_GAP: Final = 1000  # builds of one version, between backup and loss
GAP: Final = 1_000_000  # of anything else
UNFINISHED: Final = ".restoring"
"""The file that is there while a backup is being put in place."""
PIECE: Final = 1 << 20  # bytes at once

_ENDS: Final = ("-shm", "-wal", "-journal")
_LEFT_OUT: Final = frozenset((LOCK, UNFINISHED, SQLITE_NAME, *(f"{SQLITE_NAME}{end}" for end in _ENDS)))
"""What is no part of a backup, or comes last."""


def mark(connection: Connection, now: float) -> None:
    """Note that this store is a backup."""
    row = upsert(sequences).values(name=MARK, value=int(now))
    connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": int(now)}))


def made_at(connection: Connection) -> int | None:
    """Return when the backup was made that this store is; None where it is none, or settled."""
    return connection.scalar(select(sequences.c.value).where(sequences.c.name == MARK))


def settle(connection: Connection, now: float) -> None:
    """Have everything go on behind what may have been given out since the backup."""
    connection.execute(delete(sequences).where(sequences.c.name == MARK))
    for name, gap in ((CHANGES, GAP), (BUILDS, BUILD_GAP)):
        row = upsert(sequences).values(name=name, value=gap)
        behind = {"value": sequences.c.value + gap}
        connection.execute(row.on_conflict_do_update(index_elements=["name"], set_=behind))
    connection.execute(update(build_numbers).values(last=build_numbers.c.last + BUILD_GAP))
    dated = targets.c.timestamp + STEP
    connection.execute(
        update(targets)
        .where(targets.c.timestamp > 0)
        .values(timestamp=case((dated > int(now), dated), else_=int(now)))
    )
    for table in metadata.sorted_tables:
        if numbering.is_numbered(table) and (last := numbering.last_number(connection, table)):
            numbering.continue_after(connection, table, last + GAP)


def drop_indexes(data: Path) -> None:
    """Remove the files of all indexes: they are of another time than the store."""
    for directory in sorted((data / "binhost").glob("*/")):
        if not directory.is_symlink():
            for name in (LAYOUT, PACKED, PLAIN):
                (directory / name).unlink(missing_ok=True)


async def settle_if_marked(store: Store, data: Path, now: float) -> None:
    """Do both where the store is a backup that nobody has served from. Raises `StoreError`, `OSError`."""
    if await store.read(made_at) is not None:
        drop_indexes(data)
        await store.write(lambda connection: settle(connection, now))
        log.info("this store comes from a backup; numbers go on behind a gap, indexes are dated anew")


def put_back(backup: Path, data: Path) -> None:
    """Copy a backup to where a collector keeps its files, durably and its database last.

    Nothing of a collector is there yet, or what an earlier call left that was interrupted: until this has
    come to its end nobody serves from there (`require_whole`). No symbolic link is followed, on either side,
    below the two directories. Raises `NoBackup` where the backup has something that is no file, `OSError`.
    """
    mark = data / UNFINISHED
    with naming(data):
        mark.touch(mode=0o600)
        _sync(data)
        drop_indexes(data)
        copying = _PuttingBack()
        with _opened(backup) as source, _opened(data) as target:
            copying.copy(source, target, Path(), backup)
        for place in copying.systems.values():
            sync_file_system(data / place)
        _put_database(backup, data)
        mark.unlink()
        _sync(data)


@contextlib.contextmanager
def naming(place: Path) -> Iterator[None]:
    """Have errors of writing below `place` name it: who writes to an open file is not told which it was."""
    try:
        yield
    except StoreFull as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place)) from error
    except OSError as error:
        if error.filename is None:
            error.filename = str(place)
        raise


def require_whole(data: Path) -> None:
    """Raise `RestoreUnfinished` where `put_back` was interrupted."""
    if is_unfinished(data):
        raise RestoreUnfinished(data)


def is_unfinished(data: Path) -> bool:
    """Whether `put_back` was interrupted there."""
    return (data / UNFINISHED).exists()


@dataclass(slots=True)
class _PuttingBack:
    """All files of a backup but its database, on their way."""

    systems: dict[int, Path] = field(default_factory=dict)
    """A directory of each file system that was written to."""

    def copy(self, source: int, target: int, place: Path, backup: Path) -> None:
        """Copy what is in one open directory to another, which both are at `place`."""
        self.systems.setdefault(os.fstat(target).st_dev, place)
        with os.scandir(source) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            below = place / entry.name
            if str(below) in _LEFT_OUT:
                continue
            is_public = below.parts[0] == PACKAGES
            if entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(entry.name, 0o700, dir_fd=target)
                with _opened(entry.name, source) as inner, _opened(entry.name, target) as outer:
                    os.fchmod(outer, 0o755 if is_public else 0o700)
                    self.copy(inner, outer, below, backup)
            elif entry.is_file(follow_symlinks=False):
                _copy_file(entry.name, source, entry.name, target, 0o644 if is_public else 0o600)
            else:
                raise NoBackup(backup / below)


def _put_database(backup: Path, data: Path) -> None:
    """Have the database appear, whole and durable. What an interrupted call left of another goes."""
    draft = f".{SQLITE_NAME}.restored"
    with _opened(backup) as source, _opened(data) as target:
        _copy_file(SQLITE_NAME, source, draft, target, 0o600)
        for name in (SQLITE_NAME, *(f"{SQLITE_NAME}{end}" for end in _ENDS)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=target)
        for end in _ENDS[1:]:
            with contextlib.suppress(FileNotFoundError):
                _copy_file(f"{SQLITE_NAME}{end}", source, f"{SQLITE_NAME}{end}", target, 0o600)
        sync_file_system(data)
        os.rename(draft, SQLITE_NAME, src_dir_fd=target, dst_dir_fd=target)
        os.fsync(target)


def _copy_file(name: str, source: int, new: str, target: int, mode: int) -> None:
    """Copy a file from one open directory to another, with its time, in the place of any that is there."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    reading = os.open(name, os.O_RDONLY | os.O_NONBLOCK | flags, dir_fd=source)
    with os.fdopen(reading, "rb") as file:
        status = os.fstat(reading)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=target)
        writing = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=target)
        with os.fdopen(writing, "wb") as copy:
            shutil.copyfileobj(file, copy, PIECE)
            copy.flush()
            os.fchmod(writing, mode)
            os.utime(writing, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextlib.contextmanager
def _opened(place: Path | str, parent: int | None = None) -> Iterator[int]:
    """Open a directory; below `parent`, only what is one itself, and no link to one."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(place, flags | (0 if parent is None else os.O_NOFOLLOW), dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sync(directory: Path) -> None:
    with _opened(directory) as descriptor:
        os.fsync(descriptor)
