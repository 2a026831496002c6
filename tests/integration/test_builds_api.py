# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds on request over HTTP: machines ask and wait, a builder that makes packages by hand serves them."""

import contextlib
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.builds import TARGET, HandBuilder, Wisher, specification
from tests.packages import gpkg
from tests.processes import Collector
from tests.shelf import Shelf

NUMBERS = iter(range(1, 10_000))
DOWNLOADS = 40  # more than the event loop has threads


def unique(name: str = "pkg") -> str:
    """A CPV that no other test has."""
    return f"app-misc/{name}x{next(NUMBERS)}y-1.0"


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    home = tmp_path_factory.mktemp("collector")
    (home / "bdcs.toml").write_text("registrations_per_network = 1000\n")
    with Collector(home, options=("--config", str(home / "bdcs.toml"))) as collector:
        yield collector
        assert collector.process is not None
        assert collector.process.is_running()
        assert "internal error" not in collector.process.output


@pytest.fixture(scope="module")
def shelf(collector: Collector) -> Shelf:
    shelf = Shelf(collector.data)
    shelf.add_target(TARGET, signatures="optional", cflags="-O2 -pipe")
    shelf.add_target("empty", signatures="optional")
    shelf.add_target("hidden", signatures="optional", private=True)
    shelf.add_target("wild", signatures="optional", cflags="-O2 -fplugin=/tmp/x.so")
    shelf.add_token("hidden", "friend", "sesame-sesame-sesame")
    return shelf


@pytest.fixture(scope="module")
def builder(collector: Collector, shelf: Shelf) -> HandBuilder:
    return HandBuilder.approved(collector, TARGET)


@pytest.fixture
def machine(collector: Collector, builder: HandBuilder) -> Iterator[Wisher]:
    machine = Wisher(collector.url)
    assert machine.register().status == 201
    yield machine
    for build in machine.send_json("GET", "/v1/builds").document["builds"]:  # nobody is left a job
        machine.send_json("DELETE", f"/v1/builds/{build['id']}")


def only(document: dict[str, Any]) -> dict[str, Any]:
    """The one package of a request."""
    (package,) = document["packages"]
    assert isinstance(package, dict)
    return package


def claimed(builder: HandBuilder) -> dict[str, Any]:
    lease = builder.claim()
    assert lease is not None
    return lease


def test_served_joined_or_built(collector: Collector, builder: HandBuilder, machine: Wisher) -> None:
    wish = specification(unique(), use=("gtk",))
    plan = only(machine.ask(wish, commit=False))
    assert (plan["answer"], plan["state"], plan["job"]) == ("queued", "queued", None)
    first = machine.ask(wish)
    assert (only(first)["answer"], only(first)["position"], first["state"]) == ("queued", 1, "open")
    other = Wisher(collector.url)
    other.register()
    second = other.ask(wish)
    assert (only(second)["answer"], only(second)["job"]) == ("joined", only(first)["job"])
    lease = claimed(builder)
    assert lease["job"]["cpv"] == str(wish.cpv)
    assert lease["job"]["specification"] == wish.to_json()
    assert lease["target"]["url"] == f"{collector.url}/binhost/{TARGET}"
    assert only(machine.state(first["id"]))["state"] == "building"
    done = builder.build(lease)
    assert (done.status, done.document["state"]) == (200, "published")
    for asker, request in ((machine, first), (other, second)):
        state = asker.state(request["id"])
        assert (state["state"], only(state)["state"]) == ("published", "published")
        assert only(state)["url"] == done.document["packages"][0]["url"]
    third = machine.ask(wish)
    assert (third["state"], only(third)["answer"]) == ("published", "published")
    near = only(machine.ask(specification(str(wish.cpv)), commit=False))["near"]
    assert near[0]["difference"] == ["built with USE=gtk; yours has -gtk"]
    again = builder.act(lease, "publish", uploads=["0" * 32])  # the answer was lost, say
    assert (again.status, again.document["state"]) == (200, "published")


