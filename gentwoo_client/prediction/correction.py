# SPDX-License-Identifier: GPL-2.0-or-later
"""What a forecast is off by on this machine, as far as it depends on what was known: ridge regression.

Nothing is believed to matter until merges say so; what they said fades. Old ones are forgotten, and what lies
far off weighs less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_FADING: Final = 0.995
_FAR: Final = 0.3
_EVERY: Final = 5
"""Merges after which it is solved anew."""
_MOST: Final = 2.0


class Correction:
    """Coefficients, one for each thing known."""

    def __init__(self, believed: Sequence[float], stiff: Sequence[float]) -> None:
        """`believed`: coefficients before anything is learned; `stiff`: how strongly."""
        self._believed, self._stiff = believed, stiff
        self._squares = [[0.0] * len(stiff) for _ in stiff]
        self._products = [0.0] * len(stiff)
        self._coefficients = list(believed)
        self._since = 0

    def of(self, known: Sequence[float]) -> float:
        """Return what is to be added to the logarithm."""
        return min(max(self._sum(self._coefficients, known), -_MOST), _MOST)

    def learn(self, known: Sequence[float], off: float, weight: float) -> None:
        """Take note of a forecast that was off by so much."""
        rest = abs(off - self._sum(self._coefficients, known))
        weight *= 1.0 if rest <= _FAR else _FAR / rest
        beyond = off - self._sum(self._believed, known)
        for index, value in enumerate(known):
            weighted = weight * value
            row = self._squares[index]
            row[:] = [_FADING * one + weighted * other for one, other in zip(row, known, strict=True)]
            self._products[index] = _FADING * self._products[index] + weighted * beyond
        self._since += 1
        if self._since >= _EVERY:
            self._since = 0
            self._coefficients = [
                believed + found for believed, found in zip(self._believed, self._solved(), strict=True)
            ]

    @staticmethod
    def _sum(coefficients: Sequence[float], known: Sequence[float]) -> float:
        return sum(one * other for one, other in zip(coefficients, known, strict=True))

    def _solved(self) -> list[float]:
        """Return the solution of the normal equations (Gauss; positive definite, so without pivots)."""
        rows = [[*row, product] for row, product in zip(self._squares, self._products, strict=True)]
        for index, stiff in enumerate(self._stiff):
            rows[index][index] += stiff
        for index, row in enumerate(rows):
            for below in rows[index + 1 :]:
                factor = below[index] / row[index]
                below[:] = [one - factor * other for one, other in zip(below, row, strict=True)]
        found = [0.0] * len(rows)
        for index in range(len(rows) - 1, -1, -1):
            row = rows[index]
            known = sum(
                one * other for one, other in zip(row[index + 1 : -1], found[index + 1 :], strict=True)
            )
            found[index] = (row[-1] - known) / row[index]
        return found
