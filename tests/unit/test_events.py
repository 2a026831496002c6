# SPDX-License-Identifier: GPL-2.0-or-later
"""Events from the transaction that they tell of to the broker: what is written, what is not, what is sent."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, func, select, update

from bdcs.bus.feed import Message, Refused
from bdcs.bus.memory import Bus
from bdcs.domain.jobs import Failure, Origin
from bdcs.domain.machines import State
from bdcs.domain.targets import Cause
from bdcs.errors import BusUnavailable
from bdcs.services import forgetting, generations, machines, outbox, outbox_relay, targets
from bdcs.services.jobs import Claimant, Jobs, NewJob
from bdcs.services.outbox_relay import Relay
from bdcs.store import schema, tables
from bdcs.store.engine import create_writer
from bdcs.store.store import Store, transaction
from gentwoo_client.wire.events import OPERATOR, PUBLIC
from gentwoo_client.wire.identity import machine_uuid
from tests.builds import CHOST, specification

NOW = 1_795_364_640
Do = Callable[[Callable[[Connection], Any]], Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bdcs.sqlite"


@pytest.fixture
def do(path: Path) -> Iterator[Do]:
    """Do something in a transaction of its own; events are wanted."""
    writer = create_writer(path)

    def run(work: Callable[[Connection], Any]) -> Any:
        with transaction(writer) as connection:
            return work(connection)

    run(schema.upgrade)
    run(lambda connection: outbox.set_feed(connection, is_open=True, now=NOW))
    yield run
    writer.dispose()


def add_target(connection: Connection, name: str, *, private: bool = False) -> int:
    values = {"chost": CHOST, "profile": "default", "signatures": "optional"}
    return targets.add(connection, name, now=NOW, private=private, **values).id


def add_job(connection: Connection, target_id: int, cpv: str) -> int:
    book = Jobs(connection, NOW)
    wish = specification(cpv)
    ids = book.add(target_id, [NewJob(specification=wish, digest=cpv)], Origin.REQUEST)
    book.release()
    return ids[cpv]


def keys(connection: Connection) -> list[str]:
    return list(connection.scalars(select(tables.outbox.c.key).order_by(tables.outbox.c.id)))


def test_every_state_of_a_job_is_told(do: Do) -> None:
    target = do(lambda connection: add_target(connection, "amd64"))
    job = do(lambda connection: add_job(connection, target, "app-misc/alpha-1.0"))

    def build(connection: Connection) -> None:
        book = Jobs(connection, NOW)
        attempt = book.claim(Claimant(machine_id=1, name="b", target_ids=(target,)))
        assert attempt is not None
        assert attempt.job_id == job
        book.fail(attempt, Failure.FETCH, "no such file for /home/somebody")

    do(build)
    beginning = "build.amd64.app-misc.alpha"
    states = ("waiting", "queued", "building", "failed")
    assert do(keys) == [f"{beginning}.{state}" for state in states]
    last = do(lambda connection: outbox.first(connection, 10, NOW)).messages.popitem()[1]
    assert last.exchange == PUBLIC
    assert b'"failure":"fetch"' in last.body
    assert b"somebody" not in last.body


def test_a_transaction_that_fails_tells_nothing(do: Do) -> None:
    target = do(lambda connection: add_target(connection, "amd64"))

    def fail(connection: Connection) -> None:
        add_job(connection, target, "app-misc/alpha-1.0")
        raise LookupError

    with pytest.raises(LookupError):
        do(fail)
    assert do(keys) == []


def test_private_targets_are_never_told_of(do: Do) -> None:
    open_, closed = do(
        lambda connection: (add_target(connection, "a"), add_target(connection, "b", private=True))
    )
    do(lambda connection: add_job(connection, closed, "app-misc/alpha-1.0"))
    assert do(keys) == []
    do(lambda connection: add_job(connection, open_, "app-misc/alpha-1.0"))
    do(
        lambda connection: connection.execute(
            update(tables.targets).where(tables.targets.c.id == open_).values(private=True)
        )
    )
    found = do(lambda connection: outbox.first(connection, 10, NOW))
    assert not found.messages
    assert len(found.hidden) == 2
    do(lambda connection: targets.remove(connection, targets.require(connection, "a")))
    assert do(lambda connection: outbox.first(connection, 10, NOW)) == found


def add_build(connection: Connection, target_id: int, number: int) -> None:
    row: dict[str, Any] = {
        column.name: "" if column.type.python_type is str else 0
        for column in tables.builds.columns
        if not column.nullable
    }
    row |= {"id": number, "target_id": target_id, "category": "app-misc", "name": "alpha"}
    row |= {"version": f"{number}.0", "path": f"{number}.gpkg.tar", "visible": False, "build_id": number}
    connection.execute(tables.builds.insert().values(**{**row, "cpv": f"app-misc/alpha-{number}.0"}))


def test_what_an_index_lists_and_no_longer_lists_is_told(do: Do) -> None:
    def publish(connection: Connection) -> None:
        number = add_target(connection, "amd64")
        target = targets.require(connection, "amd64")
        for build in (1, 2):
            add_build(connection, number, build)
        common: dict[str, Any] = {"cause": Cause.PUBLISH, "actor": "admin", "now": NOW}
        generations.advance(connection, target, [1], [], **common)
        generations.advance(connection, target, [2], [1], **common)

    do(publish)
    beginning = "publication.amd64.app-misc.alpha"
    assert do(keys) == [f"{beginning}.{state}" for state in ("published", "withdrawn", "published")]
    bodies = [
        message.body for message in do(lambda connection: outbox.first(connection, 9, NOW)).messages.values()
    ]
    assert [b'"generation":1,' in body or body.endswith(b'"generation":1}') for body in bodies] == [
        True,
        False,
        False,
    ]
    assert b"admin" not in b"".join(bodies)


def new_machine(connection: Connection) -> UUID:
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    return machines.enrol(connection, machine_uuid(key), key, State.AWAITING_APPROVAL, now=NOW).uuid


def test_machines_are_told_of_to_the_operator(do: Do) -> None:
    machine = do(new_machine)
    do(lambda connection: machines.set_state(connection, machine, State.APPROVED))
    do(lambda connection: machines.set_state(connection, machine, State.APPROVED))  # it is already
    do(lambda connection: machines.set_state(connection, machine, State.QUARANTINED))
    assert do(keys) == ["machine.registered", "machine.approved", "machine.quarantined"]
    found = do(lambda connection: outbox.first(connection, 10, NOW)).messages.values()
    assert {message.exchange for message in found} == {OPERATOR}


def test_of_a_forgotten_machine_only_that_is_told(do: Do) -> None:
    other, machine = do(new_machine), do(new_machine)
    do(lambda connection: forgetting.forget(connection, machines.require(connection, machine)))
    found = do(lambda connection: outbox.first(connection, 10, NOW)).messages.values()
    assert [message.key for message in found] == ["machine.registered", "machine.forgotten"]
    assert [str(machine).encode() in message.body for message in found] == [False, True]
    assert str(other).encode() in next(iter(found)).body


def test_without_a_broker_nothing_is_written(do: Do) -> None:
    target = do(lambda connection: add_target(connection, "amd64"))
    do(lambda connection: add_job(connection, target, "app-misc/alpha-1.0"))
    do(lambda connection: outbox.set_feed(connection, is_open=False, now=NOW))
    assert do(keys) == []
    do(lambda connection: add_job(connection, target, "app-misc/beta-1.0"))
    do(new_machine)
    assert do(keys) == []


def test_what_is_too_old_or_too_much_is_dropped(do: Do, monkeypatch: pytest.MonkeyPatch) -> None:
    target = do(lambda connection: add_target(connection, "amd64"))
    for name in "abcd":
        do(partial(add_job, target_id=target, cpv=f"app-misc/{name}-1.0"))
    assert do(lambda connection: outbox.trim(connection, NOW + outbox.KEPT)) == 0
    monkeypatch.setattr(outbox, "MOST", 3)
    assert do(lambda connection: outbox.trim(connection, NOW)) == 5
    assert [key.split(".")[3] for key in do(keys)] == ["c", "d", "d"]
    assert do(lambda connection: outbox.trim(connection, NOW + outbox.KEPT + 1)) == 3


class Shaky:
    """Takes one event, then nothing, then two, and then all; remembers each that it was given."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._turns: Iterator[int | None] = iter([1, None, 2])

    async def publish(self, messages: Sequence[Message]) -> int:
        self.seen += [message.id for message in messages]
        most = next(self._turns, len(messages))
        if most is None:
            raise BusUnavailable("away")
        return min(most, len(messages))


