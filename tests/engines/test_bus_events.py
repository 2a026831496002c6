# SPDX-License-Identifier: GPL-2.0-or-later
"""Real collectors with a real RabbitMQ: what it is told, who may hear it, and what its death costs."""

import asyncio
import json
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from jsonschema import Draft202012Validator
from sqlalchemy import func, select

from bdcs.bus.configured import bus_of
from bdcs.bus.shared import SharedBus
from bdcs.settings import Settings
from bdcs.store.tables import outbox
from dev.places import ROOT
from gentwoo_client.wire.events import OPERATOR, PUBLIC, BuildEvent, Event, MachineEvent, event_of
from tests.builds import TARGET, HandBuilder, Wisher, specification
from tests.peer import request
from tests.postgresql import Server, running_postgresql
from tests.processes import BDCS, Collector, Process
from tests.rabbitmq import RabbitMQ, running_rabbitmq, vhost_of
from tests.shelf import Shelf
from tests.store_access import store_of
from tests.waiting import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

DOCUMENT = (ROOT / "docs/events.md").read_text()
TOKEN = "sesame-sesame-sesame"
TARGET_OPTIONS = (
    "--chost=x86_64-pc-linux-gnu",
    "--arch=amd64",
    "--profile=default/linux/amd64/23.0",
    "--cflags=-O2",
    "--signatures=optional",
)
STATES = ["waiting", "queued", "building", "published"]


@pytest.fixture
def broker(only_broker: RabbitMQ) -> RabbitMQ:
    """It runs, whatever became of it in another test."""
    if not only_broker.is_running():
        only_broker.start()
    return only_broker


@pytest.fixture(scope="module")
def only_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    with running_rabbitmq(tmp_path_factory.mktemp("rabbitmq"), vhosts=7) as broker:
        yield broker


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of the document."""
    (text,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    path = tmp_path_factory.mktemp("program") / "listen.py"
    path.write_text(text)
    return path


class Listener(Process):
    """The program of the document, listening."""

    def __init__(self, program: Path, url: str, exchange: str, queue: str, *keys: str) -> None:
        command = [sys.executable, str(program), url, exchange, queue, *keys]
        super().__init__(command, log=program.with_name(f"{vhost_of(url)}-{queue}.log"))

    def events(self) -> list[Event]:
        """What it was told so far; each was sent with the routing key that it has to have."""
        found = []
        for key, document in re.findall(
            r"^((?:build|publication|machine)\.\S+) (\{.*\})$", self.output, re.MULTILINE
        ):
            event = event_of(key.partition(".")[0], json.loads(document))
            assert event.key == key
            found.append(event)
        return found

    def told(self) -> list[str]:
        """The routing keys, in order, without repetitions of events."""
        return list({event.id: event.key for event in self.events()}.values())


def collecting(home: Path, *lines: str) -> Collector:
    """A collector with such settings, not started yet."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "bdcs.toml").write_text("\n".join(["registrations_per_network = 1000", *lines, ""]))
    return Collector(home, command=(*BDCS, "--config", home / "bdcs.toml"))


def metric(collector: Collector, name: str) -> float:
    text = request(collector.url, "GET", "/metrics").body.decode()
    match = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert match, text
    return float(match[1])


def until_connected(collector: Collector) -> None:
    until(lambda: metric(collector, "bdcs_bus_connected") == 1, what="a connected bus")


def build(machine: Wisher, builder: HandBuilder, cpv: str, target: str = TARGET, **more: Any) -> str:
    """Have a package be built and published; return the id of the request, which waited for that."""
    wish = specification(cpv, target=target)
    number: str = machine.ask(wish, target=target, **more)["id"]
    lease = builder.claim(TARGET, *({target} - {TARGET}), wait=20)
    assert lease is not None
    waiting = threading.Thread(target=machine.state, args=(number, "?wait=60"))
    waiting.start()
    assert builder.build(lease).status == 200
    waiting.join()
    assert machine.state(number)["state"] == "published"
    return number


def registered(collector: Collector) -> Wisher:
    machine = Wisher(collector.url)
    assert machine.register().status == 201
    return machine


