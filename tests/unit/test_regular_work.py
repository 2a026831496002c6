# SPDX-License-Identifier: GPL-2.0-or-later
"""Regular work goes on after what passes, and ends by all else."""

import asyncio

import pytest

from bdcs.errors import StoreError, StoreUnavailable
from bdcs.measures import WORK_DONE, WORK_ERRORS
from bdcs.services.regular_work import regularly


async def test_it_is_done_again_until_something_else_goes_wrong() -> None:
    ends = iter([None, StoreUnavailable("locked"), None, ValueError("a bug")])
    told: list[Exception] = []

    async def work() -> None:
        error = next(ends)
        if error is not None:
            raise error

    with pytest.raises(ValueError, match="a bug"):
        await regularly(work, name="test-ends", seconds=0, passing=StoreError, tell=told.append)
    assert [str(error) for error in told] == ["locked"]
    assert list(ends) == []
    assert WORK_ERRORS.samples()[("test-ends",)] == 2
    assert ("test-ends",) in WORK_DONE.samples()


async def test_a_cancellation_reaches_the_work() -> None:
    begun, told = asyncio.Event(), list[Exception]()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(
        regularly(work, name="test-cancelled", seconds=0, passing=Exception, tell=told.append)
    )
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == []
