# SPDX-License-Identifier: GPL-2.0-or-later
"""One reader of the log and one sender at a time, by `flock` on files in the state directory.

The kernel lets go of the lock when its holder dies, so nothing is ever stale; the process id inside the file
is for people only. The files stay when the locks go: removing them would let two processes lock two files.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gentwoo_client.errors import AlreadyRunning

READER = "reader.lock"
"""Held by whoever reads the log into the journal."""

SENDER = "sender.lock"
"""Held by whoever sends from the journal."""

WATCHER = "builds-watcher.lock"
"""Held by whoever waits for builds that nobody stands waiting for."""

_WORK = {READER: "follows the log", SENDER: "sends", WATCHER: "waits for builds"}


@contextmanager
def exclusive_lock(state_dir: Path, name: str) -> Iterator[None]:
    """Hold the lock `name`. Raises `AlreadyRunning` with the other's process id, at once."""
    file = os.open(state_dir / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise _already_running(os.pread(file, 32, 0), name) from None
        os.ftruncate(file, 0)
        os.pwrite(file, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(file)


@contextmanager
def exclusive_locks(state_dir: Path) -> Iterator[None]:
    """Hold both locks: nobody else reads the log or sends meanwhile. Raises `AlreadyRunning`."""
    with ExitStack() as stack:
        for name in (READER, SENDER):
            stack.enter_context(exclusive_lock(state_dir, name))
        yield


def _already_running(content: bytes, name: str) -> AlreadyRunning:
    text = content.strip()
    pid = int(text) if text.isdigit() else None
    who = f"process {pid}" if pid else "another process"
    return AlreadyRunning(f"{who} {_WORK[name]} already", pid=pid, advice="stop it first")
