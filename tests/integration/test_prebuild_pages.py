# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of what is worth building, and the same as JSON and CSV, from the real application."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdcs.web.prebuild_documents import PrebuildDocument
from tests.peer import request
from tests.prebuild_scene import left_behind, prepared
from tests.public_surface import Surface
from tests.shelf import Shelf
from tests.waiting import until


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A collector at which much was asked for."""
    home = tmp_path_factory.mktemp("prebuild")
    with Surface(left_behind(home, is_crowded=True)) as surface:
        yield surface.url


def get(url: str, path: str) -> str:
    answer = request(url, "GET", path)
    assert answer.status == 200, answer
    return answer.body.decode()


def document(url: str, query: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(url, f"/v1/prebuild{query}"))
    PrebuildDocument.model_validate(found)
    return found


def test_what_is_said_is_what_a_crowd_asked_for(url: str) -> None:
    found = document(url)
    assert found["targets"] == ["amd64"]
    following = [(each["name"], each["version"], each["use"], each["machines"]) for each in found["next"]]
    newest = "141.0_p20260801"
    assert following == [
        ("browser", newest, "-doc gtk -qt6 -ssl wayland", 30),
        ("a", "1", "-doc ssl", 25),
        ("browser", newest, "-doc -gtk qt6 -ssl wayland", 20),
        ("a-package-with-quite-a-long-name", "20260101_p3-r2", "", 15),
        ("browser", newest, "-doc gtk -qt6 ssl -wayland", 10),
    ]
    assert [each["likely"] for each in found["next"]] == [30, 50, 20, 15, 10]
    coverage = {each["name"]: each for each in found["coverage"]}
    browser = coverage["browser"]
    assert [browser[name] for name in ("machines", "variants", "served")] == [70, 3, 0]
    assert [browser[f"by_{number}"] for number in range(1, 6)] == [30, 50, 60, None, None]
    assert coverage["snake"]["served"] == 20
    assert [each["name"] for each in found["unbuilt"]] == ["compiler", "suite"]


def test_nobody_sees_the_variant_of_nine(url: str) -> None:
    said = get(url, "/v1/prebuild") + get(url, "/prebuild.csv") + get(url, "/prebuild/coverage.csv")
    assert " doc" not in said
    assert "+doc" not in get(url, "/prebuild")


def test_the_tables_are_there_as_csv(url: str) -> None:
    found = document(url)
    for path, name in (("", "next"), ("/coverage", "coverage"), ("/unbuilt", "unbuilt")):
        rows = list(csv.DictReader(io.StringIO(get(url, f"/prebuild{path}.csv"))))
        expected = [
            {key: "" if value is None else str(value) for key, value in each.items()} for each in found[name]
        ]
        assert rows == expected


def test_the_page_says_it_in_words(url: str) -> None:
    page = get(url, "/prebuild")
    assert "<strong>5 builds</strong>" in page
    assert 'href="/prebuild.json"' in page
    assert "browser-141.0_p20260801" in page
    assert "+gtk" in page
    assert "On many machines, built by each" in page


def test_one_target_alone(url: str) -> None:
    assert document(url, "?target=amd64") == document(url)
    assert "for amd64" in get(url, "/prebuild?target=amd64")
    for path in ("/v1/prebuild", "/prebuild", "/prebuild.csv"):
        assert request(url, "GET", f"{path}?target=nothing").status == 404


def test_a_private_target_is_not_there(tmp_path: Path) -> None:
    asyncio.run(_private(tmp_path))
    with Surface(tmp_path / "data") as surface:
        assert request(surface.url, "GET", "/v1/prebuild?target=amd64").status == 404
        found = document(surface.url)
        assert (found["targets"], found["next"], found["coverage"]) == ([], [], [])
        assert "no target to build for yet" in get(surface.url, "/prebuild")


async def _private(home: Path) -> None:
    async with prepared(home, private=True) as scene:
        scene.ask(range(1, 13), scene.made("dev-libs/a-1", "ssl"))
        await scene.keeper.look()
        assert scene.outlook().coverage, "the operator's policy follows it as well"


def test_what_comes_later_shows_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but the first waits for it to be found out."""
    monkeypatch.setattr("bdcs.web.prebuild_pages.REMEMBERED", 0.0)
    data = left_behind(tmp_path, is_crowded=False)
    with Surface(data) as surface:
        assert document(surface.url)["targets"] == ["amd64"]
        Shelf(data).add_target("another", signatures="optional")
        until(lambda: document(surface.url)["targets"] == ["amd64", "another"])


def test_nothing_was_asked_for(tmp_path: Path) -> None:
    with Surface(left_behind(tmp_path, is_crowded=False)) as surface:
        page = get(surface.url, "/prebuild")
        assert "No variant of a package has been asked for by 10 machines yet" in page
        assert "Nothing to suggest" in page
