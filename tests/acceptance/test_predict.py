# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo predict` on what real `emerge` prints, in all its manners, and beside one that is at work."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gentwoo_client.portage.pretended import PretendedMerge, pretended_merges
from tests.processes import GENTWOO, Process, environment
from tests.world import World

pytestmark = [pytest.mark.timeout(300)]

HELD = '[[ -e "${EPREFIX}/go" ]] || while [[ ! -e "${EPREFIX}/go" ]]; do sleep 0.1; done'
PLAN = (
    "=app-misc/new-1.0",
    "=app-misc/slotted-2.0",
    "app-misc/upgraded",
    "app-misc/packed",
    "app-misc/blocker",
)
MANNERS = (
    (),
    ("--verbose",),
    ("--quiet",),
    ("--columns",),
    ("--columns", "--verbose"),
    ("--tree",),
    ("--tree", "--verbose"),
    ("--color=y",),
    ("--color=y", "--verbose", "--columns"),
    ("--verbose", "--tree", "--color=y"),
    ("--quiet", "--tree"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with an upgrade, a new slot, a binary package, a rebuild and a blocker ahead."""
    world = World.create(tmp_path_factory.mktemp("predict") / "world")
    for cpv in ("app-misc/upgraded-1.0", "app-misc/upgraded-1.1-r2", "app-misc/packed-3_p1-r4"):
        world.ebuild(cpv)
    world.ebuild("app-misc/slotted-1.0", slot="1/1.0")
    world.ebuild("app-misc/slotted-2.0", slot="2/2.0")
    world.ebuild("app-misc/base-1.0", iuse="flag")
    world.ebuild("app-misc/new-1.0", depend="app-misc/base", rdepend="app-misc/base")
    world.ebuild("app-misc/victim-1.0")
    world.ebuild("app-misc/blocker-1.0", rdepend="!app-misc/victim")
    world.ebuild("app-misc/held-1.0", phases={"src_compile": HELD})
    world.ebuild("app-misc/after-1.0", rdepend="app-misc/held")
    world.emerge("--buildpkg", "=app-misc/packed-3_p1-r4", "=app-misc/upgraded-1.0", "=app-misc/slotted-1.0")
    world.emerge("--oneshot", "app-misc/victim")
    return world


def shown(world: World, *options: str) -> tuple[PretendedMerge, ...]:
    done = world.emerge("--pretend", "--usepkg", "--usepkg-exclude=app-misc/upgraded", *options, *PLAN)
    return pretended_merges(done.output)


@pytest.mark.parametrize("options", MANNERS, ids=" ".join)
def test_every_manner_of_display_is_read(world: World, options: tuple[str, ...]) -> None:
    found = {str(each.cpv): each for each in shown(world, *options)}
    assert {cpv: each.kind for cpv, each in found.items()} == {
        "app-misc/base-1.0": "source",
        "app-misc/new-1.0": "source",
        "app-misc/slotted-2.0": "source",
        "app-misc/upgraded-1.1-r2": "source",
        "app-misc/packed-3_p1-r4": "binary",
        "app-misc/blocker-1.0": "source",
    }
    order = list(found)
    assert order.index("app-misc/base-1.0") < order.index("app-misc/new-1.0")
    assert found["app-misc/upgraded-1.1-r2"].replaces == "1.0"
    assert found["app-misc/slotted-2.0"].replaces is None
    assert found["app-misc/new-1.0"].replaces is None


def test_quiet_columns_tell_all_but_the_kind(world: World) -> None:
    found = shown(world, "--quiet", "--columns")
    assert {str(each.cpv) for each in found} == {str(each.cpv) for each in shown(world)}
    assert {each.kind for each in found} == {"source"}


def predict(world: World, tmp_path: Path, *options: str, plan: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GENTWOO, "predict", f"--config={configuration(world, tmp_path)}", *options],
        env=environment(XDG_CACHE_HOME=str(tmp_path)),
        input=plan,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def configuration(world: World, tmp_path: Path) -> Path:
    path = tmp_path / "gentwoo.toml"
    path.write_text(f'eprefix = "{world.root}"\nstate_dir = "{tmp_path}/none"\n')
    return path


def test_a_plan_gets_a_finish_time(world: World, tmp_path: Path) -> None:
    plan = world.emerge("--pretend", "app-misc/upgraded", "app-misc/new").output
    done = predict(world, tmp_path, "--json", plan=plan)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    sources = {each["cpv"]: each["source"] for each in answer["packages"]}
    assert sources["app-misc/upgraded-1.1-r2"] == "history"
    assert sources["app-misc/new-1.0"] == "unknown"
    assert answer["total"]["unknown"] == 2
    assert answer["total"]["low"] <= answer["total"]["seconds"] <= answer["total"]["high"]
    text = predict(world, tmp_path, plan=plan).stdout
    assert "app-misc/upgraded-1.1-r2" in text
    assert "nothing known" in text
    assert "3 merges: " in text


def test_there_is_nothing_to_foretell(world: World, tmp_path: Path) -> None:
    done = predict(world, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no emerge is at work" in done.stderr
    done = predict(world, tmp_path, plan='emerge: there are no ebuilds to satisfy "app-misc/none".\n')
    assert done.returncode == 1
    assert "nothing would be merged" in done.stderr


def test_the_emerge_at_work_is_followed_to_its_end(world: World, tmp_path: Path) -> None:
    running = world.start_emerge("app-misc/after")
    try:
        world.until_logged("Compiling/Merging (app-misc/held-1.0")
        done = predict(world, tmp_path, "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        assert [each["cpv"] for each in answer["packages"]] == ["app-misc/held-1.0", "app-misc/after-1.0"]
        held, after = answer["packages"]
        assert held["started_at"] is not None
        assert after["started_at"] is None
        assert answer["total"]["size"] == 2
        assert "at work" in predict(world, tmp_path).stdout or held["seconds"] is None
        command = [*GENTWOO, "predict", "-f", f"--config={configuration(world, tmp_path)}"]
        with Process(command, log=tmp_path / "follow.out") as follower:
            follower.until_printed(r"0 of 2, .* held-1\.0", 60)
            (world.root / "go").touch()
            assert running.wait().returncode == 0
            assert follower.wait(60) == 0
            assert "emerge has ended" in follower.output
    finally:
        (world.root / "go").touch()
        running.wait()
