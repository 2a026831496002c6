# SPDX-License-Identifier: GPL-2.0-or-later
"""Which public figures may be shown, and when they may move.

A *cell* is one public count of machines: those that have a package, those that have one version of it, or the
whole fleet. What is published of a cell is decided here, without a store and without a clock:

* it counts at least `Thresholds.machines` machines, or it is hidden, whatever the true count;
* it is rounded to a multiple of five;
* it moves only when enough distinct machines changed it since it last did, so that two views of it, however
  close in time, differ by a crowd and never by one machine that an observer can name;
* the versions of a package are settled against the package, so that subtracting one from the other proves
  nothing about a group smaller than the threshold.

Every rule takes counts of machines and gives counts of machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

ROUNDING = 5
"""Published counts are multiples of this."""

LOWEST_THRESHOLD = 5
"""An operator may ask for more machines than `DEFAULT_THRESHOLD`, or for fewer, but never for fewer than
this.
"""

DEFAULT_THRESHOLD = 10

SMALLEST_MOVE = 10
"""A published cell moves when this many machines changed it, also where fewer are enough to be shown at
first.
"""

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many machines make a crowd. Raises `ValueError` below `LOWEST_THRESHOLD`."""

    machines: int = DEFAULT_THRESHOLD
    """A cell that counts fewer is hidden."""

    def __post_init__(self) -> None:
        if self.machines < LOWEST_THRESHOLD:
            raise ValueError(f"threshold is {self.machines}, but never below {LOWEST_THRESHOLD}")

    @property
    def move(self) -> int:
        """How many distinct machines must have changed a cell before it is published anew."""
        return max(self.machines, SMALLEST_MOVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell as it stands: how many machines are in it, and how that differs from when it was published."""

    present: int
    """Machines in the cell now."""

    joined: int
    """Of these, machines that the published figure does not count."""

    left: int
    """Machines that the published figure counts and that are known, but no longer in the cell."""

    gone: int = 0
    """Machines that the published figure counts and that were forgotten since."""

    published: int | None = None
    """What was published last; 0 if that was "hidden"; None if the cell never was published."""

    @property
    def changed(self) -> int:
        """How many distinct machines changed the cell, at the least, since it was published.

        A machine that is forgotten and registers again looks like one that went and another that came, so
        each forgotten machine is paired with a joined one: nobody makes two changes out of one machine.
        """
        return self.left + max(self.joined, self.gone)


def rounded(count: int) -> int:
    """The multiple of `ROUNDING` nearest to `count`."""
    return (count + ROUNDING // 2) // ROUNDING * ROUNDING


def figure(count: int, thresholds: Thresholds) -> int:
    """What may be said of `count` machines: the rounded count, or 0 for "hidden"."""
    return rounded(count) if count >= thresholds.machines else 0


def may_publish(cell: Cell, thresholds: Thresholds) -> bool:
    """Whether `cell` may be published now, either for the first time or anew.

    For the first time when as many machines are in it as the threshold demands; anew when as many distinct
    machines changed it as `Thresholds.move`.
    """
    if cell.published is None:
        return cell.present >= thresholds.machines
    return cell.changed >= thresholds.move


def settled(whole: int, part: int, thresholds: Thresholds) -> int:
    """`part` as it may be shown beside `whole`, of which it is a part; both are published figures.

    A difference that proves "between one and a few machines are in the one and not in the other" is not
    shown: then the part is shown as large as the whole. So is a part that, published earlier, exceeds it.
    """
    return whole if part > whole or proves_few(whole, [part], thresholds) else part


def settled_parts(whole: int, parts: Mapping[K, int], thresholds: Thresholds) -> dict[K, int]:
    """`parts` (versions of a package) as they may be shown beside `whole` and beside each other.

    Hidden ones (0) are left out, all of them where the whole is hidden; the order stays. Where the parts
    together would prove that a few machines have none of the parts shown, the largest part takes these.
    """
    shown = {key: settled(whole, part, thresholds) for key, part in parts.items() if part > 0 and whole > 0}
    if shown and proves_few(whole, shown.values(), thresholds):
        largest = max(shown, key=lambda key: shown[key])
        shown[largest] += whole - sum(shown.values())
    return shown


def proves_few(whole: int, parts: Iterable[int], thresholds: Thresholds) -> bool:
    """Whether what `whole` counts beyond `parts` is surely more than nothing and fewer than the threshold.

    All are published figures, so each stands for the counts that round to it and reach the threshold.
    """
    parts = list(parts)
    error = ROUNDING // 2
    least = max(whole - error, thresholds.machines) - sum(part + error for part in parts)
    most = whole + error - sum(max(part - error, thresholds.machines) for part in parts)
    return least >= 1 and most < thresholds.machines
