# SPDX-License-Identifier: GPL-2.0-or-later
"""One attempt: from its lease to its publication, or to why there is none.

Three tasks run side by side: the work; the heartbeats, which also bring word that nobody wants it any more;
and the log. Whatever ends the attempt before the work does cancels the work, and with it every process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final, TypeVar

from bdcs.builder.building import Binhost, BuildFailed, Built, Workshop
from bdcs.builder.collector import BuilderAPI
from bdcs.builder.emerge import Cause
from bdcs.builder.keys import Keys
from bdcs.builder.log_stream import LogStream
from bdcs.builder.portage_config import Wish
from bdcs.errors import BuildRefused, BuildRootUnusable
from gentwoo_client.errors import CollectorRefused, GentwooError, TryLater
from gentwoo_client.wire.build_messages import Lease
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.targets import REQUIRED

T = TypeVar("T")

log = logging.getLogger(__name__)

_PAUSE: Final = 1.0  # seconds before what could not be sent is sent again
_LAST_WORDS: Final = 10.0  # seconds for the rest of a log
_LONGEST_WAIT: Final = 30  # seconds for the index to list dependencies


class Stop(Enum):
    """What ends an attempt before its work is done."""

    CANCELLED = "nobody wants it any more"
    LOST = "its lease is over"
    RELEASED = "the builder stops"
    TIME = "time: it took longer than is allowed"
    OUTPUT = "output: it printed more than is allowed"


class Attempt:
    """What a builder does for one lease."""

    def __init__(
        self, lease: Lease, workshop: Workshop, keys: Keys, calls: BuilderAPI, beats: BuilderAPI
    ) -> None:
        """`beats` is a connection for heartbeats alone, since those are long polls."""
        self.lease = lease
        self._workshop = workshop
        self._keys = keys
        self._calls = calls
        self._beats = beats
        self._why: Stop | None = None
        self._is_handing_over = False
        self._stopping = asyncio.Event()
        self._log = LogStream(
            self._send_log, size=workshop.limits.log, overflow=lambda: self.stop(Stop.OUTPUT)
        )

    def stop(self, why: Stop) -> None:
        """End it; only the first reason counts."""
        if self._why is None:
            self._why = why
            self._stopping.set()

    async def run(self) -> None:
        """Build, publish, or say why not. Raises nothing but `CancelledError`."""
        log.info("attempt %d: %s", self.lease.attempt, self.lease.job.cpv)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._workshop.limits.time, self.stop, Stop.TIME)
        work = asyncio.create_task(self._work())
        beating = asyncio.create_task(self._watched(self._beat()))
        sending = asyncio.create_task(self._watched(self._log.run()))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
            (result,) = await asyncio.gather(work, return_exceptions=True)
            await self._end(result)
        finally:
            timer.cancel()
            for task in (work, beating, sending, stopping):
                task.cancel()
            await asyncio.gather(work, beating, sending, stopping, return_exceptions=True)

    async def _work(self) -> None:
        """Build and publish. Raises `BuildFailed`, `BuildRefused`, `BuildRootUnusable`, `GentwooError`."""
        lease = self.lease
        wish = Wish.of(lease.job.specification, cflags=lease.target.cflags)
        keys = None
        if wish.has_dependencies:
            await self._until_listed()
            keys = await _persist(lambda: self._keys.home(self._calls, lease.target.name))
        is_signed = lease.target.signatures == REQUIRED
        binhost = Binhost(url=self._calls.reached(lease.target.url), keys=keys, demands_signatures=is_signed)
        name = str(lease.attempt)
        async with self._workshop.build(name, wish, binhost, self._log.write) as packages:
            uploads, left_out = await self._send(packages, wish.specification.cpv)
            await self._log.finish()  # with the attempt ends the right to add to its log
            self._is_handing_over = True
            published = await _persist(lambda: self._calls.publish(lease, uploads, left_out))
        log.info("attempt %d: %s, %d packages", lease.attempt, published.state, len(published.packages))

    async def _until_listed(self) -> None:
        """Wait for the index: dependencies that it does not list yet would be built once more."""
        if seconds := min(self.lease.job.listed_in, _LONGEST_WAIT):
            self._log.write(
                f">>> builder: waiting {seconds} s for the index, which lists more by then\n".encode()
            )
            await asyncio.sleep(seconds)

    async def _send(self, packages: tuple[Built, ...], wished: CPV) -> tuple[list[str], list[str]]:
        """Upload; return the names of the uploads, and packages that must not be redistributed."""
        target, uploads, left_out = self.lease.target, [], []
        for built in packages:
            if built.is_restricted and not target.bindist:
                if built.cpv == wished:
                    text = (
                        f"RESTRICT of {wished} forbids to redistribute it, and {target.name} is for everybody"
                    )
                    raise BuildRefused(text)
                left_out.append(str(built.cpv))
                continue
            uploads.append(await _persist(lambda built=built: self._upload(built)))  # type: ignore[misc]
        return uploads, left_out

    async def _upload(self, built: Built) -> str:
        return await self._calls.send_package(
            self.lease.target.name, built.cpv, built.path, size=built.size, sha512=built.sha512
        )

    async def _end(self, result: BaseException | None) -> None:
        """Say how it ended; `result` is what the work raised."""
        if self._why in (Stop.CANCELLED, Stop.LOST):
            log.info("attempt %d: %s", self.lease.attempt, self._why.value)
            return
        if self._why is Stop.RELEASED and isinstance(result, asyncio.CancelledError):
            with contextlib.suppress(GentwooError):
                await self._calls.release(self.lease)
            return
        cause = self._cause(result)
        if cause is None:
            return
        log.info("attempt %d: %s: %s", self.lease.attempt, cause.kind, cause.text.partition("\n")[0])
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._log.finish(), _LAST_WORDS)
        try:
            await _persist(lambda: self._calls.fail(self.lease, cause.kind, cause.text))
        except CollectorRefused as error:
            log.warning("attempt %d: %s", self.lease.attempt, error)

    def _cause(self, result: BaseException | None) -> Cause | None:
        """Why it failed; None where it did not."""
        if result is None:
            return None
        if self._why in (Stop.TIME, Stop.OUTPUT):
            return Cause(kind="limit", text=self._why.value)
        if isinstance(result, BuildFailed):
            return result.cause
        if isinstance(result, BuildRefused | CollectorRefused):
            return Cause(kind="refused", text=str(result))
        if isinstance(result, BuildRootUnusable | GentwooError | OSError):
            return Cause(kind="builder", text=str(result))
        log.error("attempt %d", self.lease.attempt, exc_info=result)
        return Cause(kind="builder", text=f"the builder has a defect: {type(result).__name__}")

    async def _send_log(self, offset: int, text: str) -> int:
        end = await self._calls.log(self.lease, offset, text)
        if end.cancelled:
            self.stop(Stop.CANCELLED)
        return end.size

    async def _beat(self) -> None:
        """Renew the lease, until the attempt has to stop."""
        loop = asyncio.get_running_loop()
        seconds = self.lease.lease
        over = loop.time() + seconds
        while True:
            began = loop.time()
            try:
                answer = await self._beats.heartbeat(self.lease, wait=max(1, seconds // 3))
            except TryLater as error:
                if loop.time() > over:
                    log.warning("attempt %d: %s", self.lease.attempt, error)
                    self.stop(Stop.LOST)
                    return
                await asyncio.sleep(_PAUSE)
                continue
            if answer.cancelled or not answer.lease:
                # Published, it is over as well: the answer to the hand-over says what became of it.
                if not self._is_handing_over:
                    self.stop(Stop.CANCELLED if answer.cancelled else Stop.LOST)
                return
            over = loop.time() + answer.lease
            await asyncio.sleep(max(0.0, began + _PAUSE - loop.time()))

    async def _watched(self, task: Awaitable[None]) -> None:
        """Do `task`; a refusal means that the attempt is not ours any more."""
        try:
            await task
        except CollectorRefused as error:
            log.warning("attempt %d: %s", self.lease.attempt, error)
            self.stop(Stop.LOST)


async def _persist(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the collector answers: the lease says how long that may take. Raises `CollectorRefused`."""
    while True:
        try:
            return await call()
        except TryLater as error:
            await asyncio.sleep(error.retry_after or _PAUSE)
