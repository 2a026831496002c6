# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that fit no target propose one, at a real collector; administrators decide."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdcs.services.proposals import PER_MACHINE
from tests.peer import JSON, Answer, Peer, request
from tests.processes import BDCS, Collector

WANTED = {
    "chost": "x86_64-pc-linux-gnu",
    "arch": "amd64",
    "profile": "default/linux/amd64/23.0",
    "cflags": "-O2 -pipe -march=znver3",
    "cpu": "znver3",
}
PATH = "/v1/targets/proposals"


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """One with the policy that is the default: an administrator is asked."""
    with Collector(tmp_path_factory.mktemp("asking")) as collector:
        yield collector


def collector_that(policy: str, home: Path) -> Collector:
    home.mkdir(parents=True, exist_ok=True)
    config = home / "bdcs.toml"
    config.write_text(f'proposals = "{policy}"\n')
    return Collector(home, command=(*BDCS, "--config", config))


def registered(collector: Collector) -> Peer:
    peer = Peer(collector.url)
    assert peer.register().status == 201
    return peer


def propose(peer: Peer, **other: object) -> Answer:
    body = json.dumps({**WANTED, **other}).encode()
    headers = {"Authorization": f"Bearer {peer.token('POST', PATH, body=body)}", **JSON}
    return request(peer.collector, "POST", PATH, body=body, headers=headers)


def proposals(collector: Collector, *options: str) -> list[dict[str, Any]]:
    done = collector.bdcs("admin", "proposals", "list", "--json", *options)
    return list(json.loads(done.stdout)["proposals"])


def number_of(collector: Collector, cflags: str) -> str:
    return next(str(found["id"]) for found in proposals(collector, "--all") if found["cflags"] == cflags)


def test_many_machines_propose_one_target_and_an_administrator_makes_it(collector: Collector) -> None:
    peers = [registered(collector) for _ in range(3)]
    answers = [
        propose(peers[0]),
        propose(peers[0]),
        propose(peers[1], cflags="-march=znver3 -O3 -O2", cpu=""),
        propose(peers[2], cflags="-march=znver3 -O2"),
    ]
    assert [answer.status for answer in answers] == [201, 200, 200, 200]
    waiting = {"state": "waiting", "target": None, "reason": None}
    assert all(answer.document == waiting for answer in answers)
    (found,) = [entry for entry in proposals(collector) if "znver3" in entry["cflags"]]
    assert (found["machines"], found["state"], found["arch"]) == (3, "waiting", "amd64")
    text = collector.bdcs("admin", "proposals", "list").stdout
    assert "proposed by 3 machines" in text
    assert "-march=znver3" in text
    done = collector.bdcs("admin", "proposals", "accept", str(found["id"])).stdout
    assert "target amd64-znver3-23.0:" in done
    assert propose(peers[1]).document["target"] == "amd64-znver3-23.0"
    listed = request(collector.url, "GET", "/v1/targets/amd64-znver3-23.0").document
    assert (listed["cflags"], listed["cpu"]) == ("-O2 -pipe -march=znver3", "znver3")
    again = collector.bdcs("admin", "proposals", "accept", str(found["id"]), check=False)
    assert (again.returncode, "was accepted" in again.stderr) == (1, True)
    collector.bdcs("target", "remove", "amd64-znver3-23.0")
    assert str(found["id"]) not in {str(entry["id"]) for entry in proposals(collector, "--all")}


def test_who_is_refused_is_told_why_and_may_be_accepted_later(collector: Collector) -> None:
    peer = registered(collector)
    propose(peer, cflags="-O1")
    number = number_of(collector, "-O1")
    collector.bdcs("admin", "proposals", "refuse", number, "--reason", "-O2 or nothing")
    told = propose(peer, cflags="-O1")
    assert told.document == {"state": "refused", "target": None, "reason": "-O2 or nothing"}
    assert number not in [str(found["id"]) for found in proposals(collector)]
    collector.bdcs("admin", "proposals", "accept", number, "--name", "slow")
    assert propose(peer, cflags="-O1").document["target"] == "slow"