def test_what_is_refused(collector: Collector, builder: HandBuilder, machine: Wisher) -> None:
    def refusal(cpv: str = "app-misc/none-1", target: str = TARGET, **more: Any) -> str:
        wish = specification(cpv, target=target, **more.pop("metadata", {}))
        request = machine.ask(wish, target=target, **more)
        assert only(request)["answer"] == "refused"
        refused: str = only(request)["refusal"]
        return refused

    assert refusal(target="nowhere") == "no-target"
    assert refusal(target="hidden") == "no-target"
    access = {"name": "friend", "token": "sesame-sesame-sesame"}
    assert refusal(target="hidden", access=access) == "no-builder"
    assert refusal(target="empty") == "no-builder"
    assert refusal(metadata={"RESTRICT": "bindist"}) == "bindist"
    for flags in ("-O3", "-O2 -fplugin=/tmp/x.so"):
        parameters = {
            "chost": "x86_64-pc-linux-gnu",
            "arch": "amd64",
            "profile": "default/linux/amd64/23.0",
            "keywords": ["amd64"],
            "licenses": ["*"],
            "use": [],
            **dict.fromkeys(("cflags", "cxxflags", "fflags", "fcflags"), flags),
            "ldflags": "",
            "rustflags": "",
        }
        assert refusal(parameters=parameters) == "parameter"
    assert refusal(target="wild") == "parameter"
    answer = machine.wish(specification("app-misc/x-1"), packages=[{"target": TARGET}])
    assert (answer.status, answer.slug) == (400, "malformed")


def test_a_failure_is_remembered_and_retried(builder: HandBuilder, machine: Wisher) -> None:
    wish = specification(unique())
    needing = specification(unique(), DEPEND=str(wish.cpv.cp))
    request = machine.ask(wish, needing)
    lease = claimed(builder)
    assert builder.claim() is None, "the other one waits for it"
    text = "first\nemerge was here\n"
    assert builder.act(lease, "log", offset=0, text=text).document == {"size": len(text), "cancelled": False}
    assert builder.act(lease, "log", offset=0, text=text).document["size"] == len(text)
    assert builder.act(lease, "fail", kind="build", text="src_compile died").status == 200
    assert builder.act(lease, "fail", kind="build", text="once more").slug == "lease-lost"
    state = machine.state(request["id"])
    assert state["state"] == "incomplete"
    assert [package["state"] for package in state["packages"]] == ["failed", "failed"]
    assert state["packages"][1]["reason"] == f"it needs {wish.cpv}, which failed"
    refused = only(machine.ask(wish))
    assert (refused["refusal"], refused["reason"]) == ("failed", "build: src_compile died")
    retried = machine.send_json("POST", f"/v1/builds/{request['id']}/retry").document
    assert [package["state"] for package in retried["packages"]] == ["queued", "waiting"]
    for _ in range(2):
        assert builder.build(claimed(builder)).status == 200
    assert machine.state(request["id"])["state"] == "published"
    job = machine.send_json("GET", f"/v1/jobs/{lease['job']['job']}").document
    assert [attempt["state"] for attempt in job["attempts"]] == ["failed", "published"]
    log = machine.send_json("GET", f"/v1/jobs/{lease['job']['job']}/log?attempt={lease['attempt']}")
    assert (log.body.decode(), log.headers["Log-State"]) == (text, "open")


def test_downloads_that_hang_do_not_keep_builders_from_their_logs(
    collector: Collector, shelf: Shelf, builder: HandBuilder, machine: Wisher
) -> None:
    shelf.add_target("slow", signatures="optional")
    shelf.put("slow", "app-misc/slow-1", gpkg())
    index = collector.data / "binhost/slow/Packages"
    index.unlink()
    os.mkfifo(index)  # who opens it waits for somebody who writes
    machine.ask(specification(unique()))
    lease = claimed(builder)
    address = (urlsplit(collector.url).hostname, urlsplit(collector.url).port)
    with contextlib.ExitStack() as opened:
        downloads = [opened.enter_context(socket.create_connection(address, 60)) for _ in range(DOWNLOADS)]
        for download in downloads:
            download.sendall(b"GET /binhost/slow/Packages HTTP/1.1\r\nHost: collector\r\n\r\n")
        try:
            told = builder.act(lease, "log", offset=0, text="here\n").document
            assert told == {"size": 5, "cancelled": False}
            assert builder.act(lease, "fail", kind="build", text="no more").status == 200
        finally:
            opened.callback(os.close, os.open(index, os.O_RDWR))  # all that wait for it go on
            shelf.write_index("slow")
        assert all(download.recv(9) == b"HTTP/1.1 " for download in downloads), "all are answered"


