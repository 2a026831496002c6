# SPDX-License-Identifier: GPL-2.0-or-later
"""Which package takes how long, whichever machines happened to build it: package effect × machine effect.

    log seconds = ORIGIN + speed(machine) + slope(machine) · (effect(package) - ORIGIN) + rest

A cell is what one machine says of one package: the median of its latest merges, so that a machine with a
thousand rebuilds weighs no more than one. What lies far off weighs less (Huber), and machines of which little
is known are taken for ordinary ones. Both sides are solved in turns, each with the other held fixed; then
speeds are centred on a median of 0 and slopes on a mean of 1, else the scale would drift.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final, NamedTuple

from gentwoo_client.prediction.fleet import FAR, ORIGIN, SLOPE_RIDGE, SPEED_RIDGE

SLOPE: Final = 0.45
"""By how much longer a merge takes that shares its machine: logarithm per logarithm of the concurrency."""

ROUNDS: Final = 20
"""At most: it ends when nothing moves by more than `_STILL` any more."""
_STILL: Final = 0.003
LATEST: Final = 5
"""Merges of a package on one machine, the latest, of which the median counts."""
_LEAST_SLOPE: Final = 0.3


class Cell(NamedTuple):
    """What one machine says of one package."""

    package: int
    machine: int
    log: float
    """Logarithm of the seconds that it takes there with nothing beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineEffect:
    """How a machine differs from the median one."""

    speed: float
    slope: float

    def scaled(self, log: float) -> float:
        """Return, as logarithm, what a merge that takes e^`log` seconds here takes on the median machine."""
        return ORIGIN + (log - self.speed - ORIGIN) / self.slope


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Effects of all packages and machines."""

    packages: dict[int, float]
    machines: dict[int, MachineEffect]


def alone(seconds: int, concurrency: float | None) -> float:
    """Return the logarithm of what a merge would have taken with nothing beside it."""
    return math.log(max(seconds, 1)) - SLOPE * math.log(max(1.0, concurrency or 1.0))


def fit(cells: Sequence[Cell]) -> Fit:
    """Return the effects that fit `cells` best."""
    packages: dict[int, list[Cell]] = {}
    machines: dict[int, list[Cell]] = {}
    for cell in cells:
        packages.setdefault(cell.package, []).append(cell)
        machines.setdefault(cell.machine, []).append(cell)
    effects = {package: median(cell.log for cell in some) for package, some in packages.items()}
    speeds = dict.fromkeys(machines, 0.0)
    slopes = dict.fromkeys(machines, 1.0)
    for _ in range(ROUNDS):
        for machine, some in machines.items():
            speeds[machine], slopes[machine] = _machine(some, effects, speeds[machine], slopes[machine])
        _centre(speeds, slopes)
        moved = {
            package: _package(some, effects[package], speeds, slopes) for package, some in packages.items()
        }
        farthest = max((abs(moved[package] - effects[package]) for package in moved), default=0.0)
        effects = moved
        if farthest < _STILL:
            break
    return Fit(
        packages=effects,
        machines={
            machine: MachineEffect(speed=speeds[machine], slope=slopes[machine]) for machine in machines
        },
    )


def effect_of(logs: Iterable[float]) -> tuple[float, float]:
    """Return middle and spread of scaled logarithms: a robust mean, and a robust standard deviation."""
    values = sorted(logs)
    middle = median(values)
    for _ in range(ROUNDS):
        weights = [_huber(value - middle) for value in values]
        middle = sum(w * value for w, value in zip(weights, values, strict=True)) / sum(weights)
    deviations = [abs(value - middle) for value in values]
    return middle, max(1.4826 * median(deviations), 0.5 * fmean(deviations))


def _machine(
    cells: Sequence[Cell], effects: dict[int, float], speed: float, slope: float
) -> tuple[float, float]:
    weights = speeds = products = squares = 0.0
    for package, _, log in cells:
        effect, here = effects[package] - ORIGIN, log - ORIGIN
        weight = _huber(here - speed - slope * effect)
        weights += weight
        speeds += weight * (here - slope * effect)
        products += weight * effect * (here - speed)
        squares += weight * effect * effect
    return (
        speeds / (weights + SPEED_RIDGE),
        max(_LEAST_SLOPE, (products + SLOPE_RIDGE) / (squares + SLOPE_RIDGE)),
    )


def _centre(speeds: dict[int, float], slopes: dict[int, float]) -> None:
    if not speeds:
        return
    middle, mean = median(speeds.values()), fmean(slopes.values())
    for machine in speeds:
        speeds[machine] -= middle
        slopes[machine] /= mean


def _package(
    cells: Sequence[Cell], effect: float, speeds: dict[int, float], slopes: dict[int, float]
) -> float:
    weights = total = 0.0
    for _, machine, log in cells:
        scaled = ORIGIN + (log - ORIGIN - speeds[machine]) / slopes[machine]
        weight = _huber(scaled - effect)
        weights += weight
        total += weight * scaled
    return total / weights


def _huber(residual: float) -> float:
    size = abs(residual)
    return 1.0 if size <= FAR else FAR / size
