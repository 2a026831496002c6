# SPDX-License-Identifier: GPL-2.0-or-later
"""The lock of a target: whoever publishes, prunes, rolls back or deletes files holds it, in any process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LOCK_NAME: Final = ".lock"
DIRECTORY_MODE: Final = 0o755


def target_directory(data: Path, name: str) -> Path:
    """Return where the index files and the lock of a target are."""
    return data / "binhost" / name


@contextlib.contextmanager
def target_lock(directory: Path) -> Iterator[None]:
    """Hold the lock of the target whose index lies in `directory`, which is made if need be; waits for it.

    It is the open file's (flock): it also keeps threads of one process apart, and ends with the process.
    """
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
