# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages to webhooks over real TLS: signed, pinned, never led elsewhere, tried again from the store."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Connection, insert, select
from yarl import URL

from bdcs.domain.watching import Topic
from bdcs.domain.webhooks import MOST_ATTEMPTS, Destinations
from bdcs.services import watches
from bdcs.services.watches import Happening
from bdcs.services.webhooks import LEASE, Message, Postman, Sender, Undelivered, take
from bdcs.store import schema
from bdcs.store.store import Store
from bdcs.store.tables import deliveries, watch_events
from tests.waiting import until
from tests.webhook_receiver import Receiver

SECRET = b"s" * 32
NAME = "hooks.example.org"
OWN = Destinations.of(["127.0.0.0/8"])
EVENT = Happening(
    id=7,
    category="app-misc",
    name="alpha",
    topic=Topic.ADOPTION,
    text="app-misc/alpha-2 is on 20 of 30 machines",
    facts={"version": "2"},
    at=1_795_000_000,
)


class Names:
    """A resolver whose answers a test says, one after the other; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def postman(receiver: Receiver, names: Names, destinations: Destinations = OWN) -> Postman:
    return Postman(
        public_url="https://bdcs.example.org",
        destinations=destinations,
        resolve=names,
        context=receiver.trusting(),
    )


def message(url: str) -> Message:
    return Message(delivery=3, attempts=0, owner=None, url=url, secret=SECRET, event=EVENT)


async def refused(postman: Postman, url: str) -> str:
    with pytest.raises(Undelivered) as caught:
        await postman.carry(message(url))
    return str(caught.value)


async def test_a_message_arrives_signed(receiver: Receiver) -> None:
    names = Names(["127.0.0.1"])
    await postman(receiver, names).carry(message(receiver.url(NAME)))
    ((headers, body),) = receiver.received
    assert headers["webhook-id"] == "msg_3"
    signed = f"msg_3.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(SECRET, signed, sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["host"].startswith(NAME)
    assert json.loads(body) == {
        "type": "adoption",
        "timestamp": "2026-11-18T11:06:40+00:00",
        "data": {
            "package": "app-misc/alpha",
            "text": EVENT.text,
            "url": "https://bdcs.example.org/packages/app-misc/alpha",
            "version": "2",
        },
    }
    assert names.asked == [NAME]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", NAME])
async def test_without_the_setting_loopback_is_refused(receiver: Receiver, host: str) -> None:
    names = Names(["127.0.0.1"])
    problem = await refused(postman(receiver, names, Destinations()), receiver.url(host))
    assert "not a public address" in problem
    assert receiver.received == []


async def test_a_named_host_is_sent_to_wherever_it_is(receiver: Receiver) -> None:
    await postman(receiver, Names(["127.0.0.1"]), Destinations.of([NAME])).carry(message(receiver.url(NAME)))
    assert len(receiver.received) == 1


async def test_what_was_looked_at_is_what_is_connected_to() -> None:
    """A name that means an allowed address first and another one right after (DNS rebinding)."""
    only_one = Destinations.of(["127.0.0.2"])
    with Receiver(address="127.0.0.2") as allowed:
        names = Names(["127.0.0.2"], ["127.0.0.1"])
        sending = postman(allowed, names, only_one)
        await sending.carry(message(allowed.url(NAME)))
        assert names.asked == [NAME], "it is resolved once"
        assert len(allowed.received) == 1
        assert "127.0.0.1 is not a public address" in await refused(sending, allowed.url(NAME))
        assert len(allowed.received) == 1


async def test_one_forbidden_address_among_others_is_enough(receiver: Receiver) -> None:
    names = Names(["127.0.0.1", "10.0.0.1"])
    assert "10.0.0.1" in await refused(postman(receiver, names), receiver.url(NAME))
    assert receiver.received == []


async def test_redirects_are_not_followed(receiver: Receiver) -> None:
    receiver.status, receiver.location = 307, receiver.url()
    problem = await refused(postman(receiver, Names(["127.0.0.1"])), receiver.url(NAME))
    assert problem == "the answer was 307"
    assert len(receiver.received) == 1


async def test_a_certificate_for_another_host_is_refused() -> None:
    with Receiver(names=("other.example.org",)) as receiver:
        problem = await refused(postman(receiver, Names(["127.0.0.1"])), receiver.url(NAME))
        assert "certificate" in problem
        assert receiver.received == []


async def test_plain_http_is_never_sent(receiver: Receiver) -> None:
    problem = await refused(postman(receiver, Names(["127.0.0.1"])), f"http://{NAME}/")
    assert "https" in problem


async def test_a_name_without_address(receiver: Receiver) -> None:
    async def unknown(_host: str, _port: int) -> Sequence[str]:
        raise OSError("unknown")

    sending = Postman(public_url="", destinations=OWN, resolve=unknown, context=receiver.trusting())
    assert "no answer" in await refused(sending, receiver.url(NAME))


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "bdcs.sqlite")
    await store.write(schema.upgrade)
    yield store
    await store.close()


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


async def outbox(
    store: Store, url: str, now: float, owner: int | None = None, package: str = "app-misc/alpha"
) -> int:
    """Put a message on its way; return its number."""

    at = int(now)

    def work(connection: Connection) -> int:
        watch = watches.add(connection, owner, package, ["adoption"], url, at)
        event = connection.execute(
            insert(watch_events)
            .values(
                category="app-misc", name="alpha", topic="adoption", text="x", facts="{}", created_at=int(at)
            )
            .returning(watch_events.c.id)
        ).scalar_one()
        number: int = connection.execute(
            insert(deliveries)
            .values(watch_id=watch.id, event_id=event, attempts=0, next_at=at)
            .returning(deliveries.c.id)
        ).scalar_one()
        return number

    return await store.write(work)


async def delivery(store: Store) -> tuple[int, int | None, int | None, str | None]:
    """Attempts, next try, when it arrived, problem."""
    columns = (deliveries.c.attempts, deliveries.c.next_at, deliveries.c.delivered_at, deliveries.c.problem)
    row = await store.read(lambda connection: connection.execute(select(*columns)).one())
    return row[0], row[1], row[2], row[3]


def sender(store: Store, receiver: Receiver, clock: Clock) -> Sender:
    sending = Postman(
        public_url="https://bdcs.example.org",
        destinations=OWN,
        resolve=Names(["127.0.0.1"]),
        context=receiver.trusting(),
        now=clock,
    )
    return Sender(store, sending, chance=lambda: 0.0)


async def test_what_fails_is_tried_again_later_and_arrives_once(store: Store, receiver: Receiver) -> None:
    clock = Clock()
    await outbox(store, receiver.url(), clock.now)
    receiver.status = 503
    assert await sender(store, receiver, clock).once() == 1
    assert await delivery(store) == (1, int(clock.now) + 60, None, "the answer was 503")
    assert await sender(store, receiver, clock).once() == 0, "it is not its time"
    clock.now += 60
    receiver.status = 200
    assert await sender(store, receiver, clock).once() == 1, "another process goes on"
    assert await delivery(store) == (2, None, int(clock.now), None)
    clock.now += 10 * 86_400
    assert await sender(store, receiver, clock).once() == 0
    identities = {headers["webhook-id"] for headers, _ in receiver.received}
    assert (len(receiver.received), len(identities)) == (2, 1)


async def test_it_ends_after_so_many_tries(store: Store, receiver: Receiver) -> None:
    clock = Clock()
    await outbox(store, receiver.url(), clock.now)
    receiver.status = 500
    for _ in range(MOST_ATTEMPTS):
        assert await sender(store, receiver, clock).once() == 1
        clock.now += 6 * 3600
    assert await sender(store, receiver, clock).once() == 0
    assert await delivery(store) == (MOST_ATTEMPTS, None, None, "the answer was 500")


async def test_a_message_that_somebody_took_and_never_sent_is_sent_after_a_while(
    store: Store, receiver: Receiver
) -> None:
    clock = Clock()
    await outbox(store, receiver.url(), clock.now)
    assert len(await store.write(lambda connection: take(connection, clock.now))) == 1
    assert await sender(store, receiver, clock).once() == 0
    clock.now += LEASE
    assert await sender(store, receiver, clock).once() == 1
    assert len(receiver.received) == 1


async def taken(store: Store, now: float, flying: Sequence[Message] = ()) -> list[Message]:
    return await store.write(lambda connection: take(connection, now, flying))


async def test_an_owner_and_a_host_have_a_share_of_what_is_on_its_way(store: Store) -> None:
    now = Clock().now
    for number in range(10):
        url = f"https://h{number % 3}.example.org/{number}"
        await outbox(store, url, now - 100, owner=1, package=f"app-misc/p{number}")
    for owner in range(2, 6):
        await outbox(store, f"https://shared.example.org/{owner}", now - 50, owner=owner)
    await outbox(store, "https://shared.example.org/own", now, owner=None)
    await outbox(store, "https://last.example.org/", now, owner=6)
    first = await taken(store, now)
    told = [(message.owner, URL(message.url).host) for message in first]
    assert told == [
        (1, "h0.example.org"),
        (1, "h1.example.org"),
        (2, "shared.example.org"),
        (3, "shared.example.org"),
        (6, "last.example.org"),
    ]
    assert await taken(store, now, first) == []
    follows = await taken(store, now, first[1:3])
    assert [message.owner for message in follows] == [1, 4]


async def test_who_never_answers_holds_nobody_else_up(store: Store, receiver: Receiver) -> None:
    """Two hundred messages to a host that hangs; one by one they would take most of an hour."""
    clock, stuck = Clock(), asyncio.Event()

    async def resolving(host: str, _port: int) -> Sequence[str]:
        if host == "tarpit.example.org":
            await stuck.wait()
        return ["127.0.0.1"]

    for number in range(200):
        url = f"https://tarpit.example.org/{number}"
        await outbox(store, url, clock.now - 100, owner=1, package=f"app-misc/p{number}")
    for owner in range(2, 12):
        await outbox(store, receiver.url(), clock.now, owner=owner)
    sending = Sender(store, replace(postman(receiver, Names([])), resolve=resolving, now=clock))
    running = asyncio.create_task(sending.run())
    await asyncio.to_thread(until, lambda: len(receiver.received) == 10)
    await outbox(store, receiver.url(), clock.now, owner=20)
    sending.wake()
    await asyncio.to_thread(until, lambda: len(receiver.received) == 11)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("owner", [1, None])
async def test_only_the_operator_is_told_what_the_collector_resolves(
    store: Store, receiver: Receiver, caplog: pytest.LogCaptureFixture, owner: int | None
) -> None:
    caplog.set_level(logging.INFO, logger="bdcs.services.webhooks")
    await outbox(store, f"https://{NAME}/hook", Clock().now, owner=owner)
    sending = replace(postman(receiver, Names(["10.3.4.5"])), now=Clock())
    assert await Sender(store, sending).once() == 1
    _, _, _, problem = await delivery(store)
    detail = f"{NAME} is not sent to: 10.3.4.5 is not a public address"
    told = f"{NAME} is not sent to: it has an address that is not public"
    assert problem == (detail if owner is None else told)
    assert detail in caplog.text


async def test_who_is_not_connected_to_is_told_no_address(receiver: Receiver) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        problem = await refused(postman(receiver, Names(["127.0.0.1"])), f"https://{NAME}:{port}/")
    assert problem.startswith("no connection: ")
    assert "127.0.0.1" not in problem


async def test_a_watch_that_is_removed_takes_its_messages_along(store: Store, receiver: Receiver) -> None:
    clock = Clock()
    await outbox(store, receiver.url(), clock.now)

    def remove(connection: Connection) -> bool:
        (watch,) = watches.of(connection, None)
        return watches.remove(connection, None, watch.id)

    assert await store.write(remove)
    assert await sender(store, receiver, clock).once() == 0
    assert receiver.received == []
