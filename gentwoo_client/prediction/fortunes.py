# SPDX-License-Identifier: GPL-2.0-or-later
"""How a machine fares against what is expected of it, as logarithms: just now, lately, and in each stretch.

A desktop in use, a battery, another compiler, another machine: nothing in a log says so, but the merges tell
together. What a stretch of work was like is found out for good only later, when packages that it built are
built again: so it is kept apart from them, and corrected whenever one of them is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

_NEIGHBOURS: Final = 20
_FADING: Final = tuple(2.0 ** (-k / 5.0) for k in range(_NEIGHBOURS))
_LASTS: Final = 3600.0 / math.log(2.0)  # seconds; halves in an hour
_SAME_CATEGORY: Final = 1.5
_SHRINK: Final = 2.0


class _Neighbour(NamedTuple):
    residual: float
    at: int
    category: str
    weight: float


class Session:
    """How it fares just now, by the last merges: each counts less with every one after it, and with time."""

    def __init__(self, clip: float) -> None:
        """`clip`: by how much one of them may be off."""
        self._clip = clip
        self._neighbours: deque[_Neighbour] = deque(maxlen=_NEIGHBOURS)

    def learn(self, residual: float, at: int, category: str, weight: float) -> None:
        """Take note of a merge that ended."""
        residual = min(max(residual, -self._clip), self._clip)
        self._neighbours.append(_Neighbour(residual, at, category, weight))

    def fares(self, category: str, at: int, usual: float = 0.0) -> float:
        """Return how it fares then; `usual` where nothing was built for long."""
        weights, total = _SHRINK, _SHRINK * usual
        for fading, near in zip(_FADING, reversed(self._neighbours), strict=False):
            weight = near.weight * fading
            if at > near.at:
                weight *= math.exp((near.at - at) / _LASTS)
            if near.category == category:
                weight *= _SAME_CATEGORY
            weights += weight
            total += weight * near.residual
        return total / weights


class Level:
    """How it has fared over the last dozens of merges."""

    _FADING: Final = 2.0 ** (-1.0 / 30.0)

    def __init__(self, clip: float, shrink: float) -> None:
        """`clip`: as of `Session`; `shrink`: how many merges it takes to be believed by half."""
        self._clip, self._shrink = clip, shrink
        self._weight = self._sum = 0.0

    @property
    def value(self) -> float:
        """What it is now."""
        return self._sum / (self._weight + self._shrink)

    def learn(self, residual: float, weight: float, above: float = 0.0) -> None:
        """Take note of a merge that ended: what it took beyond what was expected, on top of `above`."""
        residual = min(max(residual, -self._clip), self._clip)
        self._weight = self._weight * self._FADING + weight
        self._sum = self._sum * self._FADING + weight * (residual + above)


class Placed:
    """A merge in its stretch, and what it says of that."""

    __slots__ = ("pull", "stretch", "weight")

    def __init__(self, stretch: int) -> None:
        self.stretch = stretch
        self.pull = self.weight = 0.0


class Stretches:
    """What stretches of work were like: effects of a stretch, where a package has an effect of its own.

    Least squares of both together, by turns: a merge speaks of its stretch as far as other merges of its
    package say what that takes.
    """

    _PAUSE: Final = 1800  # seconds without work, after which another stretch begins
    _LONGEST: Final = 30  # merges
    _SHRINK: Final = 3.0
    _FAR: Final = 0.35
    _TURNS: Final = 2
    _NEAR: Final = 0.8  # weight of a merge for what one before or after it takes

    def __init__(self) -> None:
        self._sums: list[tuple[float, float]] = [(0.0, 0.0)]
        self._merges = 0
        self._ended_at = 0

    def place(self, started_at: int, ended_at: int) -> Placed:
        """Return the place of a merge that ended."""
        if self._merges >= self._LONGEST or (self._merges and started_at - self._ended_at > self._PAUSE):
            self._sums.append((0.0, 0.0))
            self._merges = 0
        self._ended_at = max(self._ended_at, ended_at)
        self._merges += 1
        return Placed(len(self._sums) - 1)

    def value(self, placed: Placed) -> float:
        """Return by how much merges took longer then."""
        total, weight = self._sums[placed.stretch]
        return total / (weight + self._SHRINK)

    def correct(self, merges: Sequence[tuple[Placed, float, float]]) -> None:
        """Learn from merges of one package, in order: of each its place, logarithm of seconds, and weight."""
        for _ in range(self._TURNS):
            freed = [log - self.value(placed) for placed, log, _ in merges]
            for index, (placed, log, weight) in enumerate(merges):
                near = [self._NEAR ** abs(index - other) for other in range(len(merges))]
                others = sum(near) - 1.0
                total = sum(w * value for w, value in zip(near, freed, strict=True)) - freed[index]
                told = log - total / others
                off = abs(told - self.value(placed))
                weight *= others / (others + 1.0) * (1.0 if off <= self._FAR else self._FAR / off)
                self._tell(placed, weight * told, weight)

    def _tell(self, placed: Placed, pull: float, weight: float) -> None:
        total, weights = self._sums[placed.stretch]
        self._sums[placed.stretch] = (total + pull - placed.pull, weights + weight - placed.weight)
        placed.pull, placed.weight = pull, weight
