# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches: who wants to hear of which package, and what there was to tell.

A watch is a machine's, or the operator's. All watches of one owner have one feed, at an address that nobody
can guess; what it tells is public anyway, but not who wants to know it.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select

from bdcs.domain.watching import Topic
from bdcs.domain.webhooks import SECRET_SIZE, check_url
from bdcs.store.tables import deliveries, watch_events, watched_packages, watches
from gentwoo_client.wire.cpv import is_category, is_name
from gentwoo_client.wire.errors import Malformed, TooManyRequests

MOST: Final = 500
"""Watches of one owner."""
MOST_WEBHOOKS: Final = 5
"""Of them with a webhook, of one package: what one event may have us send to one owner."""
KEPT: Final = 90 * 86_400
"""Seconds that events are kept."""
FEED_LENGTH: Final = 50
"""Events of a feed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One of them."""

    id: str
    machine_id: int | None
    """None: the operator's."""
    feed: str
    category: str
    name: str
    topics: frozenset[Topic]
    webhook: str | None
    secret: bytes | None
    created_at: int

    @property
    def package(self) -> str:
        """`category/name`."""
        return f"{self.category}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """An event, as it is told."""

    id: int
    category: str
    name: str
    topic: Topic
    text: str
    facts: dict[str, object]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What became of the messages of a watch."""

    waiting: int = 0
    delivered_at: int | None = None
    """The last one that arrived."""
    problem: str | None = None
    """Why the newest that was tried has not arrived."""


def add(
    connection: Connection,
    owner: int | None,
    package: str,
    topics: Sequence[str],
    webhook: str | None,
    now: float,
) -> Watch:
    """Have `owner` (a machine's number; None: the operator) watch `package`, `category/name`.

    Raises `Malformed`, also where that webhook hears of it already, and `TooManyRequests` where the owner has
    as many as may be.
    """
    category, _, name = package.partition("/")
    if not (is_category(category) and is_name(name)):
        raise Malformed(f"{package[:100]!r} is no package such as dev-lang/python")
    if webhook is not None:
        check_url(webhook)
        _check_others(connection, owner, category, name, webhook)
    mine = connection.execute(select(func.count(), func.min(watches.c.feed)).where(_is_of(owner))).one()
    if mine[0] >= MOST:
        raise TooManyRequests(f"you watch {MOST} packages, as many as may be", retry_after=3600)
    watch = Watch(
        id=_random(10),
        machine_id=owner,
        feed=mine[1] or _random(30),
        category=category,
        name=name,
        topics=checked_topics(topics),
        webhook=webhook,
        secret=None if webhook is None else secrets.token_bytes(SECRET_SIZE),
        created_at=int(now),
    )
    connection.execute(
        insert(watches).values(
            id=watch.id,
            machine_id=owner,
            feed=watch.feed,
            category=category,
            name=name,
            topics=" ".join(sorted(watch.topics)),
            webhook=webhook,
            secret=watch.secret,
            created_at=watch.created_at,
        )
    )
    return watch


def _check_others(connection: Connection, owner: int | None, category: str, name: str, webhook: str) -> None:
    same = (watches.c.category == category) & (watches.c.name == name)
    others = select(watches.c.id, watches.c.webhook).where(
        _is_of(owner), same, watches.c.webhook.is_not(None)
    )
    found = {row.webhook: row.id for row in connection.execute(others)}
    if webhook in found:
        raise Malformed(f"that webhook hears of {category}/{name} already, by watch {found[webhook]}")
    if len(found) >= MOST_WEBHOOKS:
        raise Malformed(f"{MOST_WEBHOOKS} webhooks of yours hear of {category}/{name}, as many as may be")


def checked_topics(words: Sequence[str]) -> frozenset[Topic]:
    """Return the topics; all of them for none. Raises `Malformed`."""
    try:
        return frozenset(map(Topic, words)) or frozenset(Topic)
    except ValueError as error:
        raise Malformed(f"{error}; topics are {', '.join(Topic)}") from None


def of(connection: Connection, owner: int | None) -> list[Watch]:
    """Return the watches of an owner, in order of packages."""
    order = (watches.c.category, watches.c.name, watches.c.id)
    return list(map(_watch, connection.execute(select(watches).where(_is_of(owner)).order_by(*order))))


