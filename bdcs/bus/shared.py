# SPDX-License-Identifier: GPL-2.0-or-later
"""Wake-ups that reach the other collectors as well, over an engine that may go away at any time.

Who waits here is woken at once, by `tell`, whatever becomes of the engine. What the engine cannot carry now
is dropped: everybody looks again after a while, and everybody is woken when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Coroutine, Iterable
from typing import Any, Final

from bdcs import measures
from bdcs.bus.memory import Bus
from bdcs.errors import BusUnavailable

log = logging.getLogger(__name__)

OUTGOING: Final = 10_000  # topics that may wait to be carried; of more, none is
FIRST_DELAY: Final = 0.5  # seconds until it is tried again, at most; twice as long after each time
LONGEST_DELAY: Final = 15.0
LOGS: Final = "job"
"""Kind of the topics that are told of most often, by lines of logs: they wait for all others."""


class SharedBus(Bus):
    """A bus of several collectors. Engines say how to connect, in `_session`."""

    def __init__(self, place: str) -> None:
        """`place` names the engine in the log, without any password."""
        super().__init__()
        self.place = place
        self.is_connected = False
        self.identity = secrets.token_hex(6)
        """Tells our own wake-ups when they come back."""
        self._is_loss_told = False
        self._outgoing: dict[str, None] = {}
        self._something = asyncio.Event()
        measures.BUS_CONNECTED.set(0)

    def tell(self, topics: Iterable[str]) -> None:
        """Wake whoever waits for any of `topics`, here at once and elsewhere soon."""
        topics = list(topics)
        super().tell(topics)
        if self.is_connected and len(self._outgoing) < OUTGOING:
            self._outgoing.update(dict.fromkeys(topics))
            if self._outgoing:
                self._something.set()

    async def run(self) -> None:
        """Be connected, and again whenever the connection is lost; until cancelled."""
        tries = 0
        while True:
            try:
                await self._session()
            except BusUnavailable as error:
                if _is_cancelled():  # which libraries may turn into an error of theirs
                    raise asyncio.CancelledError from error
                tries = 0 if self.is_connected else tries + 1
                self._note_loss(error)
            except Exception as error:  # wake-ups are hints: no mistake about them ends a collector
                tries += 1
                log.exception("bus: %s", self.place)
                self._note_loss(BusUnavailable(type(error).__name__))
            finally:
                self._drop()
            longest = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(tries, 16))
            await asyncio.sleep(random.uniform(0, longest))  # all collectors lost it at the same moment

    async def _session(self) -> None:
        """Connect, say so by `_note_return`, and carry wake-ups until that ends by `BusUnavailable`."""
        raise NotImplementedError

    async def _next(self, seconds: float | None = None) -> list[str]:
        """Wait for topics that are to be carried, at most so long; what people wait for comes first."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._something.wait()
        self._something.clear()
        topics = sorted(self._outgoing, key=is_log)
        self._outgoing.clear()
        return topics

    @staticmethod
    async def _first_end(*works: Coroutine[Any, Any, None]) -> None:
        """Do works beside each other until one ends, and raise what it ended by; the others are cancelled.

        A TaskGroup would leave it unclear whether somebody cancelled us (CPython before 3.13).
        """
        tasks = [asyncio.create_task(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _received(self, sender: str, topics: Iterable[str]) -> None:
        """Another collector told of these topics, unless we did."""
        if sender != self.identity:
            super().tell(topics)

    def _note_return(self) -> None:
        self.is_connected = True
        self._is_loss_told = False
        measures.BUS_CONNECTED.set(1)
        log.info("bus: connected to %s", self.place)
        super().tell(list(self._subscriptions))  # nobody knows what was missed

    def _note_loss(self, error: BusUnavailable) -> None:
        if not self._is_loss_told:
            measures.BUS_LOSSES.add()
            log.warning("bus: %s: %s; it is tried again, and everybody looks by himself", self.place, error)
        self._is_loss_told = True

    def _drop(self) -> None:
        self.is_connected = False
        self._outgoing.clear()
        self._something.clear()
        measures.BUS_CONNECTED.set(0)


def is_log(topic: str) -> bool:
    """Whether a topic is one of those that lines of logs are told by."""
    return topic.partition(".")[0] == LOGS


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
