# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics of a real collector: the same on pages, as JSON and as CSV, and nothing below the threshold."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from html import unescape

import pytest

from benchmarks.fleet import push
from tests.fleet import Member, all_merge, join
from tests.peer import Answer, request
from tests.processes import Collector
from tests.waiting import until

WEEK = 7 * 86_400
MACHINES = 14


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Fourteen machines: all build one package twice, twelve fail another, nine have a third."""
    with Collector(tmp_path_factory.mktemp("statistics")) as collector:
        members = join(collector.url, MACHINES)
        all_merge(members, "app-misc/alpha-1.0")
        for member in members:
            member.now += WEEK
            member.merge("app-misc/alpha-1.1", seconds=100)
        for member in members[:12]:
            member.fail("app-misc/broken-2.0")
        all_merge(members, "app-misc/broken-1.0")
        all_merge(members[:9], "app-misc/rare-1.0")
        tried_and_removed(members)
        collector.stop()
        collector.start()
        until(lambda: b"not yet since" not in get(collector, "/about/status").body)
        yield collector


def tried_and_removed(members: list[Member]) -> None:
    for member in members[:11]:
        member.merge("app-misc/passing-1.0", install_type="binary")
        member.unmerge("app-misc/passing")


def get(collector: Collector, path: str) -> Answer:
    return request(collector.url, "GET", path, headers={"Accept": "text/html"})


def document(collector: Collector, path: str) -> dict[str, object]:
    answer = get(collector, path)
    assert answer.status == 200, answer
    found = json.loads(answer.body)
    assert isinstance(found, dict)
    return found


def rows(collector: Collector, path: str) -> list[dict[str, str]]:
    answer = get(collector, path)
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.body.decode())))


def test_a_package(collector: Collector) -> None:
    found = document(collector, "/v1/packages/app-misc/alpha/statistics")
    history = found["history"]
    assert isinstance(history, list)
    assert history[-1]["machines"] == 15
    assert found["origins"] == [{"origin": "source", "machines": 15}, {"origin": "binary", "machines": None}]
    assert [row["version"] for row in found["adoption"]] == ["1.1", "1.0"]  # type: ignore[attr-defined]
    assert found["times"] == [{"from_seconds": 45.3, "to_seconds": 64.0, "machines": 15}]
    assert found["failures"] == [
        {"version": "1.1", "tried": 15, "failed": None, "rate": None, "low": None, "high": None,
         "failing_since": None},
        {"version": "1.0", "tried": 15, "failed": None, "rate": None, "low": None, "high": None,
         "failing_since": None},
    ]  # fmt: skip


def test_failures_have_an_interval_and_a_day(collector: Collector) -> None:
    found = document(collector, "/packages/app-misc/broken/statistics.json")
    failing = {row["version"]: row for row in found["failures"]}["2.0"]  # type: ignore[attr-defined]
    assert (failing["tried"], failing["failed"], failing["rate"]) == (10, 10, 1.0)
    assert 0.7 < failing["low"] < failing["high"] == 1.0
    assert failing["failing_since"].startswith("2025-11-")
    assert "2.0" in get(collector, "/packages/app-misc/broken/failures").body.decode()


def test_removed_within_a_day(collector: Collector) -> None:
    found = document(collector, "/packages/app-misc/passing/statistics.json")
    assert found["discarded"] == [{"machines": None}], "the package is shown on no page, so nor is this"


def test_a_rare_package_looks_like_none(collector: Collector) -> None:
    for path in ("/v1/packages/app-misc/{}/statistics", "/packages/app-misc/{}/versions",
                 "/packages/app-misc/{}/failures", "/packages/app-misc/{}/times",
                 "/packages/app-misc/{}/history.csv", "/compare?p=app-misc/{}"):  # fmt: skip
        rare, none = (get(collector, path.format(name)) for name in ("rare", "nope"))
        assert rare.status == none.status == 200
        assert rare.body.replace(b"rare", b"nope") == none.body, path


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("/packages/app-misc/alpha/history.csv", ["week", "machines"]),
        ("/packages/app-misc/alpha/shares.csv", ["week", "version", "machines"]),
        (
            "/packages/app-misc/alpha/failures.csv",
            ["version", "tried", "failed", "rate", "low", "high", "failing_since"],
        ),
        ("/packages.csv", ["category", "name", "machines", "change", "seconds"]),
        ("/packages/app-misc.csv", ["category", "name", "machines", "change", "seconds"]),
        ("/compare.csv?p=app-misc/alpha", ["week", "package", "machines"]),
        ("/fleet.csv", ["week", "machines", "merges_a_day", "compiling_hours", "saved_hours"]),
    ],
)
def test_csv(collector: Collector, path: str, columns: list[str]) -> None:
    found = rows(collector, path)
    assert found
    assert list(found[0]) == columns


@pytest.mark.parametrize(
    "page",
    [
        "/",
        "/packages",
        "/packages?q=a",
        "/packages?sort=installed",
        "/packages/app-misc",
        "/packages/app-misc/alpha",
        "/packages/app-misc/alpha/versions",
        "/packages/app-misc/alpha/times",
        "/packages/app-misc/broken/failures",
        "/repositories/gentoo",
        "/compare?p=app-misc/alpha&p=app-misc/broken",
        "/fleet",
        "/removal?atoms=app-misc/alpha",
        "/exposure?atoms=app-misc/alpha",
    ],
)
def test_every_table_is_there_as_csv(collector: Collector, page: str) -> None:
    """Each section with a table, be it a chart's, has a link to one; and each such link leads to a table."""
    sections = re.findall("<section.*?</section>", get(collector, page).body.decode(), re.DOTALL)
    tables = [section for section in sections if "<table" in section]
    assert tables
    for section in tables:
        links = re.findall(r'href="([^"]*\.csv[^"]*)"', section)
        assert links, section[:300]
        for link in links:
            assert rows(collector, unescape(link)), link


