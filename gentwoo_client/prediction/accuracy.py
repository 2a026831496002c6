# SPDX-License-Identifier: GPL-2.0-or-later
"""How good forecasts were: errors of each method over the same merges.

A mean of percentages rewards who guesses low, so bias and the error as a factor stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gentwoo_client.prediction.averages import mean, median
from gentwoo_client.prediction.history import Estimated
from gentwoo_client.prediction.merges import SOURCE, TINY


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Errors of a method over some merges. Shares and ratios, not percent."""

    merges: int
    mean: float
    """Mean of |predicted - actual| / actual."""
    median: float
    factor: float
    """exp(mean |ln(predicted / actual)|): 1 is perfect."""
    within_half: float
    """Share within a factor of 1.5."""
    within_double: float
    bias: float
    """Sum of what was predicted, over the sum of what it took: below 1 is too low."""


def errors(pairs: Iterable[tuple[float, float]]) -> Errors | None:
    """Return the errors of `pairs`: what was predicted, and what it took. None without any."""
    known = [(predicted, actual) for predicted, actual in pairs if actual > 0]
    if not known:
        return None
    relative = [abs(predicted - actual) / actual for predicted, actual in known]
    logs = [abs(math.log(max(predicted, 0.5) / actual)) for predicted, actual in known]
    return Errors(
        merges=len(known),
        mean=mean(relative),
        median=median(relative),
        factor=math.exp(mean(logs)),
        within_half=mean(log <= math.log(1.5) for log in logs),
        within_double=mean(log <= math.log(2.0) for log in logs),
        bias=sum(predicted for predicted, _ in known) / sum(actual for _, actual in known),
    )


def is_scored(estimated: Estimated) -> bool:
    """Whether a merge counts in the table: from source, seen before, and longer than rounding."""
    return estimated.merge.kind == SOURCE and estimated.seconds >= TINY and estimated.own


def coverage(estimated: Sequence[Estimated]) -> float | None:
    """Return the share of merges that took as long as their interval says; None without any."""
    if not estimated:
        return None
    return mean(one.forecast.low <= one.seconds <= one.forecast.high for one in estimated)


def half_width(estimated: Sequence[Estimated]) -> float | None:
    """Return by what factor an interval reaches up and down, on average; None without any."""
    ends = [(max(one.forecast.low, 0.5), max(one.forecast.high, 1.0)) for one in estimated]
    return math.exp(mean(math.log(high / low) / 2.0 for low, high in ends)) if ends else None
