# SPDX-License-Identifier: GPL-2.0-or-later
"""What leaves the machine: docs/privacy.md promises these."""

from __future__ import annotations

from pathlib import Path

import pytest

from gentwoo_client.installed import InstalledPackages
from gentwoo_client.privacy import Privacy
from gentwoo_client.repositories import Repositories


def make_repository(location: Path, name: str | None, *ebuilds: str) -> Path:
    (location / "profiles").mkdir(parents=True)
    if name is not None:
        (location / "profiles" / "repo_name").write_text(f"{name}\n")
    for ebuild in ebuilds:
        path = location / ebuild
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return location


ALPHA = "app-misc/alpha/alpha-1.0.ebuild"


def rules(eprefix: Path | str = "", *allowed: str, since: int | None = 0) -> Privacy:
    return Privacy(
        own_root=str(eprefix),
        allowed=allowed or ("gentoo", "guru"),
        since=since,
        repositories=Repositories(str(eprefix)),
    )


@pytest.mark.parametrize(
    ("own", "root", "is_own"),
    [
        ("", "/", True),
        ("", None, True),
        ("", "/mnt/target/", False),
        ("/home/larry/gentoo", "/home/larry/gentoo/", True),
        ("/home/larry/gentoo", "/", False),
    ],
)
def test_only_the_own_root_is_reported(own: str, root: str | None, is_own: bool) -> None:
    assert rules(own).is_own(root) is is_own


def test_repositories_off_the_list_stay_here() -> None:
    assert rules().may_name("gentoo", "app-misc", "alpha", "1.0")
    assert not rules().may_name("secret-overlay", "app-misc", "alpha", "1.0")
    assert rules("", "*").may_name("secret-overlay", "app-misc", "alpha", "1.0")
    assert rules("", "*").may_name(None, "app-misc", "alpha", "1.0")


def test_an_unknown_repository_needs_that_very_ebuild_in_an_allowed_one(tmp_path: Path) -> None:
    make_repository(tmp_path / "var/db/repos/gentoo", "gentoo", ALPHA)
    make_repository(tmp_path / "var/db/repos/mine", "mine", "app-misc/fork/fork-1.0.ebuild")
    assert rules(tmp_path).may_name(None, "app-misc", "alpha", "1.0")
    assert not rules(tmp_path).may_name(None, "app-misc", "alpha", "1.0-r1")
    assert not rules(tmp_path).may_name(None, "app-misc", "fork", "1.0")


@pytest.mark.parametrize(
    ("since", "recorded_at", "is_past", "may"),
    [
        (0, 5, True, True),
        (None, 5, True, False),
        (None, 5, False, True),
        (10, 9, True, False),
        (10, 10, True, True),
        (10, 9, False, True),
    ],
)
def test_history_decides_about_the_past_only(
    since: int | None, recorded_at: int, is_past: bool, may: bool
) -> None:
    assert rules(since=since).may_tell(recorded_at, is_past=is_past) is may


def test_the_name_of_a_repository_is_what_it_says_itself(tmp_path: Path) -> None:
    repositories = Repositories(str(tmp_path))
    tree = make_repository(tmp_path / "srv/my-tree", "my-overlay", ALPHA)
    assert repositories.of_ebuild(f"{tree}/{ALPHA}") == "my-overlay"
    fork = make_repository(tmp_path / "var/db/repos/gentoo", "my-fork", ALPHA)
    assert repositories.of_ebuild(f"{fork}/{ALPHA}") == "my-fork"
    nameless = make_repository(tmp_path / "var/db/repos/guru", None, ALPHA)
    assert repositories.of_ebuild(f"{nameless}/{ALPHA}") is None
    (tmp_path / "srv/broken/profiles").mkdir(parents=True)
    (tmp_path / "srv/broken/profiles/repo_name").write_bytes(b"\xff no name\n")
    assert repositories.of_ebuild(f"{tmp_path}/srv/broken/{ALPHA}") is None


def test_places_that_are_gone_are_named_by_convention(tmp_path: Path) -> None:
    repositories = Repositories(str(tmp_path))
    assert repositories.of_ebuild(f"{tmp_path}/usr/portage/{ALPHA}") == "gentoo"
    assert repositories.of_ebuild(f"{tmp_path}/var/db/repos/guru/{ALPHA}") == "guru"
    assert repositories.of_ebuild(f"{tmp_path}/srv/gentoo/{ALPHA}") is None


def test_the_database_of_installed_packages_is_asked_each_time(tmp_path: Path) -> None:
    installed = InstalledPackages(str(tmp_path))
    assert installed.since("app-misc", "alpha-1.0") is None
    assert installed.repository("app-misc", "alpha-1.0") is None
    entry = tmp_path / "var/db/pkg/app-misc/alpha-1.0"
    entry.mkdir(parents=True)
    (entry / "repository").write_text("gentoo\n")
    assert installed.since("app-misc", "alpha-1.0") == int(entry.stat().st_mtime)
    assert installed.repository("app-misc", "alpha-1.0") == "gentoo"
    (entry / "repository").write_text("no name at all\n")
    assert installed.repository("app-misc", "alpha-1.0") is None
