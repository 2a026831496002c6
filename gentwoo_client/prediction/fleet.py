# SPDX-License-Identifier: GPL-2.0-or-later
"""What the fleet knows of packages, scaled to one machine: the document of `GET /v1/predictions`.

    {"format": 1, "fitted_at": 1795307649, "machines": 1000, "origin": 3.5,
     "packages": {"dev-lang/rust": [[8.12, 0.24, 400], ["1", 8.2, 0.2, 120]], …}}

Of each package: the logarithm of its seconds on a machine of median speed with nothing beside it, how far
machines differ from that, and on about how many it is known; then, where major versions differ, the same of
each. A machine finds out by itself, from packages that it built, how fast it is (`speed`) and how much it
gains on large packages (`slope`):

    log seconds = origin + speed + slope · (package - origin)

So nobody is told what it is about to build.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, Self

from gentwoo_client.prediction.averages import median
from gentwoo_client.prediction.merges import ROUNDING, Forecast

FORMAT: Final = 1
ORIGIN: Final = 3.5
"""Logarithm of seconds at which speed and slope do not mix."""

SPEED_RIDGE: Final = 0.18
SLOPE_RIDGE: Final = 4.0
FAR: Final = 0.5
"""Residuals beyond weigh less (Huber)."""
ROUNDS: Final = 15

KNOWN: Final = 2
"""Merges here beyond which the fleet has nothing to add."""

PACKAGES: Final = 200_000
"""Most packages of a table."""
_NAME_LENGTH: Final = 200
_EARLY: Final = 1.2816  # quantile of 10 %
_UNKNOWN_SPEED: Final = 0.7  # standard deviation of the speed of machines
_UNKNOWN_SLOPE: Final = 0.15
_OWN_NOISE: Final = 0.18  # of a single build here
_MANY: Final = 200
"""Calibrating packages of which one weighs no more than the rounding of the table."""
_MAJOR = re.compile(r"[0-9]+")


class InvalidTable(ValueError):
    """What should be a table of predictions is none."""


class Effect(NamedTuple):
    """What a package, or a major version of it, takes."""

    log: float
    spread: float
    machines: int


class PackageEffects(NamedTuple):
    """A package, and its major versions where these differ."""

    whole: Effect
    majors: Mapping[str, Effect]

    def of(self, version: str) -> Effect:
        """Return what is known of `version`."""
        return self.majors.get(major(version), self.whole)


def major(version: str) -> str:
    """Return the first number of a version: what slots mostly are."""
    match = _MAJOR.match(version)
    return match[0].lstrip("0") or "0" if match else ""


class FleetTable(NamedTuple):
    """The table in force."""

    fitted_at: int
    machines: int
    """About how many machines it was fitted with."""
    packages: Mapping[str, PackageEffects]

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Return the table that a decoded JSON document holds. Raises `InvalidTable`."""
        try:
            if document["format"] != FORMAT or float(document["origin"]) != ORIGIN:
                raise InvalidTable("a table of predictions of another format")
            packages = document["packages"]
            if len(packages) > PACKAGES:
                raise InvalidTable(f"more than {PACKAGES} packages")
            return cls(
                fitted_at=_count(document["fitted_at"]),
                machines=_count(document["machines"]),
                packages={_name(cp): _effects(rows) for cp, rows in packages.items()},
            )
        except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError) as error:
            if isinstance(error, InvalidTable):
                raise
            raise InvalidTable(f"no table of predictions: {error!r}") from error

    def to_json(self) -> dict[str, object]:
        """The document that `from_json` reads."""
        return {
            "format": FORMAT,
            "fitted_at": self.fitted_at,
            "machines": self.machines,
            "origin": ORIGIN,
            "packages": {
                cp: [_row(effects.whole), *([key, *_row(each)] for key, each in effects.majors.items())]
                for cp, effects in self.packages.items()
            },
        }

    def calibrate(self, known: Mapping[str, float]) -> Calibration:
        """Return where a machine stands that has these packages (CATEGORY/NAME → logarithm of seconds)."""
        pairs = {cp: (self.packages[cp].whole.log, log) for cp, log in known.items() if cp in self.packages}
        return Calibration(self, pairs)