async def test_each_event_is_sent_until_it_is_confirmed_and_in_order(do: Do, path: Path) -> None:
    target = do(lambda connection: add_target(connection, "amd64"))
    for name in "abc":
        do(partial(add_job, target_id=target, cpv=f"app-misc/{name}-1.0"))
    sent = do(lambda connection: [one.id for one in outbox.first(connection, 10, NOW).messages.values()])
    assert len(sent) == 6
    store, bus, feed = Store(path), Bus(), Shaky()
    relay = asyncio.create_task(Relay(store=store, bus=bus, feed=feed, now=lambda: NOW).run())
    count = select(func.count()).select_from(tables.outbox)
    async with asyncio.timeout(60):
        while await store.read(lambda connection: connection.scalar(count)):
            bus.tell([outbox.TOPIC])
            await asyncio.sleep(0.01)
    assert feed.seen == [*sent, *sent[1:], *sent[1:2], *sent[2:]]
    bus.close()
    async with asyncio.timeout(60):
        await relay
    await store.close()


class Choosy:
    """Does not take one event; of several at once it cannot tell which."""

    def __init__(self, disliked: str) -> None:
        self.disliked = disliked
        self.taken: list[str] = []
        self.refusals = 0

    async def publish(self, messages: Sequence[Message]) -> int:
        if self.disliked in [message.id for message in messages]:
            if len(messages) > 1:
                raise BusUnavailable("the channel was closed")
            self.refusals += 1
            raise Refused("too large")
        self.taken += [message.id for message in messages]
        return len(messages)


