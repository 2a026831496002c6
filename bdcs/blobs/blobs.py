# SPDX-License-Identifier: GPL-2.0-or-later
"""What keeps package files, whatever that is: the protocol, and what a file there is known by.

`directory.Directory` has them on a file system, `s3.S3` in a bucket; `configured.blobs_of` makes the one that
the settings name. Drafts are always files of this host (`workspace`). A file appears whole and durable, under
a name that nothing has, or not at all; its bytes never change while it is there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

from bdcs.blobs.workspace import Draft, Workspace

_WORD: Final = r"[A-Za-z0-9_+][A-Za-z0-9+_.-]*"
_PATH: Final = re.compile(rf"{_WORD}(?:/{_WORD}){{1,2}}")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LOG: Final = re.compile(r"([1-9][0-9]{0,17})\.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One file as it lies there."""

    path: str
    size: int
    mtime: int
    """Unix seconds: what its draft was finished with, or when it came, where no list has that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a draft is to appear."""

    draft: Draft
    target: str
    path: str
    is_immutable: bool = False
    """Whether nothing else will ever have that path, so that caches may keep the file for good."""


class RemoteFile(io.RawIOBase):
    """A file that is read over the network: it has no descriptor, and a status of its own."""

    def __init__(self, *, size: int, mtime: int) -> None:
        super().__init__()
        self.size = size
        self.mtime = mtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where readers fetch a file themselves."""

    url: str
    lasts: int
    """Seconds for which everybody may be given the same; 0: it is for this reader alone."""


class Blobs(Protocol):
    """Where package files live. Everything here may raise `BlobsUnavailable`; then ask again later."""

    keeps_mtime: bool
    """Whether `listed` has the times that drafts were finished with."""

    def workspace(self) -> Workspace:
        """Return a place for drafts. Raises `BlobsFull`."""

    def settle(self, placements: Sequence[Placement]) -> None:
        """Make the bytes of finished drafts durable where nobody sees them: all that takes long.

        A draft is to be settled, for the name that it gets, before it is placed. Raises `BlobsFull`.
        """

    def place(self, placements: Sequence[Placement]) -> None:
        """Make all of them visible, durably. Of any number who place one name, one does.

        After an error some may be visible: only who has the lock of the target may remove them. Done again
        with the same placements, it goes on. Raises `BlobTaken` where there is a file of that name,
        `BlobsFull`.
        """

    def open(self, target: str, path: str) -> BinaryIO | RemoteFile:
        """Open a file for reading. Raises `BlobMissing`, also for a path that cannot be one of ours."""

    def address(self, target: str, path: str, *, is_private: bool) -> Address | None:
        """Return where readers can fetch the file themselves; None where it has to be sent to them.

        `is_private`: only who was asked for a token may read it. Signing may ask for credentials anew.
        """

    def delete(self, target: str, paths: Iterable[str]) -> None:
        """Remove files, and directories that they leave empty; what is not there is gone already."""

    def clear(self, target: str) -> None:
        """Remove everything that a target has, also what others put there."""

    def listed(self, target: str) -> Iterator[Blob]:
        """Yield all files of a target."""

    def targets(self) -> list[str]:
        """Return the targets that have files."""

    def keep_upload(self, draft: Draft, upload: str) -> None:
        """Durably put a finished draft into quarantine, under the name `upload`. Raises `BlobsFull`."""

    def open_upload(self, upload: str) -> BinaryIO | RemoteFile:
        """Open what is in quarantine under that name. Raises `BlobMissing`."""

    def drop_upload(self, upload: str) -> None:
        """Remove it; what is not there is gone already."""

    def uploads(self) -> Iterator[Blob]:
        """Yield what is in quarantine; `path` is the name."""

    def keep_log(self, attempt: int, text: bytes) -> None:
        """Durably keep the log of an attempt, in the place of any before. Raises `BlobsFull`."""

    def open_log(self, attempt: int) -> BinaryIO | RemoteFile:
        """Open a log that was kept. Raises `BlobMissing`."""

    def drop_log(self, attempt: int) -> None:
        """Remove it; what is not there is gone already."""

    def logs(self) -> Iterator[int]:
        """Yield the attempts whose logs were kept."""

    def drop_lost(self, seconds: float) -> int:
        """Remove what hosts that are gone began and never finished; return how much that was.

        It has been there for that long since this was first called. Whoever is at work is done sooner.
        """

    def abandoned(self) -> list[str]:
        """Return the workspaces of processes that died."""

    def drop_abandoned(self, name: str) -> None:
        """Remove one of them."""


def is_place(path: str) -> bool:
    """Whether a package file can have this path below its target; nothing of ours has another."""
    return _PATH.fullmatch(path) is not None


def is_name(name: str) -> bool:
    """Whether a target's directory, or an upload, can be called that; nothing of ours is called otherwise."""
    return _NAME.fullmatch(name) is not None


def log_name(attempt: int) -> str:
    """Return what the log of an attempt is called."""
    return f"{attempt}.log"


def attempts_of(names: Iterable[str]) -> Iterator[int]:
    """Yield the attempts whose logs are called so; what others put there is passed over."""
    for name in names:
        if found := _LOG.fullmatch(name):
            yield int(found[1])


def checked_place(path: str) -> str:
    """Return `path`. Raises `ValueError` where it cannot be one of ours."""
    if not is_place(path):
        raise ValueError(f"{path!r} is no path of a package")
    return path


def checked_target(target: str) -> str:
    """Return `target`. Raises `ValueError` where none can be called that."""
    if not is_name(target):
        raise ValueError(f"{target!r} is no name of a target")
    return target


def checked_upload(upload: str) -> str:
    """Return `upload`. Raises `ValueError` where none can be called that."""
    if not is_name(upload):
        raise ValueError(f"{upload!r} is no name of an upload")
    return upload
