# SPDX-License-Identifier: GPL-2.0-or-later
"""A user's way to binary packages: published, `gentwoo binhost setup`, installed by emerge as signed."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gentwoo_client.binhost.keyring import Keyring
from tests.processes import Collector, Machine
from tests.signing import GpgHome, Signer, running_signer, short_directory
from tests.world import World

PACKAGE = "app-misc/alpha-1.0"
MAKE_CONF = """
BINPKG_GPG_VERIFY_GPG_HOME="{home}"
CFLAGS="-O2 -pipe"
PORTAGE_TRUST_HELPER=""
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A collector with one signed package, and the world that it was built in, which has it no more."""

    collector: Collector
    signer: Signer
    key: str
    world: World
    machine: Machine

    @property
    def home(self) -> Path:
        return self.world.root / "etc/portage/gnupg"

    def install(self) -> str:
        """Have emerge install the package from the binhost alone; return what it said."""
        done = self.world.emerge("--getbinpkgonly", "--oneshot", f"={PACKAGE}", check=False)
        assert (done.returncode == 0) == self.world.is_installed(PACKAGE)
        return done.output


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with short_directory() as directory, running_signer(directory) as signer:
        key = signer.create_key()
        config = directory / "bdcs.toml"
        config.write_text(f'signer = "{signer.socket}"\n')
        with Collector(directory / "c", options=("--config", str(config))) as collector:
            world = World.create(directory / "w")
            with (world.root / "etc/portage/make.conf").open("a") as file:
                file.write(MAKE_CONF.format(home=world.root / "etc/portage/gnupg"))
            world.ebuild(PACKAGE)
            world.emerge("--buildpkgonly", f"={PACKAGE}")
            target = ["--chost", "x86_64-pc-linux-gnu", "--profile", "default", "--cflags", "-O2"]
            collector.bdcs("target", "add", "amd64", *target, "--arch", "amd64")
            packages = [str(path) for path in world.pkgdir.rglob("*.gpkg.tar")]
            collector.bdcs("publish", "--target", "amd64", *packages, "--config", str(config))
            shutil.rmtree(world.pkgdir)
            world.pkgdir.mkdir()
            toml = world.settings_toml(collector=collector.url, state_dir=directory / "s")
            env = {"PORTAGE_OVERRIDE_EPREFIX": str(world.root)}
            yield Scene(collector, signer, key, world, Machine(directory / "m", toml, env=env))


def test_a_published_package_is_installed_with_its_signature_verified(scene: Scene) -> None:
    scene.machine.gentwoo("binhost", "setup", "--fingerprint", scene.key)
    scene.machine.gentwoo("binhost", "status")
    # The key alone decides: without it, or with somebody else's, emerge refuses the very same file.
    keyring = Keyring.of(scene.home)
    public = keyring.inspect(scene.signer.public_key(scene.key))
    keyring.forget([public.fingerprint])
    keyring.settle()
    assert "signature" in scene.install().lower()
    assert not scene.world.is_installed(PACKAGE)
    with short_directory() as directory, GpgHome(directory) as stranger:
        fingerprint = stranger.make_key("Stranger")
        keyring.trust(stranger.public_key(fingerprint), fingerprint)
        keyring.settle()
    scene.install()
    assert not scene.world.is_installed(PACKAGE)
    assert scene.machine.gentwoo("binhost", "status", check=False).returncode == 1
    scene.machine.gentwoo("binhost", "setup", "--fingerprint", scene.key)
    scene.install()
    assert scene.world.is_installed(PACKAGE)
    assert (scene.world.root / "var/cache/binhost/gentwoo/app-misc/alpha/alpha-1.0-1.gpkg.tar").exists()


def test_after_removal_nothing_comes_from_there(scene: Scene) -> None:
    scene.machine.gentwoo("binhost", "setup", "--yes")
    scene.machine.gentwoo("binhost", "remove")
    scene.world.emerge("--unmerge", f"={PACKAGE}", check=False)
    assert "binrepos.conf is missing" in scene.install()
    assert not scene.world.is_installed(PACKAGE)