async def test_an_event_that_is_refused_holds_up_nobody(
    do: Do, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox_relay, "POLL", 0.01)
    target = do(lambda connection: add_target(connection, "amd64"))
    for name in "abc":
        do(partial(add_job, target_id=target, cpv=f"app-misc/{name}-1.0"))
    events = [one.id for one in do(lambda connection: outbox.first(connection, 10, NOW)).messages.values()]
    store, bus, feed, now = Store(path), Bus(), Choosy(events[2]), [float(NOW)]
    relay = asyncio.create_task(Relay(store=store, bus=bus, feed=feed, now=lambda: now[0]).run())
    refused = select(tables.outbox.c.event, tables.outbox.c.tries, tables.outbox.c.retry_at)

    def found(connection: Connection) -> list[tuple[str, int, int]]:
        return [tuple(row) for row in connection.execute(refused)]

    async def until_left(expected: list[tuple[str, int, int]]) -> None:
        async with asyncio.timeout(60):
            while (await store.read(found)) != expected:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    await until_left([(events[2], outbox.TRIES, NOW + outbox.AGAIN)])
    assert feed.taken == [*events[:2], *events[3:]]
    assert "too large; others pass it" in caplog.text
    assert do(outbox.count_refused) == 1
    now[0] += outbox.AGAIN
    await until_left([(events[2], outbox.TRIES + 1, NOW + 3 * outbox.AGAIN)])
    assert feed.refusals == outbox.TRIES + 1
    feed.disliked = ""
    now[0] += 2 * outbox.AGAIN
    await until_left([])
    assert feed.taken[-1] == events[2]
    bus.close()
    async with asyncio.timeout(60):
        await relay
    await store.close()
