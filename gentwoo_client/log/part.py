# SPDX-License-Identifier: GPL-2.0-or-later
"""One file of the log, open for reading: the log itself or an older part of it, compressed or not."""

from __future__ import annotations

import logging
import os
import stat
import time
from dataclasses import dataclass
from typing import IO, Protocol

from gentwoo_client.log.packed import open_packed
from gentwoo_client.log.position import HEAD_SIZE, STAMP_SIZE, TAIL_SIZE, Position, last_stamped
from gentwoo_client.log.rotation import RotatedFile

BLOCK_SIZE = 64 * 1024
"""Bytes read at once."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands at the beginning of a file and just before an offset in it."""

    head: bytes = b""
    before: bytes = b""


class Part(Protocol):
    """A file from which consecutive blocks are read."""

    device: int
    inode: int

    def find(self, position: Position) -> Surroundings | None:
        """Return what surrounds `position` if this file holds what was read before it; else None.

        It must also have the same time stamp there: the fingerprints may be of damage, which looks alike in
        different files, also when they are given the same inode. To be called once, before the first `read`.
        Raises OSError.
        """

    def read(self, offset: int, expected: bytes) -> bytes | None:
        """Return the next bytes from `offset` on, empty at the end.

        None if not `expected` stands before `offset`: the file was changed meanwhile. Raises OSError.
        """

    def settled_in(self, grace: float) -> float:
        """Seconds until the file is older than `grace`: 0 where nobody can still be writing it."""

    def close(self) -> None: ...


class NotAFile(OSError):
    """It is a device, a directory or the like."""


class PlainPart:
    """A file as it is. Open also after it was renamed or deleted."""

    def __init__(self, path: str) -> None:
        """Open `path`. Raises OSError, `NotAFile` where it is no regular file."""
        # A FIFO must not block us, nor a terminal become ours.
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._file)
            raise NotAFile("is not a regular file")
        self.device = status.st_dev
        self.inode = status.st_ino

    def find(self, position: Position) -> Surroundings | None:
        head = os.pread(self._file, position.head.length, 0)
        before = os.pread(self._file, position.tail.length, position.offset - position.tail.length)
        if not position.head.matches(head) or not position.tail.matches(before):
            return None
        if not _is_told_by(self._stamp_before(position.offset), position):
            return None
        return Surroundings(head, before)

    def _stamp_before(self, offset: int) -> int | None:
        """Return the last time stamp in the first `offset` bytes, looking from their end."""
        size = BLOCK_SIZE
        while True:
            size = min(size, offset)
            lines = os.pread(self._file, size, offset - size)
            whole = lines if size == offset else lines[lines.find(b"\n") + 1 :]
            if (found := last_stamped(whole)) or size == offset:
                return found[0] if found else None
            size *= 2

    def read(self, offset: int, expected: bytes) -> bytes | None:
        # Both in one call: what stands before is then what stood there when the rest was read.
        content = os.pread(self._file, len(expected) + BLOCK_SIZE, offset - len(expected))
        return content[len(expected) :] if content.startswith(expected) else None

    def settled_in(self, grace: float) -> float:
        age = time.time() - os.fstat(self._file).st_ctime  # a rename counts as change
        return min(grace, max(0.0, grace - age))

    def close(self) -> None:
        os.close(self._file)


def _is_told_by(stamp: int | None, position: Position) -> bool:
    """Whether `stamp`, the last one before the offset of `position`, tells that this is the file meant."""
    return stamp is not None and stamp == position.stamp


class PackedPart:
    """A compressed file; offsets are those inside. What is damaged is its end."""

    def __init__(self, path: str, *, device: int, inode: int) -> None:
        """Open `path`. Raises OSError."""
        self._path = path
        self._file: IO[bytes] = open_packed(path)
        self.device = device
        self.inode = inode

    def find(self, position: Position) -> Surroundings | None:
        head = before = lines = b""
        stamp: int | None = None
        left = position.offset
        while left:
            content = self._next(min(left, BLOCK_SIZE))
            if not content:
                return None
            head += content[: HEAD_SIZE - len(head)]
            before = (before + content)[-TAIL_SIZE:]
            lines += content
            stamp = found[0] if (found := last_stamped(lines)) else stamp
            lines = lines[lines.rfind(b"\n") + 1 :][:STAMP_SIZE]
            left -= len(content)
            if len(head) >= position.head.length and not position.head.matches(head[: position.head.length]):
                return None
        if not _is_told_by(stamp, position) or not position.tail.matches(before[-position.tail.length :]):
            return None
        return Surroundings(head, before)

    def read(self, offset: int, expected: bytes) -> bytes | None:
        return self._next(BLOCK_SIZE)

    def _next(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except Exception as error:  # each compressor has exceptions of its own
            logger.warning("%s is damaged; the rest of it is lost: %s", self._path, error)
            return b""

    def settled_in(self, grace: float) -> float:
        return 0.0

    def close(self) -> None:
        self._file.close()


def open_rotated(file: RotatedFile) -> Part | None:
    """Open an older part of the log; None, and a warning, where that is not possible."""
    try:
        if file.packed:
            return PackedPart(file.path, device=file.device, inode=file.inode)
        return PlainPart(file.path)
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("%s cannot be read; what it holds is left out: %s", file.path, error.strerror or error)
        return None