class Calibration:
    """The place of one machine in the fleet."""

    __slots__ = ("_table", "_without", "pairs", "slope", "speed")

    def __init__(self, table: FleetTable, pairs: Mapping[str, tuple[float, float]]) -> None:
        """`pairs`: of each package that calibrates it, what the fleet says and what it takes here."""
        self._table = table
        self.pairs = pairs
        self.speed, self.slope = place(pairs.values())
        self._without: dict[str, tuple[float, float]] = {}

    @property
    def count(self) -> int:
        """How many packages calibrate it."""
        return len(self.pairs)

    def foretell(self, cp: str, version: str, shared: float = 0.0) -> Forecast | None:
        """Return what is to be expected of a source build here; None where the fleet does not know it.

        `shared` is added to the logarithm: what other merges at work will cost. The package itself never
        calibrates its own forecast.
        """
        effects = self._table.packages.get(cp)
        if effects is None:
            return None
        effect = effects.of(version)
        speed, slope = self._place_without(cp)
        count = self.count - (cp in self.pairs)
        alone = ORIGIN + speed + slope * (effect.log - ORIGIN)
        mean = alone + shared
        noise = effect.spread**2 + _OWN_NOISE**2
        doubt = noise / max(effect.machines, 1)
        doubt += _UNKNOWN_SPEED**2 / (1.0 + count * _UNKNOWN_SPEED**2 / 0.09)
        doubt += (_UNKNOWN_SLOPE * (effect.log - ORIGIN)) ** 2 / (1.0 + count / 4.0)
        seconds = math.exp(mean)
        spread = math.sqrt(noise + doubt)
        width = _EARLY * math.hypot(spread, ROUNDING / seconds)
        return Forecast(
            seconds=seconds,
            low=math.floor(math.exp(mean - width)),
            high=math.ceil(math.exp(mean + width)),
            method="fleet",
            merges=0,
            mean=mean,
            spread=spread,
            alone=alone,
        )

    def _place_without(self, cp: str) -> tuple[float, float]:
        """Return speed and slope by all packages but `cp`; of very many, one makes no difference."""
        if cp not in self.pairs or self.count > _MANY:
            return self.speed, self.slope
        if cp not in self._without:
            self._without[cp] = place(pair for other, pair in self.pairs.items() if other != cp)
        return self._without[cp]


def place(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return speed and slope of a machine: robust, and near (0, 1) as long as little is known.

    `pairs`: what the fleet says of a package, and what it takes here, as logarithms.
    """
    known = [(package - ORIGIN, here - ORIGIN) for package, here in pairs]
    if not known:
        return 0.0, 1.0
    speed, slope = median(here - package for package, here in known) * len(known) / (len(known) + 1.0), 1.0
    for _ in range(ROUNDS):
        weights = [_huber(here - speed - slope * package) for package, here in known]
        speed = sum(
            w * (here - slope * package) for w, (package, here) in zip(weights, known, strict=True)
        ) / (sum(weights) + SPEED_RIDGE)
        slope = (
            SLOPE_RIDGE
            + sum(w * package * (here - speed) for w, (package, here) in zip(weights, known, strict=True))
        ) / (SLOPE_RIDGE + sum(w * package * package for w, (package, _) in zip(weights, known, strict=True)))
    return speed, slope


def joined(own: Forecast | None, fleet: Forecast | None) -> Forecast | None:
    """Return what both say together: by how sure each is, and the fleet only beside one or two merges."""
    if own is None or fleet is None:
        return own or fleet
    if own.merges > KNOWN:
        return own
    sure, other = own.merges / _OWN_NOISE**2, 1.0 / fleet.spread**2
    share = other / (sure + other)
    mean = own.mean + share * (fleet.mean - own.mean)
    factor = math.exp(mean - own.mean)
    return own._replace(
        seconds=math.exp(mean),
        low=math.floor(own.low * factor),
        high=math.ceil(own.high * factor),
        method="both",
        mean=mean,
        alone=own.alone + mean - own.mean,
    )


def _huber(residual: float) -> float:
    return 1.0 if abs(residual) <= FAR else FAR / abs(residual)


def _effects(rows: Any) -> PackageEffects:
    if len(rows) == 1:
        return PackageEffects(_effect(rows[0]), {})
    whole, *others = rows
    return PackageEffects(_effect(whole), {_key(row[0]): _effect(row[1:]) for row in others})


def _effect(row: Any) -> Effect:
    log, spread, machines = row
    log, spread = float(log), float(spread)
    if not (-3.0 <= log <= 16.0 and 0.0 <= spread <= 5.0):
        raise InvalidTable(f"an effect that cannot be: {row!r:.80}")
    return Effect(log, spread, _count(machines))


def _row(effect: Effect) -> list[float | int]:
    return [round(effect.log, 2), round(effect.spread, 2), effect.machines]


def _name(cp: Any) -> str:
    if not isinstance(cp, str) or len(cp) > _NAME_LENGTH or not cp.isprintable() or cp.count("/") != 1:
        raise InvalidTable("no name of a package")
    return cp


def _key(text: Any) -> str:
    if not isinstance(text, str) or not text.isdecimal() or len(text) > 20:
        raise InvalidTable("no major version")
    return text


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise InvalidTable(f"no count: {value!r:.80}")
    return value
