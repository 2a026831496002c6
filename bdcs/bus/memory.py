# SPDX-License-Identifier: GPL-2.0-or-later
"""Wake-ups within one process.

    with bus.subscribed("job.7") as subscription:
        while not is_done(await store.read(look)):
            await subscription.wait(5.0)

Subscribe, then look, then wait: what happens in between is not missed. A wake-up is a hint, nothing more, and
may be missing (another collector did it); hence everybody looks again after a while.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator

from bdcs.bus.feed import Feed


class Subscription:
    """Somebody who waits for some topics."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._event = asyncio.Event()

    @property
    def is_closing(self) -> bool:
        """Whether the process is about to end: nobody should wait any more."""
        return self._bus.is_closed

    async def wait(self, seconds: float) -> bool:
        """Wait for a wake-up, at most so long; return whether one came since the last call."""
        if not self.is_closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._event.wait()
        came = self._event.is_set()
        self._event.clear()
        return came

    def wake(self) -> None:
        """Let the waiting end."""
        self._event.set()


class Bus:
    """Carries wake-ups from who changed something to who waits for it; of one event loop."""

    feed: Feed | None = None
    """Where events go; None: nowhere."""

    def __init__(self) -> None:
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)
        self.is_closed = False

    @contextlib.contextmanager
    def subscribed(self, *topics: str) -> Iterator[Subscription]:
        """Give a subscription for `topics`."""
        subscription = Subscription(self)
        for topic in topics:
            self._subscriptions[topic].add(subscription)
        try:
            yield subscription
        finally:
            for topic in topics:
                self._subscriptions[topic].discard(subscription)
                if not self._subscriptions[topic]:
                    del self._subscriptions[topic]

    def tell(self, topics: Iterable[str]) -> None:
        """Wake whoever waits for any of `topics`."""
        for topic in topics:
            for subscription in self._subscriptions.get(topic, ()):
                subscription.wake()

    async def run(self) -> None:
        """Do what the bus needs besides, until cancelled; within one process that is nothing."""

    def close(self) -> None:
        """Wake everybody, for good: the process is about to end."""
        self.is_closed = True
        self.tell(list(self._subscriptions))
