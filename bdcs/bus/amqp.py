# SPDX-License-Identifier: GPL-2.0-or-later
"""RabbitMQ: wake-ups between collectors, and the event feed for everybody else (AMQP 0-9-1).

Wake-ups go through `gentwoo.wakeups`, as `urgent.KIND` or `logs.KIND`: each message has topics of one kind in
its body. A collector has two queues there, one for either, so that lines of logs hold up nobody; they are its
own, go with its connection, and keep little for a short time: a collector that hangs piles up nothing.

Events go to durable exchanges, persistently, and count as sent when the broker has confirmed them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby, takewhile
from typing import Final

import aio_pika
from aio_pika import DeliveryMode, ExchangeType
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractExchange,
    AbstractIncomingMessage,
)
from aio_pika.connection import make_url
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    AMQPError,
    ChannelClosed,
    DeliveryError,
    InvalidFrameError,
)

from bdcs.bus.feed import Message, Refused
from bdcs.bus.shared import SharedBus, is_log
from bdcs.domain.batches import batches
from bdcs.errors import BusUnavailable
from gentwoo_client.wire.events import OPERATOR, PUBLIC

logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # tells every attempt; we tell of losses, once
logging.getLogger("aio_pika").setLevel(logging.CRITICAL)


class _LeftBehind(logging.Filter):
    """Keeps back what asyncio says of tasks that aiormq leaves behind, failed, when it cannot connect."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is anything else."""
        return not (record.exc_info and isinstance(record.exc_info[1], AMQPError))


logging.getLogger("asyncio").addFilter(_LeftBehind())

WAKEUPS: Final = "gentwoo.wakeups"
URGENT: Final = "urgent"
LOGS: Final = "logs"
QUEUE: Final[Mapping[str, str | int]] = {
    "x-message-ttl": 5000,
    "x-max-length": 5000,
    "x-overflow": "drop-head",
}
"""What a queue of wake-ups keeps: milliseconds after which everybody has looked by himself, and messages."""
AT_ONCE: Final = 200  # topics of one message
CONNECTING: Final = 10.0  # seconds
LEAVING: Final = 2.0  # seconds
PATIENCE: Final = 20.0  # seconds in which the broker has to confirm an event
HEARTBEAT: Final = 4
"""Seconds. A broker that says nothing for (4 + 1) * 3 of them is taken for lost."""

_TROUBLE: Final = (*CONNECTION_EXCEPTIONS, TimeoutError)


