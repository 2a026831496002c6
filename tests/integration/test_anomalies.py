# SPDX-License-Identifier: GPL-2.0-or-later
"""What is implausible is found with its reason; what is set aside counts nowhere, until it is released."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fleet import Member, all_merge, join
from tests.integration.test_pages import Links, get, page, restart
from tests.processes import Collector

OLD = 60 * 86_400  # seconds since which most of the fleet is registered


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, list[Member]]]:
    """Twelve machines, each with a life of its own; all registered when the test began."""
    with Collector(tmp_path_factory.mktemp("anomalies")) as collector:
        members = join(collector.url, 12)
        for number, member in enumerate(members):
            member.now += 7 * number
            member.merge("app-misc/alpha-1.0", f"app-misc/own{number}-1", seconds=60 + number)
        yield collector, members


def find(collector: Collector) -> list[dict[str, Any]]:
    done = collector.bdcs("anomalies", "--json", check=False)
    assert done.returncode in (0, 1), done
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == bool(found)
    return found


def kinds_of(found: list[dict[str, Any]], member: Member) -> set[str]:
    return {each["kind"] for each in found if each.get("machine") == str(member.peer.machine)}


def test_an_honest_fleet_has_no_findings(site: tuple[Collector, list[Member]]) -> None:
    collector, _ = site
    assert find(collector) == []
    assert collector.bdcs("anomalies").stdout == "nothing is implausible\n"


def test_each_kind_is_found_with_its_reason(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Collector(tmp_path_factory.mktemp("implausible")) as collector:
        original, copy, burst, future, slow, *alike = join(collector.url, 11)
        cpvs = [f"app-misc/package{number}-1" for number in range(30)]
        original.merge(*cpvs, seconds=97)
        copy.merge(*cpvs, "app-misc/other-1", seconds=97)
        burst.now += 5
        for part in range(3):
            burst.merge(*(f"app-misc/many{part}n{number}-1" for number in range(900)), seconds=0)
        future.now = int(time.time()) + 30 * 86_400
        future.merge("app-misc/later-1", seconds=11)
        slow.merge("app-misc/years-1", seconds=40 * 86_400)
        for number, member in enumerate(alike):
            member.now += 13 * number
            member.merge("app-misc/pushed-1", "app-misc/beside-1", seconds=50 + number)
        found = find(collector)
        assert kinds_of(found, original) == set()
        assert kinds_of(found, copy) == {"copy"}
        assert kinds_of(found, burst) == {"burst"}
        assert kinds_of(found, future) == {"future"}
        assert kinds_of(found, slow) == {"duration"}
        assert [kinds_of(found, member) for member in alike] == [{"alike"}] * 6
        (copied,) = [each for each in found if each["kind"] == "copy"]
        assert copied["facts"] == {"merges": 31, "shared": 30, "machine": str(original.peer.machine)}
        assert "to the second" in collector.bdcs("anomalies", check=False).stdout


def test_a_quarantined_machine_counts_nowhere_and_a_released_one_again(
    site: tuple[Collector, list[Member]],
) -> None:
    """All twelve but two are set aside: what is left is below the threshold."""
    collector, members = site
    restart(collector)
    assert get(collector, "/packages/app-misc/alpha.json").document["machines"] == 10
    names = [str(member.peer.machine) for member in members[:10]]
    collector.bdcs("anomalies", "--quarantine", *names, "--reason", "a test")
    answer = members[0].peer.send(members[0].peer.signed(members[0].peer.payload()))
    assert answer.slug == "quarantined"
    restart(collector)
    assert get(collector, "/packages/app-misc/alpha.json").document["machines"] is None
    listed = [
        json.loads(line)
        for line in collector.bdcs("anomalies", "--quarantined", "--json").stdout.splitlines()
    ]
    assert [(each["name"], each["reason"]) for each in listed] == [(name, "a test") for name in names]
    assert all(each["since"] for each in listed)
    collector.bdcs("anomalies", "--release", *names)
    assert collector.bdcs("anomalies", "--quarantined").stdout == ""
    restart(collector)
    assert get(collector, "/packages/app-misc/alpha.json").document["machines"] == 10
    members[0].peer.push()


def test_a_quarantined_package_looks_like_one_that_nobody_has(site: tuple[Collector, list[Member]]) -> None:
    collector, members = site
    all_merge(members, "app-misc/beta-1.0")
    restart(collector)
    assert get(collector, "/packages/app-misc/beta.json").document["machines"] == 10
    collector.bdcs("anomalies", "--quarantine", "app-misc/beta", "--reason", "pushed")
    nobody = get(collector, "/packages/app-misc/nobody.json").document
    assert get(collector, "/packages/app-misc/beta.json").document == {**nobody, "name": "beta"}
    assert "/packages/app-misc/beta" not in Links(page(collector, "/packages")).found
    assert "pushed" in collector.bdcs("anomalies", "--quarantined").stdout
    collector.bdcs("anomalies", "--release", "app-misc/beta")
    assert get(collector, "/packages/app-misc/beta.json").document["machines"] == 10


def test_what_is_not_there_is_said(site: tuple[Collector, list[Member]]) -> None:
    collector, _ = site
    for name in ("app-misc/unheard-of", "00000000-0000-8000-8000-000000000000", "nonsense"):
        done = collector.bdcs("anomalies", "--quarantine", name, check=False)
        assert done.returncode == 1
        assert name in done.stderr
