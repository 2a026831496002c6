# SPDX-License-Identifier: GPL-2.0-or-later
"""Our overlay as pkgcheck sees it, with a stand-in for the master (tests/packaging/stub_repository.py)."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dev.places import PKGCHECK, ROOT
from tests.packaging import stub_repository

pytestmark = [pytest.mark.timeout(300)]


def scan(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run pkgcheck on a copy of the overlay; it looks for its configuration above its own prefix."""
    shutil.rmtree(PKGCHECK / "etc", ignore_errors=True)
    stub_repository.make(directory / "gentoo")
    stub_repository.put(
        PKGCHECK / "etc/portage/repos.conf",
        "[DEFAULT]\nmain-repo = gentoo\n"
        f"[gentoo]\nlocation = {directory}/gentoo\n[gentwoo]\nlocation = {directory}/overlay\n",
    )
    stub_repository.put(PKGCHECK / "etc/portage/make.conf", "")
    (PKGCHECK / "etc/portage/make.profile").symlink_to(directory / "gentoo/profiles/default")
    return subprocess.run(
        [PKGCHECK / "venv/bin/pkgcheck", "scan", "-r", "gentwoo", "--exit"],
        cwd=directory / "overlay",
        env={**os.environ, "HOME": str(directory), "XDG_CACHE_HOME": str(directory / "cache")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_pkgcheck_finds_nothing(tmp_path: Path) -> None:
    stub_repository.overlay(tmp_path / "overlay")
    done = scan(tmp_path)
    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("~amd64 ~arm64", "~amd65", "UnknownKeywords"),
        ('LICENSE="GPL-2+"', 'LICENSE="GPL-7"', "UnknownLicense"),
        ("dev-python/aiohttp[", "dev-python/aiohtml[", "NonexistentDeps"),
    ],
)
def test_pkgcheck_would_find_something(tmp_path: Path, old: str, new: str, finding: str) -> None:
    overlay = stub_repository.overlay(tmp_path / "overlay")
    ebuild = overlay / "app-portage/gentwoo/gentwoo-0.1.0.ebuild"
    assert old in ebuild.read_text()
    ebuild.write_text(ebuild.read_text().replace(old, new))
    assert finding in scan(tmp_path).stdout


@pytest.mark.parametrize("package", ["bdcs", "gentwoo"])
def test_release_and_live_ebuild_are_one_text(package: str) -> None:
    texts = {path.read_text() for path in (ROOT / "ebuild/app-portage" / package).glob("*.ebuild")}
    assert len(texts) == 1
