# SPDX-License-Identifier: GPL-2.0-or-later
"""What an operator allows: quotas that say what they are and when to come back, leases, stalling uploads."""

import asyncio
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gentwoo_client.building.request import Builds, new_key
from gentwoo_client.collector_api import CollectorAPI
from gentwoo_client.errors import CollectorBusy
from gentwoo_client.machine_key import MachineKey
from gentwoo_client.wire.build_messages import BuildWish
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.errors import TooManyRequests, from_document
from tests.builds import TARGET, HandBuilder, Wisher, metadata, specification
from tests.packages import gpkg
from tests.peer import Answer
from tests.peer import request as get
from tests.processes import Collector
from tests.shelf import Shelf
from tests.waiting import until

SETTINGS = """
registrations_per_network = 1000
lease = 170
open_requests = 2
open_packages = 3
requests_per_day = 4
uploads_per_machine = 1
upload_timeout = 8
failure_hours = 0
"""
LATER = (60.0, 86_400.0)  # seconds that who did too much in a day is told to wait


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    home = tmp_path_factory.mktemp("collector")
    (home / "bdcs.toml").write_text(SETTINGS)
    with Collector(home, options=("--config", str(home / "bdcs.toml"))) as collector:
        Shelf(collector.data).add_target(TARGET, signatures="optional")
        yield collector


@pytest.fixture(scope="module")
def builder(collector: Collector) -> HandBuilder:
    return HandBuilder.approved(collector, TARGET)


@pytest.fixture
def machine(collector: Collector, builder: HandBuilder) -> Iterator[Wisher]:
    machine = Wisher(collector.url)
    assert machine.register().status == 201
    yield machine
    for build in machine.send_json("GET", "/v1/builds").document["builds"]:  # nobody is left a job
        machine.send_json("DELETE", f"/v1/builds/{build['id']}")


def wishes(name: str, count: int) -> list[BuildSpecification]:
    return [specification(f"app-misc/{name}{number}x-1.0") for number in range(count)]


def refused(answer: Answer) -> TooManyRequests:
    """The problem of an answer, with the header that belongs to it."""
    assert answer.slug == "too-many-requests"
    problem = from_document(answer.document, status=answer.status)
    assert isinstance(problem, TooManyRequests)
    assert answer.headers["Retry-After"] == str(problem.retry_after)
    return problem


def test_so_many_requests_may_be_open(machine: Wisher) -> None:
    first, *others = wishes("open", 3)
    number = machine.ask(first)["id"]
    machine.ask(others[0])
    problem = refused(machine.wish(others[1]))
    assert (problem.limit, problem.allowed) == ("open_requests", 2)
    assert "2 requests open" in problem.detail
    assert machine.ask(others[1], commit=False)["packages"][0]["answer"] == "queued"
    machine.send_json("DELETE", f"/v1/builds/{number}")
    assert machine.ask(others[1])["state"] == "open"


def test_who_tries_again_has_no_more_requests_open(machine: Wisher) -> None:
    """What is open stays so; what has ended opens again only where another may be open."""
    ended, *others = wishes("again", 3)
    number = machine.ask(ended)["id"]
    machine.send_json("DELETE", f"/v1/builds/{number}")
    open_one = machine.ask(others[0])["id"]
    machine.ask(others[1])
    assert machine.send_json("POST", f"/v1/builds/{open_one}/retry").document["state"] == "open"
    problem = refused(machine.send_json("POST", f"/v1/builds/{number}/retry"))
    assert (problem.limit, problem.allowed) == ("open_requests", 2)
    assert machine.state(number)["state"] == "cancelled"
    machine.send_json("DELETE", f"/v1/builds/{open_one}")
    assert machine.send_json("POST", f"/v1/builds/{number}/retry").document["state"] == "open"


def test_so_many_requests_may_be_made_in_a_day(machine: Wisher, builder: HandBuilder) -> None:
    there, *others = wishes("daily", 5)
    machine.ask(there)
    lease = builder.claim()
    assert lease is not None
    assert builder.build(lease).status == 200
    for wish in others[:3]:
        machine.send_json("DELETE", f"/v1/builds/{machine.ask(wish)['id']}")
    problem = refused(machine.wish(others[3]))
    assert (problem.limit, problem.allowed) == ("requests_per_day", 4)
    assert LATER[0] < problem.retry_after <= LATER[1]
    for _ in range(6):  # what is there is there for everybody
        assert machine.ask(there)["state"] == "published"


def test_so_many_packages_may_be_waited_for(machine: Wisher) -> None:
    packages = machine.ask(*wishes("many", 4))["packages"]
    assert [package["answer"] for package in packages] == ["queued", "queued", "queued", "refused"]
    assert packages[3]["refusal"] == "quota"
    assert "3 packages at a time" in packages[3]["reason"]


