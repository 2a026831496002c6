# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages that builders send: into quarantine when all is well, else nowhere, with the reason."""

import hashlib
import http.client
import io
import json
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from backports import zstd

from gentwoo_client.wire import limits
from tests.packages import SYMTYPE, Special, gpkg
from tests.peer import Answer, Peer, request
from tests.processes import Collector
from tests.shelf import Shelf
from tests.waiting import until

TARGET = "amd64"
SIZE_LIMIT = 256 << 20
CPV = "app-misc/alpha-1.0"


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    home = tmp_path_factory.mktemp("collector")
    (home / "bdcs.toml").write_text(f"package_size = {SIZE_LIMIT}\nregistrations_per_network = 1000\n")
    with Collector(home, options=("--config", str(home / "bdcs.toml"))) as collector:
        yield collector
        assert collector.process is not None
        assert collector.process.is_running()
        assert "internal error" not in collector.process.output


@pytest.fixture(scope="module")
def shelf(collector: Collector) -> Shelf:
    shelf = Shelf(collector.data)
    shelf.add_target(TARGET, signatures="optional")
    shelf.add_target("hidden", private=True)
    return shelf


@pytest.fixture(scope="module")
def builder(collector: Collector, shelf: Shelf) -> Peer:
    peer = Peer(collector.url)
    assert peer.register().status == 201
    collector.bdcs("admin", "builders", "approve", str(peer.machine), "--target", TARGET)
    return peer


def address(content: bytes, cpv: str = CPV, target: str = TARGET, **changes: object) -> str:
    """The path and query to send `content` to; `changes` are parameters to replace, or leave out (None)."""
    declared: dict[str, object] = {
        "size": len(content),
        "sha512": hashlib.sha512(content).hexdigest(),
        **changes,
    }
    query = "&".join(f"{name}={value}" for name, value in declared.items() if value is not None)
    return f"/v1/targets/{target}/packages/{cpv}.gpkg.tar?{query}"


def send(
    peer: Peer, content: bytes, path: str | None = None, *, token: str | None = None, **headers: str
) -> Answer:
    """Send a package as a builder does, or almost so."""
    path = path or address(content)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    bearer = token or peer.token("PUT", path, body=None)
    return request(
        peer.collector, "PUT", path, body=content, headers={"Authorization": f"Bearer {bearer}", **named}
    )


def quarantine(shelf: Shelf) -> list[str]:
    """What lies in quarantine, whole or half."""
    top = shelf.data / "quarantine"
    places = os.walk(top)  # what goes meanwhile is passed over
    return sorted(str(Path(place, name).relative_to(top)) for place, _, names in places for name in names)


def unique(name: str) -> str:
    """A CPV that no other test sends."""
    return f"app-misc/{name}-1.0"


def test_a_package_waits_in_quarantine_until_it_is_published(
    collector: Collector, shelf: Shelf, builder: Peer
) -> None:
    content = gpkg(cpv=unique("good"))
    answer = send(builder, content, address(content, unique("good")))
    assert answer.status == 201
    upload = answer.document["upload"]
    assert answer.document == {
        "upload": upload,
        "target": TARGET,
        "category": "app-misc",
        "package": "good-1.0",
        "size": len(content),
        "state": "quarantined",
    }
    assert (shelf.data / "quarantine" / "uploads" / upload).read_bytes() == content
    path = f"/binhost/{TARGET}/app-misc/good/good-1.0-1.gpkg.tar"
    assert request(collector.url, "GET", path).status == 404
    collector.bdcs("publish", "--upload", upload)
    served = request(collector.url, "GET", path)
    assert served.status == 200
    assert not (shelf.data / "quarantine" / "uploads" / upload).exists()
    listed = request(collector.url, "GET", f"/v1/targets/{TARGET}/packages?q=good").document["packages"]
    assert [(each["name"], each["published_by"]) for each in listed] == [("good", str(builder.machine))]
    again = send(builder, content, address(content, unique("good")))
    assert (again.status, again.document["state"]) == (201, "published")


def test_the_same_again_is_answered_the_same(shelf: Shelf, builder: Peer) -> None:
    content = gpkg(cpv=unique("twice"))
    path = address(content, unique("twice"))
    token = builder.token("PUT", path, body=None)
    first = send(builder, content, path, token=token)
    assert first.status == 201
    before = quarantine(shelf)
    repeated = send(builder, content, path, token=token)
    assert (repeated.status, repeated.body) == (201, first.body)
    with_new_token = send(builder, content, path)
    assert (with_new_token.status, with_new_token.document) == (201, first.document)
    assert quarantine(shelf) == before


