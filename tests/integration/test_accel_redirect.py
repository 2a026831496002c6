# SPDX-License-Identifier: GPL-2.0-or-later
"""Behind a real nginx that sends packages itself: the collector decides, nginx reads the files."""

import os
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate

import pytest

from tests.integration.test_upload import address, send
from tests.nginx import Nginx
from tests.packages import gpkg
from tests.peer import Answer, Peer, request
from tests.processes import Collector, free_port
from tests.shelf import MTIME, Shelf

TARGET = "amd64"
SECRET = b"nobody may read this"

LOCATIONS = """
        client_max_body_size 0;
        location / {{
            proxy_pass {collector};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_request_buffering off;
        }}
        location /internal/ {{
            internal;
            alias {data}/packages/;
        }}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, Nginx, Shelf]]:
    """A collector, the nginx in front of it, and what they have."""
    home = tmp_path_factory.mktemp("collector")
    port = free_port()
    (home / "bdcs.toml").write_text(
        f'accel_redirect = "/internal/"\npublic_url = "http://127.0.0.1:{port}"\n'
    )
    with Collector(home, options=("--config", str(home / "bdcs.toml"))) as collector:
        shelf = Shelf(collector.data)
        shelf.add_target(TARGET, signatures="optional")
        shelf.add_target("secret", private=True)
        locations = LOCATIONS.format(collector=collector.url, data=collector.data)
        with Nginx(tmp_path_factory.mktemp("nginx"), locations, port=port) as nginx:
            yield collector, nginx, shelf
            nginx.stop()


def get(nginx: Nginx, path: str, method: str = "GET", **headers: str) -> Answer:
    """Ask nginx."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = request(nginx.url, method, path, headers=named)
    return replace(answer, headers={name.title(): value for name, value in answer.headers.items()})


def test_nginx_sends_what_the_collector_found(world: tuple[Collector, Nginx, Shelf]) -> None:
    collector, nginx, shelf = world
    content = os.urandom(3_000_000)
    path = f"/binhost/{TARGET}/" + shelf.put(TARGET, "dev-libs/lib++-1.0_p2-r3", content)
    direct = request(collector.url, "GET", path)
    assert direct.body == b""
    assert direct.headers["X-Accel-Redirect"].startswith(f"/internal/{TARGET}/dev-libs/lib")
    answer = get(nginx, path)
    assert (answer.status, answer.body) == (200, content)
    assert answer.headers["Content-Type"] == "application/vnd.gentoo.gpkg"
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Last-Modified"] == formatdate(MTIME, usegmt=True)
    assert "X-Accel-Redirect" not in answer.headers
    assert get(nginx, path.replace("+", "%2B")).body == content
    part = get(nginx, path, Range="bytes=2999990-")
    assert (part.status, part.body) == (206, content[-10:])
    assert get(nginx, path, If_None_Match=answer.headers["Etag"]).status == 304
    head = get(nginx, path, "HEAD")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, "3000000", b"")


def test_the_same_version_has_the_same_tag(world: tuple[Collector, Nginx, Shelf]) -> None:
    """So that clients may resume from one what they began at the other."""
    _, nginx, shelf = world
    path = f"/binhost/{TARGET}/" + shelf.put(TARGET, "dev-libs/tagged-1", b"tagged")
    answer = get(nginx, path)
    assert answer.status == 200, answer
    assert answer.headers["Etag"] == f'"{MTIME:x}-6"'
    index = get(nginx, f"/binhost/{TARGET}/Packages.gz")
    assert "Content-Encoding" not in index.headers
    assert get(nginx, f"/binhost/{TARGET}/Packages.gz", If_None_Match=index.headers["Etag"]).status == 304


def test_what_the_collector_does_not_name_stays_hidden(world: tuple[Collector, Nginx, Shelf]) -> None:
    collector, nginx, shelf = world
    path = shelf.put("secret", "dev-libs/hidden-1", SECRET)
    withdrawn = shelf.put(TARGET, "dev-libs/gone-1", b"gone")
    shelf.withdraw(TARGET, withdrawn, days_ago=31)
    for place, status in (
        (f"/internal/secret/{path}", 404),
        (f"/binhost/../internal/secret/{path}", 404),
        (f"/binhost/secret/{path}", 401),
        (f"/binhost/{TARGET}/{withdrawn}", 404),
        (f"/binhost/{TARGET}/../../internal/secret/{path}", 404),
        (f"/binhost/{TARGET}/%2e%2e/%2e%2e/internal/secret/{path}", 404),
        (f"/internal/../{collector.data}/bdcs.sqlite", 404),
    ):
        answer = get(nginx, place)
        assert answer.status == status, place
        assert SECRET not in answer.body


def test_uploads_pass_through(world: tuple[Collector, Nginx, Shelf]) -> None:
    """Not stored on the way, so that they are refused as early as without nginx."""
    collector, nginx, _ = world
    peer = Peer(nginx.url)
    assert peer.register().status == 201
    collector.bdcs("admin", "builders", "approve", str(peer.machine), "--target", TARGET)
    content = gpkg(image={"usr/share/x": os.urandom(2_000_000)})
    assert send(peer, content, address(content)).status == 201
