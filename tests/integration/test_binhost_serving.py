# SPDX-License-Identifier: GPL-2.0-or-later
"""What a client of the binhost gets over HTTP: indexes, packages, keys, and nothing else.

reference/binhost.md §9, the cases of serving; the same with real emerge is in tests/acceptance.
"""

import gzip
import hashlib
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from bdcs.store import tables
from bdcs.store.store import transaction
from tests.peer import Answer, request
from tests.processes import Collector
from tests.shelf import MTIME, Shelf
from tests.waiting import until

PUBLIC, PRIVATE = "amd64", "secret"
INDEXES = ("Packages", "Packages.gz")
LARGE = 48 << 20  # bytes: more than any socket takes at once


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("binhost")) as collector:
        yield collector
        assert collector.process is not None
        assert collector.process.is_running()
        assert "internal error" not in collector.process.output


@pytest.fixture(scope="module")
def shelf(collector: Collector) -> Shelf:
    shelf = Shelf(collector.data)
    shelf.add_target(PUBLIC)
    shelf.add_target(PRIVATE, private=True)
    shelf.add_token(PRIVATE, "alice", "right-token")
    shelf.add_target("other", private=True)
    shelf.add_token("other", "alice", "other-token")
    for target in (PUBLIC, PRIVATE):
        shelf.put(target, "app-misc/alpha-1.0", b"alpha")
    return shelf


