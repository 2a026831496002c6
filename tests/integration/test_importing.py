# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs import`: what is new is published, what is no package is named, what was read is not read again."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdcs.domain.gpkg.reading import read_package
from bdcs.domain.targets import Cause
from bdcs.errors import PackageRefused
from bdcs.services import generations, targets
from bdcs.services.importing import ALONE, Imported, import_directory
from tests.packages import make_gpkg
from tests.processes import BDCS, environment, run
from tests.publishing import Site
from tests.signing import running_signer, short_directory
from tests.waiting import until
from tests.world import World

LEFT_BEHIND = {
    "app-misc/alpha/alpha-1.0-2.gpkg.tar": b"",  # a number that Portage reserved
    "app-misc/alpha/alpha-1.0-3.gpkg.tar0k2j.12345": b"half a package",
    "app-misc/alpha/alpha-1.0-4.gpkg.tar.partial": b"half a download",
    "app-misc/alpha/.alpha-1.0-4.gpkg.tar.portage_lockfile": b"",
    "app-misc/alpha/alpha-1.0-4.gpkg.tar._checksum_failure_.x": b"bad",
    "Packages": b"VERSION: 0\n\n",
    "Packages.gz": b"\x1f\x8b",
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A target `open` where signatures are optional, and nobody signs."""
    site = Site.create(tmp_path / "data")
    site.add_target("open", signatures="optional")
    yield site
    site.publisher.close()


@pytest.fixture
def pkgdir(tmp_path: Path) -> Path:
    """A PKGDIR with three packages, and what Portage leaves behind."""
    place = tmp_path / "pkgdir"
    add(place, "app-misc/alpha-1.0", build_id=1)
    add(place, "dev-libs/libfoo-2-r1", build_id=3)
    make_gpkg(place / "app-misc/beta-3.gpkg.tar", cpv="app-misc/beta-3", build_id=None)
    for name, content in LEFT_BEHIND.items():
        (place / name).write_bytes(content)
    return place


def add(pkgdir: Path, cpv: str, *, build_id: int, content: bytes = b"it") -> Path:
    """Put a package where Portage keeps it."""
    category, pf = cpv.split("/")
    name = pf.removesuffix("-r1").rpartition("-")[0]
    path = pkgdir / f"{category}/{name}/{pf}-{build_id}.gpkg.tar"
    return make_gpkg(path, cpv=cpv, build_id=build_id, image={"usr/bin/it": content})


def take_over(site: Site, directory: Path, target: str = "open", *, dry_run: bool = False) -> Imported:
    def ignore(_error: PackageRefused) -> None:
        """It is in the result."""

    return import_directory(
        site.publisher, directory, target, refused=ignore, progress=lambda done, total: None, dry_run=dry_run
    )


def counts(imported: Imported) -> tuple[int, int, int, int]:
    return imported.published, imported.known, imported.unchanged, len(imported.refused)


def test_packages_become_one_generation(site: Site, pkgdir: Path) -> None:
    imported = take_over(site, pkgdir)
    assert counts(imported) == (3, 0, 0, 0)
    assert imported.generation == 1
    assert site.paths("open") == [
        "app-misc/alpha/alpha-1.0-1.gpkg.tar",
        "app-misc/beta/beta-3-1.gpkg.tar",
        "dev-libs/libfoo/libfoo-2-r1-3.gpkg.tar",
    ]
    with site.publisher.reading() as connection:
        assert generations.require(connection, site.target("open"), 1).cause == "import"
    assert {row.origin for row in site.builds("open")} == {"import"}
    site.assert_consistent()


def test_what_was_read_is_not_read_again(site: Site, pkgdir: Path) -> None:
    take_over(site, pkgdir)
    path = pkgdir / "app-misc/alpha/alpha-1.0-1.gpkg.tar"
    status = path.stat()
    path.write_bytes(bytes(status.st_size))  # nothing of it can be read now, but nobody tries
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert counts(take_over(site, pkgdir)) == (0, 0, 3, 0)
    assert site.target("open").generation == 1


def test_only_what_is_new_or_changed_is_read(site: Site, pkgdir: Path) -> None:
    take_over(site, pkgdir)
    os.utime(pkgdir / "app-misc/beta-3.gpkg.tar")  # touched, and the same
    add(pkgdir, "app-misc/alpha-1.0", build_id=1, content=b"built again")
    add(pkgdir, "app-misc/gamma-1", build_id=1)
    imported = take_over(site, pkgdir)
    assert counts(imported) == (2, 1, 1, 0)
    assert "app-misc/alpha/alpha-1.0-2.gpkg.tar" in site.paths("open")
    assert counts(take_over(site, pkgdir)) == (0, 0, 4, 0)
    site.assert_consistent()


def test_what_was_withdrawn_does_not_come_back_by_itself(site: Site, pkgdir: Path) -> None:
    take_over(site, pkgdir)
    with site.publisher.writing() as connection:
        target = targets.require(connection, "open")
        first = site.builds("open")[0].id
        generations.advance(connection, target, [], [first], cause=Cause.PRUNE, actor="admin")
    assert counts(take_over(site, pkgdir)) == (0, 0, 3, 0)


def test_bad_packages_are_named_and_the_others_published(site: Site, pkgdir: Path) -> None:
    whole = (pkgdir / "dev-libs/libfoo/libfoo-2-r1-3.gpkg.tar").read_bytes()
    bad = {
        "dev-libs/libfoo/libfoo-2-r1-4.gpkg.tar": whole[:4000],
        "dev-libs/libfoo/libfoo-3-1.gpkg.tar": b"no package at all",
        "dev-libs/other/libfoo-2-r1-3.gpkg.tar": whole,  # in another package's directory
        "dev-libs/libfoo/libfoo-2-r1-7.gpkg.tar": whole,  # under another number
    }
    for name, content in bad.items():
        (pkgdir / name).parent.mkdir(parents=True, exist_ok=True)
        (pkgdir / name).write_bytes(content)
    add(pkgdir, "app-misc/foreign-1", build_id=1)
    make_gpkg(
        pkgdir / "app-misc/foreign/foreign-1-1.gpkg.tar",
        cpv="app-misc/foreign-1",
        metadata={"CHOST": "riscv64-unknown-linux-gnu"},
    )
    imported = take_over(site, pkgdir)
    assert counts(imported) == (3, 0, 0, 5)
    reasons = {str(Path(error.file).relative_to(pkgdir)): error.reason for error in imported.refused}
    assert reasons.keys() == {*bad, "app-misc/foreign/foreign-1-1.gpkg.tar"}
    assert "cut off" in reasons["dev-libs/libfoo/libfoo-2-r1-4.gpkg.tar"]
    assert "does not begin as" in reasons["dev-libs/libfoo/libfoo-3-1.gpkg.tar"]
    assert "its name is not that of" in reasons["dev-libs/other/libfoo-2-r1-3.gpkg.tar"]
    assert "CHOST" in reasons["app-misc/foreign/foreign-1-1.gpkg.tar"]
    assert counts(take_over(site, pkgdir)) == (0, 0, 3, 5)  # they are named until somebody mends them
    site.assert_consistent()


def test_part_of_a_pkgdir_can_be_taken_over(site: Site, pkgdir: Path) -> None:
    assert counts(take_over(site, pkgdir / "dev-libs")) == (1, 0, 0, 0)
    assert counts(take_over(site, pkgdir / "app-misc/alpha")) == (1, 0, 0, 0)


def test_links_are_not_followed(site: Site, pkgdir: Path, tmp_path: Path) -> None:
    add(tmp_path / "elsewhere", "app-misc/secret-1", build_id=1)
    (pkgdir / "app-misc/secret").symlink_to(tmp_path / "elsewhere/app-misc/secret")
    (pkgdir / "app-misc/secret-1.gpkg.tar").symlink_to(
        tmp_path / "elsewhere/app-misc/secret/secret-1-1.gpkg.tar"
    )
    assert counts(take_over(site, pkgdir)) == (3, 0, 0, 0)


def test_dry_run_says_the_same_and_keeps_nothing(site: Site, pkgdir: Path) -> None:
    (pkgdir / "app-misc/bad-1.gpkg.tar").write_bytes(b"bad")
    assert counts(take_over(site, pkgdir, dry_run=True)) == (3, 0, 0, 1)
    assert site.files() == []
    assert site.target("open").generation == 0
    assert counts(take_over(site, pkgdir)) == (3, 0, 0, 1)
    os.utime(pkgdir / "app-misc/beta-3.gpkg.tar")
    assert counts(take_over(site, pkgdir, dry_run=True)) == (0, 1, 2, 1)


def test_several_processes_find_what_one_finds(site: Site, tmp_path: Path) -> None:
    pkgdir = tmp_path / "large"
    for number in range(3 * ALONE):
        add(pkgdir, f"app-misc/p{number}-1", build_id=1 + number % 3)
    (pkgdir / "app-misc/bad-1.gpkg.tar").write_bytes(b"bad")
    seen: list[tuple[int, int]] = []
    imported = import_directory(
        site.publisher,
        pkgdir,
        "open",
        refused=lambda error: None,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert counts(imported) == (3 * ALONE, 0, 0, 1)
    assert seen[-1] == (3 * ALONE + 1, 3 * ALONE + 1)
    assert len(site.listed("open")) == 3 * ALONE
    assert counts(take_over(site, pkgdir)) == (0, 0, 3 * ALONE, 1)
    site.assert_consistent()


def test_where_signatures_are_required_what_is_unsigned_is_signed(tmp_path: Path, pkgdir: Path) -> None:
    with short_directory() as directory, running_signer(directory) as signer:
        fingerprint = signer.create_key()
        site = Site.create(tmp_path / "signed", signer=signer.socket)
        site.add_target("signed")
        assert counts(take_over(site, pkgdir, "signed")) == (3, 0, 0, 0)
        assert {row.signed_by for row in site.builds("signed")} == {fingerprint}
        assert [row.build_id for row in site.builds("signed")] == [1, 1, 1]
        for path in site.paths("signed"):
            assert read_package(site.file("signed", path)).signed
        assert counts(take_over(site, pkgdir, "signed")) == (0, 0, 3, 0)
        site.assert_consistent()
        site.publisher.close()


def test_pkgdir_of_a_real_emerge(site: Site, tmp_path: Path) -> None:
    world = World.create(tmp_path / "world")
    for cpv in ("app-misc/alpha-1.0", "app-misc/beta-2-r1"):
        world.ebuild(cpv)
    world.emerge("--buildpkgonly", "=app-misc/alpha-1.0", "=app-misc/beta-2-r1")
    assert counts(take_over(site, world.pkgdir)) == (2, 0, 0, 0)
    assert [entry["CPV"] for entry in site.listed("open")] == ["app-misc/alpha-1.0", "app-misc/beta-2-r1"]
    world.emerge("--buildpkgonly", "=app-misc/alpha-1.0")
    assert counts(take_over(site, world.pkgdir)) == (1, 0, 2, 0)
    site.assert_consistent()


# The command.


def import_command(site: Site, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run(
        [*BDCS, "import", *arguments, "--target", "open", "--data", site.data],
        env=environment(BDCS_SIGNER=str(site.data / "nobody-signs")),
    )


def test_command_names_what_it_refused_and_ends_with_1(site: Site, pkgdir: Path) -> None:
    done = import_command(site, pkgdir)
    assert done.returncode == 0, done.stderr
    assert "open: 3 published, 0 published before, 0 unchanged" in done.stdout
    bad = pkgdir / "app-misc/bad-1.gpkg.tar"
    bad.write_bytes(b"bad")
    done = import_command(site, pkgdir, "--json")
    assert done.returncode == 1
    assert f"bdcs: {bad}: " in done.stderr
    document = json.loads(done.stdout)
    assert (document["published"], document["unchanged"], document["generation"]) == (0, 3, 1)
    assert [refused["file"] for refused in document["refused"]] == [str(bad)]
    assert import_command(site, pkgdir / "nowhere").returncode == 1


def test_killed_import_leaves_nothing_that_upkeep_does_not_remove(site: Site, tmp_path: Path) -> None:
    pkgdir = tmp_path / "large"
    for number in range(20 * ALONE):
        add(pkgdir, f"app-misc/p{number}-1", build_id=1)
    process = subprocess.Popen(
        [*BDCS, "import", pkgdir, "--target", "open"],
        env=environment(BDCS_SIGNER=str(site.data / "nobody-signs"), BDCS_DATA=str(site.data)),
        stdout=subprocess.DEVNULL,
    )
    with process:
        until(lambda: len(site.files()) > ALONE, what="copies in quarantine")
        process.send_signal(signal.SIGKILL)
        process.wait()
    tidied = until(lambda: site.upkeep().tidy().workspaces, what="a workspace without its processes")
    assert tidied == 1
    assert site.files() == []
    assert counts(take_over(site, pkgdir)) == (20 * ALONE, 0, 0, 0)
    site.assert_consistent()
