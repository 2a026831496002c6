# SPDX-License-Identifier: GPL-2.0-or-later
"""Values of statements, as many as one takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

from bdcs.domain.batches import batches

if TYPE_CHECKING:
    from _typeshed import SupportsRichComparison

    V = TypeVar("V", bound=SupportsRichComparison)

SLICE: Final = 500
"""Values in one statement: SQLite limits its parameters."""


def slices(values: Iterable[V]) -> Iterator[list[V]]:
    """Yield the values sorted, each once, as many as one statement takes at a time."""
    yield from batches(sorted(set(values)), SLICE)
