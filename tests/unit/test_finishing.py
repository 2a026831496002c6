# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes on when who waits for it is cancelled, and fails then: that is nobody's error any more."""

import asyncio
import gc
import threading
from typing import Any

import pytest

from bdcs.errors import StoreUnavailable
from bdcs.services.finishing import in_common, to_its_end


class Failing:
    """Work that fails when it may."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.has_begun = threading.Event()

    def __call__(self) -> None:
        self.has_begun.set()
        self.may_end.wait(60)
        raise StoreUnavailable("nobody reaches it")


async def complaints_of(cancelled: bool) -> list[dict[str, Any]]:
    """Let work fail, after who waits was cancelled or while he waits; return what asyncio complains of."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    work = Failing()
    waiting = asyncio.create_task(to_its_end(None, work))
    await asyncio.to_thread(work.has_begun.wait, 60)
    if cancelled:
        waiting.cancel()
        await asyncio.sleep(0)
        assert not waiting.done()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError if cancelled else StoreUnavailable):
        await waiting
    del waiting, work
    gc.collect()
    return complaints


@pytest.mark.parametrize("cancelled", [True, False])
def test_an_error_that_comes_too_late_is_nobodys(cancelled: bool) -> None:
    assert asyncio.run(complaints_of(cancelled)) == []


async def one_of_two_leaves() -> list[dict[str, Any]]:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    may_end = asyncio.Event()

    async def fail() -> None:
        await may_end.wait()
        raise StoreUnavailable("nobody reaches it")

    for leaving in (1, 2):
        may_end.clear()
        work = asyncio.create_task(fail())
        waiting = [asyncio.create_task(in_common(work)) for _ in range(2)]
        await asyncio.sleep(0)
        for one in waiting[:leaving]:
            one.cancel()
        await asyncio.sleep(0)
        may_end.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.wait([work])
        expected = [asyncio.CancelledError] * leaving + [StoreUnavailable] * (2 - leaving)
        assert [type(outcome) for outcome in outcomes] == expected
        del work, waiting, outcomes
        gc.collect()
    return complaints


def test_who_stays_gets_the_error() -> None:
    assert asyncio.run(one_of_two_leaves()) == []
