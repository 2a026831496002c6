# SPDX-License-Identifier: GPL-2.0-or-later
"""Sending what is to be told to webhooks: signed, tried again, and only where it may go.

A message is in the store until it has arrived or was tried often enough. Who takes it to send it sets the
time of the next try first, so that several collectors, or one that was killed, do not send it twice at once;
it may still arrive twice, and has the same `webhook-id` then.

A receiver that takes its time holds up nobody else: an owner, and a host, has only a share of what is on its
way together, and who ends makes room for the next at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from sqlalchemy import Connection, func, select, update
from yarl import URL

from bdcs.domain.networks import parse_address
from bdcs.domain.webhooks import Destinations, check_url, delay, signature
from bdcs.errors import StoreUnavailable
from bdcs.measures import working
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
SHARE: Final = 2  # of them of one owner, or to one host; one of an owner to a host
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
    owner: int | None
    """Whose watch it is of: a machine's number; None: the operator's."""
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
    """A message did not arrive; the text says why, `told` what of it is told to any owner.

    Names are resolved as the collector's network knows them, which is for the operator alone.
    """

    def __init__(self, told: str, detail: str = "") -> None:
        super().__init__(detail or told)
        self.told = told


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
            told = "it has an address that is not public" if addresses else objection
            raise Undelivered(f"{host} is not sent to: {told}", f"{host} is not sent to: {objection}")
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
        self._flying: dict[asyncio.Task[None], Message] = {}

    def wake(self) -> None:
        """There is something to send."""
        self._woken.set()

    async def run(self) -> None:
        """Send until cancelled; a store that is down is tried again."""
        try:
            while True:
                try:
                    is_busy = True
                    while is_busy:
                        with working("webhooks", INTERVAL):
                            is_busy = await self.once() > 0
                except StoreUnavailable as error:
                    log.warning("webhooks were not called: %s", error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), INTERVAL)
        finally:
            for task in self._flying:
                task.cancel()
            await asyncio.gather(*self._flying, return_exceptions=True)

    async def once(self) -> int:
        """Begin to send what is due, and wait for one that ends, or for `wake`.

        Returns how many were on their way. Raises `StoreUnavailable`.
        """
        self._woken.clear()
        await self._begin()
        count = len(self._flying)
        if count:
            await self._land()
        return count

    async def _begin(self) -> None:
        now, flying = self._postman.now(), list(self._flying.values())
        if not await self._store.read(lambda connection: _due(connection, now, flying)):
            return
        for message in await self._store.write(lambda connection: take(connection, now, flying)):
            self._flying[asyncio.create_task(self._try(message))] = message

    async def _land(self) -> None:
        waking = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait([*self._flying, waking], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
        for task in [task for task in self._flying if task.done()]:
            del self._flying[task]
            task.result()

    async def _try(self, message: Message) -> None:
        problem = None
        try:
            await self._postman.carry(message)
        except Undelivered as error:
            if str(error) != error.told:
                log.info("a webhook was not called: %s", error)
            problem = (str(error) if message.owner is None else error.told)[:PROBLEM_LENGTH]
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


def _due(connection: Connection, now: float, flying: Sequence[Message]) -> list[int]:
    """The next few messages that are due, of owners and to hosts that have not had their share."""
    owners = Counter(message.owner for message in flying)
    hosts = Counter(_host(message.url) for message in flying)
    pairs = {(message.owner, _host(message.url)) for message in flying}
    first = func.min(deliveries.c.id).label("first")
    rows = connection.execute(
        select(first, watch_rows.c.machine_id, watch_rows.c.webhook)
        .join(watch_rows, watch_rows.c.id == deliveries.c.watch_id)
        .where(deliveries.c.next_at <= int(now))
        .group_by(watch_rows.c.machine_id, watch_rows.c.webhook)
        .order_by(func.min(deliveries.c.next_at), first)
    ).all()
    due: list[int] = []
    for number, owner, url in rows:
        if len(flying) + len(due) >= AT_ONCE:
            break
        host = _host(url)
        if (owner, host) in pairs or owners[owner] >= SHARE or hosts[host] >= SHARE:
            continue
        due.append(number)
        owners[owner] += 1
        hosts[host] += 1
        pairs.add((owner, host))
    return due


def _host(url: str) -> str:
    try:
        return check_url(url).rstrip(".")
    except Malformed:
        return ""  # such a message fails at once


def take(connection: Connection, now: float, flying: Sequence[Message] = ()) -> list[Message]:
    """Take the next few messages that are due, for as long as trying them may take.

    `flying` are those that are on their way.
    """
    due = _due(connection, now, flying)
    connection.execute(update(deliveries).where(deliveries.c.id.in_(due)).values(next_at=int(now) + LEASE))
    rows = connection.execute(
        select(
            deliveries.c.id,
            deliveries.c.attempts,
            deliveries.c.event_id,
            watch_rows.c.machine_id,
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
            owner=row.machine_id,
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
        return f"no connection: {os.strerror(error.errno) if error.errno else 'refused'}"  # and no address
    return f"no answer: {type(error).__name__}"
