# SPDX-License-Identifier: GPL-2.0-or-later
"""Walking through a history: each merge is foretold at its beginning, and learned at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Final, NamedTuple

from gentwoo_client.prediction.fleet import Calibration, FleetTable, joined
from gentwoo_client.prediction.merges import BINARY, SOURCE, Circumstances, Forecast, Merge, renamed
from gentwoo_client.prediction.model import LocalModel

EMLOP_LAST: Final = 15
EMLOP: Final = "emlop"
_OPEN: Final = 1000
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
            for kind in (SOURCE, BINARY):
                forecast = self.foretell(merge._replace(kind=kind), circumstances)
                if forecast is not None:
                    forecasts[kind] = forecast
                past = self._past(merge, kind)
                if past:
                    emlop[kind] = median(past)
        if len(self._begun) > _OPEN:
            self._begun.pop(next(iter(self._begun)))
        key = (f"{merge.cp}-{merge.version}", root)
        self._begun.setdefault(key, []).append(_Begun(merge, circumstances, forecasts, emlop))

    def failed(self, merge: Merge, root: str) -> None:
        """A merge came to nothing."""
        self._begun.pop((f"{merge.cp}-{merge.version}", root), None)

    def completed(
        self, merge: Merge, root: str, *, ended_at: int, seconds: int | None, concurrency: float | None
    ) -> Estimated | None:
        """A merge completed. Return what was expected of it, if anything was."""
        same = self._begun.get((f"{merge.cp}-{merge.version}", root))
        if not same or seconds is None:
            return None
        index = next((i for i, one in enumerate(same) if one.circumstances.at == ended_at - seconds), -1)
        begun = same.pop(index)
        if not same:
            del self._begun[f"{merge.cp}-{merge.version}", root]
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
        if self._table is None or merge.kind != SOURCE:
            return own
        fleet = self._calibrated(self._table).foretell(
            renamed(merge.cp, self._moves),
            merge.version,
            self.model.slope * self.model.contention(circumstances),
        )
        return joined(own, fleet)

    def foretell_all(self, merges: Iterable[Merge], circumstances: Circumstances) -> list[Forecast | None]:
        """Return what is to be expected of each merge of a list that has not begun."""
        return [self.foretell(merge, circumstances) for merge in merges]

    @property
    def calibrators(self) -> int:
        """How many packages, known here and to the fleet, tell how fast this machine is."""
        return 0 if self._table is None else self._calibrated(self._table).count

    def _calibrated(self, table: FleetTable) -> Calibration:
        if self._calibration is None or self._since_calibration * _CALIBRATORS > self._calibration.count:
            self._calibration = table.calibrate(self.model.known())
            self._since_calibration = 0
        return self._calibration

    def _past(self, merge: Merge, kind: str) -> list[int]:
        if self._durations is None:
            return []
        return self._durations.get((renamed(merge.cp, self._moves), kind), [])[-EMLOP_LAST:]
