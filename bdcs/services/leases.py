# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases: of all processes that share a store one does a thing, and another when that one is gone.

    leader = Leader(store, "periodic")
    await leader.run(lambda: [keep_up(), look_after()])     # until cancelled

A lease is a row: who has it, until when by the clock of the store, and its number, which grows each time that
it is taken. Its holder renews it while he works. Who cannot renew it in time stops working before it is over;
who stops by himself gives it back, and is followed at once.

No clock of a host counts but for measuring a few seconds. A process that is stopped for longer, and then goes
on, may still do a last step beside its successor: so what is done under a lease has to be such that this does
no harm. All that we do in this way is transactions that look before they write; the lease saves the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, select, update

from bdcs.errors import StoreError
from bdcs.store.clock import store_time
from bdcs.store.store import Store
from bdcs.store.tables import leases
from bdcs.store.upserts import upsert

log = logging.getLogger(__name__)

LIFE: Final = 10.0
"""Seconds that a lease lasts: so long nothing is done when its holder was killed."""
RENEWALS: Final = 4  # that are tried in this time
LOOK: Final = 1.0  # seconds between two looks of who waits for one
PAUSE: Final = 10.0  # seconds before who had it asks again after an error of the work

Work = Coroutine[Any, Any, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease as it was given to somebody."""

    name: str
    holder: str
    number: int
    """Counts who had it: a later holder has a higher one."""


def take(connection: Connection, name: str, holder: str, seconds: float = LIFE) -> Lease | None:
    """Give the lease to `holder`, also where that is its holder already; None while another has it."""
    row = connection.execute(select(leases).where(leases.c.name == name)).first()
    now = _now(connection)
    if row is not None and row.until > now and row.holder != holder:
        return None
    number = 1 if row is None else row.number + 1
    values = {"holder": holder, "number": number, "until": now + _milliseconds(seconds)}
    connection.execute(
        upsert(leases).values(name=name, **values).on_conflict_do_update(index_elements=["name"], set_=values)
    )
    return Lease(name=name, holder=holder, number=number)


def renew(connection: Connection, lease: Lease, seconds: float = LIFE) -> bool:
    """Have the lease last for `seconds` from now; return False where somebody has taken it since."""
    renewed = connection.execute(
        update(leases).where(_is(lease)).values(until=_now(connection) + _milliseconds(seconds))
    )
    return renewed.rowcount == 1


def give_back(connection: Connection, lease: Lease) -> None:
    """Let whoever waits have it."""
    connection.execute(update(leases).where(_is(lease)).values(until=0))


def is_free(connection: Connection, name: str) -> bool:
    """Whether nobody has the lease."""
    until = connection.scalar(select(leases.c.until).where(leases.c.name == name))
    return until is None or until <= _now(connection)


@dataclass(frozen=True, slots=True)
class Leader:
    """Does works whenever, and as long as, it is this process that has the lease."""

    store: Store
    name: str
    seconds: float = LIFE
    holder: str = field(
        default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    )
    """A name that no other process has; host and process id are for people."""

    async def run(self, works: Callable[[], Sequence[Work]]) -> None:
        """Wait for the lease and do `works`, made anew each time that it is won; until cancelled.

        Where one of them ends by an error, all of them end, and somebody begins anew after a while: the next
        process would run into the same error, and answering requests has to go on.
        """
        while True:
            lease, until = await self._won()
            pause = 0.0
            log.info("the periodic work (%s) is this collector's: lease %d", self.name, lease.number)
            try:
                await self._do(works(), lease, until)
            except _Lost:
                log.warning("the periodic work (%s) is another collector's now", self.name)
            except Exception:
                log.exception("the periodic work (%s) ended by an error; it is begun again", self.name)
                pause = random.uniform(PAUSE / 2, PAUSE)
            finally:
                await self._return(lease)
            await asyncio.sleep(pause)

    async def _do(self, works: Sequence[Work], lease: Lease, until: float) -> None:
        """Do the works for as long as the lease can be renewed. Raises `_Lost`, and what they end by."""
        try:
            async with asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(work)
                await self._hold(lease, until)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _won(self) -> tuple[Lease, float]:
        """Return the lease when it is ours, and until when it is at least."""
        while True:
            try:
                if await self.store.read(partial(is_free, name=self.name)):
                    asked = time.monotonic()
                    lease = await self.store.write(
                        partial(take, name=self.name, holder=self.holder, seconds=self.seconds)
                    )
                    if lease is not None:
                        return lease, asked + self.seconds
            except StoreError as error:
                log.debug("the lease for %s cannot be asked for: %s", self.name, error)
            await asyncio.sleep(LOOK)

    async def _hold(self, lease: Lease, until: float) -> None:
        """Renew the lease until that fails. Raises `_Lost`."""
        while True:
            left = until - time.monotonic()
            await asyncio.sleep(min(self.seconds / RENEWALS, left))
            asked = time.monotonic()
            try:
                async with asyncio.timeout(until - asked):
                    is_ours = await self.store.write(partial(renew, lease=lease, seconds=self.seconds))
            except (StoreError, TimeoutError):
                if time.monotonic() < until:
                    continue
                is_ours = False
            if not is_ours:
                raise _Lost
            until = asked + self.seconds

    async def _return(self, lease: Lease) -> None:
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(self.seconds):
                await self.store.write(partial(give_back, lease=lease))


class _Lost(Exception):
    """The lease could not be renewed in time."""


def _is(lease: Lease) -> Any:
    return (
        (leases.c.name == lease.name) & (leases.c.holder == lease.holder) & (leases.c.number == lease.number)
    )


def _now(connection: Connection) -> int:
    return _milliseconds(store_time(connection))


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