def test_one_machine_proposes_only_so_many(collector: Collector) -> None:
    peer = registered(collector)
    flags = [f"-O2 -falign-functions={number}" for number in range(1, PER_MACHINE + 2)]
    assert [propose(peer, cflags=cflags).status for cflags in flags] == [201] * PER_MACHINE + [429]
    answer = propose(peer, cflags=flags[-1])
    assert answer.slug == "too-many-requests"
    assert int(answer.headers["Retry-After"]) > 0
    assert propose(peer, cflags=flags[0]).status == 200, "what it proposed already it may ask after"
    assert propose(registered(collector), cflags=flags[-1]).status == 201, "others may"


def test_a_machine_that_is_forgotten_proposed_nothing(collector: Collector) -> None:
    peers = [registered(collector) for _ in range(2)]
    for peer in peers:
        propose(peer, cflags="-O2 -fno-plt")
    propose(peers[0], cflags="-Os")
    number = number_of(collector, "-O2 -fno-plt")
    collector.bdcs("admin", "machines", "forget", str(peers[0].machine))
    left = {str(found["id"]): found for found in proposals(collector)}
    assert left[number]["machines"] == 1
    assert not [found for found in left.values() if found["cflags"] == "-Os"]


@pytest.mark.parametrize(
    "other",
    [
        {"cflags": "-O2 -fplugin=/tmp/x.so"},
        {"cflags": "-O2 -march=native"},
        {"cflags": "$(reboot)"},
        {"chost": "x86_64-pc-linux-gnu; reboot"},
        {"profile": "../../../etc"},
        {"arch": "~amd64"},
        {"cpu": "native"},
        {"cflags": 1},
        {"features": "-sandbox"},
        {"cflags": "-O2 " * 4000},
    ],
)
def test_what_no_build_may_have_is_not_taken(collector: Collector, other: dict[str, object]) -> None:
    answer = propose(registered(collector), **other)
    assert answer.status in (400, 413), answer.body
    assert answer.slug in ("malformed", "too-large")


def test_only_machines_that_are_known_propose(collector: Collector) -> None:
    assert propose(Peer(collector.url)).slug == "unregistered"
    assert request(collector.url, "POST", PATH, body=b"{}", headers=JSON).status == 401
    peer = registered(collector)
    collector.bdcs("admin", "machines", "quarantine", str(peer.machine))
    assert propose(peer).slug == "quarantined"


def test_who_accepts_by_itself_makes_the_target_at_once(tmp_path: Path) -> None:
    with collector_that("accept", tmp_path / "accepting") as collector:
        peer = registered(collector)
        made = propose(peer)
        assert (made.status, made.document["state"]) == (201, "accepted")
        name = made.document["target"]
        assert [
            target["name"] for target in request(collector.url, "GET", "/v1/targets").document["targets"]
        ] == [name]
        assert propose(registered(collector), cflags="-march=znver3 -O2").document["target"] == name
        more = propose(peer, cflags="-O3 -march=znver3", profile="default/linux/amd64/23.0")
        assert more.document["target"] == f"{name}-2"
        assert proposals(collector) == []


def test_who_takes_none_says_so_and_keeps_nothing(tmp_path: Path) -> None:
    with collector_that("refuse", tmp_path / "refusing") as collector:
        answer = propose(registered(collector))
        assert (answer.status, answer.document["state"]) == (200, "refused")
        assert "takes no proposals" in answer.document["reason"]
        assert proposals(collector, "--all") == []
        collector.bdcs(
            "target", "add", "there", *(f"--{name}={WANTED[name]}" for name in ("chost", "profile", "cflags"))
        )
        assert propose(registered(collector)).document["target"] == "there"
