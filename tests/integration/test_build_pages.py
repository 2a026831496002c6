# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages about builds, as a browser without script reads them, and the events that keep them up to date."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
from collections.abc import Generator, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.build_scene import LOG, LONG, TOKEN, Scene
from tests.integration.test_pages import HTML, POLICY, Links, text
from tests.peer import Answer, request

ACCESS = {"Authorization": "Basic " + base64.b64encode(f"friend:{TOKEN}".encode()).decode()}
LISTS = ("/builds", "/builds/queue", "/builds/finished", "/builders")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Scene.start(tmp_path_factory.mktemp("scene")) as scene:
        yield scene


def get(scene: Scene, path: str, **headers: str) -> Answer:
    return request(scene.collector.url, "GET", path, headers={**HTML, **headers})


def html(scene: Scene, path: str, **headers: str) -> str:
    answer = get(scene, path, **headers)
    assert answer.status == 200, (path, answer)
    return answer.body.decode()


def words(scene: Scene, path: str, **headers: str) -> str:
    return text(html(scene, path, **headers))


def rows(page: str) -> list[str]:
    """The words of each row of the tables of a page."""
    found = re.findall(r"<tr>(<th scope=\"row\">.*?)</tr>", page, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in found]


def job(scene: Scene, name: str, more: str = "") -> str:
    return f"/jobs/{scene.jobs[name]}{more}"


def own(scene: Scene, name: str, more: str = "") -> str:
    """The same for who asked for it."""
    return job(scene, name, f"{more}?request={scene.requests[name]}")


def test_the_first_page_says_what_happens_now(scene: Scene) -> None:
    page = words(scene, "/builds")
    assert "1 builder is at work, 3 jobs wait." in page
    assert "1 of 2 1 leaving" in page
    assert "workhorse building app-misc/growing-1.0" in page
    assert "the first line" in page
    assert "No builder serves lonely." in page
    assert f"bdcs builder --collector {scene.collector.url} --name NAME --target lonely" in page
    assert "Builds 1 package for a private target" in page
    assert "fewer than 10 machines asked, not shown" in page


def test_the_queue_is_in_order_and_says_why(scene: Scene) -> None:
    page = rows(html(scene, "/builds/queue"))
    assert page == [
        "app-misc/ growing-1.0 amd64 building on workhorse – no flags asked for not known not known",
        "app-misc/ next-1.0 amd64 queued 1 a variant asked for not known not known",
        "app-misc/ plain-1.0 arm64 queued 1 no flags asked for not known no builder",
        "app-misc/ later-1.0 amd64 waiting – no flags asked for not known not known",
    ]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("state=building", ["growing-1.0"]),
        ("state=queued", ["next-1.0", "plain-1.0"]),
        ("state=waiting", ["later-1.0"]),
        ("target=arm64", ["plain-1.0"]),
        ("target=amd64&state=queued", ["next-1.0"]),
        ("target=lonely", []),
    ],
)
def test_the_queue_can_be_chosen_from(scene: Scene, query: str, names: list[str]) -> None:
    page = html(scene, f"/builds/queue?{query}")
    assert [row.split()[1] for row in rows(page)] == names
    if not names:
        assert "No job in flight is like that." in text(page)


def test_lists_go_on_behind_a_job(scene: Scene) -> None:
    page = html(scene, f"/builds/queue?after={scene.jobs['queued']}")
    assert [row.split()[1] for row in rows(page)] == ["plain-1.0", "later-1.0"]
    assert "First page" in page
    assert len(rows(html(scene, "/builds/queue?after=nonsense"))) == 4
    assert rows(html(scene, "/builds/finished?after=1-1")) == []
    assert len(rows(html(scene, "/builds/finished?after=x-1"))) == 5


def test_what_ended_is_listed_the_last_first(scene: Scene) -> None:
    page = html(scene, "/builds/finished")
    assert [row.split()[1] for row in rows(page)] == [
        "never-1.0",
        "good-2.0",
        "plain-1.0",
        "broken-1.0",
        "good-1.0",
    ]
    assert "broken-1.0 amd64 failed 2 attempts a variant asked for" in text(page)
    assert "app-misc/broken-1.0 failed in its compile phase" in text(page)
    failed = html(scene, "/builds/finished?state=failed")
    assert [row.split()[1] for row in rows(failed)] == ["plain-1.0", "broken-1.0"]
    assert "built with USE" in words(scene, "/builds/finished?state=mismatch"), "its flags are published"


