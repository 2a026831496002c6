# SPDX-License-Identifier: GPL-2.0-or-later
"""What the merges of one machine say about its next ones.

Every duration is a logarithm, remembered with the circumstances in which it was measured: how many merges
shared the machine, and how the machine fared at that time against what was expected. To foretell, it is
carried to the circumstances of now. Newer ones weigh more, those of like circumstances more, and one that
lies far off weighs less.

Seven experts look at that in different ways; each has a loss that fades, and the answer is the mean of
theirs, weighted by it. So on a machine where cleverness does not pay, the simple ones win.

Feed it in the order of the log: `foretell` at a beginning, `learn` at the end. Nothing else is known to it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from gentwoo_client.prediction.averages import mean, median, robust_mean, settled, weighted_mean
from gentwoo_client.prediction.correction import Correction
from gentwoo_client.prediction.fortunes import Level, Placed, Session, Stretches
from gentwoo_client.prediction.intervals import Intervals
from gentwoo_client.prediction.merges import (
    ROUNDING,
    SOURCE,
    TINY,
    Circumstances,
    Forecast,
    Merge,
    likeness,
    renamed,
)
from gentwoo_client.prediction.sharing import Sharing

LAST: Final = 15
"""Merges of a package that are remembered."""

FADING: Final = 0.9
"""Weight of a merge beside the one after it."""

_NOISE: Final = 0.2  # standard deviation of a repetition
_CARRYING: Final = 0.3  # … per unit of contention that it had to be carried
_VERSION: Final = 0.1  # … of another version
_SLOT: Final = 0.3  # … of another slot, where the package has several
_FAR: Final = 0.3  # beyond that, weight falls with distance
_SMALL: Final = 2.24  # seconds; of a merge this short half is rounding
_LOSS_FADING: Final = 0.96
_LOSS_LIMIT: Final = 1.0
_SHARPNESS: Final = 3.0

EXPERTS: Final = ("stretch", "learned", "session", "level", "contention", "last", "median")
_BELIEVED: Final = (0.0, 0.0, 0.0, 0.1, 0.1, 0.0, 0.0)
"""Of what `_known` returns, how much it matters on a machine that taught nothing yet."""
_STIFF: Final = (1.8, 1.8, 0.9, 0.9, 0.9, 3.6, 0.6)
_SPREADS: Final = (0.28, 0.24, 0.20)  # of a forecast from one, two, three and more merges
_LEAST: Final = 0.5  # what a duration of 0 seconds counts as


class _Measured(NamedTuple):
    """A merge that was, and the circumstances."""

    log: float
    contention: float
    session: float
    level: float
    placed: Placed
    version: str
    slot: int
    seconds: int
    again: bool
    """Whether that version was the one built before as well."""

    @property
    def weight(self) -> float:
        """How much a merge of that length says, beside its rounding."""
        return _weight(self.seconds)


class _Now(NamedTuple):
    """The circumstances to which what was measured is carried."""

    contention: float
    slope: float
    session: float
    level: float
    stretch: float
    again: bool


class LocalModel:
    """The history of one machine."""

    def __init__(self, moves: Mapping[str, str] | None = None) -> None:
        """`moves`: old CATEGORY/NAME → new, of package moves."""
        self._moves = moves or {}
        self._measured: dict[tuple[str, str], deque[_Measured]] = {}
        self.sharing = Sharing()
        self._session = Session()
        self._level = Level(clip=0.5, shrink=8.0)
        self._stretches = Stretches()
        self._stretch_level = Level(clip=0.6, shrink=4.0)
        self._correction = Correction(_BELIEVED, _STIFF)
        self._losses = [0.0] * len(EXPERTS)
        self.intervals = Intervals()
        self._all: deque[float] = deque(maxlen=200)

    # Asking ---------------------------------------------------------------------------------------------

    def foretell(self, merge: Merge, circumstances: Circumstances) -> Forecast | None:
        """Return what is to be expected; None where no merge of that package and kind was seen."""
        measured = self._measured.get((renamed(merge.cp, self._moves), merge.kind))
        if not measured:
            return None
        size = mean(one.log for one in measured)
        session, stretch = self._session.fares(merge.category, circumstances.at, self._stretch_level.value)
        now = _Now(
            contention=self.sharing.expected(circumstances, math.exp(measured[-1].log)),
            slope=self.sharing.slope(size),
            session=session,
            level=self._level.value,
            stretch=stretch,
            again=measured[-1].version == merge.version,
        )
        guesses, known = self._guesses(measured, _weights(measured, merge, now.contention), now)
        least = min(self._losses)
        trust = [math.exp(_SHARPNESS * (least - loss)) for loss in self._losses]
        likely = settled(trust, guesses)
        spread = _SPREADS[min(len(measured), len(_SPREADS)) - 1]
        low, high = self.intervals.around(likely, spread)
        return Forecast(
            seconds=math.exp(likely),
            low=low,
            high=high,
            method=EXPERTS[max(range(len(trust)), key=trust.__getitem__)],
            merges=len(measured),
            mean=likely,
            spread=spread,
            guesses=guesses,
            known=known,
            alone=likely - now.slope * now.contention,
        )

    @property
    def typical(self) -> float | None:
        """Seconds of the median of the last merges; None before the first."""
        return math.exp(median(self._all)) if self._all else None

    def known(self) -> Mapping[str, float]:
        """Return of each package what a source build takes here with nothing beside it, as logarithms."""
        return {
            cp: median(
                one.log - one.session - self.sharing.slope(one.log) * one.contention for one in measured
            )
            for (cp, kind), measured in self._measured.items()
            if kind == SOURCE and measured[-1].seconds >= TINY
        }

    # Learning -------------------------------------------------------------------------------------------

    def learn(
        self,
        merge: Merge,
        circumstances: Circumstances,
        *,
        seconds: int,
        concurrency: float | None,
        ended_at: int,
        forecast: Forecast | None = None,
    ) -> None:
        """Take note of a merge that completed, and of how right the forecast of its beginning was."""
        log, contention = math.log(max(seconds, _LEAST)), math.log(max(1.0, concurrency or 1.0))
        self.sharing.learn(circumstances, contention, seconds)
        measured = self._measured.setdefault((renamed(merge.cp, self._moves), merge.kind), deque(maxlen=LAST))
        latest = _Measured(
            log=log,
            contention=contention,
            session=self._session.fares(merge.category, circumstances.at)[0],
            level=self._level.value,
            placed=self._stretches.place(circumstances.at, ended_at),
            version=merge.version,
            slot=_new_slot(merge, measured),
            seconds=seconds,
            again=bool(measured) and measured[-1].version == merge.version,
        )
        if merge.kind == SOURCE:
            self._all.append(log)
            if measured:
                self._learn_fortunes(merge, measured, latest, ended_at)
            if forecast is not None and seconds >= TINY:
                self._learn_trust(forecast, latest)
        measured.append(latest)

    def _learn_fortunes(
        self, merge: Merge, measured: Sequence[_Measured], latest: _Measured, ended_at: int
    ) -> None:
        """Learn how the machine fares from a package that was built before."""
        before, size = measured[-1], mean(one.log for one in measured)
        if min(latest.seconds, before.seconds) >= TINY:
            self.sharing.compare(latest.contention - before.contention, latest.log - before.log, size)
        slope, weights = self.sharing.slope(size), _weights(measured, merge, latest.contention)
        carried = [one.log + slope * (latest.contention - one.contention) for one in measured]

        def residual(*than: float) -> float:
            expected = [log - other for log, other in zip(carried, than, strict=True)]
            return latest.log - robust_mean(weights, expected, _FAR)

        weight, level = latest.weight, self._level.value
        freed = residual(*(self._stretches.value(one.placed) for one in measured))
        self._stretch_level.learn(freed, weight)
        self._session.learn(
            residual(*(one.session for one in measured)),
            freed,
            at=ended_at,
            category=merge.category,
            weight=weight,
        )
        off = residual(*(one.session + one.level - level for one in measured))
        self._level.learn(off, weight, level)
        self._stretches.correct(
            [(one.placed, one.log - slope * one.contention, one.weight) for one in (*measured, latest)]
        )

    def _learn_trust(self, forecast: Forecast, latest: _Measured) -> None:
        """Learn how right a forecast was, and each expert."""
        self.intervals.learn(forecast.mean, forecast.spread, latest.seconds, (forecast.low, forecast.high))
        for index, guess in enumerate(forecast.guesses):
            loss = min(_LOSS_LIMIT, abs(guess - latest.log))
            self._losses[index] = _LOSS_FADING * self._losses[index] + loss
        self._correction.learn(forecast.known, latest.log - forecast.guesses[0], latest.weight)

    # Looking --------------------------------------------------------------------------------------------

    def _guesses(
        self, measured: Sequence[_Measured], weights: Sequence[float], now: _Now
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return what each of `EXPERTS` expects, as logarithms, and what the second one goes by."""
        carried = [one.log + now.slope * (now.contention - one.contention) for one in measured]
        calm = [log - one.session for log, one in zip(carried, measured, strict=True)]
        levelled = [log - one.level for log, one in zip(calm, measured, strict=True)]
        stretches = [self._stretches.value(one.placed) for one in measured]
        freed = [log - value for log, value in zip(carried, stretches, strict=True)]
        last, middle = measured[-1].log, math.log(max(_LEAST, median(one.seconds for one in measured)))
        first = robust_mean(weights, freed, _FAR) + now.stretch
        were = weighted_mean(weights, stretches)
        known = (
            now.stretch - were,
            were,
            now.contention - weighted_mean(weights, [one.contention for one in measured]),
            last - first,
            middle - first,
            1.0,
            now.again - weighted_mean(weights, [one.again for one in measured]),
        )
        guesses = (
            first,
            first + self._correction.of(known),
            robust_mean(weights, calm, _FAR) + now.session,
            robust_mean(weights, levelled, _FAR) + now.level + now.session,
            robust_mean(weights, carried, _FAR),
            last,
            middle,
        )
        return guesses, known