def get(collector: Collector, path: str, method: str = "GET", **headers: str) -> Answer:
    """Ask for what is below /binhost/."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(collector.url, method, f"/binhost/{path}", headers=named)


def basic(name: str, token: str) -> dict[str, str]:
    """The header of HTTP basic."""
    manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
    manager.add_password(None, "http://host/", name, token, is_authenticated=True)
    asked = urllib.request.Request("http://host/")
    urllib.request.HTTPBasicAuthHandler(manager).http_request(asked)
    return {"Authorization": asked.get_header("Authorization") or ""}


def timestamp(index: bytes) -> int:
    """TIMESTAMP of an index."""
    found = re.search(rb"^TIMESTAMP: (\d+)$", index, re.MULTILINE)
    assert found
    return int(found[1])


# Indexes.


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_is_sent_as_it_is(collector: Collector, shelf: Shelf, name: str) -> None:
    """Cases 2 to 4: plain and packed are the same; nothing is encoded; the date is the TIMESTAMP."""
    file = shelf.data / "binhost" / PUBLIC / name
    answer = get(collector, f"{PUBLIC}/{name}", Accept_Encoding="bzip2,gzip,deflate")
    assert answer.status == 200
    assert answer.body == file.read_bytes()
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert "Content-Encoding" not in answer.headers
    assert "Transfer-Encoding" not in answer.headers
    assert (
        answer.headers["Content-Type"]
        == {
            "Packages": "text/plain; charset=utf-8",
            "Packages.gz": "application/gzip",
        }[name]
    )
    text = gzip.decompress(answer.body) if name.endswith(".gz") else answer.body
    date = parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
    assert date == timestamp(text) == file.stat().st_mtime
    assert b"CPV: app-misc/alpha-1.0\n" in text
    assert answer.headers["Cache-Control"] == "public, no-cache"
    head = get(collector, f"{PUBLIC}/{name}", "HEAD")
    assert (head.status, head.body) == (200, b"")
    same = {"Content-Length", "Content-Type", "Last-Modified", "Etag", "Cache-Control"}
    assert {n: head.headers[n] for n in same} == {n: answer.headers[n] for n in same}


@pytest.mark.parametrize("name", INDEXES)
def test_who_has_the_index_is_told_so(collector: Collector, shelf: Shelf, name: str) -> None:
    """Case 1: If-Modified-Since by the plain standard; entity tags go before dates."""
    path = f"{PUBLIC}/{name}"
    answer = get(collector, path)
    since = int(parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp())
    etag = answer.headers["Etag"]

    def status(**headers: str) -> int:
        asked = get(collector, path, **headers)
        if asked.status == 304:
            assert asked.body == b""
            assert "Content-Length" not in asked.headers or asked.headers["Content-Length"] == "0"
            assert asked.headers["Last-Modified"] == answer.headers["Last-Modified"]
        return asked.status

    def date(seconds: int) -> str:
        return formatdate(seconds, usegmt=True)

    assert status(If_Modified_Since=date(since + 5)) == 304
    assert status(If_Modified_Since=date(since)) == 304
    assert status(If_Modified_Since=date(since - 1)) == 200
    assert status(If_Modified_Since="yesterday") == 200
    assert status(If_Modified_Since="9" * 200) == 200
    assert status(If_None_Match=etag) == 304
    assert status(If_None_Match=f'"other", W/{etag}') == 304
    assert status(If_None_Match="*") == 304
    assert status(If_None_Match='"other"', If_Modified_Since=date(since + 5)) == 200
    assert status(If_Match=etag) == 200
    assert status(If_Match='"other"') == 412
    assert status(If_Unmodified_Since=date(since - 1)) == 412
    assert status(If_Unmodified_Since=date(since)) == 200


def test_a_publication_right_after_another_is_seen(collector: Collector, shelf: Shelf) -> None:
    """Case 5: Portage adds five seconds to the TIMESTAMP that it asks with."""
    shelf.add_target("busy")
    shelf.put("busy", "app-misc/soon-0", b"soon")
    before = gzip.decompress(once_there(collector, "busy/Packages.gz").body)
    for version in range(1, 4):
        shelf.put("busy", f"app-misc/soon-{version}", b"soon")
        asked = formatdate(timestamp(before) + 5, usegmt=True)
        answer = get(collector, "busy/Packages.gz", If_Modified_Since=asked)
        assert answer.status == 200
        before = gzip.decompress(answer.body)
        assert f"CPV: app-misc/soon-{version}\n".encode() in before


def test_a_new_target_has_an_empty_index(collector: Collector, shelf: Shelf) -> None:
    """Case 10: with everything that Portage wants; the first publication is newer for everybody."""
    shelf.add_target("fresh", header={"ARCH": "amd64"})
    at_once = gzip.decompress(once_there(collector, "fresh/Packages.gz").body)
    until((shelf.data / "binhost" / "fresh" / "Packages.gz").exists)
    packed = get(collector, "fresh/Packages.gz")
    text = gzip.decompress(packed.body)
    for index in (at_once, text):
        assert b"VERSION: 0\n" in index
        assert b"PACKAGES: 0\n" in index
        assert index.endswith(b"\n\n")
    date = parsedate_to_datetime(packed.headers["Last-Modified"]).timestamp()
    assert date == timestamp(text) >= timestamp(at_once)
    asked = formatdate(timestamp(text) + 5, usegmt=True)
    assert get(collector, "fresh/Packages.gz", If_Modified_Since=asked).status == 304
    assert get(collector, "fresh/Packages").status == 200
    shelf.put("fresh", "app-misc/first-1", b"first")
    assert get(collector, "fresh/Packages.gz", If_Modified_Since=asked).status == 200


def once_there(collector: Collector, path: str) -> Answer:
    """The answer for something of a new target: targets are remembered for half a second."""
    until(lambda: get(collector, path).status != 404)
    return get(collector, path)


def test_a_target_page_is_where_people_go(collector: Collector, shelf: Shelf) -> None:
    for path in (PUBLIC, f"{PUBLIC}/"):
        answer = get(collector, path)
        assert (answer.status, answer.headers["Location"]) == (303, f"/targets/{PUBLIC}")


def test_only_reading_is_possible(collector: Collector, shelf: Shelf) -> None:
    for method in ("PUT", "POST", "DELETE"):
        answer = get(collector, f"{PUBLIC}/Packages", method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")


# Packages.


def test_a_package_is_sent_whole_and_for_ever(collector: Collector, shelf: Shelf) -> None:
    content = os.urandom(200_000)
    path = shelf.put(PUBLIC, "dev-libs/whole-1.0", content)
    answer = get(collector, f"{PUBLIC}/{path}")
    assert (answer.status, answer.body) == (200, content)
    assert answer.headers["Content-Length"] == "200000"
    assert answer.headers["Content-Type"] == "application/vnd.gentoo.gpkg"
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp() == MTIME
    head = get(collector, f"{PUBLIC}/{path}", "HEAD", Range="bytes=0-0")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "200000")
    assert get(collector, f"{PUBLIC}/{path}", If_None_Match=answer.headers["Etag"]).status == 304


@pytest.mark.parametrize(
    ("wish", "status", "content_range"),
    [
        ("bytes=0-", 206, "bytes 0-999/1000"),
        ("bytes=0-0", 206, "bytes 0-0/1000"),
        ("bytes=990-", 206, "bytes 990-999/1000"),
        ("bytes=10-19", 206, "bytes 10-19/1000"),
        ("bytes=10-99999", 206, "bytes 10-999/1000"),
        ("bytes=-10", 206, "bytes 990-999/1000"),
        ("bytes=-5000", 206, "bytes 0-999/1000"),
        ("Bytes=0-9", 206, "bytes 0-9/1000"),
        ("bytes=1000-", 416, "bytes */1000"),
        ("bytes=1000-2000", 416, "bytes */1000"),
        ("bytes=-0", 416, "bytes */1000"),
        ("bytes=0-9,20-29", 200, None),
        ("bytes=20-10", 200, None),
        ("bytes=-", 200, None),
        ("bytes=", 200, None),
        ("bytes=a-b", 200, None),
        ("lines=0-9", 200, None),
        ("bytes=" + "9" * 400 + "-", 200, None),
        ("bytes=" + ",".join(["0-"] * 300), 200, None),
        ("bytes=٠-", 200, None),
    ],
)
def test_single_ranges(
    collector: Collector, shelf: Shelf, ranged: bytes, wish: str, status: int, content_range: str | None
) -> None:
    """Case 19; several ranges at once, and what is no range, get the whole file."""
    answer = get(
        collector, f"{PUBLIC}/dev-libs/ranged/ranged-1-1.gpkg.tar", Range=wish.encode().decode("latin-1")
    )
    assert (answer.status, answer.headers.get("Content-Range")) == (status, content_range)
    if status == 206:
        assert content_range is not None
        start, end = map(int, content_range.removeprefix("bytes ").partition("/")[0].split("-"))
        assert answer.body == ranged[start : end + 1]
        assert answer.headers["Content-Length"] == str(len(answer.body))
    elif status == 200:
        assert answer.body == ranged
    else:
        assert answer.slug == "range-not-satisfiable"


@pytest.fixture(scope="module")
def ranged(shelf: Shelf) -> bytes:
    """What the file has that ranges are asked of."""
    content = os.urandom(1000)
    shelf.put(PUBLIC, "dev-libs/ranged-1", content)
    return content


def test_a_range_of_another_version_is_the_whole_file(
    collector: Collector, shelf: Shelf, ranged: bytes
) -> None:
    path = f"{PUBLIC}/dev-libs/ranged/ranged-1-1.gpkg.tar"
    etag = get(collector, path).headers["Etag"]
    date = formatdate(MTIME, usegmt=True)
    for condition, status in ((etag, 206), (date, 206), ('"other"', 200), (f"W/{etag}", 200), ("x", 200)):
        assert get(collector, path, Range="bytes=5-", If_Range=condition).status == status


@pytest.mark.parametrize("name", ["lib++-1.0_p2-r3", "gtk+-2.0_rc1", "a_b-c9-1_alpha1_beta2"])
def test_names_may_be_percent_encoded(collector: Collector, shelf: Shelf, name: str) -> None:
    """Case 22."""
    path = shelf.put(PUBLIC, f"x11-libs/{name}", name.encode())
    for written in (path, quote(path), path.replace("+", "%2b"), quote(path, safe="").replace("%2F", "/")):
        assert get(collector, f"{PUBLIC}/{written}").body == name.encode()
    assert get(collector, f"{PUBLIC}/{path.replace('+', '%252B')}").status == (404 if "+" in path else 200)


def test_an_old_package_without_build_id(collector: Collector, shelf: Shelf) -> None:
    """Another file may come to have its name, so nobody keeps it without asking."""
    path = shelf.put(PUBLIC, "app-misc/old-1", b"xpak", build_id=None)
    answer = get(collector, f"{PUBLIC}/{path}")
    assert answer.headers["Content-Type"] == "application/vnd.gentoo.xpak"
    assert answer.headers["Cache-Control"] == "public, no-cache"


def test_withdrawn_packages_stay_for_a_while(collector: Collector, shelf: Shelf) -> None:
    """Clients hold older indexes: what these list must not be gone before the grace is over."""
    shelf.add_target("leaving")
    just, long_ago, gone = (shelf.put("leaving", f"dev-libs/w{n}-1", b"w") for n in range(3))
    shelf.withdraw("leaving", just, days_ago=29)
    shelf.withdraw("leaving", long_ago, days_ago=31)
    shelf.withdraw("leaving", gone)
    with transaction(shelf.engine) as connection:
        is_it = tables.builds.c.path == gone
        connection.execute(update(tables.builds).where(is_it).values(deleted_at=MTIME))
    assert b"dev-libs/w" not in once_there(collector, "leaving/Packages").body
    statuses = [get(collector, f"leaving/{path}").status for path in (just, long_ago, gone)]
    assert statuses == [200, 404, 404]


def test_what_no_row_names_is_not_there(collector: Collector, shelf: Shelf) -> None:
    """Case 32: neither a file that lies beside the others, nor one whose place a link has taken."""
    packages = shelf.data / "packages" / PUBLIC / "app-misc"
    path = shelf.put(PUBLIC, "app-misc/linked-1", b"content")
    stray = packages / "linked" / "stray-1-1.gpkg.tar"
    stray.write_bytes(b"stray")
    assert get(collector, f"{PUBLIC}/app-misc/linked/stray-1-1.gpkg.tar").status == 404
    file = shelf.data / "packages" / PUBLIC / path
    file.unlink()
    assert get(collector, f"{PUBLIC}/{path}").status == 404
    file.symlink_to(shelf.data / "bdcs.sqlite")
    assert get(collector, f"{PUBLIC}/{path}").status == 404
    file.unlink()
    file.mkdir()
    assert get(collector, f"{PUBLIC}/{path}").status == 404
    file.rmdir()
    elsewhere = shelf.data.parent / "elsewhere"
    shutil.move(packages / "linked", elsewhere)
    (elsewhere / file.name).write_bytes(b"elsewhere")
    (packages / "linked").symlink_to(elsewhere)
    assert get(collector, f"{PUBLIC}/{path}").status == 404
    os.mkfifo(elsewhere / "pipe")


# Paths.

TRICKS = [
    f"{PUBLIC}/../{PUBLIC}/Packages",
    f"{PUBLIC}/%2e%2e/{PUBLIC}/Packages",
    f"{PUBLIC}/..%2f..%2fbdcs.sqlite",
    f"{PUBLIC}//Packages",
    f"/{PUBLIC}/Packages",
    f"{PUBLIC}/./Packages",
    f"{PUBLIC}/\\Packages",
    f"{PUBLIC}/..\\..\\bdcs.sqlite",
    f"{PUBLIC}/%5cPackages",
    f"{PUBLIC}/Packages%00",
    f"{PUBLIC}/Packages%00.gz",
    f"{PUBLIC}/Packages/",
    f"{PUBLIC}/packages",
    f"{PUBLIC}/Packages%2fx",
    f"{PUBLIC}%2fPackages",
    f"{PUBLIC}%00/Packages",
    f"{PUBLIC.upper()}/Packages",
    f"{PUBLIC}/.lock",
    f"{PUBLIC}/.layout",
    f"{PUBLIC}/app-misc/",
    f"{PUBLIC}/app-misc/alpha",
    f"{PUBLIC}/app-misc//alpha/alpha-1.0-1.gpkg.tar",
    f"{PUBLIC}/app-misc/alpha/../alpha/alpha-1.0-1.gpkg.tar",
    f"{PUBLIC}/app-misc/alpha/./alpha-1.0-1.gpkg.tar",
    f"{PUBLIC}/app-misc/alpha/alpha-1.0-1.gpkg.tar/",
    f"{PUBLIC}/app-misc/alpha/alpha-1.0-1.gpkg.tar%20",
    f"{PUBLIC}/app-misc/alpha/%61lpha-1.0-1.gpkg.ta%2572",
    f"{PUBLIC}/app-misc/%",
    f"{PUBLIC}/%ff%fe",
    f"{PUBLIC}/" + "a" * 2000,
    "../../../../etc/passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "keys/../amd64/Packages",
    "keys/" + "A" * 40 + ".asc",
    "keys/../../bdcs.sqlite",
    "keys/x.asc",
]


@pytest.mark.parametrize("path", TRICKS)
def test_tricks_with_paths_lead_nowhere(collector: Collector, shelf: Shelf, path: str) -> None:
    answer = get(collector, path)
    assert answer.slug == "not-found"


@settings(max_examples=400)
@given(
    parts=st.lists(
        st.sampled_from(
            [
                *(
                    "..",
                    ".",
                    "",
                    "/",
                    "//",
                    "\\",
                    "%2e%2e",
                    "%2f",
                    "%5c",
                    "%00",
                    "%",
                    "?",
                    "#",
                    "+",
                    "%2B",
                    ";",
                    "~",
                ),
                *(PUBLIC, PRIVATE, "binhost", "keys", "quarantine", "packages", "bdcs.sqlite", ".lock"),
                *("Packages", "Packages.gz", "app-misc", "alpha", "alpha-1.0-1.gpkg.tar"),
            ]
        )
        | st.binary(max_size=3).map(lambda raw: quote(raw)),
        max_size=9,
    ),
    slash=st.sampled_from(["/", "//", "%2f", ""]),
)
def test_no_path_leads_outside(collector: Collector, shelf: Shelf, parts: list[str], slash: str) -> None:
    """Whatever is asked: an index, the one package, the way to a page, or nothing."""
    address = urlsplit(collector.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as connection:
        line = f"GET /binhost/{slash.join(parts)} HTTP/1.0\r\n\r\n"
        connection.sendall(line.encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = response.read()
    if response.status == 200:
        index = (shelf.data / "binhost" / PUBLIC / "Packages").read_bytes()
        packed = (shelf.data / "binhost" / PUBLIC / "Packages.gz").read_bytes()
        assert body in (b"alpha", index, packed)
    else:
        assert response.status in (303, 400, 401, 404), line


# Private targets.


@pytest.mark.parametrize(
    "path",
    ["", "/", "/Packages", "/Packages.gz", "/app-misc/alpha/alpha-1.0-1.gpkg.tar", "/nothing", "/../x"],
)
def test_a_private_target_asks_who_you_are(collector: Collector, shelf: Shelf, path: str) -> None:
    """Case 15. Without the right token nobody learns what is there: the answer is the same for everything."""
    for headers in (
        {},
        basic("alice", "wrong-token"),
        basic("alice", "other-token"),
        basic("bob", "right-token"),
        basic("", ""),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic YWxpY2U="},
        {"Authorization": "Basic " + "/" * 8},
        {"Authorization": "Bearer right-token"},
    ):
        answer = get(collector, f"{PRIVATE}{path}", **headers)
        assert answer.slug == "private-target"
        assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert answer.headers["Cache-Control"] == "no-store"


def test_the_right_token_opens_it(collector: Collector, shelf: Shelf) -> None:
    right = basic("alice", "right-token")
    index = get(collector, f"{PRIVATE}/Packages.gz", **right)
    assert index.status == 200
    assert index.headers["Cache-Control"] == "private, no-cache"
    package = get(collector, f"{PRIVATE}/app-misc/alpha/alpha-1.0-1.gpkg.tar", **right)
    assert package.body == b"alpha"
    assert package.headers["Cache-Control"].startswith("private, ")
    assert get(collector, f"{PRIVATE}/nothing", **right).slug == "not-found"


def test_a_revoked_token_opens_nothing(collector: Collector, shelf: Shelf) -> None:
    shelf.add_token(PRIVATE, "carol", "short-lived")
    path = f"{PRIVATE}/Packages.gz"
    until(lambda: get(collector, path, **basic("carol", "short-lived")).status == 200)
    shelf.revoke(PRIVATE, "carol")
    until(lambda: get(collector, path, **basic("carol", "short-lived")).status == 401)


# Connections.


@pytest.fixture(scope="module")
def large(shelf: Shelf) -> tuple[str, bytes]:
    """A large package: its path, and what it has."""
    content = os.urandom(1 << 20) * (LARGE >> 20)
    return shelf.put(PUBLIC, "app-office/large-1", content), content


def test_a_large_package_arrives_whole(collector: Collector, large: tuple[str, bytes]) -> None:
    path, content = large
    answer = get(collector, f"{PUBLIC}/{path}")
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(content).digest()


def test_a_connection_serves_one_after_the_other(collector: Collector, large: tuple[str, bytes]) -> None:
    """Files go past the buffers that other answers go through, and yet stay in their order."""
    path, content = large
    address = urlsplit(collector.url)
    paths = [
        f"{PUBLIC}/Packages",
        f"{PUBLIC}/{path}",
        "keys.json",
        f"{PUBLIC}/{path}",
        f"{PUBLIC}/Packages.gz",
    ]
    wanted = [get(collector, each).body for each in paths]
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        for each in paths:
            connection.sendall(f"GET /binhost/{each} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        reader = connection.makefile("rb")
        for body in wanted:
            assert reader.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert reader.read(length) == body
    assert content in wanted


def test_readers_that_go_or_dawdle_disturb_nobody(collector: Collector, large: tuple[str, bytes]) -> None:
    path, content = large
    address = urlsplit(collector.url)
    dawdling = []
    for number in range(40):
        connection = socket.create_connection((address.hostname or "", address.port or 0), timeout=60)
        connection.sendall(f"GET /binhost/{PUBLIC}/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        if number % 2:
            connection.close()
        else:
            dawdling.append(connection)
    assert get(collector, f"{PUBLIC}/{path}").body == content
    for connection in dawdling:
        connection.close()
    assert collector.process is not None
    descriptors = Path(f"/proc/{collector.process.pid}/fd")
    until(lambda: not [link for link in descriptors.iterdir() if "large-1" in _link(link)])


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def test_a_file_that_shrinks_breaks_the_connection(collector: Collector, shelf: Shelf) -> None:
    """Fewer bytes than were promised must not look like a whole file."""
    path = shelf.put(PUBLIC, "app-misc/shrinking-1", bytes(LARGE))
    address = urlsplit(collector.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        connection.sendall(f"GET /binhost/{PUBLIC}/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        os.truncate(shelf.data / "packages" / PUBLIC / path, 10)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    """Case 8."""
    with Collector(tmp_path) as collector:
        shelf = Shelf(collector.data)
        shelf.add_target(PUBLIC)
        shelf.put(PUBLIC, "app-misc/alpha-1.0", b"alpha")
        first = once_there(collector, f"{PUBLIC}/Packages.gz")
        assert collector.stop() == 0
        collector.start()
        since = parsedate_to_datetime(first.headers["Last-Modified"]).timestamp() + 5
        asked = formatdate(since, usegmt=True)
        assert get(collector, f"{PUBLIC}/Packages.gz", If_Modified_Since=asked).status == 304


def test_the_same_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "bdcs.toml").write_text('tls_certificate = "cert.pem"\ntls_key = "key.pem"\n')
    content = os.urandom(3 << 20)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with Collector(tmp_path, options=("--config", str(tmp_path / "bdcs.toml"))) as collector:
        shelf = Shelf(collector.data)
        shelf.add_target(PUBLIC)
        path = shelf.put(PUBLIC, "app-misc/alpha-1.0", content)
        asked = urllib.request.Request(f"{collector.url}/binhost/{PUBLIC}/{path}")
        with urllib.request.urlopen(asked, context=context, timeout=60) as response:
            assert response.read() == content
        asked.add_header("Range", "bytes=1000000-2999999")
        with urllib.request.urlopen(asked, context=context, timeout=60) as response:
            assert response.read() == content[1_000_000:3_000_000]


# Keys.


def test_public_keys_are_there_for_import(collector: Collector, shelf: Shelf, tmp_path: Path) -> None:
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)

    def gpg(*arguments: str, stdin: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(home), "--batch", "--quiet", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    try:
        gpg("--passphrase", "", "--quick-generate-key", "Binhost <binhost@example.org>", "ed25519", "sign")
        listing = gpg("--with-colons", "--list-keys").decode()
        fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
        with transaction(shelf.engine) as connection:
            connection.execute(
                tables.signing_keys.insert().values(
                    fingerprint=fingerprint,
                    public_key=gpg("--export", fingerprint),
                    user_id="Binhost <binhost@example.org>",
                    created_at=MTIME,
                    expires_at=None,
                    state="active",
                    seen_at=MTIME,
                )
            )
        answer = get(collector, f"keys/{fingerprint}.asc")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/pgp-keys"
        shown = gpg("--with-colons", "--show-keys", stdin=answer.body).decode()
        assert fingerprint in shown
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    listed = get(collector, "keys.json").document["keys"]
    assert [key["fingerprint"] for key in listed] == [fingerprint]
    assert listed[0]["url"] == f"{collector.url}/binhost/keys/{fingerprint}.asc"
    target = request(collector.url, "GET", f"/v1/targets/{PUBLIC}").document
    assert [key["fingerprint"] for key in target["keys"]] == [fingerprint]