def test_builders_are_shown_by_name_alone(scene: Scene) -> None:
    page = words(scene, "/builders")
    assert "2 builders are there, 1 at work, 1 leaving. Nobody builds for arm64, lonely." in page
    assert "workhorse amd64 2 2 1 0 just now" in page
    assert "leaver arm64 0 0 0 0 just now" in page
    everything = "".join(html(scene, path) for path in LISTS)
    everything += "".join(html(scene, job(scene, name)) for name in scene.jobs if name != "secret")
    for machine in (scene.machine, scene.builder):
        assert str(machine.machine) not in everything
        assert str(machine.machine)[:8] not in everything


def test_a_private_target_is_for_who_may_read_it(scene: Scene) -> None:
    for path in LISTS:
        assert "hush" not in html(scene, path)
        assert "secret" not in html(scene, path)
        answer = get(scene, f"{path}?target=secret")
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
    for more in ("", "/events", "/attempts/1", "/attempts/1/log"):
        assert get(scene, job(scene, "secret", more)).status == 401
    answer = get(scene, "/builds/queue?target=secret", **ACCESS)
    assert answer.headers["Cache-Control"] == "no-store"
    assert "hush-1.0 secret building on workhorse – +gtk -ssl" in " ".join(rows(answer.body.decode()))
    page = words(scene, job(scene, "secret"), **ACCESS)
    assert "nobody may read this" in page
    assert get(scene, own(scene, "secret")).status == 200, "who asked for it needs no token"


def test_a_rare_choice_of_flags_is_a_variant_to_others(scene: Scene) -> None:
    page = words(scene, job(scene, "failed"))
    assert "A variant." in page
    assert "The log is not shown while the choice of flags is not." in page
    assert "gtk" not in page
    assert "all of it" not in page, "what emerge said may name flags"
    assert "unused variable" not in page
    assert get(scene, job(scene, "failed", "/attempts/2/log")).status == 404
    stream = events(scene, job(scene, "failed", "/events?from=1:0:0"))
    assert [kind for kind, *_ in stream] == ["state", "end"]
    other = scene.requests["long"]
    assert "A variant." in words(scene, job(scene, "failed", f"?request={other}")), "another request"
    answer = get(scene, own(scene, "failed"))
    assert answer.headers["Cache-Control"] == "no-store"
    assert "+gtk -ssl" in text(answer.body.decode())


def test_what_the_ebuild_chooses_or_is_published_is_no_secret(scene: Scene) -> None:
    assert "Every flag is as the ebuild has it." in words(scene, job(scene, "published"))
    assert 'USE="-gtk ssl"' in words(scene, job(scene, "published"))
    assert "The package has no flags." in words(scene, job(scene, "building"))


def test_a_job_that_failed_says_why_and_what_to_do(scene: Scene) -> None:
    page = html(scene, own(scene, "failed"))
    seen = text(page)
    assert "It could not be built after" in seen
    assert "Remembered until" in seen
    assert "search bugs.gentoo.org" in seen
    assert "gentwoo build --retry =app-misc/broken-1.0" in seen
    assert '<a href="#L8">app-misc/broken-1.0 failed in its compile phase</a>' in page, "the first error"
    assert re.search(r"1 lost workhorse .* the builder gave it back attempt 1", seen)
    assert "2 errors" in seen
    assert "1 warning" in seen
    earlier = words(scene, own(scene, "failed", "/attempts/1"))
    assert "given back" in earlier
    assert "unused variable" not in earlier
    assert "A source could not be fetched" in words(scene, job(scene, "long"))


def test_a_log_is_data(scene: Scene) -> None:
    page = html(scene, own(scene, "failed"))
    assert "<script>alert" not in page
    assert '<b class="g">green</b> &lt;script&gt;alert(1)&lt;/script&gt; &amp; more' in page
    assert "\x1b" not in page
    assert "100 %" in page
    assert "50 %" not in page
    assert not Links(page).forbidden
    answer = get(scene, own(scene, "failed", "/attempts/2/log"))
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.body.decode() == LOG