def test_what_was_built_differs_from_the_wish(builder: HandBuilder, machine: Wisher) -> None:
    wish = specification(unique(), use=("gtk",))
    request = machine.ask(wish)
    lease = claimed(builder)
    name = builder.package(str(wish.cpv), use=("ssl",))
    done = builder.act(lease, "publish", uploads=[name]).document
    assert (done["state"], done["difference"]) == (
        "mismatch",
        ['built with USE="-gtk ssl"; yours has gtk -ssl'],
    )
    state = machine.state(request["id"])
    assert (state["state"], only(state)["state"]) == ("incomplete", "mismatch")
    assert only(state)["url"]
    assert only(state)["reason"] == "\n".join(done["difference"])
    assert only(machine.ask(wish))["refusal"] == "failed"
    assert only(machine.ask(specification(str(wish.cpv), use=("ssl",))))["answer"] == "published"


def test_what_is_published_already_is_dropped(builder: HandBuilder, machine: Wisher) -> None:
    wish, besides = specification(unique()), specification(unique("besides"))
    machine.ask(wish)
    lease = claimed(builder)
    both = [builder.package(str(wish.cpv)), builder.package(str(besides.cpv))]
    done = builder.act(lease, "publish", uploads=both).document
    assert [package["new"] for package in done["packages"]] == [True, True]
    other = specification(unique())
    machine.ask(other)
    lease = claimed(builder)
    again = builder.package(str(besides.cpv), BUILD_TIME="1700000001")
    more = builder.act(lease, "publish", uploads=[builder.package(str(other.cpv)), again]).document
    assert [package["new"] for package in more["packages"]] == [True, False]
    assert more["packages"][1]["url"] == done["packages"][1]["url"]
    assert more["generation"] == done["generation"] + 1


def test_cancelling_reaches_the_builder_at_once(builder: HandBuilder, machine: Wisher) -> None:
    request = machine.ask(specification(unique()))
    lease = claimed(builder)
    beats: list[dict[str, Any]] = []
    waiting = threading.Thread(
        target=lambda: beats.append(
            builder.send_json(
                "POST", f"/v1/attempts/{lease['attempt']}/heartbeat?wait=30", {"fencing": lease["fencing"]}
            ).document
        )
    )
    waiting.start()
    cancelled = machine.send_json("DELETE", f"/v1/builds/{request['id']}").document
    assert (cancelled["state"], only(cancelled)["state"]) == ("cancelled", "cancelled")
    waiting.join(timeout=10)
    assert beats == [{"lease": 0, "cancelled": True}]
    name = builder.package(str(lease["job"]["cpv"]))
    assert builder.act(lease, "publish", uploads=[name]).slug == "lease-lost"
    assert builder.act(lease, "log", offset=0, text="x").document["cancelled"]


def test_the_same_key_makes_one_request(machine: Wisher) -> None:
    wish = specification(unique())
    first = machine.ask(wish, key="k" * 20)
    assert machine.ask(wish, key="k" * 20)["id"] == first["id"]
    assert machine.ask(wish)["id"] != first["id"]


def test_requests_are_their_machines_own(collector: Collector, machine: Wisher) -> None:
    request = machine.ask(specification(unique()))
    other = Wisher(collector.url)
    other.register()
    path = f"/v1/builds/{request['id']}"
    assert other.send_json("GET", path).slug == "not-found"
    assert other.send_json("DELETE", path).slug == "not-found"
    assert other.send_json("GET", "/v1/builds").document == {"builds": []}
    assert other.send_json("POST", "/v1/attempts", {"targets": [TARGET], "name": "x"}).slug == "forbidden"
    listed = machine.send_json("GET", "/v1/builds").document["builds"]
    assert [(build["id"], build["state"], build["packages"]) for build in listed] == [
        (request["id"], "open", 1)
    ]


