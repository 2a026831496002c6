# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of a real collector, read as a browser without script would read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.fleet import Member, all_merge, join
from tests.peer import Answer, request
from tests.processes import Collector
from tests.waiting import until

HTML = {"Accept": "text/html"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Links(HTMLParser):
    """All addresses that a page leads to, and what a strict policy would forbid."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.forbidden: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.found.add(value)
            if name == "style" or name.startswith("on"):
                self.forbidden.append(f"{tag} {name}")
        is_own_script = tag == "script" and (dict(attributes).get("src") or "").startswith("/static/")
        if tag in ("script", "style", "iframe") and not is_own_script:
            self.forbidden.append(tag)


def get(collector: Collector, path: str, **headers: str) -> Answer:
    return request(collector.url, "GET", path, headers={**HTML, **headers})


def page(collector: Collector, path: str) -> str:
    answer = get(collector, path)
    assert answer.status == 200, (path, answer)
    return answer.body.decode()


def text(html: str) -> str:
    """The words of the page, tags left out."""
    return " ".join(re.sub(r"<[^>]+>", " ", html.partition("<main")[2]).split())


def report(member: Member) -> str:
    """The path of the machine's own page."""
    answer = member.peer.authorized("POST", member.peer.path + "/report-links")
    assert answer.status == 201, answer
    parts = urlsplit(answer.document["url"])
    return f"{parts.path}?{parts.query}"


def restart(collector: Collector) -> None:
    """Have figures renewed now: that is the first thing that a collector does."""
    assert collector.stop() == 0
    collector.start()
    until(lambda: "not yet since the start" not in page(collector, "/about/status"), what="figures renewed")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("empty")) as collector:
        yield collector


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, list[Member]]]:
    """Twenty machines: alpha on all, in two versions; beta on twelve, gamma on nine."""
    with Collector(tmp_path_factory.mktemp("fleet")) as collector:
        members = join(collector.url, 20)
        all_merge(members[:20], "app-misc/alpha-1.0")
        all_merge(members[:12], "dev-libs/beta-2.0", "app-misc/alpha-1.1")
        all_merge(members[:9], "dev-libs/gamma-3.0", "dev-libs/beta-2.0-r1")
        members[0].fail("dev-libs/delta-4.0")
        restart(collector)
        yield collector, members


def test_a_new_collector_says_what_to_do(empty: Collector) -> None:
    home = page(empty, "/")
    assert f"gentwoo register --collector {empty.url}" in home
    assert "gentwoo daemon" in home
    assert "No figures yet" in page(empty, "/packages")


def test_a_few_machines_look_like_none(fleet: tuple[Collector, list[Member]]) -> None:
    """Nine machines have gamma, one knows of delta, nobody has heard of epsilon: three pages alike."""
    collector, _ = fleet
    pages = {
        name: page(collector, f"/packages/dev-libs/{name}").replace(name, "NAME")
        for name in ("gamma", "delta", "epsilo")
    }
    public = r'<div class="empty.*?</div>'  # names that are written alike, of packages that are shown
    assert len({re.sub(public, "", each) for each in pages.values()}) == 1
    assert "is on fewer than 10 machines, not shown" in text(pages["gamma"])
    assert 'href="/about/methods#threshold"' in pages["gamma"]
    documents = [get(collector, f"/packages/dev-libs/{name}.json").document for name in ("gamma", "epsilo")]
    assert [each.pop("name") for each in documents] == ["gamma", "epsilo"]
    assert documents[0] == documents[1]
    assert documents[0]["machines"] is None


def test_a_package_on_a_crowd(fleet: tuple[Collector, list[Member]]) -> None:
    collector, _ = fleet
    words = text(page(collector, "/packages/app-misc/alpha"))
    assert "On 20 of 20 machines (100 %)" in words
    assert "1.1 10 50 %" in words, "twelve machines"
    assert "Any other version is on fewer than 10 machines, not shown" in words
    assert "1.0" not in words, "eight machines still have it"


