# SPDX-License-Identifier: GPL-2.0-or-later
"""Our index of packages that real emerge built, beside what `emaint binhost --fix` writes for the same files.

Both are read by Portage's own `PackageIndex`, set up as its binary package database sets it up. What differs
is what has to: the time of writing, and which revision of a repository somebody had.
"""

import dataclasses
import gzip
import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pkgcore.binpkg.remote import PackagesCacheV0

from bdcs.blobs.index_files import PACKED, PLAIN
from bdcs.domain.gpkg.reading import read_package
from bdcs.domain.packages_index import entry, path_of
from bdcs.errors import Unlistable
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.errors import InvalidCPV
from tests.index_rows import START, IndexRows, made
from tests.packages import make_gpkg
from tests.world import World

pytestmark = [pytest.mark.timeout(300)]

RICH = """\
EAPI=8
DESCRIPTION="has something of everything"
HOMEPAGE="https://example.org/"
LICENSE="|| ( GPL-2 MIT ) doc? ( CC-BY-4.0 )"
SLOT="2/2.1"
KEYWORDS="amd64 ~arm64 -sparc"
IUSE="+ssl doc test"
RESTRICT="!test? ( test )"
PROPERTIES="doc? ( interactive )"
BDEPEND=">=app-misc/plain-1"
IDEPEND="app-misc/plain"
RDEPEND="ssl? ( app-misc/plain:= app-misc/lib++[doc?] ) !ssl? ( || ( ( app-misc/a app-misc/b ) app-misc/c ) )
	!!<app-misc/old-3 doc? ( ssl? ( =app-misc/deep-1* ) )"
PDEPEND="|| ( app-misc/plain )"
S="${WORKDIR}"
src_install() { dodir /usr; echo "${USE}" > "${ED}/usr/rich-${PV}"; }
pkg_postinst() { :; }
"""

READ = """
import gzip, json, sys
import portage
bintree = portage.db[portage.settings["EROOT"]]["bintree"]
found = []
for path in sys.argv[1:]:
    index = bintree._new_pkgindex()
    opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")
    with opened as file:
        index.read(file)
    for package in index.packages:
        cpv = portage.versions._pkg_str(package["CPV"], metadata=package, settings=bintree.settings)
        assert cpv.file_size == int(package["SIZE"]) and cpv.mtime == int(package["_mtime_"])
    found.append([index.header, index.packages])
json.dump(found, sys.stdout)
"""

