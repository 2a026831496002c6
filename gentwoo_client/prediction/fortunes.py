# SPDX-License-Identifier: GPL-2.0-or-later
"""How a machine fares against what is expected of it, as logarithms: just now, lately, and in each stretch.

A desktop in use, a battery, another compiler, another machine: nothing in a log says so, but the merges tell
together. What a stretch of work was like is found out for good only later, when packages that it built are
built again: so it is kept apart from them, and corrected whenever one of them is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import exp, log
from operator import mul
from typing import Final, NamedTuple

_NEIGHBOURS: Final = 12
_FADING: Final = tuple(2.0 ** (-k / 5.0) for k in range(_NEIGHBOURS))
_LASTS: Final = 3600.0 / log(2.0)  # seconds; halves in an hour
_SAME_CATEGORY: Final = 1.5
_SHRINK: Final = 2.0
_CLIP: Final = 0.4
_CLIP_FREED: Final = 0.6


_COMPARED: Final = 8
"""Merges of a package, the latest, that say what the stretches were like in which they were built."""
_NEAR: Final = tuple(0.8 ** abs(distance) * (distance != 0) for distance in range(-_COMPARED, _COMPARED + 1))
"""What a merge says of what another one takes, so many before or after it."""


class _Neighbour(NamedTuple):
    residual: float
    freed: float
    at: int
    category: str
    weight: float


class Session:
    """How it fares just now, by the last merges: each counts less with every one after it, and with time.

    In two ways: against what was expected by how it fared before (`residual`), and against what was expected
    by what the stretches of work were like (`freed`).
    """

    def __init__(self) -> None:
        self._neighbours: deque[_Neighbour] = deque(maxlen=_NEIGHBOURS)

    def learn(self, residual: float, freed: float, *, at: int, category: str, weight: float) -> None:
        """Take note of a merge that ended."""
        residual = min(max(residual, -_CLIP), _CLIP)
        freed = min(max(freed, -_CLIP_FREED), _CLIP_FREED)
        self._neighbours.appendleft(_Neighbour(residual, freed, at, category, weight))

    def fares(self, category: str, at: int, usual: float = 0.0) -> tuple[float, float]:
        """Return how it fares then, in both ways; `usual` is the second where nothing was built for long."""
        weights, residuals, all_freed = _SHRINK, 0.0, _SHRINK * usual
        for fading, (residual, freed, ended_at, of, weight) in zip(_FADING, self._neighbours, strict=False):
            weight *= fading
            if at > ended_at:
                weight *= exp((ended_at - at) / _LASTS)
            if of == category:
                weight *= _SAME_CATEGORY
            weights += weight
            residuals += weight * residual
            all_freed += weight * freed
        return residuals / weights, all_freed / weights


class Level:
    """How it has fared over the last dozens of merges."""

    _FADING: Final = 2.0 ** (-1.0 / 30.0)

    def __init__(self, clip: float, shrink: float) -> None:
        """`clip`: by how much a merge may be off; `shrink`: how many of them make it believed by half."""
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

    Least squares of both together, a package at a time: a merge speaks of its stretch as far as other merges
    of its package say what that takes.
    """

    _PAUSE: Final = 1800  # seconds without work, after which another stretch begins
    _LONGEST: Final = 30  # merges
    _SHRINK: Final = 3.0
    _FAR: Final = 0.35

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
        merges = merges[-_COMPARED:]
        count = len(merges)
        freed = [took - self.value(placed) for placed, took, _ in merges]
        for index, (placed, took, weight) in enumerate(merges):
            near = _NEAR[_COMPARED - index : _COMPARED - index + count]
            others = sum(near)
            told = took - sum(map(mul, near, freed)) / others
            off = abs(told - self.value(placed))
            weight *= others / (others + 1.0) * (1.0 if off <= self._FAR else self._FAR / off)
            self._tell(placed, weight * told, weight)

    def _tell(self, placed: Placed, pull: float, weight: float) -> None:
        total, weights = self._sums[placed.stretch]
        self._sums[placed.stretch] = (total + pull - placed.pull, weights + weight - placed.weight)
        placed.pull, placed.weight = pull, weight
