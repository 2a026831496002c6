# SPDX-License-Identifier: GPL-2.0-or-later
"""Repositories brought here by real git and rsync, and what hostile ones try on the way."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bdcs.domain.ebuild_repositories import DAY, OFTEN, SyncType, check_uri, interval
from bdcs.errors import RepositoryRefused, SyncFailed
from bdcs.services import syncing
from bdcs.services.refreshing import Refreshed
from tests.ebuild_repositories import Catalogue, Tree, new_catalogue
from tests.processes import Process, free_port
from tests.waiting import until


@pytest.fixture
def stocks(tmp_path: Path) -> Iterator[Catalogue]:
    with new_catalogue(tmp_path / "data") as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree.create(tmp_path / "upstream")
    tree.add("dev-libs/a-1")
    git(tree.root, "init", "--quiet", "--initial-branch=main")
    commit(tree)
    return tree


def git(directory: Path, *words: str) -> str:
    settings = [
        "user.name=T",
        "user.email=t@example.org",
        "protocol.file.allow=always",
        "commit.gpgSign=false",
    ]
    options = [option for setting in settings for option in ("-c", setting)]
    done = subprocess.run(
        ["git", *options, "-C", directory, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(tree: Tree) -> str:
    git(tree.root, "add", "--all")
    git(tree.root, "commit", "--quiet", "--message=Change")
    return git(tree.root, "rev-parse", "HEAD")


def uri(tree: Tree) -> str:
    return f"file://{tree.root}"


def test_a_git_repository_is_followed(stocks: Catalogue, tree: Tree) -> None:
    added = stocks.add("gentoo", SyncType.GIT, sync_uri=uri(tree))
    assert added.location == stocks.data / "repositories/gentoo"
    assert stocks.refresher.refresh("gentoo") == Refreshed(added=1)
    assert stocks.status().revision == git(tree.root, "rev-parse", "HEAD")
    assert stocks.refresher.refresh("gentoo") == Refreshed()
    tree.add("dev-libs/a-2")
    tree.remove("dev-libs/a-1")
    tree.entry("dev-libs/a-1").unlink()
    newest = commit(tree)
    assert stocks.refresher.refresh("gentoo") == Refreshed(added=1, removed=1)
    assert stocks.versions("dev-libs/a") == ["2"]
    assert stocks.status().revision == newest


def test_history_that_was_rewritten_is_followed_too(stocks: Catalogue, tree: Tree) -> None:
    stocks.add("gentoo", SyncType.GIT, sync_uri=uri(tree))
    tree.add("dev-libs/b-1")
    commit(tree)
    assert stocks.refresher.refresh("gentoo") == Refreshed(added=2)
    git(tree.root, "reset", "--quiet", "--hard", "HEAD~1")
    tree.add("dev-libs/c-1")
    commit(tree)
    (added := stocks.data / "repositories/gentoo/dev-libs/x").mkdir()
    assert stocks.refresher.refresh("gentoo") == Refreshed(added=1, removed=1)
    assert added.is_dir(), "what git does not know is left alone"


def test_what_upstream_breaks_stays_as_it_was(stocks: Catalogue, tree: Tree) -> None:
    stocks.add("gentoo", SyncType.GIT, sync_uri=uri(tree))
    stocks.refresher.refresh("gentoo")
    tree.root.rename(aside := tree.root.with_name("aside"))
    with pytest.raises(SyncFailed, match="git"):
        stocks.refresher.refresh("gentoo")
    status = stocks.status()
    assert status.problem is not None
    assert status.problem.startswith("git: ")
    assert status.due_at == (status.tried_at or 0) + OFTEN
    assert stocks.versions("dev-libs/a") == ["1"]
    aside.rename(tree.root)
    assert stocks.refresher.refresh("gentoo") == Refreshed()
    assert stocks.status().problem is None


def test_nothing_of_a_hostile_repository_runs(stocks: Catalogue, tree: Tree, tmp_path: Path) -> None:
    """Hooks, filters, submodules, links out of the tree: none does what it is for."""
    mark = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(mark))}\n")
    program.chmod(0o755)
    other = Tree.create(tmp_path / "submodule", "sub")
    git(other.root, "init", "--quiet", "--initial-branch=main")
    commit(other)
    git(tree.root, "submodule", "--quiet", "add", f"file://{other.root}", "sub")
    (tree.root / ".gitattributes").write_text("* filter=evil\n")
    (tree.root / ".lfsconfig").write_text("[lfs]\n\turl = https://example.org/\n")
    secret = tmp_path / "secret"
    secret.write_text("SLOT=0\nDESCRIPTION=A secret\n")
    tree.ebuild("dev-libs/link-1")
    tree.entry("dev-libs/link-1").symlink_to(secret)
    (tree.root / "dev-evil").symlink_to("/")
    commit(tree)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[filter "evil"]\n\tsmudge = {program}\n\trequired = true\n[core]\n\tfsmonitor = {program}\n'
        f"\thooksPath = {tmp_path}\n"
    )
    (tmp_path / "post-checkout").symlink_to(program)
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(home)
    try:
        stocks.add("gentoo", SyncType.GIT, sync_uri=uri(tree))
        refreshed = stocks.refresher.refresh("gentoo")
    finally:
        os.environ["HOME"] = before or "/"
    location = stocks.data / "repositories/gentoo"
    assert refreshed == Refreshed(added=1, unreadable=1), "a link is a file that holds a path"
    assert not mark.exists()
    assert not (location / "sub/profiles").exists()
    assert not any(path.is_symlink() for path in location.rglob("*"))


def test_a_directory_with_something_else_is_not_overwritten(
    stocks: Catalogue, tree: Tree, tmp_path: Path
) -> None:
    (place := tmp_path / "mine").mkdir()
    (place / "file").write_text("precious")
    stocks.add("gentoo", SyncType.GIT, sync_uri=uri(tree), location=place)
    with pytest.raises(RepositoryRefused, match="overwritten"):
        stocks.refresher.refresh("gentoo")
    assert "overwritten" in (stocks.status().problem or "")
    assert (place / "file").read_text() == "precious"


def test_what_takes_too_long_is_ended_with_its_children(
    stocks: Catalogue, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (programs := tmp_path / "bin").mkdir()
    pids = tmp_path / "pids"
    hanging = programs / "git"
    hanging.write_text(f"#!/bin/sh\nsleep 600 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait\n")
    hanging.chmod(0o755)
    stocks.add("gentoo", SyncType.GIT, sync_uri=uri(tree))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(syncing, "SHORT_LIMIT", 0.5)
    with pytest.raises(SyncFailed, match="ended after"):
        stocks.refresher.refresh("gentoo")
    until(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()), what="nothing left of it")


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("sync_type", "uri"),
    [
        ("git", "ext::sh -c touch% /tmp/x"),
        ("git", "fd::3"),
        ("git", "--upload-pack=touch"),
        ("git", "-oProxyCommand=touch"),
        ("git", "ssh://-oProxyCommand=touch/x"),
        ("git", "git@example.org:x"),
        ("git", "http://example.org/x"),
        ("git", "git://example.org/x"),
        ("git", "/srv/x"),
        ("git", "https://example.org/x\n--upload-pack=touch"),
        ("git", "https://{}@example.org/x".format("user:password")),
        ("rsync", "-e sh"),
        ("rsync", "example.org:x"),
        ("rsync", "rsync://example.org/x y"),
        ("rsync", "https://example.org/"),
        ("rsync", ""),
        ("local", "file:///x"),
    ],
)
def test_addresses_that_are_none(sync_type: str, uri: str) -> None:
    with pytest.raises(RepositoryRefused):
        check_uri(SyncType(sync_type), uri)


@pytest.mark.parametrize(
    ("sync_type", "uri"),
    [
        ("git", "https://anongit.gentoo.org/git/repo/gentoo.git"),
        ("git", "ssh://git@example.org:2222/~me/overlay.git"),
        ("git", "https://[2001:db8::1]/x"),
        ("git", "file:///var/db/repos/gentoo"),
        ("rsync", "rsync://rsync.gentoo.org/gentoo-portage"),
        ("rsync", "rsync://127.0.0.1:1873/gentoo/"),
    ],
)
def test_addresses_that_are_some(sync_type: str, uri: str) -> None:
    assert check_uri(SyncType(sync_type), uri) == uri


def test_how_often() -> None:
    assert interval(SyncType.GIT, own_mirror=False) == interval(SyncType.LOCAL, own_mirror=False) == OFTEN
    assert interval(SyncType.RSYNC, own_mirror=False) == DAY
    assert interval(SyncType.RSYNC, own_mirror=True) == OFTEN


# rsync


@contextmanager
def rsync_daemon(directory: Path, path: Path) -> Iterator[str]:
    """A daemon on loopback with `path` as its module `gentoo`; gives the module's URI."""
    port = free_port()
    configuration = directory / "rsyncd.conf"
    configuration.write_text(
        f"use chroot = no\nmunge symlinks = no\nuid = root\ngid = root\nlog file = /dev/stdout\n"
        f"[gentoo]\npath = {path}\nread only = yes\n"
    )
    argv = ["rsync", "--daemon", "--no-detach", f"--config={configuration}", "--address=127.0.0.1"]
    with Process([*argv, f"--port={port}"], log=directory / "rsyncd.log") as process:
        process.until_printed("listening on port|rsyncd version")
        yield f"rsync://127.0.0.1:{port}/gentoo"


def test_an_rsync_mirror_is_followed(stocks: Catalogue, tree: Tree, tmp_path: Path) -> None:
    (tree.root / "dev-evil").symlink_to("/etc")
    tree.ebuild("dev-libs/link-1")
    tree.entry("dev-libs/link-1").symlink_to("/etc/passwd")
    (tree.root / "large").write_bytes(b"\0" * (9 << 20))
    with rsync_daemon(tmp_path, tree.root) as source:
        added = stocks.add("gentoo", SyncType.RSYNC, sync_uri=source)
        assert stocks.refresher.refresh("gentoo") == Refreshed(added=1)
        assert not any(path.is_symlink() for path in added.location.rglob("*"))
        assert not (added.location / "large").exists()
        assert not (added.location / ".git").exists()
        assert stocks.status().due_at == (stocks.status().tried_at or 0) + DAY
        tree.add("dev-libs/a-2")
        tree.remove("dev-libs/a-1")
        assert stocks.refresher.refresh("gentoo") == Refreshed(added=1, removed=1)
    with pytest.raises(SyncFailed, match="rsync"):
        stocks.refresher.refresh("gentoo")
    assert stocks.versions("dev-libs/a") == ["2"]
