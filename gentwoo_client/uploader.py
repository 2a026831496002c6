# SPDX-License-Identifier: GPL-2.0-or-later
"""Sending the outbox to the collector until there is nothing left, whatever the collector answers.

A segment is sent until it is acknowledged. Where the collector has lost some, they are sent again; where its
history and ours cannot both be true, pushing stops with `PushingStopped` and says what to do. What went wrong
is kept in the journal's state: `stopped` (why pushing needs somebody to act), `retry_at` (Unix time before
which trying again is pointless) and `attempts`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import Callable

from gentwoo_client.collector_api import CollectorAPI, Head, SegmentAnswer
from gentwoo_client.errors import CollectorBroken, PushingStopped, TryLater
from gentwoo_client.machine_key import MachineKey
from gentwoo_client.outbox import Outbox, StoredSegment

log = logging.getLogger(__name__)

FIRST_DELAY = 1.0  # seconds
LONGEST_DELAY = 300.0  # seconds

RENEW_ADVICE = (
    "the state directory was cloned or restored from a backup: run `gentwoo register --renew` to go on as a "
    "machine of its own"
)


def back_off(attempts: int) -> float:
    """Seconds to wait after that many failures in a row: doubling, with full jitter and a ceiling."""
    ceiling = min(FIRST_DELAY * 2 ** min(attempts, 30), LONGEST_DELAY)
    return random.uniform(0, ceiling)


def describe_stop(error: PushingStopped) -> str:
    """The value of the journal's state `stopped`: JSON of reason, message, advice and time."""
    return json.dumps(
        {"reason": error.reason, "message": str(error), "advice": error.advice, "at": int(time.time())}
    )


class Uploader:
    """Sends what `outbox` holds, in order."""

    def __init__(
        self,
        outbox: Outbox,
        collector: CollectorAPI,
        key: MachineKey,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._outbox = outbox
        self._collector = collector
        self._key = key
        self._progress = progress
        self._rewound_to: int | None = None
        self._is_troubled = True  # until proven otherwise: an earlier process may have left its trouble

    async def send(self, *, patience: float, leave: asyncio.Event | None = None) -> None:
        """Send everything; wait for a collector that is away, but no longer than `patience` seconds in all.

        `leave`, once set, ends waiting. Raises `TryLater`, after having stored when, or `PushingStopped`,
        after having stored why.
        """
        leave = leave or asyncio.Event()
        while True:
            try:
                await self.send_once()
            except TryLater as error:
                delay = await self._postpone(error)
                patience -= delay
                if patience < 0 or leave.is_set():
                    raise
                level, advice = (logging.WARNING, f"; {error.advice}") if error.advice else (logging.INFO, "")
                log.log(level, "%s%s; trying again in %.1f s", error, advice, delay)
                try:
                    await asyncio.wait_for(leave.wait(), delay)
                except TimeoutError:
                    continue
                raise
            except PushingStopped as error:
                await self._outbox.put(stopped=describe_stop(error), retry_at=None, attempts=None)
                raise
            else:
                return

    async def send_once(self) -> None:
        """Send everything; raise at the first answer that is not an acknowledgement or can be repaired."""
        while (stored := await self._next()) is not None:
            compact = await self._outbox.rebuild(stored, self._key)
            if compact is None:
                raise _fork("the journal no longer has the records that were sent before")
            answer = await self._collector.send_segment(compact)
            await self._settle(stored, answer)

    async def _next(self) -> StoredSegment | None:
        waiting = await self._outbox.next_unacknowledged()
        if waiting is not None:
            return waiting
        return await self._outbox.seal(self._key, audience=self._collector.audience)

    async def _settle(self, stored: StoredSegment, answer: SegmentAnswer) -> None:
        """Bring the outbox in line with what the collector says it has."""
        head = answer.head
        await self._compare(head)
        if head.seq >= stored.last_seq:
            await self._acknowledge(stored, head)
        elif answer.outcome == "accepted" or head.seq == self._rewound_to:
            raise CollectorBroken(f"{self._collector.audience} does not take what continues its own head")
        else:
            log.warning("the collector has records up to %d only: sending the rest again", head.seq)
            await self._outbox.rewind(head.seq)
            self._rewound_to = head.seq

    async def _compare(self, head: Head) -> None:
        """Raise `PushingStopped` unless `head` is a point of our own history."""
        if head.seq == 0 and head.segment is None:
            return
        ours = await self._outbox.segment_ending(head.seq)
        if ours is None or ours.digest != head.segment:
            raise _fork(f"the collector has another history of this machine, up to record {head.seq}")

    async def _acknowledge(self, stored: StoredSegment, head: Head) -> None:
        await self._outbox.acknowledge(head.seq)
        self._rewound_to = None
        if self._is_troubled:
            await self._outbox.put(stopped=None, retry_at=None, attempts=None)
            self._is_troubled = False
        log.debug("records %d to %d are durable at the collector", stored.first_seq, head.seq)
        if self._progress is not None:
            self._progress(head.seq)

    async def _postpone(self, error: TryLater) -> float:
        """Store when to try again, and return the seconds until then."""
        self._is_troubled = True
        attempts = int(await self._outbox.get("attempts") or 0)
        delay = back_off(attempts)
        if error.retry_after is not None:
            delay += error.retry_after
        await self._outbox.put(retry_at=int(time.time() + delay) + 1, attempts=attempts + 1)
        return delay


class Wakes:
    """The daemon's end of a pipe: a byte for new records, its end when we shall finish.

    A parent that dies closes the pipe as well, so no sender is ever left behind.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._woken = asyncio.Event()
        self.ended = asyncio.Event()

    def start(self) -> None:
        """Listen, on the running loop."""
        os.set_blocking(self._descriptor, False)
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable)

    def stop(self) -> None:
        """Listen no longer."""
        asyncio.get_running_loop().remove_reader(self._descriptor)

    async def wait(self, seconds: float) -> bool:
        """Wait for a wake-up; False when none came for `seconds`, or none will come any more."""
        try:
            await asyncio.wait_for(self._woken.wait(), seconds)
        except TimeoutError:
            return False
        self._woken.clear()
        return not self.ended.is_set()

    def _readable(self) -> None:
        try:
            received = os.read(self._descriptor, 4096)
        except BlockingIOError:
            return
        if not received:
            self.stop()
            self.ended.set()
        self._woken.set()


async def linger(uploader: Uploader, wakes: Wakes, *, seconds: float, patience: float) -> None:
    """Send what there is, then at each wake-up what has come, until none came for `seconds` or they end.

    Each time a collector that is away is waited for `patience` seconds. What was committed before the end is
    still sent, once, if the collector is there.
    """
    wakes.start()
    try:
        await uploader.send(patience=patience, leave=wakes.ended)
        while await wakes.wait(seconds):
            await uploader.send(patience=patience, leave=wakes.ended)
        if wakes.ended.is_set():
            await uploader.send(patience=0)
    finally:
        wakes.stop()


def _fork(message: str) -> PushingStopped:
    return PushingStopped(message, reason="fork", advice=RENEW_ADVICE)
