# SPDX-License-Identifier: GPL-2.0-or-later
"""From a forecast to an interval that holds four times out of five, on this machine as it is.

Standardised residuals of the machine are remembered and their quantiles used, with a few invented ones so
that it works from the first day. Which quantiles, is corrected after each merge by whether the interval held:
so it comes out right in the long run whatever the residuals are like.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from typing import Final

from gentwoo_client.prediction.merges import ROUNDING

COVERAGE: Final = 0.83
"""Aimed at: what is published is 80 %, and a stretch that differs from the last one takes some of it."""

_REMEMBERED: Final = 300
_STEP: Final = 0.006
_TAILS: Final = (0.02, 0.2)
_INVENTED: Final = (
    0.0,
    *(sign * size for size in (0.08, 0.2, 0.35, 0.55, 0.8, 1.1, 1.5, 2.4) for sign in (1, -1)),
)


class Intervals:
    """The residuals of one machine."""

    def __init__(self) -> None:
        self._sorted = sorted(_INVENTED)
        self._latest: deque[float] = deque()
        self._tail = (1.0 - COVERAGE) / 2.0

    def around(self, mean: float, spread: float) -> tuple[float, float]:
        """Return the ends, in whole seconds, for a logarithm of seconds and its spread."""
        width = math.hypot(spread, ROUNDING / math.exp(mean))
        low = math.floor(math.exp(mean + width * self._quantile(self._tail)))
        return low, max(low + 1.0, math.ceil(math.exp(mean + width * self._quantile(1.0 - self._tail))))

    def learn(self, mean: float, spread: float, seconds: float, ends: tuple[float, float]) -> None:
        """Take note of what came of a forecast."""
        self._tail += _STEP * ((1.0 - COVERAGE) - (not ends[0] <= seconds <= ends[1]))
        self._tail = min(max(self._tail, _TAILS[0]), _TAILS[1])
        residual = (math.log(seconds) - mean) / math.hypot(spread, ROUNDING / math.exp(mean))
        insort(self._sorted, residual)
        self._latest.append(residual)
        if len(self._latest) > _REMEMBERED:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]

    def beyond(self, mean: float, spread: float, elapsed: float) -> float:
        """Return how many seconds, likely, a merge has left that has taken `elapsed` already.

        The median of the residuals beyond. What is late by a factor stays late by a factor.
        """
        if elapsed <= 0:
            return math.exp(mean)
        width = math.hypot(spread, ROUNDING / math.exp(mean))
        position = (math.log(elapsed) - mean) / width
        rest = self._sorted[bisect_left(self._sorted, position) :]
        late = elapsed * max(0.15, 1.8 * (math.log(elapsed) - mean)) if elapsed > math.exp(mean) else 0.0
        if len(rest) < 3:
            return max(1.0, late)
        middle = rest[len(rest) // 2]
        return max(1.0, math.exp(mean + width * middle) - elapsed)

    def _quantile(self, fraction: float) -> float:
        place = fraction * (len(self._sorted) - 1)
        index = int(place)
        low = self._sorted[index]
        return low + (self._sorted[min(index + 1, len(self._sorted) - 1)] - low) * (place - index)
