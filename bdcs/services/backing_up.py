# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy of everything that a collector keeps, made while it serves: a data directory, whole or not there.

    made = back_up(place, data, blobs, destination)

First the database, in one state; then the files that its rows name. What went meanwhile, since its time
was over, goes from the rows of the copy as well, so that these promise nothing that is not there. Indexes
are left out: they follow from the rows, and must be dated anew (`services.restoring`). Package files never
change, so those of an earlier backup can be linked rather than copied.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import Connection, Engine, select, update

from bdcs.blobs.attempt_logs import DIRECTORY as LOGS
from bdcs.blobs.attempt_logs import SUFFIX
from bdcs.blobs.directory import Directory
from bdcs.blobs.workspace import QUARANTINE
from bdcs.domain.uploads import State
from bdcs.errors import BackupExists, BlobMissing, FilesVanished
from bdcs.services import restoring
from bdcs.services.restoring import PACKAGES
from bdcs.store import tables
from bdcs.store.engine import SQLITE_NAME, create_reader, create_writer
from bdcs.store.sqlite import error_for
from bdcs.store.store import transaction

PIECE: Final = 1 << 20  # bytes at once
UPLOADS: Final = "uploads"

Progress = Callable[[int, int], None]
"""Told how many bytes of package files are there, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What was made."""

    place: Path
    packages: int
    size: int
    """Bytes of the package files."""
    linked: int
    """Packages that were linked from an earlier backup."""
    logs: int
    database: int
    """Bytes of the database."""


def back_up(
    store: Path, data: Path, destination: Path, *, link: Path | None, packages: bool, progress: Progress
) -> Backup:
    """Make `destination`, which must not be there, a copy of the collector whose files are in `data`.

    `link`: an earlier backup on the same file system; `packages`: whether package files and uploads are below
    `data`, and to be copied. Raises `BackupExists`, `FilesVanished`, `OSError`, `StoreError`.
    """
    if destination.exists():
        raise BackupExists(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    draft = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}")
    draft.mkdir(mode=0o700)
    try:
        with restoring.naming(destination):
            _copy_database(store, draft / SQLITE_NAME)
            copying = _Copying(
                live=create_reader(store), data=data, draft=draft, link=link, progress=progress
            )
            with contextlib.closing(copying):
                made = copying.run(destination, packages=packages)
            os.sync()
            draft.rename(destination)
    except BaseException:
        shutil.rmtree(draft)
        raise
    return made


def _copy_database(store: Path, copy: Path) -> None:
    """Copy it in one state; a server that writes meanwhile is not held up. Raises `StoreError`."""
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise error_for(str(error)) or error from error
    copy.chmod(0o600)


@dataclass(slots=True, kw_only=True)
class _Copying:
    """The files of one backup."""

    live: Engine
    data: Path
    draft: Path
    link: Path | None
    progress: Progress
    linked: int = 0

    def close(self) -> None:
        self.live.dispose()

    def run(self, destination: Path, *, packages: bool) -> Backup:
        writer = create_writer(self.draft / SQLITE_NAME)
        try:
            with transaction(writer) as connection:
                restoring.mark(connection, time.time())
                count, size = self._copy_packages(connection) if packages else (0, 0)
                if packages:
                    self._copy_uploads(connection)
                logs = self._copy_logs(connection)
        finally:
            writer.dispose()
        return Backup(
            place=destination,
            packages=count,
            size=size,
            linked=self.linked,
            logs=logs,
            database=(self.draft / SQLITE_NAME).stat().st_size,
        )

    def _copy_packages(self, copy: Connection) -> tuple[int, int]:
        blobs, table = Directory(self.data), tables.builds.c
        rows = copy.execute(
            select(table.id, tables.targets.c.name, table.path, table.size)
            .join(tables.targets, tables.targets.c.id == table.target_id)
            .where(table.deleted_at.is_(None))
        ).all()
        total, done, gone = sum(row.size for row in rows), 0, []
        for row in rows:
            name = Path(PACKAGES, row.name, row.path)
            try:
                with blobs.open(row.name, row.path) as file:
                    self._put(file, name)
            except BlobMissing:
                gone.append(row.id)
            done += row.size
            self.progress(done, total)
        self._forget_builds(copy, gone)
        return len(rows) - len(gone), total - sum(row.size for row in rows if row.id in set(gone))

    def _forget_builds(self, copy: Connection, gone: list[int]) -> None:
        """Note what was deleted meanwhile. Raises `FilesVanished` where nobody deleted it."""
        table = tables.builds
        for number in gone:
            with transaction(self.live) as connection:
                row = connection.execute(
                    select(table.c.deleted_at, table.c.path).where(table.c.id == number)
                ).first()
            if row is not None and row.deleted_at is None:
                raise FilesVanished(row.path)
            values = {"deleted_at": int(time.time()) if row is None else row.deleted_at}
            copy.execute(update(table).where(table.c.id == number).values(values))

    def _copy_uploads(self, copy: Connection) -> None:
        """Copy what waits in quarantine; what was decided meanwhile waits no more."""
        blobs, table = Directory(self.data), tables.uploads
        rows = copy.execute(select(table.c.id, table.c.blob).where(table.c.blob.is_not(None))).all()
        for row in rows:
            try:
                with blobs.open_upload(row.blob) as file:
                    self._put(file, Path(QUARANTINE, UPLOADS, row.blob))
            except BlobMissing:
                lost = {"state": str(State.REFUSED), "reason": "it was not in the backup", "blob": None}
                copy.execute(update(table).where(table.c.id == row.id).values(lost))

    def _copy_logs(self, copy: Connection) -> int:
        """Copy the logs of attempts; those of attempts that begin meanwhile are not in the copy's rows."""
        table, count = tables.attempts, 0
        for number in copy.scalars(select(table.c.id).where(table.c.log_deleted_at.is_(None))).all():
            name = Path(LOGS, f"{number}{SUFFIX}")
            try:
                with (self.data / name).open("rb") as file:
                    self._put(file, name)
                count += 1
            except FileNotFoundError:
                self._forget_log(copy, number)
        return count

    def _forget_log(self, copy: Connection, attempt: int) -> None:
        table = tables.attempts
        with transaction(self.live) as connection:
            row = connection.execute(select(table.c.log_deleted_at).where(table.c.id == attempt)).first()
        if row is None or row.log_deleted_at is not None:
            deleted = {"log_deleted_at": int(time.time())}
            copy.execute(update(table).where(table.c.id == attempt).values(deleted))

    def _put(self, source: BinaryIO | Any, name: Path) -> None:
        """Have the file in the backup under `name`, with its time and mode."""
        path = self.draft / name
        for directory in reversed(path.relative_to(self.draft).parents):
            (self.draft / directory).mkdir(mode=0o755, exist_ok=True)
        status = os.fstat(source.fileno())
        if self.link is not None and _is_same(self.link / name, status):
            os.link(self.link / name, path)
            self.linked += 1
            return
        with path.open("xb") as target:
            shutil.copyfileobj(source, target, PIECE)
        path.chmod(status.st_mode & 0o777)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _is_same(path: Path, status: os.stat_result) -> bool:
    """Whether a file of an earlier backup is this one: package files never change; logs only grow."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
