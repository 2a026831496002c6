# SPDX-License-Identifier: GPL-2.0-or-later
"""What is ahead: each merge of a list with its forecast, and when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gentwoo_client.foretelling.running import RunningList
from gentwoo_client.portage.pretended import PretendedMerge
from gentwoo_client.prediction.history import Walk
from gentwoo_client.prediction.merges import BINARY, Circumstances, Forecast, Merge
from gentwoo_client.prediction.schedule import Planned, Schedule, schedule

HISTORY: Final = "history"
FLEET: Final = "fleet"
BOTH: Final = "history and fleet"
UNKNOWN: Final = "unknown"

_TYPICAL: Final = 60.0  # seconds, on a machine that never merged anything
_TYPICAL_BINARY: Final = 5.0
_UNKNOWN_LOW: Final = 0.25  # how far what is not known may lie from the typical
_UNKNOWN_HIGH: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """One merge that is not done."""

    merge: Merge
    root: str
    forecast: Forecast | None
    started_at: int | None
    """Unix seconds; None where it has not begun."""
    left: float
    """Seconds that it likely still takes; where nothing is known, the typical ones."""
    ends_in: float
    """Seconds from now until it is done."""

    @property
    def source(self) -> str:
        """Where the figure comes from."""
        if self.forecast is None:
            return UNKNOWN
        if self.forecast.method == "both":
            return BOTH
        return HISTORY if self.forecast.merges else FLEET


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A list, and when it is done."""

    now: float
    ahead: tuple[Ahead, ...]
    unnamed: int
    """Further merges of which nothing is known, not even the name; they count as typical ones."""
    done: int
    size: int
    jobs: int
    seconds: float
    """From now to the end of all."""
    low: float
    high: float
    calibrators: int
    """Packages by which this machine was compared with the fleet."""

    @property
    def unknown(self) -> int:
        """Merges of which nothing is known."""
        return self.unnamed + sum(each.forecast is None for each in self.ahead)


def of_plan(walk: Walk, merges: Sequence[PretendedMerge], *, jobs: int, now: float) -> Outlook:
    """Return the outlook of a list that has not begun."""
    asked = [Merge(*each.cpv, each.kind, each.replaces) for each in merges]
    forecasts = walk.foretell_all(asked, Circumstances(int(now), None, jobs, len(asked)))
    planned = [
        _planned(walk, merge, forecast, None) for merge, forecast in zip(asked, forecasts, strict=True)
    ]
    plan = schedule(planned, _slots(jobs, len(asked)))
    ahead = tuple(
        Ahead(merge=merge, root=each.root, forecast=forecast, started_at=None, left=one.seconds, ends_in=end)
        for merge, each, forecast, one, end in zip(asked, merges, forecasts, planned, plan.ends, strict=True)
    )
    return _outlook(walk, plan, ahead, unnamed=0, done=0, size=len(asked), jobs=jobs, now=now)


def of_running(walk: Walk, running: RunningList, *, now: float) -> Outlook:
    """Return the outlook of the emerge at work."""
    forecasts, planned = [], []
    for each in running.merges:
        begun = each.beginning
        at_work = None if begun is None else begun.at_work
        at = int(now) if begun is None else begun.at
        forecast = walk.foretell(each.merge, Circumstances(at, at_work, running.jobs, running.size))
        forecasts.append(forecast)
        elapsed = None if begun is None else max(0.0, now - begun.at)
        planned.append(_planned(walk, each.merge, forecast, elapsed))
    unnamed = [_planned(walk, Merge("", "", ""), None, None)] * running.unnamed
    plan = schedule([*planned, *unnamed], _slots(running.jobs, len(planned) + len(unnamed)))
    ahead = tuple(
        Ahead(
            merge=each.merge,
            root=each.root,
            forecast=forecast,
            started_at=None if each.beginning is None else each.beginning.at,
            left=one.seconds,
            ends_in=end,
        )
        for each, forecast, one, end in zip(running.merges, forecasts, planned, plan.ends, strict=False)
    )
    return _outlook(
        walk,
        plan,
        ahead,
        unnamed=running.unnamed,
        done=running.done,
        size=running.size,
        jobs=running.jobs,
        now=now,
    )


def _planned(walk: Walk, merge: Merge, forecast: Forecast | None, elapsed: float | None) -> Planned:
    if forecast is None:
        typical = _TYPICAL_BINARY if merge.kind == BINARY else walk.model.typical or _TYPICAL
        left = max(1.0, typical - (elapsed or 0.0))
        return Planned(
            seconds=left,
            low=left * _UNKNOWN_LOW,
            high=left * _UNKNOWN_HIGH,
            running=elapsed is not None,
        )
    if elapsed is None:
        return Planned(seconds=forecast.seconds, low=forecast.low, high=forecast.high)
    left = walk.model.intervals.beyond(forecast.mean, forecast.spread, elapsed)
    return Planned(
        seconds=left,
        low=min(left, max(0.0, forecast.low - elapsed)),
        high=max(left, forecast.high - elapsed),
        running=True,
    )


def _slots(jobs: int, merges: int) -> int:
    return jobs if jobs else max(1, merges)


def _outlook(
    walk: Walk,
    plan: Schedule,
    ahead: tuple[Ahead, ...],
    *,
    unnamed: int,
    done: int,
    size: int,
    jobs: int,
    now: float,
) -> Outlook:
    return Outlook(
        now=now,
        ahead=ahead,
        unnamed=unnamed,
        done=done,
        size=size,
        jobs=jobs,
        seconds=plan.total,
        low=plan.low,
        high=plan.high,
        calibrators=walk.calibrators,
    )
