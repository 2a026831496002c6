# SPDX-License-Identifier: GPL-2.0-or-later
"""Our signatures and Portage's are the same thing: each takes, and refuses, what the other does.

Packages are built by real `emerge -B`, signed by a real `bdcs signer` or by Portage's own `gpkg-sign`, and
installed by real `emerge -K` with FEATURES=binpkg-request-signature (conformance cases 29 and 30).
"""

import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bdcs.domain.gpkg.reading import read_package
from bdcs.domain.gpkg.writing import write_signed
from bdcs.errors import InvalidPackage, UntrustedSignature
from bdcs.services.signatures import verify
from tests.packages import Members, image_tar, manifest_of, tar
from tests.packages import compress as compressed
from tests.packages import info as header
from tests.processes import run
from tests.signing import (
    LONG_AGO,
    GpgHome,
    Signer,
    portage_signs,
    portage_verifies,
    running_signer,
    short_directory,
    verify_home,
)
from tests.world import World

pytestmark = [pytest.mark.timeout(240)]

CPV = "app-misc/alpha-1.0"
FILE = "app-misc/alpha/alpha-1.0-1.gpkg.tar"
SCANNED = {"FEATURES": "binpkg-request-signature -pkgdir-index-trusted"}
"""Portage demands signatures, and looks at the files instead of an index that may be older."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """A GnuPG home as `write_signed` wants a key."""

    home: GpgHome
    fingerprint: str
    options: tuple[str, ...] = ()

    def detach(self, data: Iterable[bytes]) -> bytes:
        return self._sign("--armor", "--detach-sign", data=b"".join(data))

    def clearsign(self, text: bytes) -> bytes:
        return self._sign("--clearsign", data=text)

    def _sign(self, *how: str, data: bytes) -> bytes:
        user = ("--local-user", self.fingerprint, "--digest-algo", "SHA512")
        return self.home.gpg(*self.options, *user, *how, data=data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A world with one unsigned package, a signer, a builder with a key too, and what clients trust."""

    world: World
    signer: Signer
    key: str
    """Of the signer."""
    builder: GpgHome
    builders_key: str
    trusted: tuple[bytes, ...]
    """Public keys of both, and of one that is expired."""
    verify_home: Path
    expired: str
    unsigned: Path

    @property
    def file(self) -> Path:
        """Where the package lies that Portage installs."""
        return self.world.pkgdir / FILE

    def sign(self) -> None:
        """Have the signer sign the package that was built, into its place."""
        signed = self.unsigned.with_name("signed")
        with self.unsigned.open("rb") as source, signed.open("w+b") as target:
            assert self.signer.client.sign(source.fileno(), target.fileno()) == self.key
        signed.replace(self.file)

    def sign_elsewhere(self, keys: Keys) -> None:
        """Sign the package that was built with somebody's key, into its place."""
        with self.unsigned.open("rb") as source, self.file.open("w+b") as target:
            write_signed(source, target, read_package(source), keys)

    def gpkg_sign(self) -> None:
        """Sign the package in its place by Portage's own program, with the builder's key."""
        env = {
            **self.world.environment(),
            **portage_signs(self.builder.path, self.builders_key, self.verify_home),
        }
        run([self.world.portage_bin / "gpkg-sign", self.file], env=env, check=True)

    def change(self, change: Callable[[Members], Members]) -> None:
        """Change the members of the package in its place."""
        with tarfile.open(self.file) as archive:
            content = [(member.name, read(archive, member)) for member in archive]
        self.file.write_bytes(tar((header(name), data) for name, data in change(content)))

    def verified(self) -> str:
        """Whoever signed the package in its place, by our own verification."""
        return verify(self.file, read_package(self.file), self.trusted)

    def emerge(self) -> bool:
        """Whether Portage installs the package in its place."""
        installed = self.world.root / "var/db/pkg" / CPV
        if installed.exists():
            shutil.rmtree(installed)
        env = {**portage_verifies(self.verify_home), **SCANNED}
        done = self.world.emerge("-K", "--oneshot", f"={CPV}", env=env, check=False)
        assert (done.returncode == 0) == self.world.is_installed(CPV), done.output
        assert done.returncode == 0 or "Invalid binary package" in done.output, done.output
        return done.returncode == 0


def read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    world = World.create(tmp_path_factory.mktemp("signed") / "world")
    world.ebuild(CPV)
    world.emerge("-B", f"={CPV}")
    unsigned = world.root / "unsigned"
    shutil.copy2(world.pkgdir / FILE, unsigned)
    with (
        short_directory() as directory,
        running_signer(directory) as signer,
        GpgHome(directory / "builder") as builder,
    ):
        key = signer.create_key()
        builders_key = builder.make_key("Builder")
        expired = builder.make_key("Expired", expires="2d", at=LONG_AGO)
        trusted = (
            signer.public_key(key),
            builder.public_key(builders_key),
            builder.public_key(expired),
        )
        yield Scene(
            world=world,
            signer=signer,
            key=key,
            builder=builder,
            builders_key=builders_key,
            trusted=trusted,
            verify_home=verify_home(directory / "verify", trusted),
            expired=expired,
            unsigned=unsigned,
        )


