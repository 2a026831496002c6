# SPDX-License-Identifier: GPL-2.0-or-later
"""Sending what is to be told to webhooks: signed, tried again, and only where it may go.

A message is in the store until it has arrived or was tried often enough. Who takes it to send it sets the
time of the next try first, so that several collectors, or one that was killed, do not send it twice at once;
it may still arrive twice, and has the same `webhook-id` then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from sqlalchemy import Connection, select, update
from yarl import URL

from bdcs.domain.networks import parse_address
from bdcs.domain.webhooks import Destinations, check_url, delay, signature
from bdcs.errors import StoreUnavailable
from bdcs.services import watches
from bdcs.services.watches import Happening
from bdcs.store.store import Store
from bdcs.store.tables import deliveries, watch_events
from bdcs.store.tables import watches as watch_rows
from gentwoo_client.version import VERSION
from gentwoo_client.wire.errors import Malformed
from gentwoo_client.wire.records import format_time

log = logging.getLogger(__name__)

INTERVAL: Final = 30.0  # seconds from one look for messages to the next, where nothing wakes us
AT_ONCE: Final = 8  # messages on their way together
LEASE: Final = 120  # seconds for which a message is ours; longer than any try takes
TOTAL_TIME: Final = 15.0  # seconds of one try
CONNECT_TIME: Final = 5.0
HEADER_SIZE: Final = 8190  # bytes of one line of an answer; nothing but its head is read
PROBLEM_LENGTH: Final = 200

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a name. Raises `OSError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One event on its way to one webhook."""

    delivery: int
    attempts: int
    """How often it was tried before."""
    url: str
    secret: bytes = field(repr=False)
    event: Happening

    @property
    def id(self) -> str:
        """The same at every try."""
        return f"msg_{self.delivery}"

    def body(self, public_url: str) -> bytes:
        """The JSON that is sent."""
        package = f"{self.event.category}/{self.event.name}"
        document = {
            "type": str(self.event.topic),
            "timestamp": format_time(self.event.at),
            "data": {
                "package": package,
                "text": self.event.text,
                "url": f"{public_url}/packages/{package}",
                **self.event.facts,
            },
        }
        return json.dumps(document).encode()


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name, as the system knows them. Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _Pinned(AbstractResolver):
    """Knows the addresses that were looked at, and no others."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """There is nothing to close."""


class Undelivered(Exception):
    """A message did not arrive; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postman:
    """Carries one message to its webhook."""

    public_url: str
    destinations: Destinations
    resolve: Resolve = resolve
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    now: Callable[[], float] = time.time

    async def carry(self, message: Message) -> None:
        """Send `message` once. Raises `Undelivered`."""
        try:
            async with asyncio.timeout(TOTAL_TIME):
                await self._carry(message)
        except TimeoutError:
            raise Undelivered("no answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Undelivered(_in_words(error)) from error

    async def _carry(self, message: Message) -> None:
        try:
            host = check_url(message.url)
        except Malformed as error:
            raise Undelivered(error.detail) from None
        url = URL(message.url)
        literal = parse_address(host)
        if url.host != host and (literal is None or parse_address(url.host) != literal):
            raise Undelivered("its URL can be read in two ways")
        addresses = [host] if literal else list(await self.resolve(host, url.port or 443))
        objection = self.destinations.objection(host, addresses)
        if objection is not None:
            raise Undelivered(f"{host} is not sent to: {objection}")
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(addresses), use_dns_cache=False, force_close=True, ssl=self.context
        )
        body, at = message.body(self.public_url), int(self.now())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"GenTwoo/{VERSION}",
            "webhook-id": message.id,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(message.secret, message.id, at, body),
        }
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=TOTAL_TIME, sock_connect=CONNECT_TIME),
                max_line_size=HEADER_SIZE,
                max_field_size=HEADER_SIZE,
                trust_env=False,
            ) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            status = answer.status
            answer.close()  # its body is of no interest, however long it is
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise Undelivered(f"the answer was {status}")


class Sender:
    """Sends what waits, some at a time, until cancelled."""

    def __init__(self, store: Store, postman: Postman, chance: Callable[[], float] = random.random) -> None:
        self._store = store
        self._postman = postman
        self._chance = chance
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There is something to send."""
        self._woken.set()

    async def run(self) -> None:
        """Send until cancelled; a store that is down is tried again."""
        while True:
            self._woken.clear()
            try:
                while await self.once():
                    pass
            except StoreUnavailable as error:
                log.warning("webhooks were not called: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), INTERVAL)

    async def once(self) -> int:
        """Try the next few messages that are due; return how many. Raises `StoreUnavailable`."""
        now = self._postman.now()
        if not await self._store.read(lambda connection: _due(connection, now)):
            return 0
        messages = await self._store.write(lambda connection: take(connection, now))
        await asyncio.gather(*map(self._try, messages))
        return len(messages)

    async def _try(self, message: Message) -> None:
        problem = None
        try:
            await self._postman.carry(message)
        except Undelivered as error:
            problem = str(error)[:PROBLEM_LENGTH]
        attempts, now = message.attempts + 1, self._postman.now()
        wait = None if problem is None else delay(attempts, self._chance())
        values = {
            "attempts": attempts,
            "problem": problem,
            "next_at": None if wait is None else int(now) + wait,
            "delivered_at": int(now) if problem is None else None,
        }
        mine = deliveries.c.id == message.delivery
        await self._store.write(
            lambda connection: connection.execute(update(deliveries).where(mine).values(**values))
        )


def _due(connection: Connection, now: float) -> list[int]:
    due = select(deliveries.c.id).where(deliveries.c.next_at <= int(now))
    return list(connection.scalars(due.order_by(deliveries.c.next_at).limit(AT_ONCE)))


def take(connection: Connection, now: float) -> list[Message]:
    """Take the next few messages that are due, for as long as trying them may take."""
    due = _due(connection, now)
    connection.execute(update(deliveries).where(deliveries.c.id.in_(due)).values(next_at=int(now) + LEASE))
    rows = connection.execute(
        select(
            deliveries.c.id,
            deliveries.c.attempts,
            deliveries.c.event_id,
            watch_rows.c.webhook,
            watch_rows.c.secret,
        )
        .join(watch_rows, watch_rows.c.id == deliveries.c.watch_id)
        .where(deliveries.c.id.in_(due))
        .order_by(deliveries.c.id)
    ).all()
    numbers = {row.event_id for row in rows}
    events = {
        row.id: watches.happening(row)
        for row in connection.execute(select(watch_events).where(watch_events.c.id.in_(numbers)))
    }
    return [
        Message(
            delivery=row.id,
            attempts=row.attempts,
            url=row.webhook,
            secret=row.secret,
            event=events[row.event_id],
        )
        for row in rows
    ]


def _in_words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate does not prove that it is this host"
    if isinstance(error, aiohttp.ClientSSLError):
        return "no TLS that both sides speak"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection: {error.strerror or 'refused'}"
    return f"no answer: {type(error).__name__}"
