# SPDX-License-Identifier: GPL-2.0-or-later
"""Wake-ups between collectors, by a real RabbitMQ and a real PostgreSQL: one contract for both."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import aio_pika
import pytest

from bdcs.bus import shared
from bdcs.bus.amqp import LOGS, QUEUE, URGENT, WAKEUPS
from bdcs.bus.configured import bus_of
from bdcs.bus.memory import Bus, Subscription
from bdcs.bus.postgresql import CHANNEL
from bdcs.bus.shared import SharedBus
from bdcs.settings import Settings
from tests.postgresql import Server, running_postgresql
from tests.rabbitmq import RabbitMQ, running_rabbitmq, vhost_of

pytestmark = pytest.mark.engines

PATIENCE = 60.0
"""Seconds in which something has to have happened."""


@dataclass(frozen=True)
class Engine:
    """What carries wake-ups, as the tests use it."""

    settings: Settings
    lose: Callable[[], None]
    """Have all connections be lost, and be possible again."""


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    with running_rabbitmq(tmp_path_factory.mktemp("rabbitmq"), vhosts=8) as broker:
        yield broker


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_postgresql(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


@pytest.fixture(params=["rabbitmq", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Engine:
    server = request.getfixturevalue(request.param)
    if isinstance(server, RabbitMQ):
        url = server.new_url()

        def close() -> None:
            server.ctl("close_all_connections", "--vhost", vhost_of(url), "a test")

        return Engine(Settings(bus=url), close)
    database = server.new_database(is_empty=True)

    def terminate() -> None:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{database.rpartition('/')[2]}'"
        )

    return Engine(Settings(bus="postgresql:", store=database), terminate)


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[SharedBus]:
    """A bus as a collector runs it, connected."""
    async with attempting(settings) as bus:
        await until(lambda: bus.is_connected)
        yield bus


@contextlib.asynccontextmanager
async def attempting(settings: Settings) -> AsyncIterator[SharedBus]:
    """A bus as a collector runs it, whatever comes of it."""
    bus = bus_of(settings)
    assert isinstance(bus, SharedBus)
    task = asyncio.create_task(bus.run())
    try:
        yield bus
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def woken(subscription: Subscription) -> bool:
    return await subscription.wait(PATIENCE)


async def test_others_are_woken_and_only_who_waits_for_that(engine: Engine) -> None:
    async with running(engine.settings) as one, running(engine.settings) as two:
        with two.subscribed("request.a", "job.1") as waiting, two.subscribed("request.b") as other:
            one.tell(["request.a"])
            assert await woken(waiting)
            one.tell(["job.1"])
            assert await woken(waiting)
            two.tell(["job.1"])
            assert await waiting.wait(0)
            assert not await other.wait(0)
            one.tell(["request.b"])
            assert await woken(other)
            assert not await waiting.wait(0)  # nor by an echo of its own


async def test_many_topics_at_once_all_come(engine: Engine) -> None:
    topics = [f"request.{'x' * 40}{number}" for number in range(1000)]
    async with running(engine.settings) as one, running(engine.settings) as two:
        with contextlib.ExitStack() as stack:
            waiting = [stack.enter_context(two.subscribed(topic)) for topic in topics]
            one.tell(topics)
            assert all(await asyncio.gather(*map(woken, waiting)))


async def test_nothing_that_anybody_notifies_ends_it(postgresql: Server) -> None:
    database = postgresql.new_database(is_empty=True)
    async with running(Settings(bus="postgresql:", store=database)) as bus:
        with bus.subscribed("job.1") as waiting:
            name = database.rpartition("/")[2]
            for payload in ("", " ", "somebody", "somebody job.1"):
                postgresql.execute(f"SELECT pg_notify('{CHANNEL}', '{payload}')", name)
            assert await woken(waiting)
            assert bus.is_connected


async def test_what_is_lost_comes_back_by_itself_and_is_told_once(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, shared.log.name)
    async with running(engine.settings) as one, running(engine.settings) as two:
        with two.subscribed("target.1") as waiting, one.subscribed("target.1") as here:
            await asyncio.to_thread(engine.lose)
            assert await woken(waiting)  # it is back: who waits looks, since something may have been missed
            assert await woken(here)
            one.tell(["target.1"])
            assert await here.wait(0)
            assert await woken(waiting)
    messages = [record.getMessage() for record in caplog.records if record.name == shared.log.name]
    assert [message for message in messages if "connected to" not in message] == [
        message for message in messages if "it is tried again" in message
    ]
    assert sum("it is tried again" in message for message in messages) == 2
    assert sum("connected to" in message for message in messages) == 4


async def test_without_the_engine_who_is_here_is_woken(caplog: pytest.LogCaptureFixture) -> None:
    async with attempting(Settings(bus="amqp://somebody:secret@127.0.0.1:1/x")) as bus:
        await until(lambda: "tried again" in caplog.text)
        with bus.subscribed("job.1") as waiting:
            bus.tell(["job.1"])
            assert await waiting.wait(0)
        assert not bus.is_connected
    assert "somebody:***@127.0.0.1:1/x" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((r":[^:@]*@", ":wrong@"), "ACCESS_REFUSED"),
        ((r"[^/]+$", "nowhere"), "no virtual host of that name"),
    ],
    ids=["password", "vhost"],
)
async def test_what_the_broker_refuses_is_said_once(
    rabbitmq: RabbitMQ,
    change: tuple[str, str],
    reason: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "FIRST_DELAY", 0.0)
    tries = 0
    async with attempting(Settings(bus=re.sub(*change, rabbitmq.url))) as bus:
        session = bus._session

        async def counted() -> None:
            nonlocal tries
            tries += 1
            await session()

        monkeypatch.setattr(bus, "_session", counted)
        await until(lambda: tries >= 3)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert reason in warnings[0]


async def test_a_broker_that_is_killed_and_comes_back(rabbitmq: RabbitMQ) -> None:
    settings = Settings(bus=rabbitmq.new_url())
    async with running(settings) as one, running(settings) as two:
        await asyncio.to_thread(rabbitmq.kill)
        await until(lambda: not one.is_connected and not two.is_connected)
        await asyncio.to_thread(rabbitmq.start)
        await until(lambda: one.is_connected and two.is_connected)
        with two.subscribed("job.1") as waiting:
            one.tell(["job.1"])
            assert await woken(waiting)


async def test_who_does_not_read_piles_up_nothing_in_the_broker(rabbitmq: RabbitMQ) -> None:
    """Queues as a collector's, which nobody reads."""
    url = rabbitmq.new_url()
    most = QUEUE["x-max-length"]
    async with running(Settings(bus=url)), await aio_pika.connect(url) as connection:
        listed = await asyncio.to_thread(
            rabbitmq.ctl, "list_queues", "-p", vhost_of(url), "exclusive", "auto_delete", "arguments"
        )
        lines = [line for line in listed.splitlines() if line.startswith("true\ttrue\t")]
        assert len(lines) == 2
        assert all(f'{{"{name}",' in line for line in lines for name in QUEUE)
        channel = await connection.channel(publisher_confirms=False)
        exchange = await channel.get_exchange(WAKEUPS)
        queue = await channel.declare_queue(exclusive=True, auto_delete=True, arguments=dict(QUEUE))
        await queue.bind(exchange, f"{LOGS}.#")
        await queue.bind(exchange, f"{URGENT}.#")
        for _ in range(int(most) + 500):
            await exchange.publish(aio_pika.Message(b"job.1"), f"{LOGS}.job", mandatory=False)

        async def count() -> int:
            declared = await channel.declare_queue(queue.name, passive=True)
            return declared.declaration_result.message_count or 0

        assert await count() <= int(most)
        async with asyncio.timeout(PATIENCE):
            while await count():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.1)


def test_only_one_process_needs_no_engine() -> None:
    bus = bus_of(Settings())
    assert type(bus) is Bus
    assert bus.feed is None
