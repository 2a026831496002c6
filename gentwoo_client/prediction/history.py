# SPDX-License-Identifier: GPL-2.0-or-later
"""Walking through a history: each merge is foretold at its beginning, and learned at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from gentwoo_client.prediction.averages import median
from gentwoo_client.prediction.fleet import KNOWN, Calibration, FleetTable, joined
from gentwoo_client.prediction.lists import Lists
from gentwoo_client.prediction.merges import BINARY, SOURCE, Circumstances, Forecast, Merge, renamed
from gentwoo_client.prediction.model import LocalModel
from gentwoo_client.prediction.schedule import Planned, Schedule, schedule
from gentwoo_client.prediction.sharing import left_of

EMLOP_LAST: Final = 15
EMLOP: Final = "emlop"
_OPEN: Final = 1000
_TURNS: Final = 4
_TYPICAL: Final = 60.0  # seconds, on a machine that never merged anything
_TYPICAL_BINARY: Final = 5.0
_UNKNOWN: Final = 4.0  # by what factor that of which nothing is known may be off
_CALIBRATORS: Final = 10
"""This machine's place in the fleet is looked up anew after a tenth more merges than calibrate it."""


class Estimated(NamedTuple):
    """A merge that is over, and what was expected of it when it began."""

    merge: Merge
    ended_at: int
    seconds: int
    forecast: Forecast
    emlop: float | None
    """What emlop's method expected: the median of the last 15; None where it knew none."""
    own: bool
    """Whether it was ever merged here before."""


class Listed(NamedTuple):
    """A member of a list that is to be foretold."""

    merge: Merge
    at: int
    """When it began, or now."""
    at_work: int | None = None
    """As in `Circumstances`; None for one that has not begun."""


class _Begun(NamedTuple):
    merge: Merge
    circumstances: Circumstances
    forecasts: Mapping[str, Forecast]
    emlop: Mapping[str, float]


