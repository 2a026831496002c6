# SPDX-License-Identifier: GPL-2.0-or-later
"""What is ahead: each merge of a list with its forecast, and when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gentwoo_client.foretelling.running import RunningList
from gentwoo_client.portage.pretended import PretendedMerge
from gentwoo_client.prediction.history import Listed, Walk
from gentwoo_client.prediction.merges import Forecast, Merge
from gentwoo_client.prediction.schedule import Schedule

HISTORY: Final = "history"
FLEET: Final = "fleet"
BOTH: Final = "history and fleet"
UNKNOWN: Final = "unknown"


class Ahead(NamedTuple):
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


class Outlook(NamedTuple):
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
    listed = [Listed(Merge(*each.cpv, each.kind, each.replaces), int(now)) for each in merges]
    forecasts, planned, plan = walk.foretell_list(listed, jobs=jobs, now=now)
    ahead = tuple(
        Ahead(
            merge=one.merge,
            root=each.root,
            forecast=forecast,
            started_at=None,
            left=left.seconds,
            ends_in=end,
        )
        for one, each, forecast, left, end in zip(listed, merges, forecasts, planned, plan.ends, strict=True)
    )
    return _outlook(walk, plan, ahead, unnamed=0, done=0, size=len(listed), jobs=jobs, now=now)


def of_running(walk: Walk, running: RunningList, *, now: float) -> Outlook:
    """Return the outlook of the emerge at work."""
    listed = [
        Listed(each.merge, int(now))
        if each.beginning is None
        else Listed(each.merge, each.beginning.at, each.beginning.at_work)
        for each in running.merges
    ]
    unnamed = [Listed(Merge("", "", ""), int(now))] * running.unnamed
    forecasts, planned, plan = walk.foretell_list([*listed, *unnamed], jobs=running.jobs, now=now)
    ahead = tuple(
        Ahead(
            merge=each.merge,
            root=each.root,
            forecast=forecast,
            started_at=None if each.beginning is None else each.beginning.at,
            left=left.seconds,
            ends_in=end,
        )
        for each, forecast, left, end in zip(running.merges, forecasts, planned, plan.ends, strict=False)
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
