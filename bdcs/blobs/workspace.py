# SPDX-License-Identifier: GPL-2.0-or-later
"""Drafts of package files, on a disk of this host, wherever the files are going to be kept.

DATA/quarantine/work-RANDOM/N        what one process is at work on
DATA/quarantine/work-RANDOM/.lock    … held (flock) for as long as it lives

While a workspace has no lock yet, its maker shares the lock of DATA/quarantine itself; who looks for
abandoned ones holds that alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from bdcs import measures
from bdcs.errors import BlobsFull, StoreUnavailable

log = logging.getLogger(__name__)

QUARANTINE: Final = "quarantine"
WORK: Final = "work-"
LOCK: Final = ".lock"
FILE_MODE: Final = 0o644  # nginx may serve them, where the operator opens the directories above to it
COPY_SIZE: Final = 1 << 30  # bytes that one copy_file_range may move
PIECE: Final = 1 << 20  # bytes read at once where the kernel cannot copy

_CANNOT_SHARE: Final = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP))
"""What copy_file_range(2) says of file systems that it cannot copy between."""
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def _nothing_more(_workspace: Path) -> None:
    """Whatever belongs to it is in its directory."""


class Draft:
    """A file that nobody sees yet. `file` reads and writes, until it is finished.

    Leaving its `with` block by an error removes it.
    """

    def __init__(self, path: Path, file: BinaryIO | None = None) -> None:
        self.path = path
        self._file = file

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make it, empty, where nothing is. Raises `BlobsFull`."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with space_errors(path):
            return cls(path, os.fdopen(os.open(path, flags, 0o600), "w+b"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.remove()

    @property
    def file(self) -> BinaryIO:
        """The open file. Raises `ValueError` when it is finished."""
        if self._file is None:
            raise ValueError(f"{self.path} is finished")
        return self._file

    def open(self) -> BinaryIO:
        """Open it for reading, and anew."""
        return os.fdopen(os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")

    def finish(self, mtime: int) -> None:
        """Nothing more will be written: give it the mode and the mtime that it keeps, and close it."""
        self.file.flush()
        os.fchmod(self.file.fileno(), FILE_MODE)
        os.utime(self.file.fileno(), (mtime, mtime))
        self.close()

    def close(self) -> None:
        """Close it, whatever it holds."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what cannot be written any more is not wanted any more
                self._file.close()
            self._file = None

    def remove(self) -> None:
        """Let it be gone."""
        self.close()
        self.path.unlink(missing_ok=True)


class Workspace:
    """Drafts of one process. Those that were not placed go when it closes, or after the process has died."""

    def __init__(self, directory: Path, forget: Callable[[Path], None]) -> None:
        """`forget` is called with the directory before it goes; where that fails, it is left abandoned."""
        self._directory = directory
        self._forget = forget
        self._count = 0
        with _locked(directory.parent, fcntl.LOCK_SH):
            directory.mkdir(mode=0o700)
            self._lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def path(self) -> Path:
        """Return where a draft may be made; a name that was not given out before."""
        self._count += 1
        return self._directory / str(self._count)

    def create(self) -> Draft:
        """Return a new, empty draft. Raises `BlobsFull`."""
        return Draft.create(self.path())

    def close(self) -> None:
        """Remove what is left."""
        try:
            self._forget(self._directory)
            shutil.rmtree(self._directory, ignore_errors=True)
        except StoreUnavailable as error:
            log.warning("what is left of a publication is removed later: %s", error)
        finally:
            os.close(self._lock)


@dataclass(frozen=True, slots=True)
class Workspaces:
    """The workspaces below one directory, of however many processes."""

    directory: Path
    forget: Callable[[Path], None] = _nothing_more
    """Removes what else belongs to a workspace, elsewhere, before its directory goes."""

    def create(self) -> Workspace:
        """Return a new one. Raises `BlobsFull`."""
        with space_errors(self.directory):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Workspace(self.directory / f"{WORK}{secrets.token_hex(8)}", self.forget)

    def abandoned(self) -> list[str]:
        """Return those of processes that died."""
        if not self.directory.exists():
            return []
        with _locked(self.directory, fcntl.LOCK_EX):
            return sorted(
                entry.name
                for entry in scan(self.directory)
                if entry.name.startswith(WORK) and not _is_locked(Path(entry.path))
            )

    def drop(self, name: str) -> None:
        """Remove one that is abandoned."""
        self.forget(self.directory / name)
        shutil.rmtree(self.directory / name, ignore_errors=True)


def copy_file(source: BinaryIO | io.RawIOBase, target: BinaryIO) -> None:
    """Copy all of `source` to `target`, both new and unread: in the kernel, where it has both files."""
    try:
        descriptor = source.fileno()
    except io.UnsupportedOperation:
        shutil.copyfileobj(source, target, PIECE)
        return
    _copy_bytes(descriptor, target.fileno())


def _copy_bytes(source: int, target: int) -> None:
    """Copy all that follows in `source` to `target`, in the kernel, sharing blocks where it can."""
    try:
        while os.copy_file_range(source, target, COPY_SIZE):
            pass
    except OSError as error:
        if error.errno not in _CANNOT_SHARE:
            raise
        while os.sendfile(target, source, None, COPY_SIZE):
            pass


@contextlib.contextmanager
def space_errors(place: Path) -> Iterator[None]:
    """Turn "no space left", a quota and a file size limit into `BlobsFull`, which names `place`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            measures.BLOB_ERRORS.add("full")
            raise BlobsFull(place, os.strerror(error.errno or 0)) from error
        raise


def scan(directory: Path) -> list[os.DirEntry[str]]:
    """Return what is in a directory; nothing where it is not there."""
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def _locked(directory: Path, operation: int) -> Iterator[None]:
    """Hold the lock (flock(2)) of a directory itself; wait until it can be had."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


def _is_locked(workspace: Path) -> bool:
    """Whether the process that made it lives, or has just removed it. Nobody makes one meanwhile."""
    try:
        descriptor = os.open(workspace / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return not workspace.exists()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
