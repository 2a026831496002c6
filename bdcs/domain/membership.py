# SPDX-License-Identifier: GPL-2.0-or-later
"""In which cells of figures a machine is, and in which it is counted, told from what is not settled alone.

An installation is settled when it agrees with what is published: it is there and counted for its version and
its package, or its machine counts nowhere and is counted nowhere. All that can have changed a cell is in the
others, which are few however many machines there are: those that would change a cell much are settled by
publishing it. A machine is in a package's cell once, however many versions of it are there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from bdcs.domain.installations import AWAY, COUNTED_PACKAGE, COUNTED_VERSION, PRESENT

CellKey = tuple[int, int | None]
"""A package and a version of it; None: the package in any version."""

KNOWN: Final = PRESENT | COUNTED_VERSION | COUNTED_PACKAGE
"""Without any of these an installation is of no use."""


class Unsettled(NamedTuple):
    """An installation that is not settled."""

    machine: int
    package: int
    version: int
    flags: int
    beside_settled: bool
    """Whether the machine has, and is counted for, another version of the package that is settled."""

    @property
    def is_here(self) -> bool:
        """Whether it is in the cells of its version and its package."""
        return self.flags & (PRESENT | AWAY) == PRESENT


@dataclass(slots=True)
class Moves:
    """Machines that came into a cell and went from it since it was published."""

    joined: int = 0
    left: int = 0

    def note(self, *, is_in: bool, is_counted: bool) -> None:
        """Add a machine."""
        self.joined += is_in and not is_counted
        self.left += is_counted and not is_in


class Memberships:
    """What all unsettled installations of some packages tell."""

    def __init__(self, unsettled: Iterable[Unsettled]) -> None:
        self._unsettled = list(unsettled)
        self._machines: dict[tuple[int, int], tuple[bool, bool]] = {}
        for each in self._unsettled:
            key = (each.package, each.machine)
            is_in, is_counted = self._machines.get(key, (each.beside_settled, each.beside_settled))
            self._machines[key] = (
                is_in or each.is_here,
                is_counted or bool(each.flags & COUNTED_PACKAGE),
            )

    def moves(self) -> dict[CellKey, Moves]:
        """Return, of each cell that may have changed, how it did."""
        found: dict[CellKey, Moves] = {}
        for each in self._unsettled:
            cell = found.setdefault((each.package, each.version), Moves())
            cell.note(is_in=each.is_here, is_counted=bool(each.flags & COUNTED_VERSION))
        for (package, _), (is_in, is_counted) in self._machines.items():
            found.setdefault((package, None), Moves()).note(is_in=is_in, is_counted=is_counted)
        return found

    def settled(self, published: Collection[CellKey]) -> Iterator[tuple[Unsettled, int]]:
        """Yield what changes when the cells `published` are, with its flags then; 0: it is of no use.

        Of a machine that is in a package's cell and counted there, what is installed carries that, and not
        what was installed when it was published.
        """
        for each in self._unsettled:
            changing = COUNTED_VERSION if (each.package, each.version) in published else 0
            if (each.package, None) in published or self._machines[each.package, each.machine] == (
                True,
                True,
            ):
                changing |= COUNTED_PACKAGE
            flags = each.flags & ~changing | (changing if each.is_here else 0)
            if not flags & KNOWN:
                flags = 0
            if flags != each.flags or not flags:
                yield each, flags
