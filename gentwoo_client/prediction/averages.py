# SPDX-License-Identifier: GPL-2.0-or-later
"""Middles of a few numbers. (`statistics` is exact, and imports decimals and fractions to be so.)"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

_ODD: Final = 1.0
"""Two logarithms of seconds that differ by more: one of them is spoilt."""


def mean(values: Iterable[float]) -> float:
    """Return the mean. Raises ZeroDivisionError without any."""
    some = list(values)
    return sum(some) / len(some)


def median(values: Iterable[float]) -> float:
    """Return the median. Raises IndexError without any."""
    some = sorted(values)
    half = len(some) // 2
    return some[half] if len(some) % 2 else (some[half - 1] + some[half]) / 2.0


def weighted_mean(weights: Sequence[float], values: Sequence[float]) -> float:
    """Return the mean of as many values as weights."""
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def robust_mean(weights: Sequence[float], values: Sequence[float], far: float) -> float:
    """Return the weighted mean, in which what lies off by more than `far` weighs less (Huber).

    Of two values nobody knows which one is off: it takes three. So two that differ very much count the same.
    """
    if len(values) == 1:
        return values[0]
    if len(values) == 2 and abs(values[0] - values[1]) > _ODD:
        return (values[0] + values[1]) / 2.0
    middle = weighted_mean(weights, values)
    if len(values) < 3:
        return middle
    for _ in range(3):
        if max(values) - middle <= far and middle - min(values) <= far:
            return weighted_mean(weights, values)
        damped = [
            weight if abs(value - middle) <= far else weight * far / abs(value - middle)
            for weight, value in zip(weights, values, strict=True)
        ]
        middle = weighted_mean(damped, values)
    return middle


def settled(weights: Sequence[float], values: Sequence[float]) -> float:
    """Return what lies midway between the weighted mean and the weighted median."""
    middle = weighted_mean(weights, values)
    half = sum(weights) / 2.0
    for value, weight in sorted(zip(values, weights, strict=True)):
        half -= weight
        if half <= 0.0:
            return (middle + value) / 2.0
    return middle
