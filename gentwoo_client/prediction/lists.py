# SPDX-License-Identifier: GPL-2.0-or-later
"""What lists really take against what list scheduling makes of the durations of their members.

With `--jobs` a merge gives its slot to the next one while it still waits to be installed, and others wait for
what they depend on. How much that shortens or lengthens a list is learned from lists that went to their end.
"""

from __future__ import annotations

import math
from typing import Final

from gentwoo_client.prediction.merges import Circumstances
from gentwoo_client.prediction.schedule import Planned, schedule

_SMALLEST: Final = 5  # merges of a list that says something
_FADING: Final = 0.8
_SHRINK: Final = 1.0
_FARTHEST: Final = 0.7


class _Open:
    """The list that is being merged."""

    __slots__ = ("begun", "jobs", "places", "seconds", "size", "started_at")

    def __init__(self, jobs: int, size: int, started_at: int) -> None:
        self.jobs, self.size, self.started_at = jobs, size, started_at
        self.begun = 0
        self.seconds: dict[int, int] = {}  # by the order of their starts
        self.places: dict[tuple[str, str], int] = {}


class Lists:
    """The lists of one machine."""

    def __init__(self) -> None:
        self._open: _Open | None = None
        self._sums: dict[int, tuple[float, float]] = {}

    def factor(self, jobs: int) -> float:
        """Return what a scheduled total is to be multiplied with, for that `--jobs`."""
        weight, total = self._sums.get(jobs, (0.0, 0.0))
        return math.exp(total / (weight + _SHRINK))

    def began(self, key: tuple[str, str], circumstances: Circumstances) -> None:
        """A merge begins."""
        current = self._open
        if (
            circumstances.place == 1
            or current is None
            or (current.jobs, current.size)
            != (
                circumstances.jobs,
                circumstances.size,
            )
        ):
            current = self._open = _Open(circumstances.jobs, circumstances.size, circumstances.at)
        current.places[key] = current.begun
        current.begun += 1

    def completed(self, key: tuple[str, str], seconds: int, ended_at: int) -> None:
        """A merge completed."""
        current = self._open
        if current is None or key not in current.places:
            return
        current.seconds[current.places.pop(key)] = seconds
        if len(current.seconds) == current.size:
            self._open = None
            self._learn(current, ended_at)

    def _learn(self, done: _Open, ended_at: int) -> None:
        took = ended_at - done.started_at
        if done.jobs == 1 or done.size < _SMALLEST or took <= 0 or done.begun != done.size:
            return
        planned = [
            Planned(seconds=seconds, low=seconds, high=seconds) for _, seconds in sorted(done.seconds.items())
        ]
        scheduled = schedule(planned, done.jobs or done.size).total
        if scheduled <= 0:
            return
        log = min(max(math.log(took / scheduled), -_FARTHEST), _FARTHEST)
        weight, total = self._sums.get(done.jobs, (0.0, 0.0))
        self._sums[done.jobs] = (_FADING * weight + 1.0, _FADING * total + log)
