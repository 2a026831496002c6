# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue follows ebuild repositories: as Portage caches them, through changes, hostile ones too."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdcs.errors import (
    NoSuchRepository,
    RepositoryExists,
    RepositoryRefused,
    RepositoryUnusable,
    SyncFailed,
)
from bdcs.services import catalogue, repositories, searching
from bdcs.services.refreshing import Refreshed, repository_lock
from bdcs.store.store import transaction
from gentwoo_client.wire.cpv import CPV
from tests.ebuild_repositories import Catalogue, Tree, make_cache, new_catalogue
from tests.processes import BDCS, Collector, run
from tests.waiting import until
from tests.world import World


@pytest.fixture
def stocks(tmp_path: Path) -> Iterator[Catalogue]:
    with new_catalogue(tmp_path / "data") as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree.create(tmp_path / "repo")


def found(stocks: Catalogue, query: str) -> list[str]:
    with stocks.reading() as connection:
        return [f"{each.category}/{each.name}" for each in searching.search(connection, query).packages]


def test_what_egencache_wrote_is_read(tmp_path: Path, stocks: Catalogue) -> None:
    world = World.create(tmp_path / "world")
    world.ebuild("app-misc/alpha-1.0", iuse="+ssl doc", slot="2/2.1", keywords="amd64 ~arm64")
    world.ebuild("app-misc/alpha-1.10", rdepend="app-misc/beta:=")
    world.ebuild("app-misc/beta-3", license="MIT", restrict="bindist")
    make_cache(world)
    stocks.add("gentoo", location=world.repository)
    assert stocks.refresher.refresh("gentoo") == Refreshed(added=3)
    assert stocks.versions("app-misc/alpha") == ["1.10", "1.0"]
    with stocks.reading() as connection:
        old = catalogue.find(connection, CPV.parse("app-misc/alpha-1.0"), "gentoo")
        other = catalogue.find(connection, CPV.parse("app-misc/beta-3"), "gentoo")
        assert catalogue.find(connection, CPV.parse("app-misc/beta-4"), "gentoo") is None
        assert catalogue.find(connection, CPV.parse("app-misc/beta-3"), "guru") is None
        assert catalogue.has_repository(connection, "gentoo")
        assert not catalogue.has_repository(connection, "guru")
    assert old is not None
    assert other is not None
    assert (old.slot, old.keywords, old.iuse) == ("2/2.1", ("amd64", "~arm64"), ("+ssl", "doc"))
    assert old.flags == {"ssl", "doc"}
    assert (other.license, other.restrict, other.description) == (
        "MIT",
        "bindist",
        "beta, to be merged in tests",
    )
    status = stocks.status()
    assert (status.packages, status.versions, status.uncached, status.problem) == (2, 3, 0, None)

    # An ebuild that Portage has not cached is told of; once it is, it is known.
    world.ebuild("app-misc/gamma-1")
    assert stocks.refresher.refresh("gentoo") == Refreshed()
    assert stocks.status().uncached == 1
    make_cache(world)
    assert stocks.refresher.refresh("gentoo") == Refreshed(added=1)
    assert stocks.status().uncached == 0


def test_only_what_changed_is_read_again(stocks: Catalogue, tree: Tree) -> None:
    for number in range(1, 6):
        tree.add(f"dev-libs/lib{number}-1", IUSE="a b")
    stocks.add("gentoo", location=tree.root)
    assert stocks.refresher.refresh("gentoo") == Refreshed(added=5)
    assert stocks.refresher.refresh("gentoo") == Refreshed()
    # Unreadable to its last byte would be refused: that nobody reads it shows that nobody needs to.
    spoilt = tree.entry("dev-libs/lib1-1")
    before = spoilt.stat()
    spoilt.write_bytes(b"?" * before.st_size)
    os.utime(spoilt, ns=(before.st_atime_ns, before.st_mtime_ns))
    tree.add("dev-libs/lib2-1", IUSE="a b c", DESCRIPTION="Something else")
    assert stocks.refresher.refresh("gentoo") == Refreshed(changed=1)
    with stocks.reading() as connection:
        version = catalogue.find(connection, CPV.parse("dev-libs/lib2-1"), "gentoo")
    assert version is not None
    assert version.iuse == ("a", "b", "c")
    assert found(stocks, "something") == ["dev-libs/lib2"]


