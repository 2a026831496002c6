# SPDX-License-Identifier: GPL-2.0-or-later
"""The API of targets: the documents that `gentwoo binhost` and others read, as described, page by page."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from bdcs.web.documents import BuildsDocument, TargetsDocument
from gentwoo_client.wire.targets import Target, targets_from_json
from tests.integration.test_binhost_serving import basic
from tests.peer import Answer, request
from tests.processes import Collector
from tests.shelf import Shelf
from tests.waiting import until

CPVS = [
    f"{category}/{name}-{number}"
    for category in ("app-misc", "dev-libs")
    for name in ("alpha", "beta", "gamma")
    for number in (1, 2)
]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("targets")) as collector:
        shelf = Shelf(collector.data)
        shelf.add_target("amd64", cflags="-O2 -march=x86-64-v3", cpu="x86-64-v3", description="Für alle")
        shelf.add_target("empty", signatures="optional")
        shelf.add_target("secret", private=True)
        shelf.add_token("secret", "alice", "token")
        for cpv in CPVS:
            shelf.put("amd64", cpv, cpv.encode())
        shelf.put("amd64", "app-misc/alpha-1", b"another", build_id=2)
        withdrawn = shelf.put("amd64", "app-misc/withdrawn-1", b"x")
        shelf.withdraw("amd64", withdrawn)
        until(lambda: get(collector, "/secret", **basic("alice", "token")).status == 200)
        yield collector


def get(collector: Collector, path: str = "", **headers: str) -> Answer:
    return request(collector.url, "GET", f"/v1/targets{path}", headers=headers)


def packages(collector: Collector, query: str = "") -> dict[str, Any]:
    """A page of packages, held against its description."""
    answer = get(collector, f"/amd64/packages{query}")
    assert answer.status == 200, answer
    BuildsDocument.model_validate_json(answer.body)
    return answer.document


def test_targets_are_listed_as_the_client_reads_them(collector: Collector) -> None:
    answer = get(collector)
    TargetsDocument.model_validate_json(answer.body)
    found = targets_from_json(answer.document)
    assert [target.name for target in found] == ["amd64", "empty"]
    first = found[0]
    assert first.url == f"{collector.url}/binhost/amd64"
    assert (first.packages, first.cflags, first.private) == (13, "-O2 -march=x86-64-v3", False)
    assert Target.from_json(get(collector, "/amd64").document) == first


def test_the_timestamp_is_that_of_the_index(collector: Collector) -> None:
    def agree() -> bool:
        index = request(collector.url, "GET", "/binhost/amd64/Packages").body
        told = get(collector, "/amd64").document["timestamp"]
        return f"TIMESTAMP: {told}\n".encode() in index

    assert until(agree, timeout=120)


def test_private_targets_are_told_to_who_may_read_them(collector: Collector) -> None:
    right, wrong = basic("alice", "token"), basic("alice", "other")
    names = [target["name"] for target in get(collector, **right).document["targets"]]
    assert names == ["amd64", "empty", "secret"]
    assert "secret" not in get(collector, **wrong).body.decode()
    for path in ("/secret", "/secret/packages"):
        assert get(collector, path, **right).status == 200
        assert get(collector, path, **wrong).slug == "private-target"
        assert get(collector, path).slug == "private-target"


def test_unknown_targets(collector: Collector) -> None:
    for path in ("/nothing", "/nothing/packages", "/keys", "/%00", "/..%2famd64", "/AMD64"):
        assert get(collector, path).slug == "not-found"


def test_packages_come_page_by_page(collector: Collector) -> None:
    whole = packages(collector)
    assert whole["after"] is None
    assert len(whole["packages"]) == 13
    paged: list[dict[str, Any]] = []
    after = ""
    for _ in range(20):
        page = packages(collector, f"?limit=3&after={quote(after)}")
        assert len(page["packages"]) <= 3
        paged += page["packages"]
        if page["after"] is None:
            break
        after = page["after"]
    assert paged == whole["packages"]
    assert "withdrawn" not in json.dumps(paged)


def test_a_package_is_described(collector: Collector) -> None:
    found = packages(collector, "?q=misc/alpha")["packages"]
    assert [(each["version"], each["build_id"]) for each in found] == [("1", 1), ("1", 2), ("2", 1)]
    first = found[0]
    assert first["use"] == ["ssl"]
    assert first["published_by"] == "admin"
    content = request(collector.url, "GET", f"/binhost/amd64/{first['path']}")
    assert len(content.body) == first["size"]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("a", 13),
        ("app-misc", 7),
        ("libs beta", 2),
        ("BETA libs", 2),
        ("%25", 0),
        ("_", 0),
        ("nothing", 0),
        ("", 13),
    ],
)
def test_packages_are_found_by_words(collector: Collector, query: str, count: int) -> None:
    assert len(packages(collector, f"?q={query.replace(' ', '+')}")["packages"]) == count


@pytest.mark.parametrize(
    "query",
    [
        *(
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=x",
            "limit=",
            "limit=1e2",
            "limit=" + "9" * 50,
            "limit=١",
        ),
        *("after=x", "after=a:b", "after=:", "after=a:" + "9" * 30, "after=" + "a" * 600),
        *("q=" + "a" * 201, "q=%00", "q=a%0ab"),
    ],
)
def test_wrong_queries_are_refused(collector: Collector, query: str) -> None:
    assert get(collector, f"/amd64/packages?{quote(query, safe='=&%+:')}").slug == "malformed"


def test_the_description_is_served(collector: Collector) -> None:
    described = request(collector.url, "GET", "/openapi.json").document
    paths = described["paths"]
    assert {"/v1/targets", "/v1/targets/{target}", "/v1/targets/{target}/packages"} <= paths.keys()
    upload = paths["/v1/targets/{target}/packages/{category}/{file}"]["put"]
    assert {each["name"] for each in upload["parameters"]} == {"target", "category", "file", "size", "sha512"}
