# SPDX-License-Identifier: GPL-2.0-or-later
"""What the merges of one machine say about its next ones.

Every duration is a logarithm, remembered with the circumstances in which it was measured: how many merges
shared the machine, and how the machine fared at that time against what was expected. To foretell, it is
carried to the circumstances of now. Newer ones weigh more, those of like circumstances more, and one that
lies far off weighs less.

Five experts look at that in different ways; each has a loss that fades, and the answer is the mean of theirs,
weighted by it. So on a machine where cleverness does not pay, the simple ones win.

Feed it in the order of the log: `foretell` at a beginning, `learn` at the end. Nothing else is known to it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

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

LAST: Final = 15
"""Merges of a package that are remembered."""

FADING: Final = 0.9
"""Weight of a merge beside the one after it."""

_NOISE: Final = 0.25  # standard deviation of a repetition
_CARRYING: Final = 0.6  # … per unit of contention that it had to be carried
_VERSION: Final = 0.2  # … of another version
_SLOT: Final = 0.3  # … of another slot, where the package has several
_FAR: Final = 0.3  # beyond that, weight falls with distance

_CONTENTION: Final = 0.4  # what is believed of a machine before it is known
_CONTENTION_WEIGHT: Final = 15.0
_JUMP: Final = 1.5

_RUNNING_NOW: Final = 0.7  # weight of what runs at the start, in the contention expected
_OWN_KIND: Final = 6.0

_NEIGHBOURS: Final = 20
_NEIGHBOUR_FADING: Final = tuple(2.0 ** (-k / 5.0) for k in range(_NEIGHBOURS))
_SESSION_LASTS: Final = 3600.0 / math.log(2.0)  # seconds; halves in an hour
_SAME_CATEGORY: Final = 1.5
_SESSION_SHRINK: Final = 2.0
_SESSION_CLIP: Final = 0.4
_SMALL: Final = 2.24  # seconds; of a merge this short half is rounding

_LEVEL_FADING: Final = 2.0 ** (-1.0 / 30.0)
_LEVEL_SHRINK: Final = 8.0
_LEVEL_CLIP: Final = 0.5

_LOSS_FADING: Final = 0.95
_LOSS_LIMIT: Final = 1.0
_SHARPNESS: Final = 3.0

EXPERTS: Final = ("session", "level", "contention", "last", "median")
_SPREADS: Final = (0.28, 0.24, 0.20)  # of a forecast from one, two, three and more merges
_LEAST: Final = 0.5  # what a duration of 0 seconds counts as


class _Measured(NamedTuple):
    """A merge that was, and the circumstances."""

    log: float
    contention: float
    session: float
    level: float
    version: str
    slot: int
    seconds: int


class _Neighbour(NamedTuple):
    """How a merge did against what was expected of it."""

    residual: float
    at: int
    category: str
    weight: float


class LocalModel:
    """The history of one machine."""

    def __init__(self, moves: Mapping[str, str] | None = None) -> None:
        """`moves`: old CATEGORY/NAME → new, of package moves."""
        self._moves = moves or {}
        self._measured: dict[tuple[str, str], deque[_Measured]] = {}
        self._pairs = _CONTENTION_WEIGHT
        self._pairs_product = _CONTENTION_WEIGHT * _CONTENTION
        self._neighbours: deque[_Neighbour] = deque(maxlen=_NEIGHBOURS)
        self._level_weight = self._level_sum = 0.0
        self._kinds: dict[tuple[int, int], tuple[float, float]] = {}
        self._run: tuple[int, int] | None = None
        self._run_count = self._run_sum = 0.0
        self._losses = [0.0] * len(EXPERTS)
        self.intervals = Intervals()
        self._all: deque[float] = deque(maxlen=200)

    # Asking ---------------------------------------------------------------------------------------------

    def foretell(self, merge: Merge, circumstances: Circumstances) -> Forecast | None:
        """Return what is to be expected; None where no merge of that package and kind was seen."""
        measured = self._measured.get((renamed(merge.cp, self._moves), merge.kind))
        if not measured:
            return None
        contention = self.contention(circumstances)
        session, level = self._session(merge.category, circumstances.at), self._level
        weights = self._weights(measured, merge, contention)
        guesses = self._guesses(measured, weights, contention, session, level)
        least = min(self._losses)
        trust = [math.exp(_SHARPNESS * (least - loss)) for loss in self._losses]
        mean = _settled(trust, guesses)
        spread = _SPREADS[min(len(measured), len(_SPREADS)) - 1]
        low, high = self.intervals.around(mean, spread)
        return Forecast(
            seconds=math.exp(mean),
            low=low,
            high=high,
            method=EXPERTS[max(range(len(trust)), key=trust.__getitem__)],
            merges=len(measured),
            mean=mean,
            spread=spread,
            guesses=guesses,
            alone=mean - self.slope * contention,
        )

    def contention(self, circumstances: Circumstances) -> float:
        """Return the logarithm of how many merges, on average, are likely to share the machine."""
        if circumstances.shared is not None:
            return circumstances.shared
        at_work, jobs, size = circumstances.at_work, circumstances.jobs, circumstances.size
        count, total = self._kinds.get(_kind(jobs, size), (0.0, 0.0))
        usual = total / (count + 1.0)
        if at_work is None:
            # Not begun: what is usual for such a list, and never more than it has.
            if jobs == 1:
                return 0.0
            most = math.log(max(1, min(jobs or size, size)))
            return min(most, (total + 2.0 * 0.8 * most) / (count + 2.0))
        if self._run == (jobs, size):
            usual = (self._run_sum + _OWN_KIND * usual) / (self._run_count + _OWN_KIND)
        return _RUNNING_NOW * math.log(max(1, at_work)) + (1.0 - _RUNNING_NOW) * usual

    @property
    def slope(self) -> float:
        """By how much a merge takes longer when the machine is shared: logarithm per logarithm."""
        return min(max(self._pairs_product / self._pairs, 0.0), 1.5)

    @property
    def typical(self) -> float | None:
        """Seconds of the median of the last merges; None before the first."""
        return math.exp(median(self._all)) if self._all else None

    def known(self) -> Mapping[str, float]:
        """Return of each package what a source build takes here with nothing beside it, as logarithms."""
        return {
            cp: median(one.log - one.session - self.slope * one.contention for one in measured)
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
        self._learn_kind(circumstances, contention)
        measured = self._measured.setdefault((renamed(merge.cp, self._moves), merge.kind), deque(maxlen=LAST))
        session, level = self._session(merge.category, circumstances.at), self._level
        if merge.kind == SOURCE:
            self._all.append(log)
            if measured:
                self._learn_circumstances(merge, measured, log, contention, seconds, ended_at, level)
        if forecast is not None and merge.kind == SOURCE and seconds >= TINY:
            self.intervals.learn(forecast.mean, forecast.spread, seconds, (forecast.low, forecast.high))
            for index, guess in enumerate(forecast.guesses):
                loss = min(_LOSS_LIMIT, abs(guess - log))
                self._losses[index] = _LOSS_FADING * self._losses[index] + loss
        slot = _new_slot(merge, measured)
        measured.append(_Measured(log, contention, session, level, merge.version, slot, seconds))

    def _learn_kind(self, circumstances: Circumstances, contention: float) -> None:
        kind = _kind(circumstances.jobs, circumstances.size)
        count, total = self._kinds.get(kind, (0.0, 0.0))
        fading = 0.98 if count > 60 else 1.0
        self._kinds[kind] = (fading * count + 1.0, fading * total + contention)
        run = (circumstances.jobs, circumstances.size)
        if self._run != run:
            self._run, self._run_count, self._run_sum = run, 0.0, 0.0
        self._run_count += 1.0
        self._run_sum += contention

    def _learn_circumstances(
        self,
        merge: Merge,
        measured: Sequence[_Measured],
        log: float,
        contention: float,
        seconds: int,
        ended_at: int,
        level: float,
    ) -> None:
        before = measured[-1]
        carried = contention - before.contention
        if abs(carried) > 0.1 and min(seconds, before.seconds) >= TINY:
            jump = min(max(log - before.log, -_JUMP), _JUMP)
            self._pairs += carried * carried
            self._pairs_product += carried * jump
        weights = self._weights(measured, merge, contention)
        slope = self.slope
        expected = _robust_mean(
            weights, [one.log + slope * (contention - one.contention) - one.session for one in measured]
        )
        weight = 1.0 / (1.0 + (_SMALL / max(seconds, _LEAST)) ** 2)
        residual = min(max(log - expected, -_SESSION_CLIP), _SESSION_CLIP)
        self._neighbours.append(_Neighbour(residual, ended_at, merge.category, weight))
        expected = _robust_mean(
            weights,
            [
                one.log + slope * (contention - one.contention) - one.session - one.level + level
                for one in measured
            ],
        )
        residual = min(max(log - expected, -_LEVEL_CLIP), _LEVEL_CLIP)
        self._level_weight = self._level_weight * _LEVEL_FADING + weight
        self._level_sum = self._level_sum * _LEVEL_FADING + weight * (residual + level)

    # Looking --------------------------------------------------------------------------------------------

    @property
    def _level(self) -> float:
        return self._level_sum / (self._level_weight + _LEVEL_SHRINK)

    def _session(self, category: str, at: int) -> float:
        """Return how the machine fares just now against what is expected, as a logarithm."""
        weights = total = 0.0
        for fading, near in zip(_NEIGHBOUR_FADING, reversed(self._neighbours), strict=False):
            weight = near.weight * fading
            if at > near.at:
                weight *= math.exp((near.at - at) / _SESSION_LASTS)
            if near.category == category:
                weight *= _SAME_CATEGORY
            weights += weight
            total += weight * near.residual
        return total / (weights + _SESSION_SHRINK)

    def _weights(self, measured: Sequence[_Measured], merge: Merge, contention: float) -> list[float]:
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

    def _guesses(
        self,
        measured: Sequence[_Measured],
        weights: Sequence[float],
        contention: float,
        session: float,
        level: float,
    ) -> tuple[float, ...]:
        """Return what each of `EXPERTS` expects, as logarithms."""
        slope = self.slope
        carried = [one.log + slope * (contention - one.contention) for one in measured]
        calm = [log - one.session for log, one in zip(carried, measured, strict=True)]
        levelled = [log - one.level for log, one in zip(calm, measured, strict=True)]
        return (
            _robust_mean(weights, calm) + session,
            _robust_mean(weights, levelled) + level + session,
            _robust_mean(weights, carried),
            measured[-1].log,
            math.log(max(_LEAST, median(one.seconds for one in measured))),
        )


def _robust_mean(weights: Sequence[float], values: Sequence[float]) -> float:
    """Return the weighted mean, in which what lies far off weighs less (Huber), from three values on."""
    mean = sum(w * value for w, value in zip(weights, values, strict=True)) / sum(weights)
    if len(values) < 3:
        return mean
    for _ in range(3):
        damped = [
            w if abs(value - mean) <= _FAR else w * _FAR / abs(value - mean)
            for w, value in zip(weights, values, strict=True)
        ]
        mean = sum(w * value for w, value in zip(damped, values, strict=True)) / sum(damped)
    return mean


def _settled(trust: Sequence[float], guesses: Sequence[float]) -> float:
    """Return what experts say together: midway between their weighted mean and their weighted median."""
    mean = sum(w * guess for w, guess in zip(trust, guesses, strict=True)) / sum(trust)
    half = sum(trust) / 2.0
    for guess, weight in sorted(zip(guesses, trust, strict=True)):
        half -= weight
        if half <= 0.0:
            return (mean + guess) / 2.0
    return mean


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


def _kind(jobs: int, size: int) -> tuple[int, int]:
    """Return what kind of run it is: its `--jobs`, and the class of its size."""
    return jobs, 0 if size < 2 else 1 if size < 5 else 2 if size < 20 else 3
