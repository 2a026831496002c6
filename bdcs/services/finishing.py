# SPDX-License-Identifier: GPL-2.0-or-later
"""Work that goes on when who waits for it is cancelled: others wait as well, or it must not be left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


async def to_its_end(executor: Executor | None, work: Callable[[], T]) -> T:
    """Do `work` in a thread and return its result; if we are cancelled meanwhile, obey when it is done.

    Without an `executor` it is one of the event loop's own threads.
    """
    future = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        return await in_common(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


async def in_common(future: asyncio.Future[T]) -> T:
    """Return the result of what goes on when we are cancelled; its error is nobody's, if nobody is left."""
    future.add_done_callback(_note)
    return await asyncio.shield(future)


def _note(future: asyncio.Future[Any]) -> None:
    """Have asyncio not complain that nobody looked at the error."""
    if not future.cancelled():
        future.exception()