Index = tuple[dict[str, str], list[dict[str, str]]]
NOT_COMPARED = ("TIMESTAMP", "REPO_REVISIONS")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with a PKGDIR of many kinds of packages, indexed by emaint and nobody else."""
    world = World.create(tmp_path_factory.mktemp("world"))
    world.ebuild("app-misc/plain-1.0")
    world.ebuild("app-misc/lib++-1.0_p2-r3", slot="0/7")
    world.ebuild("app-misc/nokeywords-9999", keywords="")
    world.ebuild("app-misc/two-1.10", rdepend="app-misc/plain:=")
    world.ebuild("app-misc/two-1.9", restrict="mirror bindist")
    world.write_ebuild("app-misc", "rich", "rich-1.2-r3", RICH)
    world.write_ebuild(
        "app-misc", "older", "older-1", RICH.replace("EAPI=8", "EAPI=7").replace("IDEPEND", "X")
    )
    world.emerge("--buildpkg", "app-misc/plain")
    build = ("--buildpkgonly", "--nodeps", "--usepkg=n")
    names = (
        "app-misc/lib++",
        "=app-misc/two-1.10",
        "=app-misc/two-1.9",
        "=app-misc/nokeywords-9999",
        "app-misc/older",
    )
    world.emerge(*build, *names, env={"ACCEPT_KEYWORDS": "**"})
    for flags in ("ssl -doc", "-ssl doc", "ssl doc test"):
        world.emerge(*build, "app-misc/rich", env={"USE": flags})
    for name in (PLAIN, PACKED):
        (world.pkgdir / name).unlink()
    portage(world, "emaint", "binhost", "--fix")
    return world


@pytest.fixture(scope="module")
def ours(world: World, tmp_path_factory: pytest.TempPathFactory) -> IndexRows:
    """The same packages at a target whose header says the same."""
    [(theirs, _)] = read(world, world.pkgdir / PLAIN)
    own = {"CHOST", "PROFILE", "VERSION", "PACKAGES", "repository", *NOT_COMPARED}
    fields = {key: value for key, value in theirs.items() if key not in own and value}
    rows = IndexRows.create(
        tmp_path_factory.mktemp("data"), chost=theirs["CHOST"], profile=theirs["PROFILE"], header=fields
    )
    rows.publish([row(path, world.pkgdir) for path in sorted(world.pkgdir.rglob("*.gpkg.tar"))])
    assert rows.write()
    return rows


def row(path: Path, pkgdir: Path) -> dict[str, Any]:
    package = read_package(path)
    name = str(path.relative_to(pkgdir))
    assert package.build_id is not None
    text = entry(package, path=name, build_id=package.build_id, mtime=int(path.stat().st_mtime))
    return {**made(str(package.cpv), package.build_id), "path": name, "entry": text}


def portage(world: World, command: str, *arguments: str | Path) -> str:
    """What one of Portage's commands, or its Python, prints in this world."""
    done = subprocess.run(
        [world.portage_bin / command, *arguments],
        env=world.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read(world: World, *paths: Path) -> list[Index]:
    """These indexes as Portage reads them: headers, and packages by Portage's internal names."""
    found = json.loads(portage(world, "python", "-c", READ, *paths))
    return [(header, packages) for header, packages in found]


def compared(index: Index) -> Index:
    header, packages = index
    kept = {key: value for key, value in header.items() if key not in NOT_COMPARED}
    return kept, sorted(packages, key=lambda package: package["PATH"])


def test_the_world_has_what_is_worth_comparing(world: World) -> None:
    [(header, packages)] = read(world, world.pkgdir / PLAIN)
    assert len(packages) == 9
    assert {"ARCH", "IUSE_IMPLICIT", "CHOST", "PROFILE"} <= header.keys() | {"ARCH"}
    assert (
        len({package["BUILD_ID"] for package in packages if package["CPV"].startswith("app-misc/rich")}) == 3
    )
    assert {key for package in packages for key, value in package.items() if value} >= {
        *("BDEPEND", "IDEPEND", "PDEPEND", "RDEPEND", "LICENSE", "PROPERTIES", "RESTRICT", "DEFINED_PHASES"),
        *("IUSE", "USE", "SLOT", "BUILD_TIME", "repository", "MD5", "SHA1", "KEYWORDS", "CHOST"),
    }


def test_portage_reads_from_ours_what_it_reads_from_its_own(world: World, ours: IndexRows) -> None:
    theirs, plain, packed = read(world, world.pkgdir / PLAIN, ours.files.path(PLAIN), ours.files.path(PACKED))
    assert compared(plain) == compared(theirs)
    assert packed == plain


def test_entries_have_portages_order(world: World, ours: IndexRows) -> None:
    theirs, plain = read(world, world.pkgdir / PLAIN, ours.files.path(PLAIN))
    assert [package["CPV"] for package in plain[1]] == [package["CPV"] for package in theirs[1]]
    keys = [
        line.partition(":")[0] for line in ours.files.path(PLAIN).read_text().split("\n\n")[1].split("\n")
    ]
    written = [
        line.partition(":")[0] for line in (world.pkgdir / PLAIN).read_text().split("\n\n")[1].split("\n")
    ]
    assert [key for key in keys if key != "CHOST"] == written


def test_an_index_of_many_members_is_read_by_gzip_and_python(ours: IndexRows, tmp_path: Path) -> None:
    rows = IndexRows.create(tmp_path)
    rows.publish([made(f"dev-libs/p{number}-1") for number in range(2000)])
    rows.write()
    layout = rows.files.layout()
    assert layout is not None
    assert len(layout.chunks) > 5
    plain, packed = (rows.files.path(name) for name in (PLAIN, PACKED))
    subprocess.run(["gzip", "--test", packed], check=True)
    unpacked = subprocess.run(["gzip", "-dc", packed], capture_output=True, check=True).stdout
    assert unpacked == plain.read_bytes() == gzip.decompress(packed.read_bytes())
    with gzip.open(packed) as file:
        assert b"".join(iter(lambda: file.read(1000), b"")) == plain.read_bytes()


def test_pkgcore_reads_it(world: World, ours: IndexRows) -> None:
    cache = PackagesCacheV0(str(ours.files.path(PLAIN)))
    [(_, packages)] = read(world, ours.files.path(PLAIN))
    assert set(cache.data) == {package["CPV"] for package in packages}
    plain = cache.data["app-misc/plain-1.0"]
    assert plain["KEYWORDS"] == "amd64"
    assert plain["CHOST"] == "x86_64-pc-linux-gnu"
    assert plain["PATH"] == "app-misc/plain/plain-1.0-1.gpkg.tar"


@pytest.mark.parametrize("served", [(PLAIN, PACKED), (PACKED,), (PLAIN,)], ids=["both", "gz", "plain"])
def test_emerge_installs_from_it(
    served: tuple[str, ...], world: World, ours: IndexRows, tmp_path: Path
) -> None:
    client = World.create(tmp_path / "client")
    shared = World(tmp_path / "shared")
    shutil.copytree(world.pkgdir, shared.pkgdir)
    for name in (PLAIN, PACKED):
        (shared.pkgdir / name).unlink()
    for name in served:
        shutil.copy2(ours.files.path(name), shared.pkgdir / name)
    with shared.binhost() as url:
        env = {"PORTAGE_BINHOST": url, "ACCEPT_KEYWORDS": "**"}
        shown = client.emerge("--pretend", "--getbinpkgonly", "--columns", "app-misc/two", env=env)
        assert "app-misc/two" in shown.output
        assert "1.10-1" in shown.output
        client.emerge("--getbinpkgonly", "app-misc/plain", "app-misc/lib++", env=env)
    assert client.is_installed("app-misc/plain-1.0")
    assert client.is_installed("app-misc/lib++-1.0_p2-r3")


def test_emerge_meets_an_index_without_packages_calmly(world: World, tmp_path: Path) -> None:
    rows = IndexRows.create(tmp_path / "data")
    rows.publish(now=START)
    assert rows.write()
    client, shared = World.create(tmp_path / "client"), World(rows.files.directory)
    shared.pkgdir.parent.mkdir(parents=True)
    shared.pkgdir.symlink_to(rows.files.directory)
    with shared.binhost() as url:
        done = client.emerge("--getbinpkgonly", "app-misc/plain", check=False, env={"PORTAGE_BINHOST": url})
    assert done.returncode == 1
    assert "Traceback" not in done.output
    assert "there are no binary packages" in done.output


PARSE = """
import sys
from portage.exception import InvalidData
from portage.versions import _pkg_str
for line in sys.stdin:
    try:
        _pkg_str(line.strip(), metadata={"EAPI": "8", "SLOT": "0"})
    except InvalidData:
        print(line, end="")
"""


def test_every_cpv_that_can_be_listed_is_one_for_portage(tmp_path: Path) -> None:
    choice = random.Random(7)
    package = dataclasses.replace(read_package(make_gpkg(tmp_path / "x.gpkg.tar")), build_id=None)
    pieces = re.split(" ", "a Z 0 9 _ + - . -1 -r1 _p1 r _rc 1.2 -1.0a -r1.2 é")
    listed: set[str] = set()
    while len(listed) < 3000:
        texts = ["".join(choice.choices(pieces, k=choice.randrange(1, 6))) for _ in range(3)]
        try:
            cpv = CPV.parse(f"{texts[0]}/{texts[1]}-{choice.randrange(9)}{texts[2]}")
            entry(dataclasses.replace(package, cpv=cpv), path=path_of(cpv, 1), build_id=1, mtime=1)
        except (InvalidCPV, Unlistable):
            continue
        listed.add(str(cpv))
    done = subprocess.run(
        [World(tmp_path).portage_bin / "python", "-c", PARSE],
        input="\n".join(listed),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""


STRANGE = {
    "keywords of every form": {"KEYWORDS": "amd64 ~arm64 -* ** ~* *"},
    "an EAPI of tomorrow": {"EAPI": "99-rc1"},
    "phases": {"DEFINED_PHASES": "-"},
    "a slot with everything": {"SLOT": "1.2+x_y-z/3.4"},
    "no build time": {"BUILD_TIME": ""},
    "a dependency that is none": {"RDEPEND": "=!@# ??? ^^^"},
    "sonames that are none": {"REQUIRES": "x86_64 libc.so.6 ::: ;", "PROVIDES": ": ,"},
    "a restriction that is none": {"RESTRICT": "?!(", "PROPERTIES": ")"},
    "letters of another kind": {"PROVIDES": "x86_64: libä.so.1"},
    "long": {"IUSE": " ".join(f"flag{number}" for number in range(20_000))},
    "user patches": {"USER_PATCHES": "0" * 64},
    "no repository": {"repository": ""},
}


def test_no_entry_that_we_write_ends_a_client(tmp_path: Path) -> None:
    """Beside the strange packages lies a plain one, which must still be found."""
    client, shared = World.create(tmp_path / "client"), World(tmp_path / "shared")
    rows = IndexRows.create(tmp_path / "data", header={"ARCH": "amd64", "IUSE_IMPLICIT": "prefix"})
    packages = {"plain": {}, **{what.replace(" ", "-"): values for what, values in STRANGE.items()}}
    builds = []
    for name, values in packages.items():
        path = shared.pkgdir / f"app-misc/{name}/{name}-1-1.gpkg.tar"
        path.parent.mkdir(parents=True)
        make_gpkg(path, cpv=f"app-misc/{name}-1")
        package = read_package(path)
        strange = dataclasses.replace(package, metadata={**package.metadata, **values})
        text = entry(strange, path=path_of(package.cpv, 1), build_id=1, mtime=int(path.stat().st_mtime))
        builds.append({**made(str(package.cpv)), "entry": text})
    rows.publish(builds)
    assert rows.write()
    for name in (PLAIN, PACKED):
        shutil.copy2(rows.files.path(name), shared.pkgdir / name)
    with shared.binhost() as url:
        for name in packages:
            wanted = ("--pretend", "--getbinpkgonly", f"app-misc/{name}")
            done = client.emerge(*wanted, check=False, env={"PORTAGE_BINHOST": url})
            assert "Traceback" not in done.output, done.output
            assert done.returncode == 0 or name != "plain", done.output
