# SPDX-License-Identifier: GPL-2.0-or-later
"""Portage and we read the same in a package, whoever of us wrote it."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdcs.domain.gpkg.container import Role
from bdcs.domain.gpkg.metadata import fold, is_kept
from bdcs.domain.gpkg.reading import read_metadata, read_package
from bdcs.domain.gpkg.writing import renumber, write_signed
from bdcs.domain.xpak import read_xpak
from dev.places import PORTAGE
from tests.packages import LNKTYPE, SYMTYPE, Special, make_gpkg
from tests.signing import GpgHome, portage_signs, portage_verifies, short_directory, verify_home
from tests.world import World

pytestmark = [pytest.mark.timeout(240)]

# Portage's own reader: metadata as it finds them, and where it unpacked the image.
READ = """
import json, sys, portage, portage.gpkg
package = portage.gpkg.gpkg(portage.settings, None, sys.argv[1])
values = {name: value.decode("latin-1") for name, value in package.get_metadata().items()}
package.decompress(sys.argv[2])
print(json.dumps({"values": values, "signed": package.signature_exist, "prefix": package.prefix}))
"""
READ_XPAK = """
import json, sys, portage.xpak
values = portage.xpak.tbz2(sys.argv[1]).get_data().items()
print(json.dumps({name.decode("latin-1"): value.decode("latin-1") for name, value in values}))
"""
INSTALL = """
dodir /usr/bin
echo "${PF}" > "${ED}/usr/bin/alpha" || die
chmod 4755 "${ED}/usr/bin/alpha" || die
ln "${ED}/usr/bin/alpha" "${ED}/usr/bin/beta" || die
dosym alpha /usr/bin/gamma
keepdir /var/lib/alpha
dodir "/usr/share/$(printf 'd%.0s' {1..150})"
echo ü > "${ED}/usr/share/$(printf 'd%.0s' {1..150})/ü" || die
"""
VARIANTS = {
    "zstd": "",
    "xz": 'BINPKG_COMPRESS="xz"\n',
    "gzip": 'BINPKG_COMPRESS="gzip"\nFEATURES="-binpkg-multi-instance"\n',
    "bzip2": 'BINPKG_COMPRESS="bzip2"\nPORTAGE_BZIP2_COMMAND="bzip2"\n',
}
"""By what packages are compressed, and what make.conf says for that."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World.create(tmp_path_factory.mktemp("world") / "w")
    made.ebuild(
        "app-misc/alpha-1.0",
        rdepend=">=app-misc/beta-1:0= || ( a/b ( c/d ) )",
        phases={"src_install": INSTALL},
    )
    (made.root / "etc/portage/bashrc").write_text('gtar() { tar "$@"; }\n')  # for XPAK
    return made


@pytest.fixture(scope="module")
def signing() -> Iterator[tuple[GpgHome, str, Path]]:
    """Somebody's key, and a home that trusts it."""
    with short_directory() as directory, GpgHome(directory / "sign") as home:
        fingerprint = home.make_key()
        yield home, fingerprint, verify_home(directory / "verify", [home.public_key(fingerprint)])


def built(world: World, variant: str) -> Path:
    """A package that real emerge built."""
    pkgdir = world.root / "built" / variant
    if not pkgdir.exists():
        configuration = world.root / "etc/portage/make.conf"
        before = configuration.read_text()
        configuration.write_text(f'{before}PKGDIR="{pkgdir}"\n{VARIANTS.get(variant, "")}')
        try:
            world.emerge(
                "-B",
                "--nodeps",
                "=app-misc/alpha-1.0",
                env={"BINPKG_FORMAT": variant} if variant == "xpak" else None,
            )
        finally:
            configuration.write_text(before)
    (path,) = [*pkgdir.rglob("*.gpkg.tar"), *pkgdir.rglob("*.xpak")]
    return path