def test_of_a_long_log_both_ends_are_shown_and_all_of_it_can_be_had(scene: Scene) -> None:
    page = html(scene, job(scene, "long"))
    numbers = [int(number) for number in re.findall(r'<li id="L(\d+)"', page)]
    assert numbers == [*range(1, 201), *range(2002, 3002)]
    assert "Lines 201 to 2,001 are not on this page" in text(page)
    match = re.search(r'href="([^"]+from=201[^"]*)#log-part"', page)
    assert match
    middle = html(scene, match[1].replace("&amp;", "&"))
    assert [int(number) for number in re.findall(r'<li id="L(\d+)"', middle)] == [*range(201, 1201)]
    assert "[200/3000]" in middle
    assert "no line 9,000" in words(scene, job(scene, "long", "/attempts/1?from=9000"))
    whole = get(scene, job(scene, "long", "/attempts/1/log"))
    assert whole.body.decode() == LONG
    packed = get(scene, job(scene, "long", "/attempts/1/log"), **{"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.body) < len(LONG) / 4


def test_the_other_states_are_told_in_words(scene: Scene) -> None:
    assert "It is in the index of amd64 since" in words(scene, job(scene, "published"))
    assert '/binhost/amd64/app-misc/good/good-1.0-1.gpkg.tar"' in html(scene, job(scene, "published"))
    assert "Something else was built than was wished for" in words(scene, job(scene, "other"))
    assert "Nobody wants it any more." in words(scene, job(scene, "cancelled"))
    assert "workhorse has been at it for" in words(scene, job(scene, "building"))
    assert "It is the next in the queue of amd64" in words(scene, job(scene, "queued"))
    assert "It waits for what it needs: app-misc/next-1.0 (queued)" in words(scene, job(scene, "waiting"))
    assert "No builder serves arm64." in words(scene, job(scene, "arm"))


def test_a_request_has_a_page_for_who_has_its_address(scene: Scene) -> None:
    answer = get(scene, f"/builds/{scene.requests['failed']}")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Robots-Tag"] == "noindex"
    page = answer.body.decode()
    assert "0 of 1 package is there ; below is why" in text(page)
    assert f'href="{own(scene, "failed")}"' in page
    assert "All 1 package is there." in words(scene, f"/builds/{scene.requests['published']}")
    assert get(scene, "/builds/abcdefghij").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/0",
        "/jobs/99999",
        "/jobs/x",
        "/jobs/1/attempts/9",
        "/jobs/1/attempts/x",
        "/jobs/1/attempts/9/log",
        "/jobs/99999/events",
        "/builds/nothing",
        "/builds/queue?state=published",
        "/builds/finished?state=queued",
        "/builds?target=nowhere",
    ],
)
def test_what_cannot_be_is_not_found(scene: Scene, path: str) -> None:
    answer = get(scene, path)
    assert answer.status == 404
    assert "There is no such page" in answer.body.decode()


def test_live_pages_are_asked_for_again_and_sent_where_they_changed(scene: Scene) -> None:
    for path in ("/builds/finished", job(scene, "long")):
        first = get(scene, path)
        assert first.headers["Cache-Control"] == "no-cache"
        again = get(scene, path, **{"If-None-Match": first.headers["Etag"]})
        assert (again.status, again.body) == (304, b"")


def test_every_link_leads_somewhere_and_no_page_needs_more_than_its_policy(scene: Scene) -> None:
    seen: set[str] = set()
    waiting = {"/builds"}
    while waiting:
        path = waiting.pop()
        seen.add(path)
        answer = get(scene, path)
        assert answer.status == 200, path
        if not answer.headers["Content-Type"].startswith("text/html"):
            continue
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert "Set-Cookie" not in answer.headers
        links = Links(answer.body.decode())
        assert links.forbidden == [], path
        local = {
            link.partition("#")[0] for link in links.found if not link.startswith(("#", "https://bugs."))
        }
        assert all(link.startswith("/") or not link for link in local), local
        waiting |= {
            link for link in local if link.startswith(("/builds", "/jobs", "/builders", "/static"))
        } - seen
    assert {job(scene, name) for name in scene.jobs if name != "secret"} <= seen


