# SPDX-License-Identifier: GPL-2.0-or-later
"""The outbox: events are written down in the transaction that they tell of, and go when the broker has them.

Where no broker was configured nothing is put there. All in the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from bdcs.bus.feed import Message
from bdcs.store.tables import event_feeds, outbox, targets
from gentwoo_client.wire.events import Event

TOPIC: Final = "outbox"
"""What who sends events on subscribes to."""
FEED: Final = "amqp"
KEPT: Final = 7 * 86_400
"""Seconds after which an event that could not be sent is dropped."""
TRIES: Final = 3
"""How often the broker may refuse an event before others pass it."""
AGAIN: Final = 600
"""Seconds after which an event that was set aside is tried again; twice as long after each time."""
LONGEST: Final = 86_400
MOST: Final = 1_000_000
"""Events that may wait; of more, the oldest are dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """The oldest of the outbox: what is to be sent, by their ids, and what may not be sent any more."""

    messages: dict[int, Message]
    hidden: Sequence[int]


def set_feed(connection: Connection, *, is_open: bool, now: float) -> None:
    """From now on events are put into the outbox; or they are not, and those that are there go."""
    if not is_open:
        connection.execute(delete(event_feeds))
        connection.execute(delete(outbox))
    elif not is_wanted(connection):
        connection.execute(insert(event_feeds).values(name=FEED, since=int(now)))


def is_wanted(connection: Connection) -> bool:
    """Whether somebody takes events."""
    return connection.execute(_FEED).first() is not None


_FEED: Final = select(event_feeds.c.name).where(event_feeds.c.name == FEED)


def put(
    connection: Connection,
    events: Iterable[Event],
    *,
    target_id: int | None = None,
    machine: UUID | None = None,
) -> None:
    """Put events there, which tell of packages of that target, or of that machine."""
    rows = [
        {
            "event": event.id,
            "exchange": event.EXCHANGE,
            "key": event.key,
            "at": event.at,
            "target_id": target_id,
            "machine": None if machine is None else str(machine),
            "body": json.dumps(event.to_json(), separators=(",", ":")),
        }
        for event in events
    ]
    if rows:
        connection.execute(insert(outbox), rows)


def drop_machine(connection: Connection, machine: UUID) -> None:
    """What tells of a machine is not sent any more."""
    connection.execute(delete(outbox).where(outbox.c.machine == str(machine)))


def first(connection: Connection, most: int, now: float) -> Next:
    """Return the `most` oldest that are not set aside.

    Those of a target that has become private since, or has gone, stay hidden.
    """
    rows = connection.execute(
        select(outbox, targets.c.private, targets.c.id.label("target"))
        .outerjoin(targets, targets.c.id == outbox.c.target_id)
        .where(or_(outbox.c.retry_at.is_(None), outbox.c.retry_at <= int(now)))
        .order_by(outbox.c.id)
        .limit(most)
    ).all()
    hidden = [row.id for row in rows if row.private or (row.target_id is not None and row.target is None)]
    messages = {
        row.id: Message(id=row.event, exchange=row.exchange, key=row.key, at=row.at, body=row.body.encode())
        for row in rows
        if row.id not in hidden
    }
    return Next(messages=messages, hidden=hidden)


def drop(connection: Connection, ids: Collection[int]) -> None:
    """These were sent, or are not to be."""
    connection.execute(delete(outbox).where(outbox.c.id.in_(sorted(ids))))


def refuse(connection: Connection, number: int, now: float) -> int | None:
    """Note that the broker refused an event; return for how many seconds it is set aside, if it is now."""
    tries: int | None = connection.scalar(
        update(outbox).where(outbox.c.id == number).values(tries=outbox.c.tries + 1).returning(outbox.c.tries)
    )
    if tries is None or tries < TRIES:
        return None
    seconds: int = min(LONGEST, AGAIN * 2 ** min(tries - TRIES, 16))
    connection.execute(update(outbox).where(outbox.c.id == number).values(retry_at=int(now) + seconds))
    return seconds


def count_refused(connection: Connection) -> int:
    """Return how many events are set aside."""
    return connection.scalar(select(func.count()).where(outbox.c.retry_at.is_not(None))) or 0


def trim(connection: Connection, now: float) -> int:
    """Drop what waits for too long, or is too much; return how many events that were."""
    newest = connection.scalar(select(func.max(outbox.c.id))) or 0
    return connection.execute(
        delete(outbox).where(or_(outbox.c.at < int(now) - KEPT, outbox.c.id <= newest - MOST))
    ).rowcount
