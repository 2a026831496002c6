# SPDX-License-Identifier: GPL-2.0-or-later
"""How many merges share the machine, and what that costs. Both are learned; all are logarithms.

What will run beside a merge follows from what runs when it begins, from how long that likely still takes,
and from how much of the list is left for the slots of `--jobs`; beside that, from what was usual for such
runs. What it costs grows with the merge: a large one builds in parallel and wants all cores, a small one
configures.
"""

from __future__ import annotations

import math
from typing import Final

from gentwoo_client.prediction.merges import Circumstances

_SLOPE: Final = 0.4  # what is believed of a machine before it is known
_SLOPE_WEIGHT: Final = 15.0
_GROWTH: Final = 0.1  # of the slope, per unit of the logarithm of seconds
_GROWTH_WEIGHT: Final = 30.0
_MIDDLING: Final = 3.5  # logarithm of seconds of a merge that has the slope itself
_GROWS_FOR: Final = 2.0
_STEEPEST: Final = 1.2
_JUMP: Final = 1.5
_ALIKE: Final = 0.1

_RUNNING_NOW: Final = 0.7  # weight of what runs at the start, beside what is usual
_FORESEEN: Final = 0.6  # weight of what can be foreseen, beside both
_OWN_KIND: Final = 6.0
_MEAN_FADING: Final = 0.98
_LATE: Final = 0.15  # of what it took so far, what a late merge has left at least


class Sharing:
    """What one machine taught."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[int, int], tuple[float, float]] = {}
        self._run: tuple[int, int] | None = None
        self._run_count = self._run_sum = 0.0
        self._weight, self._seconds = 0.0, 0.0
        # Least squares of what contention costs: squares and products of it, alone and times the size.
        self._squares, self._mixed, self._sized = _SLOPE_WEIGHT, 0.0, _GROWTH_WEIGHT
        self._product, self._sized_product = _SLOPE_WEIGHT * _SLOPE, _GROWTH_WEIGHT * _GROWTH

    def slope(self, log: float = _MIDDLING) -> float:
        """Return by how much a merge of e^`log` seconds takes longer: logarithm per logarithm."""
        determinant = self._squares * self._sized - self._mixed**2
        level = (self._sized * self._product - self._mixed * self._sized_product) / determinant
        growth = (self._squares * self._sized_product - self._mixed * self._product) / determinant
        return min(max(level + growth * _size(log), 0.0), _STEEPEST)

    def expected(self, circumstances: Circumstances, seconds: float) -> float:
        """Return the logarithm of how many, on average, are likely to share the machine meanwhile.

        `seconds`: about how long the merge takes.
        """
        if circumstances.shared is not None:
            return circumstances.shared
        at_work, jobs, size = circumstances.at_work, circumstances.jobs, circumstances.size
        count, total = self._kinds.get(_kind(jobs, size), (0.0, 0.0))
        if at_work is None:
            # Not begun: what is usual for such a list, and never more than it has.
            if jobs == 1:
                return 0.0
            most = math.log(max(1, min(jobs or size, size)))
            return min(most, (total + 2.0 * 0.8 * most) / (count + 2.0))
        usual = total / (count + 1.0)
        if self._run == (jobs, size):
            usual = (self._run_sum + _OWN_KIND * usual) / (self._run_count + _OWN_KIND)
        usual = _RUNNING_NOW * math.log(max(1, at_work)) + (1.0 - _RUNNING_NOW) * usual
        if circumstances.left is None:
            return usual
        return usual + _FORESEEN * (self._foreseen(circumstances, circumstances.left, seconds) - usual)

    def _foreseen(self, circumstances: Circumstances, left: tuple[float, ...], seconds: float) -> float:
        """Return the same, as far as it follows from what runs now and from what waits for its slot."""
        seconds = max(seconds, 1.0)
        beside = sum(min(seconds, each) for each in left)
        waiting = max(0, circumstances.size - circumstances.place)
        slots = circumstances.jobs or len(left) + 1 + waiting
        free = max(0.0, (slots - 1) * seconds - beside)
        return math.log(1.0 + (beside + min(free, waiting * self.usual_seconds)) / seconds)

    @property
    def usual_seconds(self) -> float:
        """Mean of the last merges."""
        return self._seconds / self._weight if self._weight else 60.0

    def learn(self, circumstances: Circumstances, contention: float, seconds: float) -> None:
        """Take note of what a merge shared the machine with, and of how long it took."""
        self._weight = _MEAN_FADING * self._weight + 1.0
        self._seconds = _MEAN_FADING * self._seconds + seconds
        kind = _kind(circumstances.jobs, circumstances.size)
        count, total = self._kinds.get(kind, (0.0, 0.0))
        fading = 0.98 if count > 60 else 1.0
        self._kinds[kind] = (fading * count + 1.0, fading * total + contention)
        run = (circumstances.jobs, circumstances.size)
        if self._run != run:
            self._run, self._run_count, self._run_sum = run, 0.0, 0.0
        self._run_count += 1.0
        self._run_sum += contention

    def compare(self, carried: float, longer: float, log: float) -> None:
        """Take note of two merges of a package.

        By how much more the second one shared the machine, how much longer it took, and how large they are.
        """
        if abs(carried) <= _ALIKE:
            return
        longer, sized = min(max(longer, -_JUMP), _JUMP), _size(log) * carried
        self._squares += carried * carried
        self._mixed += carried * sized
        self._sized += sized * sized
        self._product += carried * longer
        self._sized_product += sized * longer


def left_of(expected: float, elapsed: float) -> float:
    """Return how many seconds a merge likely has left that has taken `elapsed` of what was expected."""
    return max(expected - elapsed, _LATE * elapsed, 1.0)


def _size(log: float) -> float:
    return min(max(log - _MIDDLING, -_GROWS_FOR), _GROWS_FOR)


def _kind(jobs: int, size: int) -> tuple[int, int]:
    """Return what kind of run it is: its `--jobs`, and the class of its size."""
    return jobs, 0 if size < 2 else 1 if size < 5 else 2 if size < 20 else 3
