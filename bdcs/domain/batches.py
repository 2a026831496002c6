# SPDX-License-Identifier: GPL-2.0-or-later
"""Many things, some at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batches(values: Iterable[T], most: int) -> Iterator[list[T]]:
    """Yield the values in the order that they come in, at most so many at a time."""
    left = iter(values)
    while some := list(islice(left, most)):
        yield some