def test_one_token_is_for_one_upload(builder: Peer) -> None:
    content = gpkg(cpv=unique("once"))
    path = address(content, unique("once"))
    token = builder.token("PUT", path, body=None, jti="the-same-one-again")
    assert send(builder, content, path, token=token).status == 201
    other = gpkg(cpv=unique("other"))
    path = address(other, unique("other"))
    token = builder.token("PUT", path, body=None, jti="the-same-one-again")
    assert send(builder, other, path, token=token).slug == "token-reused"


def test_the_length_need_not_be_known_to_http(collector: Collector, shelf: Shelf, builder: Peer) -> None:
    content = gpkg(cpv=unique("chunked"), image={"usr/share/x": os.urandom(3_000_000)})
    path = address(content, unique("chunked"))
    parts = urlsplit(collector.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    headers = {"Authorization": f"Bearer {builder.token('PUT', path, body=None)}"}
    pieces = (content[start : start + 50_001] for start in range(0, len(content), 50_001))
    connection.request("PUT", path, body=pieces, headers=headers, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 201, response.read()
    upload = json.loads(response.read())["upload"]
    connection.close()
    assert (shelf.data / "quarantine" / "uploads" / upload).read_bytes() == content


# Who may not.


def test_who_may_not_send_is_told_before(collector: Collector, shelf: Shelf, builder: Peer) -> None:
    content = gpkg()
    path = address(content)
    stranger = Peer(collector.url)
    assert send(stranger, content).slug == "unregistered"
    stranger.register()
    assert send(stranger, content).slug == "forbidden"
    hidden = address(content, target="hidden")
    assert send(stranger, content, hidden).slug == "not-found"
    assert send(builder, content, hidden).slug == "not-found"
    assert send(builder, content, address(content, target="nowhere")).slug == "not-found"
    assert request(collector.url, "PUT", path, body=content).slug == "unauthorized"
    for token in (
        "x",
        builder.token("PUT", path, content),
        builder.token("PUT", path, body=None, audience="https://elsewhere.example"),
        builder.token("POST", path, body=None),
        builder.token("PUT", path + "0", body=None),
        builder.token("PUT", address(content, size=len(content) + 1), body=None),
    ):
        assert send(builder, content, path, token=token).slug == "unauthorized"
    late = builder.token("PUT", path, body=None, now=1_700_000_000)
    assert send(builder, content, path, token=late).slug == "wrong-time"
    assert quarantine(shelf) == quarantine(shelf)


@pytest.mark.parametrize("state", ["quarantine", "revoke", "forget"])
def test_who_no_longer_may_is_refused(collector: Collector, shelf: Shelf, state: str) -> None:
    peer = Peer(collector.url)
    peer.register()
    uuid = str(peer.machine)
    collector.bdcs("admin", "builders", "approve", uuid, "--target", TARGET)
    content = gpkg(cpv=unique(f"before-{state}"))
    assert send(peer, content, address(content, unique(f"before-{state}"))).status == 201
    if state == "revoke":
        collector.bdcs("admin", "builders", "revoke", uuid, "--target", TARGET)
    else:
        collector.bdcs("admin", "machines", state, uuid)
    content = gpkg(cpv=unique(f"after-{state}"))
    answer = send(peer, content, address(content, unique(f"after-{state}")))
    assert answer.slug == {"quarantine": "quarantined", "revoke": "forbidden", "forget": "forgotten"}[state]


# What may not come.


GOOD = gpkg()


@pytest.mark.parametrize(
    ("content", "path", "slug", "reason"),
    [
        (GOOD, address(GOOD, size=None), "malformed", "size"),
        (GOOD, address(GOOD, size="-1"), "malformed", "size"),
        (GOOD, address(GOOD, size="1e3"), "malformed", "size"),
        (GOOD, address(GOOD, size=len(GOOD) + 1), "malformed", "Content-Length"),
        (GOOD, address(GOOD, sha512=None), "malformed", "sha512"),
        (GOOD, address(GOOD, sha512="0" * 127), "malformed", "128"),
        (GOOD, address(GOOD, sha512="A" * 128), "malformed", "128"),
        (GOOD, address(GOOD, sha512="0" * 128), "refused-package", "sha512"),
        (GOOD, address(GOOD).replace(".gpkg.tar?", ".tbz2?"), "malformed", "gpkg"),
        (GOOD, address(GOOD).replace("app-misc", "..", 1), "malformed", "CATEGORY"),
        (GOOD, address(GOOD).replace("alpha-1.0", "alpha", 1), "malformed", "CATEGORY"),
        (GOOD, address(GOOD).replace("alpha-1.0", "%2e%2e%2fx-1", 1), "malformed", "CATEGORY"),
        (GOOD, address(GOOD).replace("alpha-1.0", "alpha%00-1.0", 1), "malformed", "CATEGORY"),
        (GOOD, address(GOOD, cpv="app-misc/beta-1.0"), "refused-package", "beta"),
        (GOOD, address(GOOD, cpv="dev-libs/alpha-1.0"), "refused-package", "app-misc/alpha-1.0"),
        (GOOD, address(GOOD, cpv="app-misc/alpha-1.0-r1"), "refused-package", "alpha-1.0-r1"),
    ],
)
def test_what_does_not_agree_is_refused(
    shelf: Shelf, builder: Peer, content: bytes, path: str, slug: str, reason: str
) -> None:
    before = quarantine(shelf)
    answer = send(builder, content, path)
    assert (answer.slug, reason in answer.document["detail"]) == (slug, True), answer.document
    assert quarantine(shelf) == before


def broken(**arguments: Any) -> bytes:
    """A package with something wrong about it."""
    return gpkg(**arguments)


def bomb() -> bytes:
    """A GiB of zeros as metadata."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        header = tarfile.TarInfo("metadata/DESCRIPTION")
        header.size = 1 << 26
        archive.addfile(header, io.BytesIO(bytes(1 << 26)))
    packed = zstd.compress(plain.getvalue())

    def replaced(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        return [(name, packed if "/metadata.tar" in name else data) for name, data in members]

    return gpkg(before_manifest=replaced)


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"not a package at all" * 1000,
        bytes(100_000),
        GOOD[:700],
        GOOD[: len(GOOD) // 2],
        GOOD + b"more",
        broken(manifest=lambda text: text.replace(b"SHA512", b"MD5")),
        broken(manifest=lambda text: text.replace(b" SHA512 ", b" SHA512 0")),
        broken(members=lambda members: [*members, ("alpha-1.0-1/extra", b"")]),
        broken(members=lambda members: [*members, members[1]]),
        broken(members=lambda members: members[:-1]),
        broken(image={"../../etc/passwd": b"root"}),
        broken(image={"usr/x": Special(kind=SYMTYPE, link="../../../etc"), "usr/x/passwd": b"root"}),
        broken(metadata={"CHOST": "riscv64-unknown-linux-gnu"}),
        broken(metadata={"CATEGORY": "dev-libs"}),
        broken(metadata={"RESTRICT": "bindist"}),
        broken(compression=""),
        bomb(),
    ],
    ids=range(18),
)
def test_what_cannot_be_published_is_refused(shelf: Shelf, builder: Peer, content: bytes) -> None:
    """The container's own tests know many more; here, that each ends in a reason and leaves nothing."""
    before = quarantine(shelf)
    answer = send(builder, content)
    assert answer.slug == "refused-package"
    assert len(answer.document["detail"]) > 10
    assert quarantine(shelf) == before


def test_what_is_too_large_is_refused_before_it_comes(collector: Collector, builder: Peer) -> None:
    with Raw(collector, builder, address(GOOD, size=SIZE_LIMIT + 1), length=SIZE_LIMIT + 1) as raw:
        assert raw.answer().slug == "too-large"


def test_encoded_packages_are_refused(builder: Peer) -> None:
    assert send(builder, GOOD, Content_Encoding="gzip").slug == "unsupported-media"


# How it comes.


class Raw:
    """An upload by hand, over a connection of its own: the head is sent, then what one likes."""

    def __init__(
        self, collector: Collector, peer: Peer, path: str, *, length: int, expect: bool = False
    ) -> None:
        parts = urlsplit(collector.url)
        self.socket = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60)
        head = [
            f"PUT {path} HTTP/1.1",
            "Host: collector",
            f"Authorization: Bearer {peer.token('PUT', path, body=None)}",
            f"Content-Length: {length}",
            *(["Expect: 100-continue"] if expect else []),
        ]
        self.socket.sendall("\r\n".join([*head, "", ""]).encode())

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def answer(self) -> Answer:
        """What is said in the end."""
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        return Answer(status=response.status, headers=dict(response.headers), body=response.read())


def test_nothing_need_be_sent_in_vain(collector: Collector, shelf: Shelf, builder: Peer) -> None:
    """Whoever asks first (RFC 9110 §10.1.1) is told to go on, or why not."""
    content = gpkg(cpv=unique("expected"))
    stranger = Peer(collector.url)
    stranger.register()
    with Raw(collector, stranger, address(content), length=len(content), expect=True) as raw:
        assert raw.socket.recv(12) == b"HTTP/1.1 403"
    path = address(content, unique("expected"))
    with Raw(collector, builder, path, length=len(content), expect=True) as raw:
        expected = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert raw.socket.recv(len(expected), socket.MSG_WAITALL) == expected
        raw.socket.sendall(content)
        assert raw.answer().status == 201
    with Raw(collector, builder, path, length=len(content), expect=True) as raw:
        assert raw.socket.recv(12) == b"HTTP/1.1 201"  # it is there already


def test_it_is_refused_while_it_comes(collector: Collector, shelf: Shelf, builder: Peer) -> None:
    """What has begun badly is not read to its end."""
    before = quarantine(shelf)
    path = address(GOOD, cpv="app-misc/beta-1.0", size=100 << 20)
    with Raw(collector, builder, path, length=100 << 20) as raw:
        raw.socket.sendall(GOOD + bytes((1 << 20) - len(GOOD)))
        answer = raw.answer()
        assert answer.slug == "refused-package"
        assert "alpha" in answer.document["detail"]
    assert quarantine(shelf) == before


def test_who_goes_leaves_nothing(collector: Collector, shelf: Shelf, builder: Peer) -> None:
    content = gpkg(cpv=unique("cut"), image={"usr/share/x": os.urandom(5_000_000)})
    before = quarantine(shelf)
    for size in (0, 100, 700, 2_000_000, len(content) - 1):
        with Raw(collector, builder, address(content, unique("cut")), length=len(content)) as raw:
            raw.socket.sendall(content[:size])
            if size > 1 << 20:
                until(lambda: quarantine(shelf) != before)
        until(lambda: quarantine(shelf) == before)


def test_a_few_are_received_at_once(collector: Collector, shelf: Shelf, builder: Peer) -> None:
    """Each may need much memory; who comes while others come is told when to come again."""
    content = gpkg(cpv=unique("queued"), image={"usr/share/x": os.urandom(3_000_000)})
    before = quarantine(shelf)
    slow = []
    try:
        for number in range(4):
            path = address(content, f"app-misc/queued-{number}")
            raw = Raw(collector, builder, path, length=len(content))
            raw.socket.sendall(content[:5].replace(b"queue", b"queue"))
            slow.append(raw)
        until(lambda: len(quarantine(shelf)) >= len(before) + 4)
        answer = send(builder, content, address(content, unique("queued")))
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
    finally:
        for raw in slow:
            raw.socket.close()
    until(lambda: quarantine(shelf) == before)
    assert send(builder, content, address(content, unique("queued"))).status == 201


def test_memory_does_not_grow_with_the_package(collector: Collector, shelf: Shelf, builder: Peer) -> None:
    content = gpkg(cpv=unique("large"), image={"usr/share/x": os.urandom(160 << 20)})
    before = peak(collector)
    answer = send(builder, content, address(content, unique("large")))
    assert answer.status == 201, answer
    assert peak(collector) - before < 64 << 20


def peak(collector: Collector) -> int:
    """The most memory that the collector ever had, in bytes."""
    assert collector.process is not None
    status = Path(f"/proc/{collector.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def test_the_address_fits_a_request_line(collector: Collector) -> None:
    """The longest names with both hashes are within the limit on URLs."""
    longest = f"{'c' * limits.CATEGORY_LENGTH}/{'n' * limits.NAME_LENGTH}-{'1' * limits.VERSION_LENGTH}"
    path = address(b"x", longest, target="t" * limits.TARGET_NAME_LENGTH)
    assert len(collector.url + path) < limits.URL_LENGTH
    assert request(collector.url, "PUT", path, body=b"x").slug == "unauthorized"