def test_the_document_is_the_same_at_both_addresses(fleet: tuple[Collector, list[Member]]) -> None:
    collector, _ = fleet
    beside = get(collector, "/packages/app-misc/alpha.json")
    api = get(collector, "/v1/packages/app-misc/alpha")
    assert beside.document == api.document
    assert beside.document == {
        "category": "app-misc",
        "name": "alpha",
        "machines": 20,
        "fleet": 20,
        "versions": [{"version": "1.1", "machines": 10}],
        "threshold": 10,
        "rounding": 5,
    }


def test_the_first_page_shows_what_is_most_installed(fleet: tuple[Collector, list[Member]]) -> None:
    collector, _ = fleet
    words = text(page(collector, "/"))
    assert "20 machines report what they merge" in words
    assert "app-misc/ alpha 20 100 %" in words
    assert "dev-libs/ beta 10 50 %" in words
    assert "gamma" not in words


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("app-misc/alpha", "/packages/app-misc/alpha"),
        ("dev-libs/gamma", "/packages/dev-libs/gamma"),
        ("no-such/thing", "/packages/no-such/thing"),
        ("dev-libs/beta-2.0", "/packages/dev-libs/beta"),
        ("beta", "/packages/dev-libs/beta"),
    ],
)
def test_an_exact_name_leads_to_its_page(
    fleet: tuple[Collector, list[Member]], query: str, path: str
) -> None:
    collector, _ = fleet
    answer = get(collector, f"/packages?q={quote(query, safe='')}")
    assert (answer.status, answer.headers["Location"]) == (303, path)


def test_search_finds_parts_of_names_and_only_what_is_shown(fleet: tuple[Collector, list[Member]]) -> None:
    collector, _ = fleet
    found = page(collector, "/packages?q=a")
    assert "/packages/app-misc/alpha" in found
    assert "/packages/dev-libs/beta" in found
    assert "gamma" not in found
    for query in ("gamma", "%25", "_", "zzz"):
        assert "No package on 10 machines or more has" in page(collector, f"/packages?q={query}")


def test_nothing_found_names_the_nearest(fleet: tuple[Collector, list[Member]]) -> None:
    collector, _ = fleet
    assert 'href="/packages/app-misc/alpha"' in page(collector, "/packages?q=alhpa")
    assert 'href="/packages/app-misc/alpha"' in page(collector, "/packages/app-misc/alhpa")


def test_lists_go_on_by_key(fleet: tuple[Collector, list[Member]]) -> None:
    collector, _ = fleet
    rest = page(collector, "/packages?after=20%3Aapp-misc%2Falpha")
    assert "dev-libs/beta" in rest
    assert "app-misc/alpha" not in rest
    assert "Nothing follows here" in page(collector, "/packages?after=0%3Az%2Fz")
    assert "app-misc/alpha" in page(collector, "/packages?after=nonsense")
    assert "app-misc/alpha" not in page(collector, "/packages/dev-libs")


def test_the_machine_sees_itself_whatever_others_may_see(fleet: tuple[Collector, list[Member]]) -> None:
    collector, members = fleet
    path = report(members[0])
    answer = get(collector, path)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.headers["X-Robots-Tag"] == "noindex"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    words = text(answer.body.decode())
    assert str(members[0].peer.machine) in words
    assert "8 records received" in words
    assert "5 merges and 3 versions installed now" in words
    assert "dev-libs/ delta 4.0 ::gentoo failed while building" in words
    assert "Merges a day" in words
    installed = text(page(collector, path + "&view=installed"))
    assert "dev-libs/ gamma 3.0 gentoo" in installed
    assert "dev-libs/ beta 2.0-r1 gentoo" in installed
    assert "delta" not in installed
    failures = text(page(collector, path + "&view=failures"))
    assert "delta" in failures
    assert "gamma" not in failures


