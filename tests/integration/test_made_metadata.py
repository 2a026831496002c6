# SPDX-License-Identifier: GPL-2.0-or-later
"""Ebuilds without metadata: Portage makes it in the sandbox, the collector takes what is sound."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdcs.builder.collector import BuilderAPI
from bdcs.builder.metadata import INTERVAL, UNANSWERED, MetadataMaker, make
from dev.prefix import write_command
from gentwoo_client.machine_key import MachineKey
from gentwoo_client.wire.build_messages import EbuildWanted
from tests.builds import HandBuilder, Wisher
from tests.ebuild_repositories import Tree
from tests.processes import Collector
from tests.shelf import Shelf
from tests.waiting import until
from tests.workshops import Place

pytestmark = [pytest.mark.timeout(300)]
TARGET = "amd64"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with Collector(tmp_path / "collector") as collector:
        Shelf(collector.data).add_target(TARGET, signatures="optional")
        yield collector
        assert collector.process is not None
        assert "internal error" not in collector.process.output


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree.create(tmp_path / "tree")


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def add(collector: Collector, location: Path) -> None:
    """Have the collector know a repository, and have read it as far as it can."""
    collector.bdcs("repository", "add", "gentoo", "--location", str(location))
    collector.bdcs("repository", "sync", "gentoo", check=False)


def status(collector: Collector) -> str:
    return collector.bdcs("repository", "status", "gentoo").stdout


def entry(digest: str, **values: str) -> str:
    """A cache entry as egencache writes it."""
    lines = {"DESCRIPTION": "Made", "EAPI": "8", "SLOT": "0", "KEYWORDS": "amd64", "_md5_": digest, **values}
    return "".join(f"{key}={value}\n" for key, value in sorted(lines.items()))


def wanted(builder: Wisher) -> dict[str, dict[str, str]]:
    """What the collector asks for: MD5 by CPV, by repository."""
    answer = builder.send_json("GET", "/v1/metadata")
    assert answer.status == 200, answer
    return {
        each["repository"]: {ebuild["cpv"]: ebuild["md5"] for ebuild in each["ebuilds"]}
        for each in answer.document["repositories"]
    }


def send(builder: Wisher, *entries: dict[str, str]) -> dict[str, Any]:
    answer = builder.send_json("POST", "/v1/metadata", {"repository": "gentoo", "entries": list(entries)})
    assert answer.status == 200, answer
    return answer.document


def test_what_is_sound_is_taken_for_as_long_as_the_ebuild_stays(collector: Collector, tree: Tree) -> None:
    ebuild = tree.ebuild("dev-libs/a-1")
    tree.ebuild("dev-libs/b-1")
    (tree.root / "metadata/md5-cache").rmdir()
    add(collector, tree.root)
    assert "no metadata cache" in status(collector)
    builder = HandBuilder.approved(collector, TARGET)
    digest = md5(ebuild)
    assert wanted(builder) == {"gentoo": {"dev-libs/a-1": digest, "dev-libs/b-1": digest}}
    good = {"cpv": "dev-libs/a-1", "md5": digest, "text": entry(digest)}
    bad = [
        {"cpv": "dev-libs/b-1", "md5": digest, "text": "nonsense"},
        {"cpv": "dev-libs/c-1", "md5": digest, "text": entry(digest)},
        {"cpv": "../../etc/passwd", "md5": digest, "text": entry(digest)},
    ]
    told = send(builder, good, *bad)
    assert told["taken"] == 1
    assert [refused["cpv"] for refused in told["refused"]] == [one["cpv"] for one in bad]
    assert "1 packages, 1 versions, 1 ebuilds without metadata cache" in status(collector)
    assert collector.bdcs("repository", "sync", "gentoo").stdout == "gentoo: nothing changed\n"
    assert wanted(builder) == {"gentoo": {"dev-libs/b-1": digest}}
    ebuild.write_text("EAPI=8\n# another\n")
    assert collector.bdcs("repository", "sync", "gentoo", check=False).returncode == 1
    assert wanted(builder)["gentoo"]["dev-libs/a-1"] == md5(ebuild) != digest
    again = send(builder, {"cpv": "dev-libs/a-1", "md5": md5(ebuild), "text": entry(digest)})
    assert again["refused"][0]["reason"] == "it was made of another ebuild"
    tree.add("dev-libs/a-1")  # the repository's own entry comes first
    assert "1 packages" in collector.bdcs("repository", "sync", "gentoo").stdout + status(collector)
    collector.bdcs("repository", "remove", "gentoo")
    assert wanted(builder) == {}


def test_only_builders_are_asked(collector: Collector, tree: Tree) -> None:
    tree.ebuild("dev-libs/a-1")
    add(collector, tree.root)
    stranger = Wisher(collector.url)
    stranger.register()
    assert stranger.send_json("GET", "/v1/metadata").slug == "forbidden"
    made = {"cpv": "dev-libs/a-1", "md5": "0" * 32, "text": "x"}
    message = {"repository": "gentoo", "entries": [made]}
    assert stranger.send_json("POST", "/v1/metadata", message).slug == "forbidden"
    builder = HandBuilder.approved(collector, TARGET)
    assert builder.send_json("POST", "/v1/metadata", {**message, "repository": "none"}).slug == "not-found"
    assert builder.send_json("POST", "/v1/metadata", {**message, "repository": "../x"}).slug == "malformed"


def test_portage_makes_it_in_the_sandbox(tmp_path: Path) -> None:
    """… of what can be read; an ebuild that would tell a secret, or speak for others, does not."""
    place = Place.create(tmp_path)
    world = place.world
    write_command(world, "egencache")
    secret = tmp_path / "builder" / "machine.key"
    secret.write_text("a key")
    good = world.ebuild("app-misc/good-1.0", iuse="+ssl", slot="0/2", rdepend="app-misc/other")
    world.ebuild("app-misc/other-1.0")
    broken = world.ebuild("app-misc/broken-1.0")
    broken.write_text(broken.read_text() + "\ndie 'not at all'\n")
    spy = world.ebuild("app-misc/spy-1.0")
    look = f"[[ -e {secret} || -e /root/.ssh ]] && DESCRIPTION=seen || DESCRIPTION=hidden"
    spy.write_text(f"{spy.read_text()}\n{look}\n")
    cpvs = [f"app-misc/{name}-1.0" for name in ("good", "broken", "spy")]
    paths = dict(zip(cpvs, (good, broken, spy), strict=True))
    ebuilds = [EbuildWanted(cpv=cpv, md5=md5(paths[cpv])) for cpv in cpvs]
    before = sorted(world.repository.rglob("*"))
    made = {one.cpv: one for one in asyncio.run(make(place.workshop, "gentoo", ebuilds))}
    assert set(made) == {"app-misc/good-1.0", "app-misc/spy-1.0"}
    lines = made["app-misc/good-1.0"].text.splitlines()
    assert {"IUSE=+ssl", "SLOT=0/2", "RDEPEND=app-misc/other", f"_md5_={md5(good)}"} <= set(lines)
    assert "DESCRIPTION=hidden" in made["app-misc/spy-1.0"].text
    assert sorted(world.repository.rglob("*")) == before


def test_a_builder_makes_what_the_collector_lacks(collector: Collector, tmp_path: Path) -> None:
    place = Place.create(tmp_path)
    world = place.world
    write_command(world, "egencache")
    world.ebuild("app-misc/alpha-1.0", iuse="foo")
    broken = world.ebuild("app-misc/broken-1.0")
    broken.write_text(broken.read_text() + "\ndie 'not at all'\n")
    add(collector, world.repository)
    peer = HandBuilder.approved(collector, TARGET)
    key = MachineKey(path=tmp_path, private=peer.key, public=peer.public, machine=peer.machine)

    async def look_twice() -> tuple[float, float]:
        async with BuilderAPI(collector.url, key) as calls:
            maker = MetadataMaker(place.workshop, calls)
            return await maker.look(), await maker.look()

    assert asyncio.run(look_twice()) == (INTERVAL, INTERVAL)
    assert list(wanted(peer)["gentoo"]) == ["app-misc/broken-1.0"]
    found = until(lambda: collector.bdcs("repository", "list").stdout, what="the list")
    assert "1 packages, 1 versions, 1 ebuilds without metadata cache" in found

    async def ask_as_a_stranger() -> float:
        other = Wisher(collector.url)
        other.register()
        own = MachineKey(path=tmp_path, private=other.key, public=other.public, machine=other.machine)
        async with BuilderAPI(collector.url, own) as calls:
            return await MetadataMaker(place.workshop, calls).look()

    assert asyncio.run(ask_as_a_stranger()) == UNANSWERED
