# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs of attempts, which only grow, and only at their ends: the protocol, and DATA/logs/ATTEMPT.log.

Where several collectors share a store, logs grow there (`services.stored_logs`).
"""

from __future__ import annotations

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bdcs.blobs.workspace import space_errors

DIRECTORY: Final = "logs"
SUFFIX: Final = ".log"
LARGEST: Final = 64 << 20  # bytes of one log, unless the operator says otherwise

_NAME: Final = re.compile(r"[1-9][0-9]{0,17}\.log")


class Logs(Protocol):
    """The logs of all attempts. Everything here blocks."""

    def append(self, attempt: int, offset: int, text: bytes) -> int:
        """Put `text` where it belongs, from `offset` on, and return how long the log is now.

        What is there already is not written again; with a gap in between, nothing is. Raises `BlobsFull`,
        `StoreUnavailable`.
        """

    def size(self, attempt: int) -> int:
        """Return how many bytes the log has; 0 where there is none."""

    def read(self, attempt: int, offset: int, most: int) -> bytes:
        """Return at most so many bytes of the log from `offset` on, never a part of a character."""

    def remove(self, attempt: int) -> None:
        """Let the log be gone."""

    def listed(self) -> list[int]:
        """Return the attempts that have a log; what others put there is passed over."""


@dataclass(frozen=True, slots=True)
class AttemptLogs:
    """The logs below a data directory."""

    data: Path
    largest: int = LARGEST
    """Bytes of one log; what a build prints beyond that is not kept."""

    def append(self, attempt: int, offset: int, text: bytes) -> int:
        """Put `text` where it belongs, from `offset` on, and return how long the log is now.

        What is there already is not written again; with a gap in between, nothing is. Raises `BlobsFull`.
        """
        path = self._path(attempt)
        with space_errors(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # what was sent again may come beside the first
                size = os.fstat(descriptor).st_size
                if offset <= size < min(offset + len(text), self.largest):
                    size += os.write(descriptor, text[size - offset :][: self.largest - size])
            finally:
                os.close(descriptor)
        return size

    def size(self, attempt: int) -> int:
        """Return how many bytes the log has; 0 where there is none."""
        try:
            return self._path(attempt).stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, attempt: int, offset: int, most: int) -> bytes:
        """Return at most so many bytes of the log from `offset` on, never a part of a character."""
        try:
            with self._path(attempt).open("rb") as file:
                file.seek(offset)
                return whole(file.read(most))
        except FileNotFoundError:
            return b""

    def remove(self, attempt: int) -> None:
        """Let the log be gone."""
        self._path(attempt).unlink(missing_ok=True)

    def listed(self) -> list[int]:
        """Return the attempts that have a log; what others put there is passed over."""
        try:
            names = os.listdir(self.data / DIRECTORY)
        except FileNotFoundError:
            return []
        return [int(name.removesuffix(SUFFIX)) for name in names if _NAME.fullmatch(name)]

    def _path(self, attempt: int) -> Path:
        return self.data / DIRECTORY / f"{attempt}{SUFFIX}"


def whole(text: bytes) -> bytes:
    """Return `text` without the beginning of a UTF-8 sequence at its end."""
    for length in range(1, min(4, len(text)) + 1):
        byte = text[-length]
        if byte & 0xC0 != 0x80:
            needed = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return text[:-length] if needed > length else text
    return text
