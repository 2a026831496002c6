# SPDX-License-Identifier: GPL-2.0-or-later
"""Compare the binhost's rows, index files and package files with each other.

Of each target: the index says what the rows say, to the byte, in both of its files; each build that was not
deleted has its file, with the size, time and hashes of its row; there is no file without a row; and the
newest generation is what is visible.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import Connection, Engine, Row, exists, func, select

from bdcs.blobs.blobs import Blobs
from bdcs.blobs.directory import Directory
from bdcs.blobs.index_files import PACKED, PLAIN, IndexFiles
from bdcs.domain.packages_index import LEAD, parse_entry
from bdcs.errors import BlobMissing, NoSuchTarget
from bdcs.services import generations, indexing, restoring, targets
from bdcs.services.differences import Differences
from bdcs.services.indexing import State
from bdcs.services.target_locks import holding, undisturbed
from bdcs.services.targets import Target
from bdcs.store.clock import agreed_time, is_shared
from bdcs.store.store import transaction
from bdcs.store.tables import builds, memberships

READ_SIZE: Final = 1 << 20  # bytes at once
PATIENCE: Final = 10.0  # seconds that a server has to write an index that was not due before

Progress = Callable[[int, int], None]
"""Told how many bytes of package files were read, and of how many."""


@dataclass(slots=True)
class BinhostReport(Differences):
    """What was looked at and what was found."""

    targets: int = 0
    builds: int = 0
    """Visible ones."""
    files: int = 0
    size: int = 0
    """Bytes of the files."""


def check_binhost(
    engine: Engine, data: Path, progress: Progress, blobs: Blobs | None = None
) -> BinhostReport:
    """Compare everything; files are in `blobs`, by default below `data`.

    May run beside a server, which waits while one target's names are compared. Hashes are compared without
    its lock: files never change, and one that goes meanwhile does not count.
    """
    report = BinhostReport()
    blobs = blobs or Directory(data)
    with transaction(engine) as connection:
        names = [target.name for target in targets.listed(connection)]
    for name in sorted(set(blobs.targets()) - set(names)):
        report.differ(f"there are package files of {name}, which is no target")
    readable: list[_Expected] = []
    for name in names:
        files = IndexFiles.of(data, name)
        with holding(engine, files), transaction(engine) as connection:
            try:
                target = targets.require(connection, name)
            except NoSuchTarget:
                continue  # it has just been removed
            readable += _TargetCheck(connection, target, files, blobs, report).run()
    _check_hashes(engine, blobs, readable, report, progress)
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expected:
    """A file that is to be read: what its row says of it."""

    build: int
    target: str
    path: str
    size: int
    md5: str
    sha1: str


@dataclass(slots=True)
class _TargetCheck:
    """The comparison of one target, while nobody changes it."""

    connection: Connection
    target: Target
    files: IndexFiles
    blobs: Blobs
    report: BinhostReport

    def run(self) -> list[_Expected]:
        """Compare all but hashes; return the files whose hashes are to be compared."""
        self.report.targets += 1
        self._check_generation()
        if restoring.made_at(self.connection) is None:  # a backup has no indexes
            self._check_index()
        return self._check_files()

    def _check_generation(self) -> None:
        newest = generations.current(self.connection, self.target)
        number, count = (0, 0) if newest is None else (newest.number, newest.builds)
        if number != self.target.generation:
            self._differ(f"it is at generation {self.target.generation}, but {number} is the newest")
        is_member = exists().where(memberships.c.build == builds.c.id, memberships.c.until.is_(None))
        visible = self.connection.scalar(self._count(builds.c.visible)) or 0
        others = self.connection.scalar(self._count(builds.c.visible != is_member)) or 0
        if visible != count or others:
            self._differ(
                f"generation {number} has {count} packages, {visible} are visible; {others} are not both"
            )
        self.report.builds += visible

    def _count(self, which: Any) -> Any:
        return select(func.count()).select_from(builds).where(builds.c.target_id == self.target.id, which)

    # The index.

    def _check_index(self) -> None:
        with undisturbed(self.connection, self.files):
            self._compare_index()

    def _compare_index(self) -> None:
        now = agreed_time(self.connection)
        state = indexing.state_of(self.connection, self.target, self.files)
        if state is not State.CURRENT and is_shared(self.connection):
            return  # the collector whose files these are writes them before it next serves them
        ahead = self.target.timestamp - now
        was_waiting = state is State.BEHIND and LEAD - PATIENCE < ahead <= LEAD
        if state is State.WAITING or was_waiting:
            return
        if not self.target.generation and not self.files.path(PLAIN).exists():
            return
        if state is State.CURRENT and indexing.agrees(self.connection, self.target, self.files):
            return
        before = self.report.differences
        try:
            self._compare_entries()
            self._compare_packed()
        except OSError as error:
            self._differ(f"the index cannot be read: {error}")
        if self.report.differences == before:
            self._differ("the index has another header, time or order than the rows")

    def _compare_entries(self) -> None:
        query = select(builds.c.path, builds.c.entry).where(
            builds.c.target_id == self.target.id, builds.c.visible
        )
        expected = {row.path: row.entry for row in self.connection.execute(query)}
        with self.files.path(PLAIN).open(encoding="utf-8", errors="replace", newline="") as file:
            for text in _blocks(file):
                path = parse_entry(text).get("PATH", "")
                entry = expected.pop(path, None)
                if entry is None:
                    self._differ(
                        f"the index lists {path or 'something without PATH'}, which is not published"
                    )
                elif entry != text:
                    self._differ(f"the index does not say of {path} what was published")
        for path in sorted(expected):
            self._differ(f"the index does not list {path}")

    def _compare_packed(self) -> None:
        with self.files.path(PLAIN).open("rb") as plain, self.files.path(PACKED).open("rb") as packed:
            if not _are_equal(plain, packed):
                self._differ(f"{PACKED} does not hold what {PLAIN} does")

    # Package files.

    def _check_files(self) -> list[_Expected]:
        there = {blob.path: blob for blob in self.blobs.listed(self.target.name)}
        self.report.files += len(there)
        self.report.size += sum(blob.size for blob in there.values())
        readable = []
        for row in self._rows():
            blob = there.pop(row.path, None)
            if row.deleted_at is not None:
                if blob is not None:
                    self._differ(f"{row.path} was deleted, but its file is there")
                continue
            self._check_entry(row)
            if blob is None:
                self._differ(f"{row.path} is {'listed' if row.visible else 'withdrawn'}, but has no file")
            elif blob.size != row.size:
                self._differ(f"{row.path} has {blob.size} bytes, not {row.size}")
            else:
                if self.blobs.keeps_mtime and blob.mtime != row.mtime:
                    self._differ(f"{row.path} has another mtime than its row")
                readable.append(
                    _Expected(
                        build=row.id,
                        target=self.target.name,
                        path=row.path,
                        size=row.size,
                        md5=row.md5,
                        sha1=row.sha1,
                    )
                )
        for path in sorted(there):
            self._differ(f"{path} is a file that nobody published")
        return readable

    def _rows(self) -> Iterator[Row[*tuple[Any, ...]]]:
        columns = (
            builds.c[name]
            for name in (
                "id",
                "cpv",
                "path",
                "size",
                "mtime",
                "md5",
                "sha1",
                "entry",
                "visible",
                "deleted_at",
            )
        )
        query = select(*columns).where(builds.c.target_id == self.target.id).order_by(builds.c.path)
        yield from self.connection.execution_options(yield_per=1000).execute(query)

    def _check_entry(self, row: Row[*tuple[Any, ...]]) -> None:
        entry = parse_entry(row.entry)
        stated = {
            "CPV": row.cpv,
            "PATH": row.path,
            "SIZE": str(row.size),
            "MTIME": str(row.mtime),
            "MD5": row.md5,
            "SHA1": row.sha1,
        }
        wrong = [key for key, value in stated.items() if entry.get(key) != value]
        if wrong:
            self._differ(f"{row.path}: {', '.join(wrong)} of its entry are not those of its row")

    def _differ(self, text: str) -> None:
        self.report.differ(f"target {self.target.name}: {text}")


def _check_hashes(
    engine: Engine, blobs: Blobs, files: list[_Expected], report: BinhostReport, progress: Progress
) -> None:
    done, total = 0, sum(file.size for file in files)
    progress(done, total)
    for file in files:
        problem = _problem(blobs, file)
        if problem is not None and not _is_deleted(engine, file):
            report.differ(f"target {file.target}: {problem}")
        done += file.size
        progress(done, total)


def _problem(blobs: Blobs, expected: _Expected) -> str | None:
    """Return what is wrong with a file, or None."""
    md5, sha1 = hashlib.md5(usedforsecurity=False), hashlib.sha1(usedforsecurity=False)
    try:
        with blobs.open(expected.target, expected.path) as file:
            while octets := file.read(READ_SIZE):
                md5.update(octets)
                sha1.update(octets)
    except BlobMissing:
        return f"{expected.path} is no regular file"
    except OSError as error:
        return f"{expected.path} cannot be read: {error.strerror}"
    wrong = [
        name
        for name, found, stated in (
            ("MD5", md5.hexdigest(), expected.md5),
            ("SHA1", sha1.hexdigest(), expected.sha1),
        )
        if found != stated
    ]
    return f"{expected.path} has another {' and '.join(wrong)} than its row" if wrong else None


def _is_deleted(engine: Engine, file: _Expected) -> bool:
    """Whether the file's build was deleted, or its target removed, since its row was looked at."""
    with transaction(engine) as connection:
        row = connection.execute(select(builds.c.deleted_at).where(builds.c.id == file.build)).first()
    return row is None or row.deleted_at is not None


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    """Yield the entries of an index, without its header."""
    block: list[str] = []
    is_header = True
    for line in lines:
        text = line.removesuffix("\n")
        if text:
            block.append(text)
            continue
        if block and not is_header:
            yield "\n".join(block)
        block, is_header = [], False
    if block and not is_header:
        yield "\n".join(block)


def _are_equal(plain: BinaryIO, packed: BinaryIO) -> bool:
    try:
        with gzip.open(packed) as unpacked:
            while octets := plain.read(READ_SIZE):
                if unpacked.read(len(octets)) != octets:
                    return False
            return not unpacked.read(1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
