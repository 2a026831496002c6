# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for something to become true, with a deadline instead of a sleep and a hope."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

DEADLINE = 120.0
PAUSE = 0.01


def until(condition: Callable[[], Value], timeout: float = DEADLINE, *, what: str = "") -> Value:
    """Ask `condition` again and again; return its first true answer.

    `timeout` is in seconds. Raises `AssertionError`, naming `what` and the last answer, when it is over.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            subject = what or getattr(condition, "__qualname__", "the condition")
            raise AssertionError(f"not within {timeout:g} s: {subject} (last answer: {answer!r})")
        time.sleep(PAUSE)
