# SPDX-License-Identifier: GPL-2.0-or-later
"""Work that is done again and again, beside all else, for as long as its server runs or has a lease."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bdcs.measures import working


async def regularly(
    work: Callable[[], Awaitable[object]],
    *,
    name: str,
    seconds: float,
    passing: type[Exception] | tuple[type[Exception], ...],
    tell: Callable[[Exception], None],
) -> None:
    """Do `work` now, and again `seconds` after each end of it, until cancelled.

    After an error that is `passing` it is tried again just so, and `tell` gets the error; any other ends
    all, as a cancellation does. Metrics have the rounds by their `name`.
    """
    while True:
        try:
            with working(name, seconds):
                await work()
        except passing as error:
            tell(error)
        await asyncio.sleep(seconds)