def test_a_builder_that_leaves_gives_back_its_job(builder: HandBuilder, machine: Wisher) -> None:
    request = machine.ask(specification(unique()))
    lease = claimed(builder)
    assert builder.act(lease, "heartbeat").document == {"lease": 60, "cancelled": False}
    assert builder.act(lease, "heartbeat", release=True).document["cancelled"]
    assert only(machine.state(request["id"]))["state"] == "queued"
    again = claimed(builder)
    assert (again["job"]["job"], again["fencing"]) == (lease["job"]["job"], lease["fencing"] + 1)
    assert builder.act(lease, "fail", kind="build", text="late").slug == "lease-lost"


def test_a_builder_waits_for_work(builder: HandBuilder, machine: Wisher) -> None:
    leases: list[dict[str, Any] | None] = []
    waiting = threading.Thread(target=lambda: leases.append(builder.claim(wait=30)))
    waiting.start()
    wish = specification(unique())
    machine.ask(wish)
    waiting.join(timeout=20)
    assert leases
    assert leases[0] is not None
    assert leases[0]["job"]["cpv"] == str(wish.cpv)


def test_builders_are_listed(builder: HandBuilder, machine: Wisher) -> None:
    (listed,) = machine.send_json("GET", "/v1/builders").document["builders"]
    assert (listed["machine"], listed["name"], listed["targets"]) == (
        str(builder.machine),
        "hand",
        [TARGET],
    )


def events(machine: Wisher, number: str, last: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The events of a request: kind, id, document."""
    address, path = urlsplit(machine.collector), f"/v1/builds/{number}/events"
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    headers = {"Authorization": f"Bearer {machine.token('GET', path)}", "Last-Event-ID": last}
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    assert (response.status, response.getheader("Content-Type")) == (200, "text/event-stream")
    fields: dict[str, str] = {}
    for raw in response:
        line = raw.decode().rstrip("\n")
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name.rstrip(":")] = value
        elif fields:
            yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
            fields = {}
    connection.close()


def test_events_tell_everything_until_the_end(builder: HandBuilder, machine: Wisher) -> None:
    request = machine.ask(specification(unique()))
    stream = events(machine, request["id"])
    kind, _, document = next(stream)
    assert (kind, only(document)["state"], only(document)["position"]) == ("state", "queued", 1)
    lease = claimed(builder)
    while only(document)["state"] != "building":
        kind, _, document = next(stream)
    builder.act(lease, "log", offset=0, text="one\n")
    seen = [next(stream)]
    while seen[-1][0] != "log":
        seen.append(next(stream))
    assert (seen[-1][1], seen[-1][2]["text"]) == (f"{lease['attempt']}:4", "one\n")
    builder.act(lease, "log", offset=4, text="two\n")
    assert builder.build(lease).status == 200
    rest = list(stream)
    assert [document["state"] for kind, _, document in rest if kind == "state"][-1] == "published"
    assert "two\n" in [document.get("text") for _, _, document in rest]
    again = list(events(machine, request["id"], last=f"{lease['attempt']}:4"))
    assert [(kind, document.get("text")) for kind, _, document in again] == [
        ("state", None),
        ("log", "two\n"),
    ]
    assert again[0][2]["state"] == "published"


def test_waiting_survives_a_restart_of_the_collector(tmp_path: Path) -> None:
    with Collector(tmp_path) as collector:
        shelf = Shelf(collector.data)
        shelf.add_target(TARGET, signatures="optional")
        builder = HandBuilder.approved(collector, TARGET)
        machine = Wisher(collector.url)
        machine.register()
        request = machine.ask(specification(unique()))
        lease = claimed(builder)
        version = machine.state(request["id"])["version"]
        path = f"/v1/builds/{request['id']}?wait=60&since={version}"
        answers: list[dict[str, Any]] = []

        def wait_on() -> None:
            """Wait as a client does: whatever becomes of the connection, ask again."""
            while not answers or answers[-1]["state"] == "open":
                try:
                    answers.append(machine.send_json("GET", path).document)
                except (OSError, http.client.HTTPException):
                    time.sleep(0.05)

        waiting = threading.Thread(target=wait_on)
        waiting.start()
        collector.stop()
        collector.start()
        assert builder.act(lease, "heartbeat").document["cancelled"] is False
        assert builder.build(lease).document["state"] == "published"
        waiting.join(timeout=30)
        assert answers[-1]["state"] == "published"
