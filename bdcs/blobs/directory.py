# SPDX-License-Identifier: GPL-2.0-or-later
"""Package files in a directory.

    DATA/packages/TARGET/CATEGORY/NAME/PF-BUILD_ID.gpkg.tar   what a row of the store names, or named
    DATA/quarantine/uploads/ID                                what builders sent and nobody published yet
    DATA/quarantine/work-RANDOM/N                             what one process is at work on
    DATA/quarantine/work-RANDOM/.lock                         … held (flock) for as long as it lives

A file comes to `packages` whole and durable, by a rename, or not at all. No name that came from outside is
joined to a path without a check, and no symbolic link is followed on the way to a file.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Protocol, Self

from bdcs.errors import BlobMissing, BlobsFull

PACKAGES: Final = "packages"
QUARANTINE: Final = "quarantine"
UPLOADS: Final = "uploads"
WORK: Final = "work-"
NEW: Final = "new-"  # a workspace that has no lock yet
LOCK: Final = ".lock"
FILE_MODE: Final = 0o644  # nginx may serve them, where the operator opens the directories above to it
COPY_SIZE: Final = 1 << 30  # bytes that one copy_file_range may move
SYNC_EACH: Final = 64  # so many files are synced one by one, more of them with their file system
YOUNG: Final = 60.0  # seconds in which a workspace gets its lock

_WORD: Final = r"[A-Za-z0-9_+][A-Za-z0-9+_.-]*"
_PATH: Final = re.compile(rf"{_WORD}(?:/{_WORD}){{1,2}}")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_CANNOT_SHARE: Final = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP))
"""What copy_file_range(2) says of file systems that it cannot copy between."""
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One file as it lies there."""

    path: str
    size: int
    mtime: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a draft is to appear."""

    draft: Draft
    target: str
    path: str


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

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        unlocked = directory.with_name(directory.name.replace(WORK, NEW))
        unlocked.mkdir(mode=0o700)
        self._lock = os.open(unlocked / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unlocked.rename(directory)

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
        shutil.rmtree(self._directory, ignore_errors=True)
        os.close(self._lock)


class Blobs(Protocol):
    """Where package files live."""

    def workspace(self) -> Workspace:
        """Return a place for drafts. Raises `BlobsFull`."""

    def settle(self, drafts: Sequence[Draft]) -> None:
        """Make the bytes of finished drafts durable; a draft is to be settled before it is placed."""

    def place(self, placements: Sequence[Placement]) -> None:
        """Make all of them visible, durably, or none; a file that had the name is replaced."""

    def open(self, target: str, path: str) -> BinaryIO:
        """Open a file for reading. Raises `BlobMissing`, also for a path that cannot be one of ours."""

    def delete(self, target: str, paths: Iterable[str]) -> None:
        """Remove files, and directories that they leave empty; what is not there is gone already."""

    def listed(self, target: str) -> Iterator[Blob]:
        """Yield all files of a target."""

    def targets(self) -> list[str]:
        """Return the targets that have files."""

    def keep_upload(self, draft: Draft, upload: str) -> None:
        """Durably put a finished draft into quarantine, under the name `upload`."""

    def open_upload(self, upload: str) -> BinaryIO:
        """Open what is in quarantine under that name. Raises `BlobMissing`."""

    def drop_upload(self, upload: str) -> None:
        """Remove it; what is not there is gone already."""

    def uploads(self) -> Iterator[Blob]:
        """Yield what is in quarantine; `path` is the name."""

    def abandoned(self) -> list[str]:
        """Return the workspaces of processes that died."""

    def drop_abandoned(self, name: str) -> None:
        """Remove one of them."""


class Directory:
    """`Blobs` below one directory, which is on one file system."""

    def __init__(self, data: Path) -> None:
        self._packages = data / PACKAGES
        self._quarantine = data / QUARANTINE
        self._uploads = self._quarantine / UPLOADS

    def workspace(self) -> Workspace:
        """Return a place for drafts. Raises `BlobsFull`."""
        with space_errors(self._quarantine):
            self._quarantine.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Workspace(self._quarantine / f"{WORK}{secrets.token_hex(8)}")

    def settle(self, drafts: Sequence[Draft]) -> None:
        """Make the bytes of finished drafts durable. Raises `BlobsFull`."""
        with space_errors(self._quarantine):
            if len(drafts) > SYNC_EACH:
                _sync_file_system(self._quarantine)
            else:
                for draft in drafts:
                    _sync(draft.path)

    def place(self, placements: Sequence[Placement]) -> None:
        """Make all of them visible, or none. Raises `BlobsFull`."""
        placed: list[Placement] = []
        by_place: defaultdict[tuple[str, str], list[Placement]] = defaultdict(list)
        for placement in placements:
            by_place[placement.target, placement.path.rpartition("/")[0]].append(placement)
        # One flush for all, where one for each of thousands of directories would take minutes.
        each = len(by_place) <= SYNC_EACH
        try:
            with space_errors(self._packages):
                for same in by_place.values():
                    with self._directory(same[0].target, same[0].path, make=True, sync=each) as directory:
                        for placement in same:
                            name = placement.path.rpartition("/")[2]
                            os.rename(placement.draft.path, name, dst_dir_fd=directory)
                            placed.append(placement)
                        if each:
                            os.fsync(directory)
                if not each:
                    _sync_file_system(self._packages)
        except BaseException:
            for placement in placed:
                self.delete(placement.target, [placement.path])
            raise

    def open(self, target: str, path: str) -> BinaryIO:
        """Open a file for reading. Raises `BlobMissing`, also for a path that cannot be one of ours."""
        try:
            with self._directory(target, path) as parent:
                return _open_regular(f"{target}/{path}", path.rpartition("/")[2], parent)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise BlobMissing(f"{target}/{path}") from error

    def delete(self, target: str, paths: Iterable[str]) -> None:
        """Remove files, and directories that they leave empty; what is not there is gone already."""
        for path in paths:
            try:
                with self._directory(target, path) as parent:
                    os.unlink(path.rpartition("/")[2], dir_fd=parent)
            except (FileNotFoundError, NotADirectoryError):
                continue
            place = (self._packages / target / path).parent
            while place != self._packages:
                try:
                    place.rmdir()
                except OSError:
                    break  # others are in it
                place = place.parent

    def listed(self, target: str) -> Iterator[Blob]:
        """Yield all files of a target."""
        top = self._packages / _checked_target(target)
        for directory, _, names in os.walk(top):
            for name in names:
                place = Path(directory, name)
                with contextlib.suppress(FileNotFoundError):
                    yield _blob(place, str(place.relative_to(top)))

    def targets(self) -> list[str]:
        """Return the targets that have files."""
        return sorted(entry.name for entry in _scan(self._packages) if entry.is_dir(follow_symlinks=False))

    def keep_upload(self, draft: Draft, upload: str) -> None:
        """Durably put a finished draft into quarantine, under the name `upload`. Raises `BlobsFull`."""
        with space_errors(self._uploads):
            self._uploads.mkdir(mode=0o700, exist_ok=True)
            _sync(draft.path)
            draft.path.rename(self._upload(upload))
            _sync(self._uploads)

    def open_upload(self, upload: str) -> BinaryIO:
        """Open what is in quarantine under that name. Raises `BlobMissing`."""
        name = f"{QUARANTINE}/{UPLOADS}/{upload}"
        try:
            return _open_regular(name, self._upload(upload))
        except FileNotFoundError as error:
            raise BlobMissing(name) from error

    def drop_upload(self, upload: str) -> None:
        """Remove it; what is not there is gone already."""
        self._upload(upload).unlink(missing_ok=True)

    def uploads(self) -> Iterator[Blob]:
        """Yield what is in quarantine; `path` is the name."""
        for entry in _scan(self._uploads):
            with contextlib.suppress(FileNotFoundError):
                yield _blob(Path(entry.path), entry.name)

    def abandoned(self) -> list[str]:
        """Return the workspaces of processes that died."""
        return sorted(
            entry.name
            for entry in _scan(self._quarantine)
            if (entry.name.startswith(WORK) and not _is_locked(Path(entry.path)))
            or (entry.name.startswith(NEW) and not _is_young(entry))
        )

    def drop_abandoned(self, name: str) -> None:
        """Remove one of them."""
        shutil.rmtree(self._quarantine / name, ignore_errors=True)

    @contextlib.contextmanager
    def _directory(self, target: str, path: str, *, make: bool = False, sync: bool = True) -> Iterator[int]:
        """Open the directory of a file, link by link. Raises `ValueError` where the path cannot be ours.

        `make`: missing ones are made, durably with `sync`.
        """
        if not is_place(path):
            raise ValueError(f"{path!r} is no path of a package")
        if make:
            self._packages.mkdir(mode=0o755, parents=True, exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._packages, flags)
        try:
            for name in (_checked_target(target), *path.split("/")[:-1]):
                if make and _make_directory(name, descriptor) and sync:
                    os.fsync(descriptor)
                below = os.open(name, flags, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def _upload(self, upload: str) -> Path:
        if not is_name(upload):
            raise ValueError(f"{upload!r} is no name of an upload")
        return self._uploads / upload


def is_place(path: str) -> bool:
    """Whether a package file can have this path below its target; nothing of ours has another."""
    return _PATH.fullmatch(path) is not None


def is_name(name: str) -> bool:
    """Whether a target's directory, or an upload, can be called that; nothing of ours is called otherwise."""
    return _NAME.fullmatch(name) is not None


