# SPDX-License-Identifier: GPL-2.0-or-later
"""Exact hits: what is published is answered at once, is a request like any other, and is made once a key."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builds import TARGET, HandBuilder, Wisher, specification
from tests.processes import Collector
from tests.shelf import Shelf

pytestmark = [pytest.mark.timeout(120)]

CPVS = ("app-misc/one-1.0", "app-misc/two-1.0")
ALL = [specification(cpv) for cpv in CPVS]
ACCESS = {"name": "friend", "token": "sesame-sesame-sesame"}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """One with two published builds at each of two targets, of which one is private."""
    with Collector(tmp_path_factory.mktemp("collector")) as collector:
        shelf = Shelf(collector.data)
        shelf.add_target(TARGET, signatures="optional")
        shelf.add_target("hidden", signatures="optional", private=True)
        shelf.add_token("hidden", ACCESS["name"], ACCESS["token"])
        builder = HandBuilder.approved(collector, TARGET, "hidden")
        asking = Wisher(collector.url)
        asking.register()
        for target, cpv in itertools.product((TARGET, "hidden"), CPVS):
            asking.ask(specification(cpv, target=target), target=target, access=ACCESS)
            lease = builder.claim(TARGET, "hidden")
            assert lease is not None
            assert builder.build(lease).status == 200
        yield collector
        assert collector.process is not None
        assert "internal error" not in collector.process.output


@pytest.fixture
def machine(collector: Collector) -> Wisher:
    machine = Wisher(collector.url)
    assert machine.register().status == 201
    return machine


def listed(machine: Wisher) -> list[str]:
    """The ids of the machine's requests."""
    return [build["id"] for build in machine.send_json("GET", "/v1/builds").document["builds"]]


def test_a_hit_is_a_request_like_any_other(machine: Wisher) -> None:
    """What it is told at once is what is told of it later, and it can be looked at at once."""
    answer = machine.wish(*ALL)
    assert (answer.status, answer.document["state"]) == (201, "published")
    assert machine.state(answer.document["id"]) == answer.document
    assert listed(machine) == [answer.document["id"]]
    for package in answer.document["packages"]:
        assert (package["answer"], package["state"], package["job"]) == ("published", "published", None)
        assert package["url"].endswith(".gpkg.tar")


@pytest.mark.parametrize("times", [2, 10], ids=["few", "many"])
def test_what_is_asked_twice_in_one_request_is_told_once(machine: Wisher, times: int) -> None:
    assert [package["cpv"] for package in machine.ask(*ALL * times)["packages"]] == list(CPVS)


def test_the_same_key_is_the_same_request(machine: Wisher) -> None:
    """However often and whenever it comes: also all at once, before anything is written down."""
    key, found = "k" * 20, []
    threads = [threading.Thread(target=lambda: found.append(machine.wish(*ALL, key=key))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.append(machine.wish(*ALL, key=key))
    assert {answer.status for answer in found} <= {200, 201}
    assert {answer.document["id"] for answer in found} == set(listed(machine))
    assert len(listed(machine)) == 1
    assert machine.ask(*ALL, key="m" * 20)["id"] not in {answer.document["id"] for answer in found}


@pytest.mark.parametrize(
    "change",
    [
        {"target": "hidden"},
        {"use": ["gtk"]},
        {"slot": "0/1"},
        {"license": "GPL-3"},
        {"built_against": {"dev-libs/x:0": "0/1"}},
    ],
)
def test_anything_else_is_no_hit(machine: Wisher, change: dict[str, Any]) -> None:
    document = {**ALL[0].to_json(), **change}
    (package,) = machine.ask(ALL[0], packages=[document], commit=False)["packages"]
    assert package["answer"] != "published"
    assert machine.ask(ALL[0], packages=[document])["packages"][0]["answer"] != "published"
    for build in listed(machine):
        machine.send_json("DELETE", f"/v1/builds/{build}")


def test_members_in_another_order_are_the_same_wish(machine: Wisher) -> None:
    turned = dict(reversed(list(ALL[0].to_json().items())))
    assert machine.ask(ALL[0], packages=[turned])["packages"][0]["answer"] == "published"


def test_what_is_no_specification_is_none_beside_a_hit_either(machine: Wisher) -> None:
    answer = machine.wish(*ALL, packages=[ALL[0].to_json(), {"target": TARGET}])
    assert (answer.status, answer.slug) == (400, "malformed")


def test_a_private_target_is_for_who_has_its_token(machine: Wisher) -> None:
    wanted = [specification(cpv, target="hidden") for cpv in CPVS]
    refused = machine.ask(*wanted, target="hidden")["packages"]
    assert {package["refusal"] for package in refused} == {"no-target"}
    told = machine.ask(*wanted, target="hidden", access=ACCESS)
    assert told["state"] == "published"


def test_who_tries_again_needs_what_opened_the_target_still(collector: Collector, machine: Wisher) -> None:
    other = {"name": "guest", "token": "open-open-open-open"}
    shelf = Shelf(collector.data)
    shelf.add_token("hidden", other["name"], other["token"])
    wanted = specification("app-misc/three-1.0", target="hidden")
    number = machine.ask(wanted, target="hidden", access=other)["id"]
    path = f"/v1/builds/{number}"
    machine.send_json("DELETE", path)
    assert machine.send_json("POST", f"{path}/retry").document["state"] == "open"
    machine.send_json("DELETE", path)
    shelf.revoke("hidden", other["name"])
    answer = machine.send_json("POST", f"{path}/retry")
    assert (answer.status, answer.slug) == (403, "forbidden")
    assert machine.state(number)["state"] == "cancelled"


def test_a_hit_survives_the_end_of_the_collector(tmp_path: Path) -> None:
    """It is written down before the collector ends."""
    with Collector(tmp_path) as collector:
        Shelf(collector.data).add_target(TARGET, signatures="optional")
        builder = HandBuilder.approved(collector, TARGET)
        machine = Wisher(collector.url)
        machine.register()
        machine.ask(ALL[0])
        lease = builder.claim()
        assert lease is not None
        assert builder.build(lease).status == 200
        number = machine.ask(ALL[0])["id"]
        assert collector.stop() == 0
        collector.start()
        assert machine.state(number)["state"] == "published"
