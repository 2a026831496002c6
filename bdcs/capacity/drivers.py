# SPDX-License-Identifier: GPL-2.0-or-later
"""What is asked of who starts builders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

ANY_NUMBER: Final = 1_000_000
"""Stands for the limit of an engine that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What an engine has for a pool."""

    wanted: int
    """How many it was told to have."""
    members: frozenset[str] | None = None
    """Those that there are, by the names that they have as builders; None: it does not say."""
    least: int = 0
    most: int = ANY_NUMBER
    """Limits of the engine's own."""


@runtime_checkable
class Driver(Protocol):
    """Who starts and stops the builders of one pool.

    Every method but `close` raises `CapacityRefused`, `CapacityUnavailable`.
    """

    async def look(self) -> Fleet:
        """Return what there is; nothing changes."""

    async def tend(self) -> None:
        """See that the engine lets nobody go by itself, as far as `look` found that it might."""

    async def resize(self, wanted: int, spare: Sequence[str] = ()) -> None:
        """Tell the engine to have so many.

        Where these are fewer than there are, who must go ends what he builds first. `spare` are builders
        that have nothing to do, for an engine that takes a hint.
        """

    async def close(self) -> None:
        """End connections; builders stay."""


@runtime_checkable
class ChoosingDriver(Driver, Protocol):
    """One that can be told who is to go."""

    async def dismiss(self, names: Sequence[str]) -> None:
        """Let these members go, who build nothing and get no more work, and have so many fewer."""
