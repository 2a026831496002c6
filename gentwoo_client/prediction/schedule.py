# SPDX-License-Identifier: GPL-2.0-or-later
"""When the merges of a list are done: list scheduling on as many slots as `--jobs` has.

In the order of the list, each taking the slot that is free first. Dependencies, which `emerge --pretend` does
not tell, change the end by a few percent only.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

COMMON = 0.15
"""Share of a total by which all of its members are wrong together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One merge of a list."""

    seconds: float
    """Likely duration, or what is likely left of it."""
    low: float
    high: float
    running: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Seconds from now."""

    ends: tuple[float, ...]
    """Of each merge, in the order of the list."""
    total: float
    low: float
    high: float


def schedule(merges: Sequence[Planned], slots: int) -> Schedule:
    """Return when each is done and when all are, with an interval for all. `slots`: at least 1."""
    free = [0.0] * max(1, slots)
    ends = [0.0] * len(merges)
    order = sorted(range(len(merges)), key=lambda index: not merges[index].running)  # keeps the order else
    heapq.heapify(free)
    for index in order:
        ends[index] = heapq.heappop(free) + merges[index].seconds
        heapq.heappush(free, ends[index])
    total = max(ends, default=0.0)
    work = sum(merge.seconds for merge in merges)
    if not total or not work:
        return Schedule(ends=tuple(ends), total=total, low=total, high=total)
    share = total / work  # of each second of a merge, what the whole takes longer for it
    down = math.hypot(*(share * (merge.seconds - merge.low) for merge in merges), COMMON * total)
    up = math.hypot(*(share * (merge.high - merge.seconds) for merge in merges), COMMON * total)
    longest = max((merge.low for merge in merges if merge.running), default=0.0)
    return Schedule(ends=tuple(ends), total=total, low=max(total - down, longest, 0.0), high=total + up)