def test_a_package_says_what_there_is_of_it_and_how_to_ask(scene: Scene) -> None:
    page = html(scene, "/packages/app-misc/good")
    seen = text(page)
    assert "gentwoo install app-misc/good" in seen
    assert "1.0 amd64 : 1 build gentwoo build =app-misc/good-1.0" in seen
    assert 'href="/targets/amd64/packages/app-misc/good"' in page
    seen = words(scene, "/packages/app-misc/plain")
    assert "1.0 amd64: failed arm64: queued gentwoo build =app-misc/plain-1.0" in seen
    assert "not yet gentwoo build =app-misc/never-1.0" in words(scene, "/packages/app-misc/never")
    assert "secret" not in words(scene, "/packages/app-misc/hush")


def events(scene: Scene, path: str, last: str = "") -> Generator[tuple[str, str, dict[str, Any]], None, None]:
    """Events: kind, id, document; until the stream ends."""
    address = urlsplit(scene.collector.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    connection.request("GET", path, headers={"Last-Event-ID": last} if last else {})
    with contextlib.closing(connection), connection.getresponse() as response:
        assert (response.status, response.getheader("Content-Type")) == (200, "text/event-stream")
        fields: dict[str, str] = {}
        for raw in response:
            line = raw.decode().rstrip("\n")
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
                fields = {}


def lines(document: dict[str, Any]) -> list[tuple[int, str]]:
    return [(line["n"], line["html"]) for line in document["lines"]]


def test_a_log_comes_as_it_grows_and_the_end_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Scene.start(tmp_path_factory.mktemp("growing"), is_quiet=True) as scene:
        scene.ask("building", "app-misc/growing-1.0")
        scene.take("building", log=">>> Compiling source in /x ...\nthe first line\n")
        scene.ask("queued", "app-misc/plain-1.0")
        page = html(scene, job(scene, "building"))
        match = re.search(r'data-events="([^"]+)"', page)
        assert match
        attempt = scene.leases["building"]["attempt"]
        stream = events(scene, match[1].replace("&amp;", "&"))
        kind, place, document = next(stream)
        assert (kind, document) == ("state", {"state": "building", "attempt": attempt})
        scene.print("building", "a <b> & \x1b[31mc\x1b[0m\nhalf of")
        kind, place, document = next(stream)
        assert (kind, lines(document)) == ("log", [(3, 'a &lt;b&gt; &amp; <b class="r">c</b>')])
        scene.print("building", " a line\n>>> Install app-misc/growing-1.0 into /x\n")
        told = lines(next(stream)[2])
        again = events(scene, match[1].replace("&amp;", "&"), last=place)
        assert next(again)[0] == "state"
        assert lines(next(again)[2]) == [
            (4, "half of a line"),
            (5, "&gt;&gt;&gt; Install app-misc/growing-1.0 into /x"),
        ]
        again.close()
        while len(told) < 2:
            told += lines(next(stream)[2])
        assert told[0] == (4, "half of a line")
        scene.print("building", "the end")
        scene.publish("building")
        rest = list(stream)
        assert rest[-1][0] == "end"
        assert rest[-1][2] == {"state": "published"}
        assert ("state", {"state": "published", "attempt": attempt}) in [(one[0], one[2]) for one in rest]
        assert [line for one in rest if one[0] == "log" for line in lines(one[2])] == [(6, "the end")]
        assert "It is in the index of amd64" in words(scene, job(scene, "building"))
        queued = events(scene, job(scene, "queued", "/events"))
        assert next(queued)[2] == {"state": "queued", "attempt": None}
        scene.take("queued")
        assert next(queued)[2]["state"] == "building"
        queued.close()


def test_an_empty_collector_says_what_to_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.processes import Collector

    with Collector(tmp_path_factory.mktemp("empty")) as collector:
        for path, expected in (
            ("/builds", "There is nobody yet who builds."),
            ("/builds/queue", "Nothing waits to be built."),
            ("/builds/finished", "Nothing was built yet."),
            ("/builders", "No builder is there."),
        ):
            answer = request(collector.url, "GET", path, headers=HTML)
            assert expected in text(answer.body.decode())
