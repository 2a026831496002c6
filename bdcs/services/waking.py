# SPDX-License-Identifier: GPL-2.0-or-later
"""Transactions with jobs, after which those whom they concern are woken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from bdcs import measures
from bdcs.bus.memory import Bus
from bdcs.domain.build_policy import DEFAULT, BuildPolicy
from bdcs.services import outbox
from bdcs.services.jobs import Jobs, Touched
from bdcs.store.store import Store

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item of a grouped write


def request_topic(number: str) -> str:
    """What who waits for a request subscribes to."""
    return f"request.{number}"


def job_topic(number: int) -> str:
    """… for a job, or its log."""
    return f"job.{number}"


def attempt_topic(number: int) -> str:
    """… for the end of an attempt."""
    return f"attempt.{number}"


def target_topic(number: int) -> str:
    """… for work to do at a target."""
    return f"target.{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transactions:
    """Does things to jobs."""

    store: Store
    bus: Bus
    now: Callable[[], float]
    policy: BuildPolicy = DEFAULT

    async def write(self, work: Callable[[Jobs], T]) -> T:
        """Do `work` in a transaction; wake whom it concerned when it is durable. Raises what `work` does."""

        def do(connection: Connection) -> tuple[T, Touched]:
            book = Jobs(connection, self.now(), self.policy)
            return work(book), book.touched

        result, touched = await self.store.write(do)
        self.tell(touched)
        return result

    async def write_grouped(self, work: Callable[[Jobs, Sequence[I]], Sequence[Any]], item: I) -> Any:
        """Give `item` to `work`, with the others that wait for it: see `Store.write_grouped`.

        Whom that concerned is woken once for all of them. `work` is a function, or a method: it has to be the
        same each time.
        """
        outcome = await self.store.write_grouped(_Together(transactions=self, work=work), item, 1)
        if not outcome.news.is_told:
            outcome.news.is_told = True
            self.tell(outcome.news.touched)
        return outcome.result

    def tell(self, touched: Touched) -> None:
        """Wake whom a transaction concerned, and count what ended with it."""
        for (outcome, reason), count in touched.ended.items():
            measures.ATTEMPTS.add(outcome, reason, count=count)
        measures.LEASES_EXPIRED.add(count=touched.expired)
        self.bus.tell(map(request_topic, touched.requests))
        self.bus.tell(map(job_topic, touched.jobs))
        self.bus.tell(map(attempt_topic, touched.attempts))
        self.bus.tell(map(target_topic, touched.targets))
        if touched.jobs:
            self.bus.tell([outbox.TOPIC])


@dataclass(slots=True, kw_only=True)
class _News:
    """Whom a transaction concerned that many share."""

    touched: Touched
    is_told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of one item."""

    result: Any
    news: _News


@dataclass(frozen=True, slots=True, kw_only=True)
class _Together:
    """Does `work` for the items that wait for it; equal to any other that does the same."""

    transactions: Transactions
    work: Callable[[Jobs, Sequence[Any]], Sequence[Any]]

    def __call__(self, connection: Connection, items: Sequence[Any]) -> list[Any]:
        book = Jobs(connection, self.transactions.now(), self.transactions.policy)
        results = self.work(book, items)
        news = _News(touched=book.touched)
        return [
            result if isinstance(result, BaseException) else _Outcome(result=result, news=news)
            for result in results
        ]
