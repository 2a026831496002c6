# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches at a real collector: whose they are, what their feed tells, what reaches a webhook; what leaves."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bdcs.services.watches import MOST_WEBHOOKS
from gentwoo_client.wire.messages import LeavingList, NewWatch, WatchList
from tests.fleet import Member, all_merge, join
from tests.integration.test_pages import get, page, restart, text
from tests.peer import Answer, Peer, request
from tests.processes import Collector
from tests.waiting import until
from tests.webhook_receiver import Receiver

ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> Iterator[tuple[Collector, list[Member]]]:
    """Twenty machines; webhooks may go to 127.0.0.1, and nowhere else on loopback."""
    home = tmp_path_factory.mktemp("watches")
    (home / "bdcs.toml").write_text('webhook_hosts = ["127.0.0.1/32"]\n')
    authority = home / "authority.pem"
    receiver.authority.cert_pem.write_to_path(authority)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority))
        with Collector(home, options=("--config", str(home / "bdcs.toml"))) as collector:
            members = join(collector.url, 20)
            all_merge(members, "app-misc/alpha-1.0")
            yield collector, members


def add(peer: Peer, package: str, **more: object) -> dict[str, Any]:
    answer = post(peer, {"package": package, **more})
    assert answer.status == 201, answer
    NewWatch.model_validate_json(answer.body)
    return answer.document


def post(peer: Peer, document: object) -> Answer:
    return peer.authorized("POST", f"{peer.path}/watches", json.dumps(document).encode())


def listed(peer: Peer) -> dict[str, Any]:
    answer = peer.authorized("GET", f"{peer.path}/watches")
    WatchList.model_validate_json(answer.body)
    return answer.document


def titles(collector: Collector, feed: str) -> list[str]:
    answer = request(collector.url, "GET", feed.removeprefix(collector.url))
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"].startswith("application/atom+xml")
    root = ElementTree.fromstring(answer.body)
    assert root.find(f"{ATOM}id") is not None
    assert all(entry.find(f"{ATOM}updated") is not None for entry in root.iter(f"{ATOM}entry"))
    return [str(entry.findtext(f"{ATOM}title")) for entry in root.iter(f"{ATOM}entry")]


def test_what_happens_is_in_the_feed_and_reaches_webhooks_that_may_be_reached(
    site: tuple[Collector, list[Member]], receiver: Receiver
) -> None:
    """Watched packages are looked at when a collector starts, and then every minute."""
    collector, members = site
    peer, elsewhere, uninterested = (member.peer for member in members[:3])
    watch = add(peer, "app-misc/alpha", topics=["adoption", "removal"], webhook=receiver.url())
    assert watch["secret"].startswith("whsec_")
    assert titles(collector, watch["feed"]) == []
    forbidden = add(elsewhere, "app-misc/alpha", topics=["removal"], webhook="https://127.0.0.9/hook")
    other = add(uninterested, "app-misc/alpha", topics=["failures"], webhook=receiver.url())
    restart(collector)
    collector.bdcs("admin", "leaving", "add", "app-misc/alpha", "--on", "2026-12-24", "--reason", "old")
    restart(collector)
    news = "app-misc/alpha is leaving on 2026-12-24; the package is on 20 machines"
    until(lambda: news in titles(collector, watch["feed"]), timeout=120)
    until(lambda: any(news in body.decode() for _, body in receiver.received), timeout=120)
    assert {json.loads(body)["type"] for _, body in receiver.received} <= {"adoption", "removal"}
    assert all(headers["webhook-signature"].startswith("v1,") for headers, _ in receiver.received)
    until(lambda: listed(peer)["watches"][0]["delivered_at"])
    (mine,) = listed(peer)["watches"]
    assert mine["webhook"] == receiver.url()
    assert "secret" not in mine
    assert titles(collector, other["feed"]) == []
    path = watch["feed"].removeprefix(collector.url).removesuffix(".atom")
    assert "is leaving on 2026-12-24" in text(page(collector, path))
    problem = until(lambda: listed(elsewhere)["watches"][0]["problem"], timeout=120)
    assert problem == "127.0.0.9 is not sent to: it has an address that is not public"
    assert elsewhere.authorized("DELETE", f"{elsewhere.path}/watches/{forbidden['id']}").status == 204
    assert listed(elsewhere) == {"feed": None, "watches": []}
    collector.bdcs("admin", "leaving", "remove", "app-misc/alpha")


def test_watches_are_their_owners(site: tuple[Collector, list[Member]]) -> None:
    collector, members = site
    one, other = members[6].peer, members[7].peer
    watch = add(one, "app-misc/alpha")
    second = add(one, "dev-libs/beta", topics=["failures"])
    assert second["feed"] == watch["feed"], "an owner has one feed"
    assert second["secret"] is None
    assert [each["package"] for each in listed(one)["watches"]] == ["app-misc/alpha", "dev-libs/beta"]
    assert other.authorized("DELETE", f"{other.path}/watches/{watch['id']}").slug == "not-found"
    path = f"{one.path}/watches"
    assert one.authorized("GET", path, token=other.token("GET", path)).slug == "unauthorized"
    assert other.authorized("GET", path).slug == "unauthorized"
    assert request(collector.url, "GET", path).slug == "unauthorized"
    assert add(other, "app-misc/alpha")["feed"] != watch["feed"]
    feed = watch["feed"].removeprefix(collector.url)
    answer = request(collector.url, "GET", feed)
    same = request(collector.url, "GET", feed, headers={"If-None-Match": answer.headers["Etag"]})
    assert same.status == 304


