# SPDX-License-Identifier: GPL-2.0-or-later
"""Who changes a target holds its lock, in whatever process: the server, or a command beside it.

    with target_lock(IndexFiles.of(data, name).directory):
        ...  # number, publish, write the index

The lock goes with the process that holds it, so nothing is left over from a killed one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LOCK: Final = ".lock"
DIRECTORY_MODE: Final = (
    0o755  # nginx may serve the index, where the operator opens the directories above to it
)


@contextlib.contextmanager
def target_lock(directory: Path) -> Iterator[None]:
    """Hold the lock of the target whose index is in `directory`, which is made if need be.

    Waits for whoever holds it, also another thread, so it must not be taken twice, nor in an event loop.
    """
    file = _locked(directory, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(file)


@contextlib.contextmanager
def target_lock_if_free(directory: Path) -> Iterator[bool]:
    """Hold the lock, if nobody else does; gives whether it is held."""
    try:
        file = _locked(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(file)


def _locked(directory: Path, operation: int) -> int:
    """Return a locked descriptor of the lock file that is there, not of one that was removed meanwhile."""
    path = directory / LOCK
    while True:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, operation)
            if _is_at(path, file):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
