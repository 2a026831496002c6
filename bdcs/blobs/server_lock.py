# SPDX-License-Identifier: GPL-2.0-or-later
"""One `bdcs serve` at a time on one data directory, by `flock` on a file there.

The kernel lets go of the lock when its holder dies, so nothing is ever stale; the process id inside the file
is for people only. The file stays when the lock goes: removing it would let two processes lock two files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bdcs.errors import AlreadyServing, NoPermission

LOCK: Final = "serve.lock"


@contextlib.contextmanager
def only_server(directory: Path) -> Iterator[None]:
    """Hold the directory, which is made with mode 0700 if need be, as its only server.

    Raises `AlreadyServing` at once where another process does, `NoPermission`.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(directory / LOCK, flags, 0o600)
    except PermissionError as error:
        raise NoPermission(directory) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyServing(directory, os.pread(file, 32, 0)) from None
        os.ftruncate(file, 0)
        os.pwrite(file, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(file)