def test_a_reader_hears_what_is_public_and_nothing_else(
    broker: RabbitMQ, program: Path, tmp_path: Path
) -> None:
    """With the users, and the permissions, that the document gives them."""
    url = broker.new_url()
    for line in re.findall(r"^rabbitmqctl (.*)$", DOCUMENT, re.MULTILINE)[1:]:  # the virtual host is there
        broker.ctl(*_words(line.replace("-p gentwoo ", f"-p {vhost_of(url)} ")))
    bdcs, mirror = (re.sub(r"//.*@", f"//{who}@", url) for who in ("bdcs:SECRET", "mirror:ANOTHER"))
    with collecting(tmp_path, f'bus = "{bdcs}"') as collector:
        until_connected(collector)
        with (
            Listener(program, mirror, PUBLIC, "mirror", "#") as public,
            Listener(program, bdcs, OPERATOR, "gentwoo.operator", "machine.#") as operator,
            Listener(program, mirror, OPERATOR, "mirror", "#") as intruder,
        ):
            public.until_printed("listening")
            operator.until_printed("listening")
            intruder.until_printed("ACCESS_REFUSED")
            shelf = Shelf(collector.data)
            shelf.add_target(TARGET, signatures="optional")
            shelf.add_target("secret", signatures="optional", private=True)
            shelf.add_token("secret", "friend", TOKEN)
            machine, builder = registered(collector), HandBuilder.approved(collector, TARGET, "secret")
            access = {"name": "friend", "token": TOKEN}
            build(machine, builder, "app-misc/hush-1.0", target="secret", access=access)
            build(machine, builder, "app-misc/alpha-1.0")
            collector.bdcs("admin", "machines", "quarantine", str(machine.machine))
            until(lambda: "machine.quarantined" in operator.told())  # what still waits is forgotten as well
            collector.bdcs("admin", "machines", "forget", str(machine.machine))
            until(lambda: "machine.forgotten" in operator.told())
            expected = {f"build.{TARGET}.app-misc.alpha.{state}" for state in STATES}
            expected.add(f"publication.{TARGET}.app-misc.alpha.published")
            until(lambda: set(public.told()) >= expected, what=public.output)
            assert set(public.told()) == expected
            builds = [event.state for event in public.events() if isinstance(event, BuildEvent)]
            assert builds == STATES
            assert not [who for who in (machine, builder) if str(who.machine) in public.output]
            _check_schemas(collector, [*public.events(), *operator.events()])
            states = [
                event.state
                for event in operator.events()
                if isinstance(event, MachineEvent) and event.machine == str(machine.machine)
            ]
            assert states == ["registered", "quarantined", "forgotten"]
        until(lambda: metric(collector, "bdcs_outbox_events") == 0)


def _words(line: str) -> Sequence[str]:
    return [word.strip("'") for word in line.split()]


def _check_schemas(collector: Collector, events: Sequence[Event]) -> None:
    for event in events:
        answer = request(collector.url, "GET", f"/schemas/events/{event.KIND}.json")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/schema+json"
        Draft202012Validator(answer.document).validate(event.to_json())


def test_nothing_is_lost_with_the_broker_nor_with_the_collector(
    broker: RabbitMQ, program: Path, tmp_path: Path
) -> None:
    url = broker.new_url()
    with collecting(tmp_path, f'bus = "{url}"') as collector:
        until_connected(collector)
        with (
            Listener(program, url, PUBLIC, "reader", "build.#", "publication.#") as reader,
            Listener(program, url, OPERATOR, "operator", "machine.#") as operator,
        ):
            reader.until_printed("listening")
            operator.until_printed("listening")
            Shelf(collector.data).add_target(TARGET, signatures="optional")
            machine, builder = registered(collector), HandBuilder.approved(collector, TARGET)
            build(machine, builder, "app-misc/before-1.0")
            broker.kill()
            until(lambda: metric(collector, "bdcs_bus_connected") == 0)
            build(machine, builder, "app-misc/during-1.0")
            late = registered(collector)
            until(lambda: metric(collector, "bdcs_outbox_events") > 0)
            collector.kill()
            collector.start()  # without a broker it starts as well
            build(machine, builder, "app-misc/later-1.0")
            broker.start()
            names = ("before", "during", "later")
            expected = {f"build.{TARGET}.app-misc.{name}.{state}" for name in names for state in STATES}
            expected |= {f"publication.{TARGET}.app-misc.{name}.published" for name in names}
            until(lambda: set(reader.told()) >= expected, what=str(reader.log))
            assert set(reader.told()) == expected
            for name in names:
                first = {
                    event.id: event.state
                    for event in reader.events()
                    if isinstance(event, BuildEvent) and event.name == name
                }
                assert list(first.values()) == STATES

            def heard() -> bool:
                about = {event.machine for event in operator.events() if isinstance(event, MachineEvent)}
                return about >= {str(who.machine) for who in (machine, builder, late)}

            until(heard)
        until(lambda: metric(collector, "bdcs_outbox_events") == 0)
        assert collector.process is not None
        assert collector.process.output.count("it is tried again") == 1
        assert "Traceback" not in collector.process.output
        assert collector.stop() == 0