class Walk:
    """One machine's history, walked through in the order of its log."""

    def __init__(
        self,
        moves: Mapping[str, str] | None = None,
        table: FleetTable | None = None,
        *,
        compare: bool = False,
    ) -> None:
        """`table`: what the fleet knows; `compare`: whether emlop's method is asked beside."""
        self.model = LocalModel(moves)
        self.lists = Lists()
        self._moves = moves or {}
        self._table = table
        self._calibration: Calibration | None = None
        self._since_calibration = 0
        self._begun: dict[tuple[str, str], list[_Begun]] = {}
        self._durations: dict[tuple[str, str], list[int]] | None = {} if compare else None

    def consult(self, table: FleetTable | None) -> None:
        """From now on, ask the fleet beside."""
        self._table, self._calibration = table, None

    def began(self, merge: Merge, root: str, circumstances: Circumstances, *, foretell: bool = True) -> None:
        """A merge begins. Without `foretell` it is only remembered, which is quicker."""
        forecasts, emlop = {}, {}
        if foretell:
            circumstances = circumstances._replace(left=self._left(circumstances))
            for kind in (SOURCE, BINARY):
                which = merge if merge.kind == kind else merge._replace(kind=kind)
                forecast = self.foretell(which, circumstances)
                if forecast is not None:
                    forecasts[kind] = forecast
                past = self._past(merge, kind)
                if past:
                    emlop[kind] = median(past)
        if len(self._begun) > _OPEN:
            self._begun.pop(next(iter(self._begun)))
        key = (f"{merge.cp}-{merge.version}", root)
        self.lists.began(key, circumstances)
        self._begun.setdefault(key, []).append(_Begun(merge, circumstances, forecasts, emlop))

    def failed(self, merge: Merge, root: str) -> None:
        """A merge came to nothing."""
        self._begun.pop((f"{merge.cp}-{merge.version}", root), None)

    def completed(
        self, merge: Merge, root: str, *, ended_at: int, seconds: int | None, concurrency: float | None
    ) -> Estimated | None:
        """A merge completed. Return what was expected of it, if anything was."""
        key = (f"{merge.cp}-{merge.version}", root)
        same = self._begun.get(key)
        if not same or seconds is None:
            return None
        index = next((i for i, one in enumerate(same) if one.circumstances.at == ended_at - seconds), -1)
        begun = same.pop(index)
        if not same:
            del self._begun[key]
        self.lists.completed(key, seconds, ended_at)
        forecast = begun.forecasts.get(merge.kind)
        self.model.learn(
            merge,
            begun.circumstances,
            seconds=seconds,
            concurrency=concurrency,
            ended_at=ended_at,
            forecast=forecast if forecast is not None and forecast.guesses else None,
        )
        self._since_calibration += 1
        if self._durations is not None:
            self._durations.setdefault((renamed(merge.cp, self._moves), merge.kind), []).append(seconds)
        if forecast is None:
            return None
        return Estimated(merge, ended_at, seconds, forecast, begun.emlop.get(merge.kind), forecast.merges > 0)

    def foretell(self, merge: Merge, circumstances: Circumstances) -> Forecast | None:
        """Return what is to be expected of a merge, by this machine's history and by the fleet's."""
        own = self.model.foretell(merge, circumstances)
        if self._table is None or merge.kind != SOURCE or (own is not None and own.merges > KNOWN):
            return own
        log = math.log(self.model.typical or _TYPICAL) if own is None else own.mean
        sharing = self.model.sharing
        fleet = self._calibrated(self._table).foretell(
            renamed(merge.cp, self._moves),
            merge.version,
            sharing.slope(log) * sharing.expected(circumstances, math.exp(log)),
        )
        return joined(own, fleet)

    def foretell_list(
        self, listed: Sequence[Listed], *, jobs: int, now: float
    ) -> tuple[list[Forecast | None], list[Planned], Schedule]:
        """Return what is to be expected of a list: of each merge, what is left of each, and when each ends.

        How many share the machine follows from the schedule, and the schedule from how long each takes: so
        both are found in turns. A long merge is mostly alone, however many are allowed.
        """
        shared: list[float | None] = [None] * len(listed)
        for last in (*[False] * (_TURNS if jobs != 1 else 0), True):
            forecasts = [
                self.foretell(
                    each.merge, Circumstances(each.at, each.at_work, jobs, len(listed), shared=known)
                )
                for each, known in zip(listed, shared, strict=True)
            ]
            planned = [
                self._planned(each, forecast, now) for each, forecast in zip(listed, forecasts, strict=True)
            ]
            plan = schedule(planned, jobs or max(1, len(listed)), self.lists.factor(jobs))
            if last:
                break
            for index, beside in enumerate(plan.beside):
                if listed[index].at_work is None:
                    found = math.log(max(1.0, beside))
                    before = shared[index]
                    shared[index] = found if before is None else (before + found) / 2.0
        return forecasts, planned, plan

    def _planned(self, each: Listed, forecast: Forecast | None, now: float) -> Planned:
        elapsed = None if each.at_work is None else max(0.0, now - each.at)
        if forecast is None:
            typical = _TYPICAL_BINARY if each.merge.kind == BINARY else self.model.typical or _TYPICAL
            left = max(1.0, typical - (elapsed or 0.0))
            return Planned(
                seconds=left,
                low=left / _UNKNOWN,
                high=left * _UNKNOWN,
                running=elapsed is not None,
            )
        if elapsed is None:
            return Planned(seconds=forecast.seconds, low=forecast.low, high=forecast.high)
        left = self.model.intervals.beyond(forecast.mean, forecast.spread, elapsed)
        return Planned(
            seconds=left,
            low=min(left, max(0.0, forecast.low - elapsed)),
            high=max(left, forecast.high - elapsed),
            running=True,
        )

    @property
    def calibrators(self) -> int:
        """How many packages, known here and to the fleet, tell how fast this machine is."""
        return 0 if self._table is None else self._calibrated(self._table).count

    def _calibrated(self, table: FleetTable) -> Calibration:
        if self._calibration is None or self._since_calibration * _CALIBRATORS > self._calibration.count:
            self._calibration = table.calibrate(self.model.known())
            self._since_calibration = 0
        return self._calibration

    def _left(self, circumstances: Circumstances) -> tuple[float, ...]:
        """Return how many seconds each other merge at work likely still takes."""
        count = (circumstances.at_work or 1) - 1
        if count <= 0:
            return ()
        others = islice(reversed(self._begun.values()), count)
        usual = self.model.sharing.usual_seconds
        return tuple(
            left_of(
                next((forecast.seconds for forecast in begun.forecasts.values()), usual),
                max(0, circumstances.at - begun.circumstances.at),
            )
            for *_, begun in others
        )

    def _past(self, merge: Merge, kind: str) -> list[int]:
        if self._durations is None:
            return []
        return self._durations.get((renamed(merge.cp, self._moves), kind), [])[-EMLOP_LAST:]
