# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs at a terminal until somebody ends it: `make run`, `make run-cluster`, `make demo`."""

import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask for the end."""


class CannotRun(Exception):
    """Why it does not start or go on, in words for whoever typed the command."""


class Stop(Exception):
    """A signal asked for the end."""


def run_until_stopped(name: str, work: Callable[[ExitStack], None]) -> int:
    """Do `work` to its end or until a signal asks for that; return the exit code.

    What `work` gave to the stack is done then, whatever signals come meanwhile.
    """
    for number in ENDING:
        signal.signal(number, _stop)
    leaving = ExitStack()
    try:
        work(leaving)
    except CannotRun as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except Stop:
        print("\nStopping.", flush=True)
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        leaving.close()
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stop