@pytest.mark.parametrize(
    "wish",
    [
        {"package": "alpha"},
        {"package": "app-misc/alpha", "topics": ["gossip"]},
        {"package": "app-misc/alpha", "webhook": "http://hooks.example.org/"},
        {"package": "app-misc/alpha", "webhook": "https://user@hooks.example.org/"},
        {"package": 1},
    ],
)
def test_what_cannot_be_watched_is_refused(site: tuple[Collector, list[Member]], wish: object) -> None:
    _, members = site
    assert post(members[4].peer, wish).slug == "malformed"


def test_one_event_is_not_sent_to_one_owner_again_and_again(site: tuple[Collector, list[Member]]) -> None:
    _, members = site
    peer, other = members[8].peer, members[9].peer
    hooks = [f"https://hooks.example.org/{number}" for number in range(MOST_WEBHOOKS)]
    first, *_ = [add(peer, "app-misc/quiet", webhook=hook) for hook in hooks]
    again = post(peer, {"package": "app-misc/quiet", "topics": ["removal"], "webhook": hooks[0]})
    assert again.slug == "malformed"
    assert f"hears of app-misc/quiet already, by watch {first['id']}" in again.document["detail"]
    more = post(peer, {"package": "app-misc/quiet", "webhook": "https://hooks.example.org/more"})
    assert more.slug == "malformed"
    assert "as many as may be" in more.document["detail"]
    add(peer, "app-misc/quiet")
    add(peer, "app-misc/quieter", webhook=hooks[0])
    add(other, "app-misc/quiet", webhook=hooks[0])
    assert peer.authorized("DELETE", f"{peer.path}/watches/{first['id']}").status == 204
    add(peer, "app-misc/quiet", webhook=hooks[0])


def test_forgetting_takes_watches_along(site: tuple[Collector, list[Member]]) -> None:
    collector, _ = site
    peer = Peer(collector.url)
    peer.register()
    feed = add(peer, "app-misc/alpha")["feed"].removeprefix(collector.url)
    assert request(collector.url, "GET", feed).status == 200
    assert peer.authorized("DELETE", peer.path).status == 204
    assert request(collector.url, "GET", feed).status == 404
    for path in ("/watch/short.atom", f"/watch/{'a' * 48}"):
        assert request(collector.url, "GET", path).status == 404


def test_a_repeated_request_adds_nothing_twice(site: tuple[Collector, list[Member]]) -> None:
    _, members = site
    peer = members[5].peer
    path, body = f"{peer.path}/watches", json.dumps({"package": "app-misc/alpha"}).encode()
    token = peer.token("POST", path, body)
    first, second = (peer.authorized("POST", path, body, token=token) for _ in range(2))
    assert first.document == second.document
    assert len(listed(peer)["watches"]) == 1


def test_the_operator_watches_too(site: tuple[Collector, list[Member]]) -> None:
    collector, _ = site
    added = collector.bdcs(
        "admin", "watch", "add", "dev-libs/unheard", "--webhook", "https://hooks.example.org/"
    )
    assert "whsec_" in added.stdout
    (line,) = collector.bdcs("admin", "watch", "list", "--json").stdout.splitlines()
    watch = json.loads(line)
    assert watch["package"] == "dev-libs/unheard"
    assert titles(collector, watch["feed"]) == []
    assert collector.bdcs("admin", "watch", "remove", str(uuid.uuid4()), check=False).returncode == 1
    assert collector.bdcs("admin", "watch", "add", "alpha", check=False).returncode == 2
    private = ("admin", "watch", "add", "dev-libs/unheard", "--webhook", "https://127.0.0.9/hook")
    refused = collector.bdcs(*private, check=False)
    assert refused.returncode == 2
    assert "127.0.0.9 is not a public address" in refused.stderr
    collector.bdcs("admin", "watch", "remove", watch["id"])
    assert collector.bdcs("admin", "watch", "list").stdout == ""


def test_the_list_of_what_leaves_is_public_and_has_a_validator(
    site: tuple[Collector, list[Member]], tmp_path: Path
) -> None:
    collector, _ = site
    assert "Nothing is leaving" in text(page(collector, "/leaving"))
    collector.bdcs("admin", "leaving", "add", "<app-misc/alpha-2.0", "--reason", "<b>old</b>")
    collector.bdcs("admin", "leaving", "add", "<app-misc/alpha-2.0", "--on", "2026-12-24")
    answer = request(collector.url, "GET", "/v1/leaving")
    LeavingList.model_validate_json(answer.body)
    (entry,) = answer.document["leaving"]
    assert entry == {
        "atom": "<app-misc/alpha-2.0",
        "reason": "",
        "leaves_on": "2026-12-24",
        "machines": 20,
    }
    etag = answer.headers["Etag"]
    assert request(collector.url, "GET", "/v1/leaving", headers={"If-None-Match": etag}).status == 304
    assert get(collector, "/leaving.json").document == answer.document
    assert "24 Dec 2026" in text(page(collector, "/leaving"))
    for arguments in (
        ["alpha"],
        ["app-misc/alpha", "--on", "tomorrow"],
        ["app-misc/alpha", "--reason", "a\nb"],
    ):
        assert collector.bdcs("admin", "leaving", "add", *arguments, check=False).returncode == 2
    assert collector.bdcs("admin", "leaving", "remove", "app-misc/none", check=False).returncode == 1
    collector.bdcs("admin", "leaving", "remove", "<app-misc/alpha-2.0")
    assert collector.bdcs("admin", "leaving", "list").stdout == ""
