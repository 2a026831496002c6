# SPDX-License-Identifier: GPL-2.0-or-later
"""The Manifests of the release: they name the archive of the commit that they were made of."""

from pathlib import Path

import pytest

from dev.dist import PACKAGES, build, git, manifest_line
from dev.places import ROOT
from gentwoo_client.version import VERSION

pytestmark = [pytest.mark.timeout(600)]

MANIFESTS = [f"ebuild/{package}/Manifest" for package in PACKAGES]


def test_they_name_what_make_dist_makes_of_their_commit(tmp_path: Path) -> None:
    """Should this fail: `make dist`, and commit the Manifests alone."""
    commit = git("log", "-1", "--format=%H", "--", *MANIFESTS).strip()
    source, _ = build(tmp_path, commit)
    assert {(ROOT / name).read_text() for name in MANIFESTS} == {manifest_line(source)}


@pytest.mark.parametrize("package", PACKAGES)
def test_they_are_of_the_version_that_this_is(package: str) -> None:
    name = package.partition("/")[2]
    releases = {path.stem for path in (ROOT / "ebuild" / package).glob("*.ebuild")} - {f"{name}-9999"}
    assert releases == {f"{name}-{VERSION}"}
    assert (ROOT / "ebuild" / package / "Manifest").read_text().startswith(f"DIST gentwoo-{VERSION}.tar.gz ")