def test_portage_installs_what_we_signed(scene: Scene) -> None:
    scene.sign()
    assert scene.verified() == scene.key
    assert scene.emerge()


def test_we_take_what_portage_signed(scene: Scene) -> None:
    shutil.copy2(scene.unsigned, scene.file)
    scene.gpkg_sign()
    assert scene.verified() == scene.builders_key
    assert scene.emerge()


def test_what_we_signed_may_be_signed_anew_by_portage_and_back(scene: Scene) -> None:
    scene.sign()
    scene.gpkg_sign()
    assert scene.verified() == scene.builders_key
    assert scene.emerge()
    package = read_package(scene.file)
    assert package.image == read_package(scene.unsigned).image
    with scene.file.open("rb") as source, scene.file.with_name("again").open("w+b") as target:
        scene.signer.client.sign(source.fileno(), target.fileno())
    scene.file.with_name("again").replace(scene.file)
    assert scene.verified() == scene.key
    assert scene.emerge()


def test_ours_differ_from_portages_in_nothing_but_signatures(scene: Scene) -> None:
    """The same members in the same order, equal but for what is signed in them."""
    scene.sign()
    ours = {member.name: member for member in read_package(scene.file).members}
    shutil.copy2(scene.unsigned, scene.file)
    scene.gpkg_sign()
    portages = {member.name: member for member in read_package(scene.file).members}
    assert list(ours) == list(portages)
    for name in ("gpkg-1", "metadata.tar.zst", "image.tar.zst"):
        assert ours[name].record == portages[name].record


# What both refuse.


def unsigned(scene: Scene) -> None:
    shutil.copy2(scene.unsigned, scene.file)


def signed_by_another_key(scene: Scene) -> None:
    with GpgHome(scene.verify_home.parent / "stranger") as stranger:
        scene.sign_elsewhere(Keys(home=stranger, fingerprint=stranger.make_key("Stranger")))


def signed_by_an_expired_key(scene: Scene) -> None:
    back_then = ("--faked-system-time", LONG_AGO)
    scene.sign_elsewhere(Keys(home=scene.builder, fingerprint=scene.expired, options=back_then))


def without(*names: str) -> Callable[[Scene], None]:
    def strip(scene: Scene) -> None:
        scene.sign()
        scene.change(
            lambda members: [(name, data) for name, data in members if not name.endswith(names)],
        )

    return strip


def with_all_signatures_stripped_and_a_manifest_that_fits(scene: Scene) -> None:
    without(".sig")(scene)
    scene.change(with_new_manifest)


def with_one_signature_stripped_and_a_manifest_that_fits(scene: Scene) -> None:
    without("image.tar.zst.sig")(scene)
    scene.change(with_new_manifest)


def with_an_altered_image(scene: Scene) -> None:
    scene.sign()
    scene.change(with_evil_image)


def with_an_altered_image_and_a_manifest_that_fits(scene: Scene) -> None:
    scene.sign()
    scene.change(lambda members: with_new_manifest(with_evil_image(members)))


def with_an_altered_image_and_a_manifest_signed_by_another(scene: Scene) -> None:
    scene.sign()
    with GpgHome(scene.verify_home.parent / "stranger") as stranger:
        keys = Keys(home=stranger, fingerprint=stranger.make_key("Stranger"))
        scene.change(
            lambda members: [
                (name, keys.clearsign(data) if name.endswith("/Manifest") else data)
                for name, data in with_new_manifest(with_evil_image(members))
            ]
        )


def with_new_manifest(members: Members) -> Members:
    others = [(name, data) for name, data in members if not name.endswith("/Manifest")]
    return [*others, (f"{others[0][0].partition('/')[0]}/Manifest", manifest_of(others))]


def with_evil_image(members: Members) -> Members:
    evil = compressed(image_tar({"usr/bin/evil": b"#!/bin/sh\n"}), ".zst")
    return [(name, evil if name.endswith("/image.tar.zst") else data) for name, data in members]


@pytest.mark.parametrize(
    "prepare",
    [
        unsigned,
        signed_by_another_key,
        signed_by_an_expired_key,
        without("metadata.tar.zst.sig"),
        without("image.tar.zst.sig"),
        without(".sig"),
        with_all_signatures_stripped_and_a_manifest_that_fits,
        with_one_signature_stripped_and_a_manifest_that_fits,
        with_an_altered_image,
        with_an_altered_image_and_a_manifest_that_fits,
        with_an_altered_image_and_a_manifest_signed_by_another,
    ],
    ids=lambda prepare: prepare.__name__,
)
def test_refused_by_both(scene: Scene, prepare: Callable[[Scene], None]) -> None:
    prepare(scene)
    with pytest.raises((InvalidPackage, UntrustedSignature)):
        scene.verified()
    assert not scene.emerge()
