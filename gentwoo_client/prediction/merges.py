# SPDX-License-Identifier: GPL-2.0-or-later
"""What is foretold: a merge, the circumstances in which it begins, and the forecast."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

SOURCE: Final = "source"
BINARY: Final = "binary"

TINY: Final = 3
"""Seconds below which the rounding of stamps is all there is: nothing is learned about the machine."""

ROUNDING: Final = 0.4
"""Standard deviation, in seconds, of a duration between two whole seconds."""

_COMPONENT = re.compile(r"[0-9]+|[a-z]+")


class Merge(NamedTuple):
    """One package to be merged."""

    category: str
    name: str
    version: str
    kind: str = SOURCE
    replaces: str | None = None
    """The version that it takes the place of, where that is known: so its slot is known."""

    @property
    def cp(self) -> str:
        """CATEGORY/NAME."""
        return f"{self.category}/{self.name}"


class Circumstances(NamedTuple):
    """What is known when a merge begins."""

    at: int
    """Unix seconds."""
    at_work: int | None = None
    """Merges at work on the machine from then on, this one included; None for one that has not begun."""
    jobs: int = 1
    """What `--jobs` allows; 0 without limit."""
    size: int = 1
    """How many merges its list has."""
    place: int = 1
    """Which of them it is."""
    shared: float | None = None
    """Logarithm of how many merges will share the machine on average, where a schedule tells."""
    left: tuple[float, ...] | None = None
    """Seconds that each other merge at work likely still has; None where that is not known."""


class Forecast(NamedTuple):
    """How long a merge is likely to take."""

    seconds: float
    low: float
    """Four of five merges take from `low` …"""
    high: float
    """… to `high` seconds."""
    method: str
    """What the figure rests on most: a name of `METHODS`."""
    merges: int
    """How many merges of this package here it rests on; 0 where only the fleet knows it."""
    mean: float
    """Logarithm of `seconds` before any rounding."""
    spread: float
    """Standard deviation of the logarithm that a look at `merges` alone suggests."""
    guesses: tuple[float, ...] = ()
    """What each expert said, as logarithms: to be told how right they were."""
    known: tuple[float, ...] = ()
    """What the correction of the first expert went by."""
    alone: float = 0.0
    """Logarithm of the seconds that it would take with nothing beside it."""


METHODS: Final[Mapping[str, str]] = {
    "stretch": "earlier merges here, freed of how the machine fared at each, and how it fares now",
    "learned": "the same, corrected by what proved to matter on this machine",
    "session": "earlier merges here, and how the machine fares just now",
    "level": "earlier merges here, and how the machine fares lately",
    "contention": "earlier merges here, carried to what runs beside it",
    "last": "the last merge here",
    "median": "the median of the merges here",
    "fleet": "other machines, scaled to this one",
    "both": "merges here and other machines",
}
"""Names of methods, and in words what each is."""


def likeness(first: str, second: str) -> int:
    """Return how many leading components two versions share: what is alike is probably of one slot."""
    count = 0
    for one, other in zip(_COMPONENT.findall(first), _COMPONENT.findall(second), strict=False):
        if one != other:
            break
        count += 1
    return count


def renamed(cp: str, moves: Mapping[str, str]) -> str:
    """Return what `cp` is called today, by the package moves of `profiles/updates`."""
    for _ in range(16):  # moves of moves; a circle must not hold us
        new = moves.get(cp)
        if new is None:
            break
        cp = new
    return cp
