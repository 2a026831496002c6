# SPDX-License-Identifier: GPL-2.0-or-later
"""Our ebuild, merged and configured by real emerge: `emerge --config gentwoo` registers the machine.

The ebuild is used as it is. Gentoo's eclasses are on no registry, so stand-ins (`tests/eclass/`) take
their place; its dependencies, account packages too, count as provided, so that this machine's users stay as
they are. The Python packages come from `.venv`, ours from what emerge installed into the world.
"""

import re
import shutil
import sys
from pathlib import Path

import pytest

from dev.places import ROOT
from tests.house.sources import committed
from tests.processes import Collector, environment, run
from tests.records import compared, install
from tests.world import World

pytestmark = [pytest.mark.timeout(240)]

CP = "app-portage/gentwoo"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world in which our ebuild has been merged from a copy of what is committed."""
    source = tmp_path_factory.mktemp("source") / "gentwoo"
    for path in committed():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    world = World.create(tmp_path_factory.mktemp("world"))
    shutil.copytree(ROOT / "tests/eclass", world.repository / "eclass", dirs_exist_ok=True)
    shutil.copytree(ROOT / "ebuild" / CP, world.repository / CP)
    provide(world)
    packages = world.root / f"usr/lib/python3.{sys.version_info.minor}/site-packages"
    (world.root / "etc/portage/bashrc").write_text(
        f'export STUB_PYTHON="{sys.executable}"\n'
        f'export EGIT_OVERRIDE_REPO_GENTWOO="{source}"\n'
        f'export PYTHONPATH="{packages}"\n'
    )
    world.emerge(f"={CP}-9999", env={"ACCEPT_KEYWORDS": "**", "USE": "python_targets_python3_13"})
    (world.root / "var/lib/gentwoo").mkdir(parents=True, mode=0o700)
    return world


def provide(world: World) -> None:
    """Count everything that the ebuild depends on as provided."""
    text = (ROOT / "ebuild" / CP / "gentwoo-9999.ebuild").read_text()
    depends = re.findall(r"^\t+((?:acct|dev|sys)-[a-z]+/[a-z0-9-]+)", text, re.MULTILINE)
    assert len(depends) > 5
    depends.append("virtual/tmpfiles")
    provided = world.root / "etc/portage/profile/package.provided"
    provided.parent.mkdir(parents=True)
    provided.write_text("".join(f"{name}-9999\n" for name in depends))


def configure(world: World, *, check: bool = True) -> str:
    return world.emerge("--config", "gentwoo", check=check).output


def config(world: World) -> Path:
    return world.root / "etc/gentwoo/gentwoo.toml"


def gentwoo(world: World, *arguments: str) -> str:
    """Run the command that emerge installed, with the configuration that emerge installed."""
    packages = world.root / f"usr/lib/python3.{sys.version_info.minor}/site-packages"
    argv: list[str | Path] = [world.root / "usr/bin/gentwoo", "--config", config(world), *arguments]
    return run(argv, env=environment(PYTHONPATH=str(packages)), check=True).stdout


def test_the_package_has_the_client_and_not_the_collector(world: World) -> None:
    assert (world.root / "usr/bin/gentwoo").is_file()
    assert not (world.root / "usr/bin/bdcs").exists()
    assert not list(world.root.glob("usr/lib/python3*/site-packages/bdcs"))
    assert not list(world.root.glob("usr/lib/python3*/site-packages/tests"))


def test_without_a_collector_it_fails_and_says_which_line_to_write(world: World) -> None:
    done = world.emerge("--config", "gentwoo", check=False)
    assert done.returncode == 1
    assert "collector = " in done.output
    assert not list((world.root / "var/lib/gentwoo").glob("machine.key"))


def test_registration_and_first_push(world: World, collector: Collector) -> None:
    with config(world).open("a") as file:
        file.write(world.settings_toml(collector=collector.url, state_dir=world.root / "var/lib/gentwoo"))
    configure(world)
    key = world.root / "var/lib/gentwoo/machine.key"
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()

    configure(world)
    assert key.read_bytes() == before, "a second registration keeps the identity"

    gentwoo(world, "push")
    assert compared(collector.export()) == [install(f"{CP}-9999")]
