# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages about the binhost, as a browser without script would read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages import make_gpkg
from tests.peer import Answer, request
from tests.processes import Collector

TARGET = ("--chost", "x86_64-pc-linux-gnu", "--profile", "default/linux/amd64/23.0")
HTML = {"Accept": "text/html"}


def publish(collector: Collector, directory: Path, cpv: str, target: str = "v3", **metadata: str) -> None:
    """Publish one package with such metadata."""
    path = directory / f"{cpv.split('/')[1]}-1.gpkg.tar"
    make_gpkg(path, cpv=cpv, metadata=dict(metadata))
    collector.bdcs("publish", "--target", target, str(path))
    path.unlink()


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A target with four builds in four generations, an empty one, and a private one."""
    home = tmp_path_factory.mktemp("targets")
    with Collector(home / "collector") as collector:
        optional = (*TARGET, "--signatures", "optional", "--cflags=-O2 -march=x86-64-v3")
        collector.bdcs("target", "add", "v3", *optional)
        collector.bdcs("target", "add", "empty", *optional, "--description", "Nothing <yet>")
        collector.bdcs("target", "add", "secret", *optional, "--private")
        publish(collector, home, "app-misc/alpha-1.9", IUSE="gtk +ssl", USE="ssl")
        publish(collector, home, "app-misc/alpha-1.10", IUSE="gtk +ssl", USE="gtk")
        publish(collector, home, "app-misc/alpha-1.10", IUSE="gtk +ssl", USE="ssl", BUILD_TIME="1700000001")
        publish(collector, home, "dev-libs/beta-2")
        yield collector


def get(collector: Collector, path: str) -> Answer:
    return request(collector.url, "GET", path, headers=HTML)


def text(collector: Collector, path: str) -> str:
    """The words of a page, tags left out."""
    answer = get(collector, path)
    assert answer.status == 200, answer
    return " ".join(re.sub(r"<[^>]+>", " ", answer.body.decode().partition("<main")[2]).split())


def test_a_package_that_is_in_no_repository_has_a_page_of_its_binaries(collector: Collector) -> None:
    assert get(collector, "/packages/app-misc/alpha").status == 200
    assert "1.10" in text(collector, "/packages/app-misc/alpha")


def test_targets_for_everybody_are_listed_and_private_ones_are_not(collector: Collector) -> None:
    page = text(collector, "/targets")
    assert "2 targets" in page
    assert "gentwoo binhost setup" in page
    assert "-march=x86-64-v3" in page
    assert "Nothing &lt;yet&gt;" in page
    assert "secret" not in page


def test_a_target_says_what_it_is_for_and_what_happened_lately(collector: Collector) -> None:
    page = text(collector, "/targets/v3")
    assert "4 packages for x86_64-pc-linux-gnu with the profile default/linux/amd64/23.0" in page
    assert f"{collector.url}/binhost/v3" in page
    rows = re.findall(r'generations/(\d+)">', get(collector, "/targets/v3").body.decode())
    assert rows == ["4", "3", "2", "1"]


def test_an_empty_target_says_how_it_is_filled(collector: Collector) -> None:
    assert "bdcs publish FILE… --target empty" in text(collector, "/targets/empty")
    assert "Nothing was published here yet" in text(collector, "/targets/empty/packages")


def test_packages_are_listed_searched_and_lead_to_their_builds(collector: Collector) -> None:
    page = text(collector, "/targets/v3/packages")
    assert re.search(r"app-misc/ alpha 1\.10 3 ", page)
    assert re.search(r"dev-libs/ beta 2 1 ", page)
    found = text(collector, "/targets/v3/packages?q=BETA")
    assert "beta" in found
    assert "alpha" not in found
    assert "No package here" in text(collector, "/targets/v3/packages?q=gamma")


def test_builds_show_what_tells_them_apart_the_newest_first(collector: Collector) -> None:
    html = get(collector, "/targets/v3/packages/app-misc/alpha").body.decode()
    builds = re.findall(r'href="/binhost/v3/(\S+)">(\S+)</a>.*?<ul class="use"[^>]*>(.*?)</ul>', html)
    shown = [(path, version, re.sub(r"<[^>]+>", " ", flags).split()) for path, version, flags in builds]
    assert shown == [
        ("app-misc/alpha/alpha-1.10-2.gpkg.tar", "1.10", ["+ssl", "-gtk"]),
        ("app-misc/alpha/alpha-1.10-1.gpkg.tar", "1.10", ["+gtk", "-ssl"]),
        ("app-misc/alpha/alpha-1.9-1.gpkg.tar", "1.9", ["+ssl", "-gtk"]),
    ]
    assert "3 builds" in html
    for path, *_ in builds:
        assert request(collector.url, "HEAD", f"/binhost/v3/{path}").status == 200


def test_a_generation_shows_what_came(collector: Collector) -> None:
    page = text(collector, "/targets/v3/generations/3")
    assert "1 came, 0 went, 3 are in it" in page
    assert "app-misc/ alpha 1.10 build 2" in page


def test_a_package_that_is_not_there_is_a_page_that_says_so(collector: Collector) -> None:
    assert "v3 has no build of app-misc/gamma" in text(collector, "/targets/v3/packages/app-misc/gamma")


@pytest.mark.parametrize(
    "path",
    [
        "/targets/none",
        "/targets/v3/generations/5",
        "/targets/v3/generations/0",
        "/targets/v3/generations/x",
        "/targets/v3/packages/app-misc/-",
        "/targets/v3/packages/App%20Misc/a",
    ],
)
def test_what_cannot_be_is_not_found(collector: Collector, path: str) -> None:
    assert get(collector, path).status == 404


@pytest.mark.parametrize("path", ["", "/packages", "/packages/app-misc/alpha", "/generations/1", ".json"])
def test_a_private_target_is_shown_to_nobody_without_a_token(collector: Collector, path: str) -> None:
    answer = get(collector, f"/targets/secret{path}")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize("path", ["", "/v3", "/v3/packages"])
def test_the_same_as_json_is_what_the_api_says(collector: Collector, path: str) -> None:
    page = request(collector.url, "GET", f"/targets{path}.json")
    assert page.status == 200
    assert page.document == request(collector.url, "GET", f"/v1/targets{path}").document
