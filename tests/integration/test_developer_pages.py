# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages for developers, and the documents behind them: what a removal hurts, who is exposed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import BaseModel

from bdcs.web.documents import ExposureDocument, RemovalDocument
from tests.ebuild_repositories import Tree
from tests.fleet import all_merge, join
from tests.integration.test_pages import Links, get, page, restart, text
from tests.peer import request
from tests.processes import Collector

ADVISORY = """<affected><package name="dev-lang/python" auto="yes" arch="*">
<unaffected range="ge" slot="3.12">3.12.8</unaffected><vulnerable range="lt">3.13.1</vulnerable>
</package></affected>"""


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Thirty machines: python in three versions, alpha on twelve, beta on nine."""
    home = tmp_path_factory.mktemp("developers")
    tree = Tree.create(home / "repo")
    for version, slot in (("3.11.9", "3.11"), ("3.12.8", "3.12"), ("3.13.0", "3.13"), ("3.13.1", "3.13")):
        tree.add(f"dev-lang/python-{version}", SLOT=f"{slot}/{slot}")
    tree.add("app-misc/gamma-1.0", RDEPEND="dev-lang/python:3.11")
    tree.add("app-misc/gamma-2.0", RDEPEND="old? ( <dev-lang/python-3.12[ssl] ) dev-lang/python")
    tree.add(
        "app-misc/builds-1.0", BDEPEND=">=dev-lang/python-3.12 || ( dev-lang/python:3.11 dev-lang/pypy )"
    )
    tree.add("app-misc/content-1.0", DEPEND=">=dev-lang/python-3.11", PDEPEND="!dev-lang/python:3.11")
    with Collector(home) as collector:
        members = join(collector.url, 30)
        all_merge(members[:10], "dev-lang/python-3.11.9")
        all_merge(members[10:20], "dev-lang/python-3.12.8")
        all_merge(members[20:], "dev-lang/python-3.13.0")
        all_merge(members[:12], "app-misc/alpha-1.0", "app-misc/gamma-1.0")
        all_merge(members[:9], "app-misc/beta-1.0")
        collector.bdcs("repository", "add", "gentoo", "--location", str(tree.root))
        collector.bdcs("repository", "sync", "gentoo")
        restart(collector)
        yield collector


DOCUMENTS: dict[str, type[BaseModel]] = {"exposure": ExposureDocument, "removal": RemovalDocument}


def ask(collector: Collector, what: str, atoms: str) -> dict[str, Any]:
    answer = request(collector.url, "GET", f"/v1/{what}?{urlencode({'atoms': atoms})}")
    assert answer.status == 200, answer
    DOCUMENTS[what].model_validate_json(answer.body)
    return answer.document


def test_exposure_of_an_advisory_as_it_is_pasted(collector: Collector) -> None:
    document = ask(collector, "exposure", ADVISORY)
    assert document["affected"] == {"least": 10, "most": 20}
    assert document["fleet"] == 30
    versions = document["packages"][0]["versions"]
    assert {each["version"]: each["machines"] for each in versions} == {"3.13.0": 10, "3.11.9": 10}
    assert [each["version"] for each in document["packages"][0]["others"]] == ["3.12.8"]


def test_who_would_be_left_on_what(collector: Collector) -> None:
    document = ask(collector, "removal", "<dev-lang/python-3.12 =dev-lang/python-3.13.0")
    left = {each["version"]: each["left"] for each in document["packages"][0]["versions"]}
    assert left == {
        "3.13.0": {"kind": "update", "version": "3.13.1", "slot": "3.13"},
        "3.11.9": {"kind": "slot", "version": "3.13.1", "slot": "3.13"},
    }


def test_who_depends_on_what_would_go(collector: Collector) -> None:
    (package,) = ask(collector, "removal", "<dev-lang/python-3.12")["packages"]
    assert package["dependents"] == {
        "count": 2,
        "first": [
            {
                "category": "app-misc",
                "name": "gamma",
                "versions": ["2.0", "1.0"],
                "atoms": ["<dev-lang/python-3.12", "dev-lang/python:3.11"],
                "perhaps": False,
                "machines": 10,
            },
            {
                "category": "app-misc",
                "name": "builds",
                "versions": ["1.0"],
                "atoms": ["dev-lang/python:3.11"],
                "perhaps": True,
                "machines": None,
            },
        ],
    }
    both = ask(collector, "removal", "dev-lang/python app-misc/gamma")["packages"]
    assert [each["name"] for each in both[0]["dependents"]["first"]] == ["builds", "content"], (
        "gamma goes too"
    )
    assert both[1]["dependents"] == {"count": 0, "first": []}
    assert ask(collector, "removal", "app-misc/beta")["packages"][0]["dependents"] is None
    words = text(page(collector, "/removal?atoms=%3Cdev-lang%2Fpython-3.12"))
    assert "2 packages of the repositories known here need what would go" in words
    rows = (
        get(collector, "/removal/dependents.csv?atoms=%3Cdev-lang%2Fpython-3.12").body.decode().splitlines()
    )
    assert rows[1].startswith("dev-lang/python,app-misc,gamma,2.0 1.0,")
    assert "Perhaps: only with some USE flags, or as one of several." in words


def test_the_removal_of_a_whole_package_concerns_exactly_who_has_it(collector: Collector) -> None:
    document = ask(collector, "removal", "dev-lang/python")
    assert document["affected"] == {"least": 30, "most": 30}
    assert {each["left"]["kind"] for each in document["packages"][0]["versions"]} == {"nothing"}
    alpha = ask(collector, "removal", "app-misc/alpha")["packages"][0]
    assert alpha["versions"][0]["left"]["kind"] == "unknown"


def test_nobody_learns_more_from_two_questions_than_from_the_pages(collector: Collector) -> None:
    """Nine have beta: whatever is asked, it looks like a package that nobody has."""
    for name in ("beta", "nobody"):
        alone = ask(collector, "removal", f"app-misc/{name}")
        assert alone["affected"] is None
        assert alone["packages"][0]["versions"] == []
    without = ask(collector, "exposure", "app-misc/alpha")
    for name in ("beta", "nobody"):
        both = ask(collector, "exposure", f"app-misc/alpha app-misc/{name}")
        assert both["affected"] == without["affected"] == {"least": 10, "most": 10}


def test_what_cannot_be_understood_is_said(collector: Collector) -> None:
    for what in ("removal", "exposure"):
        answer = request(collector.url, "GET", f"/v1/{what}?atoms=openssl")
        assert (answer.status, answer.slug) == (400, "malformed")
        html = page(collector, f"/{what}?atoms=openssl")
        assert "the category is missing" in text(html)
        assert 'aria-invalid="true"' in html


def test_the_pages_say_it_in_words(collector: Collector) -> None:
    words = text(page(collector, f"/exposure?{urlencode({'atoms': ADVISORY})}"))
    assert "10 to 20 of 30 machines still have a version of dev-lang/python that is affected" in words
    uncounted = "Versions on fewer than 10 machines each are not counted."
    assert uncounted in words
    html = page(collector, "/removal?atoms=%3Cdev-lang%2Fpython-3.12")
    assert f"The removal would concern 10 of 30 machines . {uncounted}" in text(html)
    assert uncounted not in text(page(collector, "/removal?atoms=dev-lang/python")), "they are"
    assert "only another slot: 3.13.1 in 3.13" in text(html)
    assert not Links(html).forbidden
    (same,) = [link for link in Links(html).found if link.startswith("/removal.json?")]
    assert get(collector, same).document["affected"] == {"least": 10, "most": 10}
    hidden = text(page(collector, "/removal?atoms=app-misc/beta"))
    assert "Each version that would go is on fewer than 10 machines, not shown" in hidden
    assert {"/removal", "/exposure"} <= Links(page(collector, "/developers")).found


def test_what_is_asked_is_shown_as_text(collector: Collector) -> None:
    html = page(collector, f"/exposure?{urlencode({'atoms': '</textarea><script>alert(1)</script>'})}")
    assert "<script>" not in html
    assert get(collector, "/removal.json?atoms=app-misc/alpha").document["packages"][0]["name"] == "alpha"
