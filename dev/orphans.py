# SPDX-License-Identifier: GPL-2.0-or-later
"""One run in a directory at a time, and nothing of one before it.

Processes of a run are known by a word in their environment, which their children inherit: what a run that
was killed has left is found by that, and by nothing else.
"""

import fcntl
import os
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from dev.session import CannotRun

NAME = "RUN_IN"
"""No name of a setting of ours: those are taken out of the environment of what is started."""
PATIENCE = 30.0  # seconds


def claim(home: Path, leaving: ExitStack) -> dict[str, str]:
    """Have `home` for ourselves until `leaving` is left; end what a killed run has left there.

    Returns what has to be in the environment of all that is started. Raises `CannotRun` where a run is at
    work there.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    path = home.with_name(f"{home.name}.lock")
    lock = leaving.enter_context(path.open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CannotRun(f"{home}: another one is at work there; end that first") from error
    leaving.callback(path.unlink, missing_ok=True)
    end_orphans(home)
    return {NAME: str(home)}


def end_orphans(home: Path) -> None:
    """Kill what was started for `home`, and wait until it is gone. Raises `CannotRun` where it stays."""
    deadline = time.monotonic() + PATIENCE
    while found := orphans(home):
        if time.monotonic() > deadline:
            raise CannotRun(f"{home}: what a killed run has left does not end: {found}")
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def orphans(home: Path) -> list[int]:
    """Processes that were started for `home` and have not ended."""
    word = f"{NAME}={home}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if word in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
