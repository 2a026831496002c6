# SPDX-License-Identifier: GPL-2.0-or-later
"""Work in threads that must not be left alone: what it uses goes away when whoever waits for it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(executor: Executor | None, work: Callable[[], T]) -> T:
    """Do `work` in a thread and return its result; if we are cancelled meanwhile, obey when it is done.

    Without an `executor` it is one of the event loop's own threads.
    """
    future = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