def test_a_removed_ebuild_goes(stocks: Catalogue, tree: Tree) -> None:
    for cpv in ("dev-libs/a-1", "dev-libs/a-2", "dev-libs/b-1"):
        tree.add(cpv)
    stocks.add("gentoo", location=tree.root)
    stocks.refresher.refresh("gentoo")
    tree.remove("dev-libs/a-2")  # its cache entry is still there
    tree.entry("dev-libs/b-1").unlink()  # … and here the ebuild
    assert stocks.refresher.refresh("gentoo") == Refreshed(removed=2)
    assert stocks.versions("dev-libs/a") == ["1"]
    assert stocks.versions("dev-libs/b") == []
    assert found(stocks, "dev-libs") == ["dev-libs/a"]
    assert found(stocks, "about") == ["dev-libs/a"]
    assert stocks.status().uncached == 1


def test_the_newest_version_describes_the_package(stocks: Catalogue, tree: Tree) -> None:
    tree.add("dev-libs/a-1", DESCRIPTION="Old words", HOMEPAGE="https://old.example/")
    stocks.add("gentoo", location=tree.root)
    stocks.refresher.refresh("gentoo")
    tree.add("dev-libs/a-1.10", DESCRIPTION="New words")
    tree.add("dev-libs/a-1.9", DESCRIPTION="Middle words")
    stocks.refresher.refresh("gentoo")
    with stocks.reading() as connection:
        package = catalogue.package(connection, "dev-libs", "a")
    assert package is not None
    assert (package.description, package.homepages) == ("New words", ())
    assert found(stocks, "old") == []
    tree.remove("dev-libs/a-1.10")
    stocks.refresher.refresh("gentoo")
    assert found(stocks, "middle") == ["dev-libs/a"]
    assert found(stocks, "new") == []


def test_versions_that_came_after_the_first_reading_are_new(stocks: Catalogue, tree: Tree) -> None:
    tree.add("dev-libs/a-1")
    stocks.add("gentoo", location=tree.root)
    stocks.refresher.refresh("gentoo")
    tree.add("dev-libs/a-2")
    tree.add("dev-libs/a-1", DESCRIPTION="Changed")
    stocks.refresher.refresh("gentoo")
    with stocks.reading() as connection:
        new = catalogue.new_versions(connection, 10)
    assert [str(version.cpv) for version in new] == ["dev-libs/a-2"]
    tree.add("dev-libs/a-1", KEYWORDS="amd64 ~arm64")
    stocks.refresher.refresh("gentoo")
    with stocks.reading() as connection:
        new = catalogue.new_versions(connection, 10)
    assert [str(version.cpv) for version in new] == ["dev-libs/a-1", "dev-libs/a-2"], "with other keywords"


def test_two_repositories_have_the_same_package(stocks: Catalogue, tree: Tree, tmp_path: Path) -> None:
    other = Tree.create(tmp_path / "guru", "guru")
    tree.add("dev-libs/a-1", DESCRIPTION="From gentoo")
    other.add("dev-libs/a-1", DESCRIPTION="From guru")
    other.add("dev-libs/b-1")
    stocks.add("gentoo", location=tree.root)
    stocks.add("guru", location=other.root)
    stocks.refresher.refresh("guru")
    stocks.refresher.refresh("gentoo")
    assert stocks.versions("dev-libs/a") == ["1", "1"]
    assert found(stocks, "from") == ["dev-libs/a"]
    with stocks.reading() as connection:
        package = catalogue.package(connection, "dev-libs", "a")
    assert package is not None
    assert package.description == "From gentoo", "added first"
    with transaction(stocks.refresher.writer) as connection:
        repositories.remove(connection, repositories.require(connection, "gentoo"))
    assert stocks.versions("dev-libs/a") == ["1"]
    assert found(stocks, "guru") == ["dev-libs/a"]
    with pytest.raises(NoSuchRepository, match="gentoo"):
        stocks.refresher.refresh("gentoo")


