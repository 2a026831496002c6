# SPDX-License-Identifier: GPL-2.0-or-later
"""When the merges of a list are done: list scheduling on as many slots as `--jobs` has.

In the order of the list, each taking the slot that is free first. Dependencies, which `emerge --pretend` does
not tell, change the end by a few percent only.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

_EIGHTY: Final = 2.563  # standard deviations that 80 % span
_WIDEST: Final = 0.6

COMMON: Final = 0.15
"""Share of a total by which all of its members are wrong together."""


class Planned(NamedTuple):
    """One merge of a list."""

    seconds: float
    """Likely duration, or what is likely left of it."""
    low: float
    high: float
    running: bool = False


class Schedule(NamedTuple):
    """Seconds from now."""

    ends: tuple[float, ...]
    """Of each merge, in the order of the list."""
    beside: tuple[float, ...]
    """How many merges, on average, run during each, itself included."""
    total: float
    low: float
    high: float


def schedule(merges: Sequence[Planned], slots: int, factor: float = 1.0) -> Schedule:
    """Return when each is done and when all are, with an interval for all.

    `slots`: at least 1; `factor`: what such lists take on this machine, of what they would take so.
    """
    free = [0.0] * max(1, min(slots, len(merges)))  # more would stay free
    ends = [0.0] * len(merges)
    order = sorted(range(len(merges)), key=lambda index: not merges[index].running)  # keeps the order else
    heapq.heapify(free)
    for index in order:
        ends[index] = heapq.heappop(free) + merges[index].seconds
        heapq.heappush(free, ends[index])
    factor *= _mean_of_medians(merges)
    longest = max((merge.seconds for merge in merges), default=0.0)
    beside = _beside([(end - merge.seconds, end) for merge, end in zip(merges, ends, strict=True)])
    total = max(factor * max(ends, default=0.0), longest)
    ends = [max(merge.seconds, factor * end) for merge, end in zip(merges, ends, strict=True)]
    work = sum(merge.seconds for merge in merges)
    if not total or not work:
        return Schedule(ends=tuple(ends), beside=beside, total=total, low=total, high=total)
    share = total / work  # of each second of a merge, what the whole takes longer for it
    down = math.hypot(*(share * (merge.seconds - merge.low) for merge in merges), COMMON * total)
    up = math.hypot(*(share * (merge.high - merge.seconds) for merge in merges), COMMON * total)
    surely = max((merge.low for merge in merges if merge.running), default=0.0)
    return Schedule(
        ends=tuple(ends), beside=beside, total=total, low=max(total - down, surely, 0.0), high=total + up
    )


def _mean_of_medians(merges: Sequence[Planned]) -> float:
    """Return by what factor a sum is likely to exceed the sum of its members' likely durations.

    Those are medians, and what takes longer takes longer by more than what takes less takes less: of many the
    mean counts, of one the median.
    """
    work = sum(merge.seconds for merge in merges)
    if work <= 0.0:
        return 1.0
    means = 0.0
    for merge in merges:
        spread = math.log(max(merge.high, 1.0) / max(merge.low, 0.5)) / _EIGHTY
        means += merge.seconds * math.exp(min(spread, _WIDEST) ** 2 / 2.0)
    alone = sum(merge.seconds**2 for merge in merges) / work**2
    return 1.0 + (means / work - 1.0) * (1.0 - alone)


def _beside(spans: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    """Return the mean number of spans that are under way during each."""
    moments = sorted({moment for span in spans for moment in span})
    changes = dict.fromkeys(moments, 0)
    for start, end in spans:
        changes[start] += 1
        changes[end] -= 1
    area, running, before = 0.0, 0, 0.0
    areas = {}  # merges under way, summed over time until then
    for moment in moments:
        area += running * (moment - before)
        areas[moment], before = area, moment
        running += changes[moment]
    return tuple((areas[end] - areas[start]) / (end - start) if end > start else 1.0 for start, end in spans)