def test_an_event_that_the_broker_refuses_holds_up_nobody(
    broker: RabbitMQ, program: Path, tmp_path: Path
) -> None:
    """One goes to a queue that is full and rejects, another is larger than the broker takes."""
    url = broker.new_url()
    broker.eval("application:set_env(rabbit, max_message_size, 430)")
    with collecting(tmp_path, f'bus = "{url}"') as collector:
        until_connected(collector)
        with Listener(program, url, PUBLIC, "reader", "#") as reader:
            reader.until_printed("listening")
            asyncio.run(_declare_full_queue(url, f"publication.{TARGET}.app-misc.full.#"))
            Shelf(collector.data).add_target(TARGET, signatures="optional")
            machine, builder = registered(collector), HandBuilder.approved(collector, TARGET)
            long = "long-" + "x" * 80
            for name in ("full", long, "after"):
                build(machine, builder, f"app-misc/{name}-1.0")
            expected = {f"build.{TARGET}.app-misc.after.{state}" for state in STATES}
            expected |= {f"publication.{TARGET}.app-misc.{name}.published" for name in ("full", "after")}
            until(lambda: set(reader.told()) >= expected, what=str(reader.log))
            assert not [key for key in reader.told() if key.startswith("publication") and "xxx" in key]
            until(lambda: metric(collector, "bdcs_outbox_refused_events") == 2)
            assert "larger than configured max size" in (collector.home / "bdcs.log").read_text()
            assert "2 events are set aside" in collector.bdcs("check").stdout
    broker.eval("application:set_env(rabbit, max_message_size, 134217728)")


async def _declare_full_queue(url: str, key: str) -> None:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        arguments: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = await channel.declare_queue("full", durable=True, arguments=arguments)
        await channel.default_exchange.publish(aio_pika.Message(b"there is one"), "full")
        await queue.bind(PUBLIC, key)


def test_a_collector_starts_whatever_the_broker_says(broker: RabbitMQ, tmp_path: Path) -> None:
    with collecting(tmp_path, f'bus = "{broker.url}-of-nobody"') as collector:
        assert collector.process is not None
        collector.process.until_printed("it lets this user into no virtual host of that name")
        assert "p%40ss" not in collector.process.output
        registered(collector)
        with store_of(collector.data) as connection:
            assert connection.scalar(select(func.count()).select_from(outbox)) == 1
        collector.stop()
        (tmp_path / "bdcs.toml").write_text("")
        collector.start()
        with store_of(collector.data) as connection:
            assert connection.scalar(select(func.count()).select_from(outbox)) == 0
        registered(collector)
        with store_of(collector.data) as connection:
            assert connection.scalar(select(func.count()).select_from(outbox)) == 0
        assert collector.stop() == 0


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_postgresql(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


@pytest.mark.parametrize("kind", ["rabbitmq", "postgresql"])
def test_who_waits_at_another_collector_is_woken(
    kind: str, broker: RabbitMQ, postgresql: Server, tmp_path: Path
) -> None:
    """The other collector is the bus that it would have."""
    store = postgresql.new_database()
    bus = broker.new_url() if kind == "rabbitmq" else "postgresql:"
    with collecting(tmp_path, f'bus = "{bus}"', f'store = "{store}"') as collector:
        until_connected(collector)
        collector.bdcs("target", "add", TARGET, *TARGET_OPTIONS)
        machine, builder = registered(collector), HandBuilder.approved(collector, TARGET)
        asyncio.run(_wait_elsewhere(Settings(bus=bus, store=store), machine, builder))
        assert collector.stop() == 0


async def _wait_elsewhere(settings: Settings, machine: Wisher, builder: HandBuilder) -> None:
    bus = bus_of(settings)
    assert isinstance(bus, SharedBus)
    running = asyncio.create_task(bus.run())
    async with asyncio.timeout(60):
        while not bus.is_connected:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    with bus.subscribed("target.1") as subscription:
        number = (await asyncio.to_thread(machine.ask, specification("app-misc/alpha-1.0")))["id"]
        assert await subscription.wait(60)
    with bus.subscribed(f"request.{number}") as subscription:
        lease = await asyncio.to_thread(builder.claim)
        assert lease is not None
        assert await subscription.wait(60)
    running.cancel()
    await asyncio.wait([running])