# Hostile and broken repositories.


def test_broken_entries_are_told_of_and_the_others_read(
    stocks: Catalogue, tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    good = tree.add("dev-libs/good-1")
    tree.add("dev-libs/bad-1").write_text("no line of a cache\n")
    tree.add("dev-libs/noslot-1").write_text("EAPI=8\n")
    tree.add("dev-libs/huge-1").write_bytes(b"SLOT=0\nDEPEND=" + b"x" * (2 << 20))
    tree.add("dev-libs/odd-1.0").rename(tree.entry("dev-libs/odd-one"))
    (tree.root / "dev-libs/odd").mkdir(exist_ok=True)
    (tree.root / "dev-libs/odd/odd-one.ebuild").write_text("")
    stocks.add("gentoo", location=tree.root)
    assert stocks.refresher.refresh("gentoo") == Refreshed(added=1, unreadable=4)
    assert "cache entry of dev-libs/noslot-1 is passed over: it has no SLOT" in caplog.text
    caplog.clear()
    assert stocks.refresher.refresh("gentoo") == Refreshed(), "what is broken is not read again either"
    with stocks.reading() as connection:
        count, first = repositories.unreadable(connection, stocks.status(), 10)
        assert repositories.unreadable_counts(connection) == {stocks.status().id: 4}
    assert count == 4
    assert not caplog.text, "it was said before"
    assert {each.path for each in first} == {
        "dev-libs/bad-1",
        "dev-libs/huge-1",
        "dev-libs/noslot-1",
        "dev-libs/odd-one",
    }
    tree.add("dev-libs/bad-1")
    good.write_text("spoilt\n")
    assert stocks.refresher.refresh("gentoo") == Refreshed(added=1, removed=1, unreadable=1)
    assert stocks.versions("dev-libs/good") == []
    assert stocks.versions("dev-libs/bad") == ["1"]


def test_nothing_outside_the_tree_is_read(stocks: Catalogue, tree: Tree, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a-1").write_text("SLOT=0\nDESCRIPTION=A secret\n")
    tree.add("dev-libs/good-1")
    for cpv in ("dev-libs/a-1", "dev-libs/fifo-1", "dev-secret/a-1"):
        tree.ebuild(cpv)
    tree.entry("dev-libs/a-1").symlink_to(secret / "a-1")
    os.mkfifo(tree.entry("dev-libs/fifo-1"))
    tree.entry("dev-secret").symlink_to(secret)
    (tree.root / "dev-loop").symlink_to(tree.root)
    stocks.add("gentoo", location=tree.root)
    assert stocks.refresher.refresh("gentoo") == Refreshed(added=1)
    assert found(stocks, "secret") == []
    cache = tree.root / "metadata/md5-cache"
    cache.rename(tmp_path / "cache")
    cache.symlink_to(tmp_path / "cache")
    with pytest.raises(RepositoryUnusable, match="no metadata cache"):
        stocks.refresher.refresh("gentoo")


def test_what_cannot_be_used_is_said_and_what_was_read_stays(stocks: Catalogue, tree: Tree) -> None:
    tree.add("dev-libs/a-1")
    stocks.add("gentoo", location=tree.root)
    stocks.refresher.refresh("gentoo")
    cache, aside = tree.root / "metadata/md5-cache", tree.root / "metadata/aside"
    cache.rename(aside)
    with pytest.raises(RepositoryUnusable, match="egencache --update"):
        stocks.refresher.refresh("gentoo")
    assert "no metadata cache" in (stocks.status().problem or "")
    assert stocks.versions("dev-libs/a") == ["1"]
    aside.rename(cache)
    (tree.root / "profiles/repo_name").write_text("other\n")
    with pytest.raises(RepositoryUnusable, match="calls itself other"):
        stocks.refresher.refresh("gentoo")
    (tree.root / "profiles/repo_name").write_text("../x\n")
    with pytest.raises(RepositoryUnusable, match="repo_name"):
        stocks.refresher.refresh("gentoo")
    (tree.root / "profiles/repo_name").write_text("gentoo\n")
    assert stocks.refresher.refresh("gentoo") == Refreshed()
    assert stocks.status().problem is None


def test_who_is_to_stop_stops_and_the_next_goes_on(stocks: Catalogue, tree: Tree) -> None:
    tree.add("dev-libs/a-1")
    stocks.add("gentoo", location=tree.root)
    stocks.refresher.stopping.set()
    with pytest.raises(SyncFailed, match="interrupted"):
        stocks.refresher.refresh("gentoo")
    assert stocks.status().problem is None
    stocks.refresher.stopping.clear()
    assert stocks.refresher.refresh("gentoo") == Refreshed(added=1)


def test_one_at_a_time(stocks: Catalogue, tree: Tree) -> None:
    tree.add("dev-libs/a-1")
    stocks.add("gentoo", location=tree.root)
    with repository_lock(stocks.refresher.reader, stocks.data, "gentoo"):
        other = threading.Thread(target=stocks.refresher.refresh, args=["gentoo"])
        other.start()
        other.join(0.3)
        assert other.is_alive()
        assert stocks.status().read_at is None
    other.join()
    assert stocks.versions("dev-libs/a") == ["1"]


def test_repositories_that_are_refused(stocks: Catalogue, tree: Tree) -> None:
    with pytest.raises(RepositoryRefused, match="--location"):
        stocks.add("gentoo")
    with pytest.raises(RepositoryRefused, match="name"):
        stocks.add("../gentoo", location=tree.root)
    stocks.add("gentoo", location=tree.root)
    with pytest.raises(RepositoryExists):
        stocks.add("gentoo", location=tree.root / "other")
    with pytest.raises(RepositoryRefused, match="another repository"):
        stocks.add("guru", location=tree.root)


# The commands, beside a server that keeps the catalogue up to date by itself.


def test_the_server_reads_what_is_added(tmp_path: Path, tree: Tree) -> None:
    tree.add("dev-libs/a-1", DESCRIPTION="To be found")
    (tree.root / "dev-libs/a/a-2.ebuild").write_text("EAPI=8\n")
    with Collector(tmp_path / "home") as collector:
        added = collector.bdcs("repository", "add", "gentoo", "--location", str(tree.root))
        assert "bdcs repository sync gentoo" in added.stdout
        until(
            lambda: "1 packages" in collector.bdcs("repository", "list").stdout,
            what="the repository read by the server",
        )
        status = collector.bdcs("repository", "status", "gentoo").stdout
        assert "1 ebuilds are not in metadata/md5-cache" in status
        assert "egencache --update --repo gentoo" in status
        tree.add("dev-libs/b-1")
        assert collector.bdcs("repository", "sync", "gentoo").stdout == "gentoo: 1 added\n"
        assert '"added": 0' in collector.bdcs("repository", "sync", "gentoo", "--json").stdout
        tree.add("dev-libs/c-1").write_text("no line of a cache\n")
        collector.bdcs("repository", "sync", "gentoo")
        told = "… but 1 file of metadata/md5-cache cannot be read"
        assert told in collector.bdcs("repository", "list").stdout
        assert '"unreadable": 1' in collector.bdcs("repository", "list", "--json").stdout
        assert "stays" in collector.bdcs("repository", "remove", "gentoo").stdout
        assert collector.bdcs("repository", "list", "--json").stdout == '{\n  "repositories": []\n}\n'
        missing = collector.bdcs("repository", "sync", "gentoo", check=False)
        assert (missing.returncode, "no repository gentoo" in missing.stderr) == (1, True)
        assert collector.stop() == 0


def test_a_repository_that_cannot_be_is_a_matter_of_usage(tmp_path: Path) -> None:
    with Collector(tmp_path / "home") as collector:
        for words in (
            ["gentoo", "--sync-type", "git", "--sync-uri", "ext::sh -c id"],
            ["gentoo", "--sync-type", "rsync", "--sync-uri", "-e/bin/sh"],
            ["gentoo"],
        ):
            done = run([*BDCS, "repository", "add", *words, "--data", collector.data])
            assert done.returncode == 2, done