def _weight(seconds: int) -> float:
    return 1.0 / (1.0 + (_SMALL / max(seconds, _LEAST)) ** 2)


def _weights(measured: Sequence[_Measured], merge: Merge, contention: float) -> list[float]:
    """Return how much each counts for a merge in such company."""
    slot = _slot(merge, measured)
    fading, weights = 1.0, []
    for one in reversed(measured):
        variance = _NOISE**2 + (_CARRYING * (contention - one.contention)) ** 2
        if one.version != merge.version:
            variance += _VERSION**2
        if one.slot != slot:
            variance += _SLOT**2
        variance += (ROUNDING / max(one.seconds, _LEAST)) ** 2
        weights.append(fading / variance)
        fading *= FADING
    weights.reverse()
    return weights


def _slot(merge: Merge, measured: Sequence[_Measured]) -> int:
    """Return the number of the slot that `merge` is of, as far as its history tells.

    What replaces a version is of its slot; else the slot is that of the version most alike, if any is.
    """
    if not measured:
        return 0
    for one in reversed(measured):
        if one.version in (merge.replaces, merge.version):
            return one.slot
    nearest = max(reversed(measured), key=lambda one: likeness(one.version, merge.version))
    return nearest.slot


def _new_slot(merge: Merge, measured: Sequence[_Measured]) -> int:
    """Return the number of the slot of a merge that is over: what replaced nothing has one of its own."""
    if measured and merge.replaces is None and all(one.version != merge.version for one in measured):
        return max(one.slot for one in measured) + 1
    return _slot(merge, measured)