def test_records_go_on_by_number(fleet: tuple[Collector, list[Member]]) -> None:
    collector, members = fleet
    member = members[-1]
    for number in range(60):
        member.merge(f"app-misc/alpha-1.0_p{number}")
    path = report(member) + "&view=records"
    first = page(collector, path)
    match = re.search(r'rel="next" href="([^"]+)"', first)
    assert match
    second = page(collector, match[1].replace("&amp;", "&"))
    numbers = [int(each) for each in re.findall(r'<td class="num">(\d+)</td></tr>', first + second)]
    assert numbers[:100] == list(range(121, 21, -1))


def test_a_link_that_is_no_longer_good(fleet: tuple[Collector, list[Member]]) -> None:
    collector, members = fleet
    path = report(members[1])
    changed = path[:-1] + ("A" if path[-1] != "A" else "B")
    for bad in ("/machine?link=x", changed):
        answer = get(collector, bad)
        assert answer.status == 410
        assert "gentwoo report" in answer.body.decode()
    assert "gentwoo report" in page(collector, "/machine")
    leaver = join(collector.url, 1)[0]
    own = report(leaver)
    assert get(collector, own).status == 200
    assert leaver.peer.authorized("DELETE", leaver.peer.path).status == 204
    assert get(collector, own).status == 410


def test_every_link_leads_somewhere_and_no_page_needs_more_than_its_policy(
    fleet: tuple[Collector, list[Member]],
) -> None:
    collector, members = fleet
    seen: set[str] = set()
    waiting = {"/", report(members[0])}
    while waiting:
        path = waiting.pop()
        seen.add(path)
        answer = get(collector, path)
        assert answer.status == 200, path
        if not answer.headers["Content-Type"].startswith("text/html"):
            continue
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in answer.headers
        links = Links(answer.body.decode())
        assert links.forbidden == []
        local = {link.partition("#")[0] for link in links.found if not link.startswith("#")}
        assert all(link.startswith("/") or not link for link in local), local
        waiting |= {link for link in local if link} - seen
    assert any(path.startswith("/static/gentwoo.") for path in seen)
    assert "/about/status" in seen


def test_anchors_exist(fleet: tuple[Collector, list[Member]]) -> None:
    collector, _ = fleet
    assert 'id="threshold"' in page(collector, "/about/methods")


@pytest.mark.parametrize(
    "path", ["/nothing", "/packages/a b/c", "/packages/x/y/z", "/packages/dev-libs/beta-2.0", "/static/x"]
)
def test_errors_of_pages_are_pages(fleet: tuple[Collector, list[Member]], path: str) -> None:
    collector, _ = fleet
    answer = get(collector, quote(path))
    assert answer.status == 404
    assert "There is no such page" in answer.body.decode()
    assert answer.headers["Content-Security-Policy"] == POLICY
    wrong = request(collector.url, "POST", "/packages", headers=HTML)
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET,HEAD")


def test_errors_of_the_api_are_problem_documents(fleet: tuple[Collector, list[Member]]) -> None:
    collector, _ = fleet
    assert get(collector, "/v1/nothing").slug == "not-found"
    assert get(collector, "/v1/packages/dev-libs/beta-2.0").slug == "not-found"


def test_pages_are_validated_and_compressed(fleet: tuple[Collector, list[Member]]) -> None:
    collector, _ = fleet
    plain = get(collector, "/about/methods")
    packed = get(collector, "/about/methods", **{"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.body) < len(plain.body)
    again = get(collector, "/about/methods", **{"If-None-Match": plain.headers["Etag"]})
    assert (again.status, again.body) == (304, b"")


def test_quarantined_machines_leave_the_figures_together(tmp_path: Path) -> None:
    """Nine of twenty do not move a figure, the tenth takes them all out."""
    with Collector(tmp_path) as collector:
        members = join(collector.url, 25)
        all_merge(members, "app-misc/alpha-1.0")
        restart(collector)

        def machines() -> object:
            return json.loads(get(collector, "/v1/packages/app-misc/alpha").body)["machines"]

        assert machines() == 25
        for member in members[:9]:
            collector.bdcs("admin", "machines", "quarantine", str(member.peer.machine))
        restart(collector)
        assert machines() == 25
        assert members[9].peer.authorized("DELETE", members[9].peer.path).status == 204
        restart(collector)
        assert machines() == 15
