# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends on what is in the outbox: in its order, and each event at least once.

One collector at a time does it. An event leaves the outbox when the broker has confirmed it; whoever is
killed in between has it sent again by the next. An event that the broker refuses holds the others up for a
few tries, in case that passes; then they pass it, and it is tried again now and then, out of order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from bdcs import measures
from bdcs.bus.feed import Feed, Message, Refused
from bdcs.bus.memory import Bus
from bdcs.errors import BusUnavailable, StoreUnavailable
from bdcs.services import outbox
from bdcs.store.store import Store

log = logging.getLogger(__name__)

AT_ONCE: Final = 200  # events that are on their way to the broker together
POLL: Final = 1.0  # seconds after which it looks again without having been woken: commands write events, too
TRIMMING: Final = 60.0  # seconds from one look for what waits for too long to the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """Sends events on."""

    store: Store
    bus: Bus
    feed: Feed
    now: Callable[[], float] = time.time

    async def run(self) -> None:
        """Do it until cancelled, or until the bus is closed."""
        trimmed, most = -TRIMMING, AT_ONCE
        with self.bus.subscribed(outbox.TOPIC) as subscription:
            while not subscription.is_closing:
                if time.monotonic() >= trimmed + TRIMMING:
                    trimmed = time.monotonic()
                    await _trim(self.store, self.now)
                try:
                    is_done = not await self._sent(most)
                    most = min(AT_ONCE, 2 * most)
                except (BusUnavailable, StoreUnavailable) as error:
                    log.debug("events wait: %s", error)  # the bus says so once, the store by itself
                    is_done, most = True, 1  # if it is one of them that the broker does not like: which?
                if is_done:
                    await subscription.wait(POLL)

    async def _sent(self, most: int) -> bool:
        """Send the oldest events on; return whether something went, or was set aside."""
        found = await self.store.read(partial(outbox.first, most=most, now=self.now()))
        ids, count = list(found.messages), 0
        try:
            count = await self.feed.publish(list(found.messages.values())) if ids else 0
        except Refused as refusal:
            if not await self._set_aside(ids[0], found.messages[ids[0]], refusal):
                await asyncio.sleep(POLL)
        measures.EVENTS_SENT.add(count=count)
        gone = [*ids[:count], *found.hidden]
        if gone:
            await self.store.write(partial(outbox.drop, ids=gone))
        return bool(ids or gone)

    async def _set_aside(self, number: int, message: Message, refusal: Refused) -> bool:
        """Note that an event was refused; return whether it is set aside now."""
        seconds = await self.store.write(partial(outbox.refuse, number=number, now=self.now()))
        if seconds is None:
            return False
        measures.EVENTS_REFUSED.add()
        log.warning(
            "the broker refuses an event (%s, id %s): %s; others pass it, it is tried again in %d seconds",
            message.key,
            message.id,
            refusal,
            seconds,
        )
        return True


async def trim_regularly(store: Store, now: Callable[[], float] = time.time) -> None:
    """Drop what waits for too long, where other collectors have a broker and this one does not."""
    while True:
        await _trim(store, now)
        await asyncio.sleep(TRIMMING)


async def _trim(store: Store, now: Callable[[], float]) -> None:
    try:
        dropped = await store.write(partial(outbox.trim, now=now()))
    except StoreUnavailable as error:
        log.warning("old events were not looked for: %s", error)
    else:
        measures.EVENTS_DROPPED.add(count=dropped)
        if dropped:
            log.warning("%d events were dropped, which could not be sent in time", dropped)
