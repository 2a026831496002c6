# SPDX-License-Identifier: GPL-2.0-or-later
"""From the tenth machine on which a version fails to the feed, the page and the webhook of who watches it."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bdcs.domain.webhooks import Destinations
from bdcs.services.webhooks import Postman, Sender
from tests.fleet import Member, join
from tests.peer import request
from tests.public_surface import Surface
from tests.webhook_receiver import Receiver

HOST = "hooks.example.org"
TITLE = "{http://www.w3.org/2005/Atom}title"


class Names:
    """A resolver that knows one name, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return ["127.0.0.1"]


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def surface(tmp_path: Path) -> Iterator[Surface]:
    with Surface(tmp_path) as surface:
        yield surface


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def fail(members: Sequence[Member]) -> None:
    for member in members:
        member.now = int(time.time()) - 86_400
        member.fail("app-misc/alpha-2.0")


def test_a_version_that_begins_to_fail_is_told(surface: Surface, receiver: Receiver) -> None:
    members = join(surface.url, 12)
    for member in members:
        member.merge("app-misc/alpha-1.0")
    peer = members[0].peer
    wish = {"package": "app-misc/alpha", "topics": ["failures"], "webhook": receiver.url(HOST)}
    watch = peer.authorized("POST", f"{peer.path}/watches", json.dumps(wish).encode()).document
    feed = watch["feed"].removeprefix(surface.url)
    names, clock = Names(), Clock()
    postman = Postman(
        public_url=surface.url,
        destinations=Destinations.of(["127.0.0.0/8"]),
        resolve=names,
        context=receiver.trusting(),
        now=clock,
    )
    sender = Sender(surface.store, postman, chance=lambda: 0.0)

    def titles() -> list[str | None]:
        root = ElementTree.fromstring(request(surface.url, "GET", feed).body)
        return [entry.text for entry in root.iter(TITLE)][1:]

    surface.publish()
    fail(members[:9])
    surface.publish()
    assert titles() == [], "nine machines are nobody"
    assert surface.run(sender.once()) == 0

    fail(members[9:])
    surface.publish()
    (title,) = titles()
    assert title is not None
    assert title.startswith("app-misc/alpha-2.0 ")
    assert title in request(surface.url, "GET", feed.removesuffix(".atom")).body.decode()

    clock.now = time.time() + 1
    receiver.status = 503
    assert surface.run(sender.once()) == 1
    assert told(peer.authorized("GET", f"{peer.path}/watches").document) == (None, "the answer was 503")
    receiver.status = 204
    clock.now += 60
    assert surface.run(sender.once()) == 1
    delivered_at, problem = told(peer.authorized("GET", f"{peer.path}/watches").document)
    assert delivered_at is not None
    assert problem is None
    assert surface.run(sender.once()) == 0

    assert names.asked == [HOST, HOST], "once for each try"
    first, second = receiver.received
    assert first[0]["webhook-id"] == second[0]["webhook-id"]
    headers, body = second
    assert json.loads(body)["data"]["text"] == title
    secret = base64.b64decode(watch["secret"].removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(secret, signed, sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def told(document: dict[str, list[dict[str, str | None]]]) -> tuple[str | None, str | None]:
    (watch,) = document["watches"]
    return watch["delivered_at"], watch["problem"]
