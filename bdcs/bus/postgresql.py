# SPDX-License-Identifier: GPL-2.0-or-later
"""Wake-ups between collectors by LISTEN and NOTIFY of the database that they share.

One connection listens, another one tells. Each collector tells at least something every few seconds, so that
a connection on which nothing comes any more, though nobody closed it, is noticed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import psycopg

from bdcs.bus.shared import SharedBus
from bdcs.errors import BusUnavailable

CHANNEL: Final = "gentwoo_wakeups"
PAYLOAD: Final = 7900
"""Bytes of one notification; PostgreSQL takes less than 8000."""
BEAT: Final = 5.0  # seconds of silence after which something is told though nothing happened
SILENCE: Final = 4 * BEAT  # seconds without any notification after which the connection counts as lost

_CLIENT: Final[Mapping[str, Any]] = {
    "application_name": "bdcs wake-ups",
    "connect_timeout": 3,  # of each host
    "target_session_attrs": "read-write",  # replicas carry no notifications
}


class PostgreSQLBus(SharedBus):
    """A bus by a database."""

    def __init__(self, url: str, place: str) -> None:
        """`url`: as libpq reads it, of several hosts where there is failover; `place` names it in the log."""
        super().__init__(place)
        self._url = url
        self._heard = 0.0

    async def _session(self) -> None:
        try:
            async with await self._connect() as listener, await self._connect() as speaker:
                await listener.execute(f"LISTEN {CHANNEL}")
                self._heard = time.monotonic()
                self._note_return()
                await self._first_end(self._listen(listener), self._carry(speaker))
        except (psycopg.Error, OSError) as error:
            raise BusUnavailable(reason_of(error)) from error

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self._url, autocommit=True, **_CLIENT)

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while time.monotonic() < self._heard + SILENCE:
            async for notification in connection.notifies(timeout=BEAT):
                self._heard = time.monotonic()
                sender, *topics = notification.payload.split() or [self.identity]  # anybody may notify
                self._received(sender, topics)
        raise psycopg.OperationalError("no notification comes any more")

    async def _carry(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            for payload in payloads(self.identity, await self._next(BEAT)):
                async with asyncio.timeout(SILENCE):
                    await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))


def payloads(sender: str, topics: Iterable[str]) -> Iterator[str]:
    """Yield what tells of `topics`, in as few notifications as they fit in; at least one."""
    payload = sender
    for topic in topics:
        if len(payload.encode()) + 1 + len(topic.encode()) > PAYLOAD:
            yield payload
            payload = sender
        payload = f"{payload} {topic}"
    yield payload


def reason_of(error: Exception) -> str:
    """Return what went wrong in one line."""
    return " ".join(str(error).split()) or type(error).__name__
