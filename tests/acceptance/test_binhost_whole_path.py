# SPDX-License-Identifier: GPL-2.0-or-later
"""A new user's way, from end to end, every part of it real: build, publish, set up, install, look.

A machine is registered and its daemon follows emerge.log; a package that emerge built there is published;
`gentwoo binhost setup` finds the target; `emerge --getbinpkgonly` installs the package with its signature
verified; the daemon reports that merge as `binary`; and the collector shows the package.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.binhost import CFLAGS, TRACEBACK, Binhost, running_binhost
from tests.peer import request
from tests.processes import Machine, Process
from tests.records import compared, install
from tests.signing import short_directory
from tests.waiting import until
from tests.world import World

pytestmark = [pytest.mark.timeout(240)]

CPV = "app-misc/alpha-1.0"
TARGET = "amd64"


@dataclass(frozen=True, slots=True)
class Scene:
    """A user's machine beside a collector with one target."""

    binhost: Binhost
    world: World
    machine: Machine
    daemon: Process


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with short_directory() as directory, running_binhost(tmp_path_factory.mktemp("binhost")) as binhost:
        world = World.create(directory / "world")
        with (world.root / "etc/portage/make.conf").open("a") as file:
            file.write(f'CFLAGS="{CFLAGS}"\n')
            file.write(f'BINPKG_GPG_VERIFY_GPG_HOME="{world.root}/etc/portage/gnupg"\n')
        binhost.add_target(TARGET)
        toml = world.settings_toml(collector=binhost.collector.url, state_dir=directory / "state")
        env = {"PORTAGE_OVERRIDE_EPREFIX": str(world.root)}
        machine = Machine(directory / "machine", toml, env=env)
        machine.register()
        with machine.daemon() as daemon:
            yield Scene(binhost, world, machine, daemon)
            assert daemon.stop() == 0, daemon.output


def test_the_whole_path(scene: Scene) -> None:
    binhost, world = scene.binhost, scene.world
    world.ebuild(CPV)
    world.emerge("--buildpkgonly", f"={CPV}")
    binhost.publish(TARGET, *world.pkgdir.rglob("*.gpkg.tar"))
    shutil.rmtree(world.pkgdir)
    world.pkgdir.mkdir()

    told = scene.machine.gentwoo("binhost", "setup", "--fingerprint", binhost.fingerprint)
    assert f"{TARGET} (exact)" in told.stdout
    assert scene.machine.gentwoo("binhost", "status").returncode == 0

    done = world.emerge("--getbinpkgonly", "app-misc/alpha")
    assert TRACEBACK not in done.output
    assert world.is_installed(CPV)
    assert (world.root / "usr/share/alpha-0/alpha").read_text() == "alpha-1.0\n"

    (record,) = until(binhost.collector.export, 60, what=f"the record of the merge\n{scene.daemon.output}")
    assert compared([record]) == [install(CPV, "binary")]
    assert binhost.collector.bdcs("check").returncode == 0


def test_the_collector_shows_it(scene: Scene) -> None:
    """The page of the package has its build, and who looks for it finds it; programs too."""
    url = scene.binhost.collector.url
    page = request(url, "GET", f"/targets/{TARGET}/packages/app-misc/alpha")
    assert page.status == 200
    assert b"1.0" in page.body
    assert scene.binhost.fingerprint[-8:].encode() in page.body.replace(b" ", b"")
    found = request(url, "GET", f"/targets/{TARGET}/packages?q=alpha")
    assert f"/targets/{TARGET}/packages/app-misc/alpha".encode() in found.body
    listed = request(url, "GET", f"/v1/targets/{TARGET}/packages?q=alpha").document
    assert [package["name"] for package in listed["packages"]] == ["alpha"]


def test_without_the_key_it_is_refused(scene: Scene) -> None:
    """That the signature was verified shows where the key that verifies it is missing."""
    shutil.rmtree(scene.world.root / "var/db/pkg/app-misc")
    with short_directory() as empty:
        done = scene.world.emerge(
            "--getbinpkgonly", "app-misc/alpha", check=False, env={"BINPKG_GPG_VERIFY_GPG_HOME": str(empty)}
        )
    assert done.returncode == 1
    assert "verification failed" in done.output
    assert not scene.world.is_installed(CPV)