def as_portage_reads(world: World, path: Path, target: Path, **env: str) -> dict[str, Any]:
    """What Portage's own code finds in a package; it unpacks the image to `target`."""
    done = subprocess.run(
        [PORTAGE / "bin/python", "-c", READ, path, target],
        env={**world.environment(), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def values_of(found: dict[str, Any]) -> dict[str, str]:
    return fold({name: value.encode("latin-1") for name, value in found["values"].items() if is_kept(name)})


def tree(top: Path) -> dict[str, tuple[int, str]]:
    """Everything below `top`: mode, and hash or target."""
    found = {}
    for path in sorted(top.rglob("*")):
        content = "" if path.is_dir() else hashlib.sha1(path.read_bytes()).hexdigest()
        found[str(path.relative_to(top))] = (
            path.lstat().st_mode,
            str(path.readlink()) if path.is_symlink() else content,
        )
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_emerge_builds_is_read_as_portage_reads_it(world: World, tmp_path: Path, variant: str) -> None:
    path = built(world, variant)
    package = read_package(path)
    image = tmp_path / "image"
    found = as_portage_reads(world, path, image)
    assert dict(package.metadata) == values_of(found)
    assert (package.prefix, package.signed) == (found["prefix"], found["signed"])
    with path.open("rb") as file:
        assert read_metadata(file) == package.metadata
    unpacked = tree(image)
    assert package.image.files == len(
        [one for one in image.rglob("*") if one.is_symlink() or not one.is_dir()]
    )
    setuid = [f"/{name}" for name, (mode, _) in unpacked.items() if mode & 0o6000 and mode & 0o100000]
    assert sorted(package.image.setuid) == sorted(name for name in setuid if not name.endswith("gamma"))
    assert package.metadata["RDEPEND"].startswith(">=app-misc/beta-1:0=")


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_renumbered_and_signed_is_the_same_to_portage(
    world: World, tmp_path: Path, variant: str, signing: tuple[GpgHome, str, Path]
) -> None:
    home, fingerprint, verifying = signing
    path = built(world, variant)
    numbered, signed = tmp_path / "numbered.gpkg.tar", tmp_path / "alpha-1.0-77.gpkg.tar"
    with path.open("rb") as source, numbered.open("w+b") as target:
        renumber(source, target, read_package(path), 77)
    with numbered.open("rb") as source, signed.open("w+b") as target:
        write_signed(source, target, read_package(numbered), Key(home, fingerprint))

    before = as_portage_reads(world, path, tmp_path / "before")
    after = as_portage_reads(world, signed, tmp_path / "after", **portage_verifies(verifying))
    assert (after["signed"], after["prefix"]) == (True, "alpha-1.0-77")
    assert after["values"] == {**before["values"], "BUILD_ID": "77\n"}
    assert tree(tmp_path / "after") == tree(tmp_path / "before")

    subprocess.run(
        [PORTAGE / "bin/gpkg-sign", signed],
        env={**world.environment(), **portage_signs(home.path, fingerprint, verifying)},
        check=True,
        capture_output=True,
    )
    again = read_package(signed)
    assert again.signed
    assert again.member(Role.IMAGE).record == read_package(path).member(Role.IMAGE).record


class Key:
    """Signs as gpg does for a person."""

    def __init__(self, home: GpgHome, fingerprint: str) -> None:
        self._home = home
        self._arguments = ("--armor", "--digest-algo", "SHA512", "--local-user", fingerprint)

    def detach(self, data: Any) -> bytes:
        return self._home.gpg(*self._arguments, "--detach-sign", data=b"".join(data))

    def clearsign(self, text: bytes) -> bytes:
        return self._home.gpg(*self._arguments, "--clear-sign", data=text)


def test_an_xpak_is_read_as_portage_reads_it(world: World) -> None:
    path = built(world, "xpak")
    assert path.suffix == ".xpak"
    package = read_xpak(path)
    done = subprocess.run(
        [PORTAGE / "bin/python", "-c", READ_XPAK, path],
        env=world.environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    raw = {name: value.encode("latin-1") for name, value in json.loads(done.stdout).items()}
    assert dict(package.metadata) == fold({name: value for name, value in raw.items() if is_kept(name)})
    assert str(package.cpv) == "app-misc/alpha-1.0"


def test_packages_made_for_tests_install(world: World) -> None:
    image: dict[str, bytes | Special] = {
        f"{str(world.root)[1:]}/usr/share/gamma/a": b"content\n",
        f"{str(world.root)[1:]}/usr/share/gamma/b": Special(kind=SYMTYPE, mode=0o777, link="a"),
        f"{str(world.root)[1:]}/usr/share/gamma/c": Special(
            kind=LNKTYPE, mode=0o644, link=f"image{world.root}/usr/share/gamma/a"
        ),
    }
    metadata = {"EPREFIX": str(world.root)}
    path = world.pkgdir / "app-misc/gamma/gamma-2-r1-5.gpkg.tar"
    make_gpkg(path, cpv="app-misc/gamma-2-r1", build_id=5, image=image, metadata=metadata)
    world.emerge("-K", "--nodeps", "=app-misc/gamma-2-r1", env={"FEATURES": "-pkgdir-index-trusted"})
    assert world.is_installed("app-misc/gamma-2-r1")
    assert (world.root / "usr/share/gamma/b").read_text() == "content\n"