class AMQP(SharedBus):
    """A bus, and a feed, by a RabbitMQ."""

    def __init__(self, url: str, place: str) -> None:
        """`url`: amqp:// or amqps://, with user, password and virtual host; `place` names it in the log.

        Raises `ValueError` for what is no URL.
        """
        super().__init__(place)
        self.feed = self
        self._url = make_url(url, heartbeat=HEARTBEAT)
        self._exchanges: dict[str, AbstractExchange] = {}

    async def publish(self, messages: Sequence[Message]) -> int:
        """Send events in their order; return how many of the first the broker has, and will not lose.

        Raises `Refused` where it does not take the first: where it says so, or closes the channel since this
        one came alone. Raises `BusUnavailable` where it has none of them otherwise.
        """
        if not self._exchanges:
            raise BusUnavailable(f"{self.place} is away")
        outcomes = await asyncio.gather(*map(self._publish, messages), return_exceptions=True)
        done = len(list(takewhile(lambda outcome: outcome is None, outcomes)))
        if done:
            return done
        if isinstance(failure := outcomes[0], Exception) and _is_about(failure, len(messages)):
            raise Refused(reason_of(failure)) from failure
        raise BusUnavailable(f"{self.place} does not confirm events: {reason_of(failure)}")

    async def _publish(self, message: Message) -> None:
        exchange = self._exchanges.get(message.exchange)
        if exchange is None:
            raise BusUnavailable(f"{self.place} is away")
        await exchange.publish(
            aio_pika.Message(
                message.body,
                message_id=message.id,
                timestamp=datetime.fromtimestamp(message.at, UTC),
                type=message.key.partition(".")[0],
                content_type="application/json",
                delivery_mode=DeliveryMode.PERSISTENT,
            ),
            message.key,
            mandatory=False,  # nobody has to want it
            timeout=PATIENCE,
        )

    async def _session(self) -> None:
        async with self._connected() as connection:
            channels = [await connection.channel(publisher_confirms=is_feed) for is_feed in (False, True)]
            wakeups = await self._listening(channels[0])
            exchanges = {
                name: await channels[1].declare_exchange(name, ExchangeType.TOPIC, durable=True)
                for name in (PUBLIC, OPERATOR)
            }
            lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
            connection.close_callbacks.add(partial(_note_end, lost))
            for channel in channels:
                channel.close_callbacks.add(partial(_note_end, lost))
            try:
                self._exchanges = exchanges
                self._note_return()
                await self._first_end(self._carry(wakeups), _end_of(lost))
            finally:
                self._exchanges = {}

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[AbstractConnection]:
        """Give a connection; trouble with it is raised as `BusUnavailable`."""
        connection = aio_pika.Connection(
            self._url,
            client_properties={"connection_name": f"bdcs {self.identity}"},
        )
        try:
            try:
                await connection.connect(timeout=CONNECTING)
                yield connection
            finally:  # also where it never was one: aio_pika would do it, in whatever thread collects garbage
                with contextlib.suppress(*_TROUBLE):
                    async with asyncio.timeout(LEAVING):
                        await connection.close()
        except _TROUBLE as error:
            raise BusUnavailable(reason_of(error)) from error

    async def _listening(self, channel: AbstractChannel) -> AbstractExchange:
        """Have wake-ups come; return the exchange that ours go to."""
        exchange = await channel.declare_exchange(WAKEUPS, ExchangeType.TOPIC, durable=True)
        for urgency in (URGENT, LOGS):
            queue = await channel.declare_queue(exclusive=True, auto_delete=True, arguments=dict(QUEUE))
            await queue.bind(exchange, f"{urgency}.#")
            await queue.consume(self._woken, no_ack=True)
        return exchange

    async def _woken(self, message: AbstractIncomingMessage) -> None:
        self._received(message.app_id or "", message.body.decode(errors="replace").split())

    async def _carry(self, exchange: AbstractExchange) -> None:
        """Send what is told here to the other collectors."""
        while True:
            topics = await self._next()
            for kind, some in groupby(sorted(topics, key=_turn), key=_kind):
                key = f"{LOGS if is_log(kind) else URGENT}.{kind}"
                for together in batches(some, AT_ONCE):
                    body = " ".join(together).encode()
                    message = aio_pika.Message(
                        body, app_id=self.identity, delivery_mode=DeliveryMode.NOT_PERSISTENT
                    )
                    await exchange.publish(message, key, mandatory=False, timeout=PATIENCE)


def reason_of(error: BaseException | None) -> str:
    """Return what went wrong in one line; a broker's own words say it best."""
    if error is None:
        return "the connection was closed"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, asyncio.CancelledError):
        return "it has fallen silent"
    if isinstance(error, InvalidFrameError):  # instead of opening the virtual host it closes, and says why
        return "it lets this user into no virtual host of that name"
    return " ".join(str(error).split()) or type(error).__name__


def _is_about(failure: Exception, count: int) -> bool:
    """Whether it is the message, the first of `count`, that the broker does not like, or the library."""
    if isinstance(failure, DeliveryError) or not isinstance(failure, (*_TROUBLE, BusUnavailable)):
        return True
    return count == 1 and isinstance(failure, ChannelClosed)


def _note_end(
    lost: asyncio.Future[BaseException | None], _sender: object, error: BaseException | None
) -> None:
    if not lost.done():
        lost.set_result(error)


async def _end_of(lost: asyncio.Future[BaseException | None]) -> None:
    raise BusUnavailable(reason_of(await lost))


def _kind(topic: str) -> str:
    return topic.partition(".")[0]


def _turn(topic: str) -> tuple[bool, str]:
    return is_log(topic), _kind(topic)