def test_the_fleet(collector: Collector) -> None:
    found = document(collector, "/v1/fleet")
    weeks = found["weeks"]
    assert isinstance(weeks, list)
    assert found["machines"] == 15
    assert [week["machines"] for week in weeks] == [15, 15]
    assert document(collector, "/fleet.json") == found
    assert "Machines seen" in get(collector, "/fleet").body.decode()


def test_a_category_and_a_ranking(collector: Collector) -> None:
    found = document(collector, "/v1/categories/app-misc")
    assert found["packages"] == 2
    assert document(collector, "/packages/app-misc.json") == found
    names = [row["name"] for row in document(collector, "/v1/packages")["packages"]]  # type: ignore[attr-defined]
    assert names == ["alpha", "broken"]
    assert document(collector, "/packages.json?sort=fallers") == {"packages": []}
    assert document(collector, "/v1/repositories/nowhere")["packages"] == 0


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/packages?sort=nonsense", 400),
        ("/v1/packages?sort=nonsense", 400),
        ("/v1/compare?p=nonsense", 400),
        ("/compare?" + "&".join(f"p=app-misc/a{letter}" for letter in "bcdefgh"), 400),
        ("/packages/app-misc/alpha/nonsense", 404),
        ("/packages/app-misc/alpha/nonsense.csv", 404),
        ("/v1/categories/-nonsense", 404),
        ("/repositories/-nonsense", 404),
    ],
)
def test_what_makes_no_sense_is_told(collector: Collector, path: str, status: int) -> None:
    assert get(collector, path).status == status


def test_a_simulated_fleet_pushes_through_the_api(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Collector(tmp_path_factory.mktemp("fleet")) as collector:
        pushed = push(collector.url, 3, 1, 1_795_305_600)
        assert pushed > 100
        lines = collector.bdcs("export").stdout.splitlines()
        assert len(lines) == pushed
        assert {json.loads(line)["clock"] for line in lines} == {"unknown"}