def remove(connection: Connection, owner: int | None, watch: str) -> bool:
    """Remove a watch of an owner with its messages; return whether there was one."""
    found = connection.execute(delete(watches).where(_is_of(owner), watches.c.id == watch)).rowcount
    if found:
        connection.execute(delete(deliveries).where(deliveries.c.watch_id == watch))
        _drop_unwatched(connection)
    return bool(found)


def machine_leaves(connection: Connection, machine: int) -> None:
    """Remove everything of a machine that is erased."""
    for watch in of(connection, machine):
        remove(connection, machine, watch.id)


def delivered(connection: Connection, watch: str) -> Delivered:
    """Return what became of the messages of a watch."""
    mine = deliveries.c.watch_id == watch
    waiting, last = connection.execute(
        select(func.count(deliveries.c.next_at), func.max(deliveries.c.delivered_at)).where(mine)
    ).one()
    problem = connection.scalar(
        select(deliveries.c.problem)
        .where(mine, deliveries.c.attempts > 0)
        .order_by(deliveries.c.id.desc())
        .limit(1)
    )
    return Delivered(waiting=waiting, delivered_at=last, problem=problem)


def happenings(connection: Connection, feed: str) -> list[Happening] | None:
    """Return what a feed tells, the newest first; None where there is no such feed.

    A watch tells of what happened since it was added.
    """
    mine = list(map(_watch, connection.execute(select(watches).where(watches.c.feed == feed))))
    if not mine:
        return None
    wanted = and_(
        watch_events.c.category == watches.c.category,
        watch_events.c.name == watches.c.name,
        watch_events.c.created_at >= watches.c.created_at,
        watches.c.feed == feed,
        (" " + watches.c.topics + " ").contains(" " + watch_events.c.topic + " "),
    )
    rows = connection.execute(
        select(watch_events)
        .join(watches, wanted)
        .distinct()
        .order_by(watch_events.c.id.desc())
        .limit(FEED_LENGTH)
    )
    return [happening(row) for row in rows]


def happening(row: Row[*tuple[object, ...]]) -> Happening:
    """Return the event of a row of `watch_events`."""
    return Happening(
        id=row.id,
        category=row.category,
        name=row.name,
        topic=Topic(row.topic),
        text=row.text,
        facts=json.loads(row.facts),
        at=row.created_at,
    )


def has_old(connection: Connection, now: float) -> bool:
    """Whether `drop_old` would delete anything."""
    old = select(watch_events.c.id).where(watch_events.c.created_at < now - KEPT)
    return connection.execute(old.limit(1)).first() is not None


def drop_old(connection: Connection, now: float) -> None:
    """Delete events that are older than they are kept, and their messages."""
    old = select(watch_events.c.id).where(watch_events.c.created_at < now - KEPT)
    connection.execute(delete(deliveries).where(deliveries.c.event_id.in_(old)))
    connection.execute(delete(watch_events).where(watch_events.c.created_at < now - KEPT))


def _drop_unwatched(connection: Connection) -> None:
    """Forget what was seen of packages that nobody watches any more: a new watch begins anew."""
    watched = (
        select(watches.c.id)
        .where(watches.c.category == watched_packages.c.category, watches.c.name == watched_packages.c.name)
        .exists()
    )
    connection.execute(delete(watched_packages).where(~watched))


def _is_of(owner: int | None) -> ColumnElement[bool]:
    return watches.c.machine_id.is_(None) if owner is None else watches.c.machine_id == owner


def _watch(row: Row[*tuple[object, ...]]) -> Watch:
    return Watch(
        id=row.id,
        machine_id=row.machine_id,
        feed=row.feed,
        category=row.category,
        name=row.name,
        topics=frozenset(map(Topic, row.topics.split())),
        webhook=row.webhook,
        secret=row.secret,
        created_at=row.created_at,
    )


def _random(size: int) -> str:
    """Return so many random bytes as lower-case letters and digits."""
    return base64.b32encode(secrets.token_bytes(size)).decode().rstrip("=").lower()