def copy_bytes(source: int, target: int) -> None:
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
            raise BlobsFull(place, os.strerror(error.errno or 0)) from error
        raise


def _checked_target(target: str) -> str:
    if not is_name(target):
        raise ValueError(f"{target!r} is no name of a target")
    return target


def _make_directory(name: str, parent: int) -> bool:
    """Make it and return True, unless it is there."""
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(path: Path) -> None:
    """syncfs(2): one flush for all files, where one for each of thousands would take minutes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def _scan(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _open_regular(name: str, place: Path | str, parent: int | None = None) -> BinaryIO:
    """Open a file for reading. Raises `BlobMissing` with `name` where something else lies there."""
    try:
        # Without O_NONBLOCK a FIFO that somebody put there would keep us waiting.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(place, flags, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.ELOOP:  # somebody put a symbolic link there
            raise BlobMissing(name) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BlobMissing(name)
    return os.fdopen(descriptor, "rb")


def _blob(place: Path, path: str) -> Blob:
    status = place.lstat()
    return Blob(path=path, size=status.st_size, mtime=int(status.st_mtime))


def _is_locked(workspace: Path) -> bool:
    """Whether the process that made it lives, or has just removed it."""
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


def _is_young(entry: os.DirEntry[str]) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return time.time() - entry.stat(follow_symlinks=False).st_mtime < YOUNG
    return True