def test_the_client_says_when_and_does_not_wait_for_it(machine: Wisher, tmp_path: Path) -> None:
    first, second, third = wishes("client", 3)
    machine.ask(first)
    machine.ask(second)
    key = MachineKey(path=tmp_path, private=machine.key, public=machine.public, machine=machine.machine)

    async def ask() -> None:
        async with CollectorAPI(machine.collector, key) as api:
            wish = BuildWish(target=TARGET, packages=[third.to_json()], key=new_key())
            await Builds(api).ask(wish)

    with pytest.raises(CollectorBusy, match="2 requests open") as caught:
        asyncio.run(ask())
    assert caught.value.advice == "try again in about 5 min"
    assert caught.value.exit_code == 75


def test_the_lease_is_the_operators(machine: Wisher, builder: HandBuilder) -> None:
    machine.ask(specification("app-misc/leased-1.0"))
    lease = builder.claim()
    assert lease is not None
    assert lease["lease"] == 170
    assert builder.act(lease, "heartbeat").document == {"lease": 170, "cancelled": False}


def test_a_failure_that_is_not_remembered_is_tried_again(machine: Wisher, builder: HandBuilder) -> None:
    wish = specification("app-misc/failing-1.0")
    machine.ask(wish)
    lease = builder.claim()
    assert lease is not None
    assert builder.act(lease, "fail", kind="build", text="broken").status == 200
    assert machine.ask(wish)["packages"][0]["answer"] == "queued"


def test_what_was_left_out_is_told(machine: Wisher, builder: HandBuilder) -> None:
    request = machine.ask(specification("app-misc/mixed-1.0"))
    lease = builder.claim()
    assert lease is not None
    name = builder.package("app-misc/mixed-1.0")
    bad = builder.act(lease, "publish", uploads=[name], left_out=["no package"])
    assert bad.slug == "malformed"
    left_out = ["sys-libs/closed-2.0", "app-misc/fonts-1-r3"]
    assert builder.act(lease, "publish", uploads=[name], left_out=left_out).status == 200
    package = machine.state(request["id"])["packages"][0]
    assert (package["state"], package["left_out"]) == ("published", left_out)
    job = machine.send_json("GET", f"/v1/jobs/{package['job']}").document
    assert job["attempts"][0]["left_out"] == left_out
    assert job["attempts"][0]["log_deleted_at"] is None
    page = get(machine.collector, "GET", f"/jobs/{package['job']}").body.decode()
    assert "sys-libs/closed-2.0, app-misc/fonts-1-r3: built as well, and not to be redistributed" in page


def put(builder: HandBuilder, cpv: str, content: bytes, sent: bytes) -> tuple[socket.socket, bytes]:
    """Begin to upload, and send so much of it; return the connection and the answer's beginning."""
    query = f"size={len(content)}&sha512={hashlib.sha512(content).hexdigest()}"
    path = f"/v1/targets/{TARGET}/packages/{cpv}.gpkg.tar?{query}"
    address = urlsplit(builder.collector)
    connection = socket.create_connection((address.hostname or "", address.port or 0), timeout=60)
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
        f"Authorization: Bearer {builder.token('PUT', path, body=None)}\r\n\r\n"
    )
    connection.sendall(head.encode() + sent)
    return connection, connection.recv(4096)


def test_an_upload_that_stalls_is_given_up(collector: Collector, builder: HandBuilder) -> None:
    content = gpkg(cpv="app-misc/slow-1.0", metadata=metadata())
    connection, answer = put(builder, "app-misc/slow-1.0", content, content[:2000])
    with connection:
        assert answer.startswith(b"HTTP/1.1 408 ")
    work = collector.data / "quarantine"
    until(lambda: not list(work.glob("work-*")), what="nothing of it stays")
    name = builder.upload("app-misc/slow-1.0", content)  # in time it is welcome
    assert (work / "uploads" / name).exists()


def test_so_many_uploads_may_wait(collector: Collector) -> None:
    builder = HandBuilder.approved(collector, TARGET, name="hasty")
    builder.package("app-misc/first-1.0")
    content = gpkg(cpv="app-misc/second-1.0", metadata=metadata())
    query = f"size={len(content)}&sha512={hashlib.sha512(content).hexdigest()}"
    path = f"/v1/targets/{TARGET}/packages/app-misc/second-1.0.gpkg.tar?{query}"
    answer = builder.authorized("PUT", path, content, token=builder.token("PUT", path, body=None))
    problem = refused(answer)
    assert (problem.limit, problem.allowed) == ("uploads_per_machine", 1)


def test_so_many_machines_of_a_network_may_register(tmp_path: Path) -> None:
    (tmp_path / "bdcs.toml").write_text("registrations_per_network = 1\n")
    with Collector(tmp_path, options=("--config", str(tmp_path / "bdcs.toml"))) as collector:
        assert Wisher(collector.url).register().status == 201
        problem = refused(Wisher(collector.url).register())
        assert (problem.limit, problem.allowed) == ("registrations_per_network", 1)
