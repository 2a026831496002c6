# SPDX-License-Identifier: GPL-2.0-or-later
"""Package files in a directory.

    DATA/packages/TARGET/CATEGORY/NAME/PF-BUILD_ID.gpkg.tar   what a row of the store names, or named
    DATA/quarantine/uploads/ID                                what builders sent and nobody published yet
    DATA/quarantine/work-RANDOM/                              drafts (`workspace`)
    DATA/logs/ATTEMPT.log                                     what builds printed that have ended

A file comes to `packages` whole and durable, by a link, or not at all. No name that came from outside is
joined to a path without a check, and no symbolic link is followed on the way to a file.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from bdcs.blobs.blobs import (
    Address,
    Blob,
    Placement,
    attempts_of,
    checked_place,
    checked_target,
    checked_upload,
    log_name,
)
from bdcs.blobs.workspace import QUARANTINE, Draft, Workspace, Workspaces, scan, space_errors
from bdcs.errors import BlobMissing, BlobTaken

PACKAGES: Final = "packages"
UPLOADS: Final = "uploads"
LOGS: Final = "logs"
SYNC_EACH: Final = 64  # so many files are synced one by one, more of them with their file system


class Directory:
    """`Blobs` below one directory, which is on one file system."""

    keeps_mtime = True

    def __init__(self, data: Path) -> None:
        self._packages = data / PACKAGES
        self._quarantine = data / QUARANTINE
        self._workspaces = Workspaces(self._quarantine)
        self._uploads = self._quarantine / UPLOADS
        self._logs = data / LOGS

    def workspace(self) -> Workspace:
        """Return a place for drafts. Raises `BlobsFull`."""
        return self._workspaces.create()

    def settle(self, placements: Sequence[Placement]) -> None:
        """Make the bytes of finished drafts durable. Raises `BlobsFull`."""
        with space_errors(self._quarantine):
            if len(placements) > SYNC_EACH:
                sync_file_system(self._quarantine)
            else:
                for placement in placements:
                    _sync(placement.draft.path)

    def place(self, placements: Sequence[Placement]) -> None:
        """Make all of them visible; after an error, some may be. Raises `BlobTaken`, `BlobsFull`."""
        by_place: defaultdict[tuple[str, str], list[Placement]] = defaultdict(list)
        for placement in placements:
            by_place[placement.target, placement.path.rpartition("/")[0]].append(placement)
        # One flush for all, where one for each of thousands of directories would take minutes.
        each = len(by_place) <= SYNC_EACH
        with space_errors(self._packages):
            for same in by_place.values():
                with self._directory(same[0].target, same[0].path, make=True, sync=each) as directory:
                    for placement in same:
                        _link(placement, directory)
                    if each:
                        os.fsync(directory)
            if not each:
                sync_file_system(self._packages)
        for placement in placements:
            placement.draft.remove()

    def open(self, target: str, path: str) -> BinaryIO:
        """Open a file for reading. Raises `BlobMissing`, also for a path that cannot be one of ours."""
        try:
            with self._directory(target, path) as parent:
                return _open_regular(f"{target}/{path}", path.rpartition("/")[2], parent)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise BlobMissing(f"{target}/{path}") from error

    def address(self, target: str, path: str, *, is_private: bool) -> Address | None:
        """Return None: nobody else reads this disk."""
        return None

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

    def clear(self, target: str) -> None:
        """Remove everything that a target has, also what others put there."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._packages / checked_target(target))

    def listed(self, target: str) -> Iterator[Blob]:
        """Yield all files of a target."""
        top = self._packages / checked_target(target)
        for directory, _, names in os.walk(top):
            for name in names:
                place = Path(directory, name)
                with contextlib.suppress(FileNotFoundError):
                    yield _blob(place, str(place.relative_to(top)))

    def targets(self) -> list[str]:
        """Return the targets that have files."""
        return sorted(entry.name for entry in scan(self._packages) if entry.is_dir(follow_symlinks=False))

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
        for entry in scan(self._uploads):
            with contextlib.suppress(FileNotFoundError):
                yield _blob(Path(entry.path), entry.name)

    def keep_log(self, attempt: int, text: bytes) -> None:
        """Durably keep the log of an attempt, in the place of any before. Raises `BlobsFull`."""
        place = self._logs / log_name(attempt)
        with space_errors(place), self.workspace() as workspace, workspace.create() as draft:
            place.parent.mkdir(mode=0o700, exist_ok=True)
            draft.file.write(text)
            draft.finish(int(time.time()))
            _sync(draft.path)
            draft.path.replace(place)
            _sync(place.parent)

    def open_log(self, attempt: int) -> BinaryIO:
        """Open a log that was kept. Raises `BlobMissing`."""
        name = f"{LOGS}/{log_name(attempt)}"
        try:
            return _open_regular(name, self._logs / log_name(attempt))
        except FileNotFoundError as error:
            raise BlobMissing(name) from error

    def drop_log(self, attempt: int) -> None:
        """Remove it; what is not there is gone already."""
        (self._logs / log_name(attempt)).unlink(missing_ok=True)

    def logs(self) -> Iterator[int]:
        """Yield the attempts whose logs were kept."""
        yield from attempts_of(entry.name for entry in scan(self._logs))

    def drop_lost(self, seconds: float) -> int:
        """Return 0: what is on this disk belongs to its workspaces."""
        return 0

    def abandoned(self) -> list[str]:
        """Return the workspaces of processes that died."""
        return self._workspaces.abandoned()

    def drop_abandoned(self, name: str) -> None:
        """Remove one of them."""
        self._workspaces.drop(name)

    @contextlib.contextmanager
    def _directory(self, target: str, path: str, *, make: bool = False, sync: bool = True) -> Iterator[int]:
        """Open the directory of a file, link by link. Raises `ValueError` where the path cannot be ours.

        `make`: missing ones are made, durably with `sync`.
        """
        checked_place(path)
        if make:
            self._packages.mkdir(mode=0o755, parents=True, exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._packages, flags)
        try:
            for name in (checked_target(target), *path.split("/")[:-1]):
                if make and _make_directory(name, descriptor) and sync:
                    os.fsync(descriptor)
                below = os.open(name, flags, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def _upload(self, upload: str) -> Path:
        return self._uploads / checked_upload(upload)


def _link(placement: Placement, directory: int) -> None:
    """Give the draft its name there as well, unless it has it. Raises `BlobTaken`."""
    name = placement.path.rpartition("/")[2]
    try:
        os.link(placement.draft.path, name, dst_dir_fd=directory)
    except FileExistsError as error:
        if not _is_at(placement.draft.path, name, directory):
            raise BlobTaken(placement.target, placement.path) from error


def _is_at(path: Path, name: str, directory: int) -> bool:
    """Whether the file has that name in a directory as well."""
    try:
        return os.path.samestat(path.stat(), os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False


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


def sync_file_system(path: Path) -> None:
    """syncfs(2): one flush for all files, where one for each of thousands would take minutes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


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
