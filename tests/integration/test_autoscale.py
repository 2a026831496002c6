# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs autoscale` beside a real collector; builders are made by hand, and a command "starts" them."""

import argparse
import contextlib
import json
import os
import signal
import stat
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bdcs.cli import autoscale, command_parser
from bdcs.errors import AlreadyAutoscaling, ConfigurationError
from bdcs.settings import Settings
from tests.builds import Wisher
from tests.capacity_scene import PoolScene
from tests.processes import BDCS, Collector, Process
from tests.waiting import until

COMMAND = """\
#!{python}
import json, os, pathlib, sys
place = pathlib.Path({place!r})
said = json.load(sys.stdin)
assert said["targets"] == os.environ["BDCS_TARGETS"].split(), said
state = json.loads((place / "state.json").read_text())
if (place / "trouble").exists():
    sys.exit("no machine is to be had")
if len(sys.argv) > 2:
    assert said["wanted"] == int(sys.argv[2]) == int(os.environ["BDCS_WANTED"]), said
    with (place / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({{"wanted": said["wanted"], "dismiss": said["dismiss"]}}) + "\\n")
    state["wanted"] = said["wanted"]
    if "members" in state:
        state["members"] = [name for name in state["members"] if name not in said["dismiss"]]
    (place / "state.json").write_text(json.dumps(state))
print(json.dumps(state))
"""


@dataclass
class Cloud:
    """What the command knows, and what it was told."""

    place: Path

    def write(self, **state: Any) -> None:
        (self.place / "state.json").write_text(json.dumps(state))

    @property
    def state(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.place / "state.json").read_text())
        return document

    @property
    def calls(self) -> list[dict[str, Any]]:
        path = self.place / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    command = tmp_path / "cloud"
    command.write_text(COMMAND.format(python=sys.executable, place=str(tmp_path)))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    cloud = Cloud(tmp_path)
    cloud.write(wanted=0, members=[])
    return cloud


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector")) as collector:
        yield collector


@pytest.fixture(scope="module")
def machine(collector: Collector) -> Wisher:
    """Who asks."""
    machine = Wisher(collector.url)
    assert machine.register().status == 201
    return machine


@dataclass
class Scene(PoolScene):
    """One whose pool the command looks after."""

    cloud: Cloud = field(default_factory=lambda: Cloud(Path()))


@pytest.fixture
def scene(collector: Collector, machine: Wisher, cloud: Cloud, request: pytest.FixtureRequest) -> Scene:
    target = f"t{zlib.crc32(request.node.name.encode())}"
    scene = Scene.create(collector, machine, target, f"command:{cloud.place}/cloud")
    scene.cloud = cloud
    return scene


def test_from_nobody_to_builders_and_back(scene: Scene) -> None:
    """Requests are taken while nobody is there yet, since somebody looks after the target."""
    assert scene.ask(1)["packages"][0]["refusal"] == "no-builder"
    assert scene.autoscale()["code"] == 0
    request = scene.ask(6)
    assert {package["answer"] for package in request["packages"]} == {"queued"}

    planned = scene.autoscale("--dry-run")
    assert (planned["code"], planned["start"], scene.cloud.state["wanted"]) == (0, 4, 0)
    done = scene.autoscale()
    assert (done["code"], done["needed"], done["start"], done["jobs"]) == (0, 4, 4, 6)
    assert scene.cloud.state["wanted"] == 4
    assert scene.autoscale()["start"] == 0, "those that are asked for are not asked for again"

    scene.cloud.write(wanted=4, members=scene.names("1", "2", "3", "4"))
    for name in ("1", "2"):
        assert scene.claim(scene.builder(*scene.names(name))) is not None
    found = scene.autoscale()
    assert (found["ready"], found["starting"], found["start"]) == (2, 2, 0)

    scene.machine.send_json("DELETE", f"/v1/builds/{request['id']}")
    found = scene.autoscale()
    assert (found["needed"], found["release"], found["forgo"]) == (0, scene.names("1", "2"), 2)
    assert sorted(found["dismissed"]) == scene.names("1", "2", "3", "4")
    assert scene.cloud.state == {"wanted": 0, "members": []}


def test_who_builds_ends_that_before_he_goes(scene: Scene) -> None:
    scene.autoscale()
    scene.ask(3)
    scene.cloud.write(wanted=1, members=scene.names("1"))
    builder = scene.builder(*scene.names("1"))
    lease = scene.claim(builder)
    assert lease is not None

    found = scene.autoscale(query="max=0")
    assert (found["release"], found["dismissed"], found["wanted"]) == (scene.names("1"), [], 1)
    assert builder.act(lease, "heartbeat").document["cancelled"] is False
    assert scene.cloud.state["members"] == scene.names("1")

    builder.act(lease, "heartbeat", release=True)
    assert scene.claim(builder) is None, "who is to leave gets no more work"
    assert scene.autoscale(query="max=0")["dismissed"] == scene.names("1")
    assert scene.cloud.state == {"wanted": 0, "members": []}
    assert scene.cloud.calls[-1] == {"wanted": 0, "dismiss": scene.names("1")}


def test_who_was_to_leave_is_kept_where_work_comes(scene: Scene) -> None:
    scene.autoscale()
    scene.ask(2)
    scene.cloud.write(wanted=1, members=scene.names("1"))
    builder = scene.builder(*scene.names("1"))
    assert scene.claim(builder) is not None
    assert scene.autoscale(query="max=0")["release"] == scene.names("1")
    assert scene.claim(builder) is None
    found = scene.autoscale(query="max=1")
    assert (found["recall"], found["start"]) == (scene.names("1"), 0)
    assert scene.claim(builder) is not None, "there is a second package"


def test_the_operator_drains_a_builder(scene: Scene) -> None:
    scene.autoscale()
    (name,) = scene.names("1")
    scene.cloud.write(wanted=1, members=[name])
    builder = scene.builder(*scene.names("1"))
    assert scene.claim(builder) is None
    scene.collector.bdcs("admin", "builders", "drain", name)
    scene.ask(1)
    assert scene.claim(builder) is None
    found = scene.autoscale()
    assert (found["ready"], found["leaving"], found["recall"], found["start"]) == (0, 1, [], 1)
    scene.collector.bdcs("admin", "builders", "undrain", name)
    assert scene.claim(builder) is not None
    failed = scene.collector.bdcs("admin", "builders", "drain", "nobody", check=False)
    assert (failed.returncode, "no builder is called nobody" in failed.stderr) == (1, True)


def test_whoever_decides_for_himself_who_goes_is_told_a_number(scene: Scene) -> None:
    """Nobody is drained then: it might be another that goes."""
    scene.cloud.write(wanted=2)
    scene.autoscale(query="max=4&idle=3600")
    builder = scene.builder(*scene.names("1"))
    assert scene.claim(builder) is None
    found = scene.autoscale()
    assert (found["needed"], found["dismissed"]) == (0, [])
    assert scene.cloud.state == {"wanted": 0}
    scene.ask(1)
    assert scene.claim(builder) is not None


def test_an_engine_that_fails_is_told_of_and_tried_again(scene: Scene) -> None:
    scene.autoscale()
    scene.ask(2)
    (scene.cloud.place / "trouble").write_text("")
    found = scene.autoscale()
    assert (found["code"], found["start"]) == (1, 0)
    assert "no machine is to be had" in found["trouble"]
    options = scene.options(scene.cloud.place)
    log = scene.cloud.place / "log"
    with Process([*BDCS, "autoscale", "--interval", "1", *options], log=log) as process:
        process.until_printed("no machine is to be had")
        (scene.cloud.place / "trouble").unlink()
        process.until_printed("starts 1")
        assert process.stop() == 0
        assert "Traceback" not in process.output


def test_one_at_a_time_and_killed_at_any_moment(scene: Scene) -> None:
    """A second one waits; the first, killed while the engine is told, leaves nothing to be mended."""
    cloud = scene.cloud.place / "cloud"
    text = cloud.read_text()
    hang = "if len(sys.argv) > 2:\n    (place / 'told').touch()\n    import time; time.sleep(600)\n"
    cloud.write_text(text.replace("print(json", f"{hang}print(json"))
    scene.autoscale()
    scene.ask(3)
    options = scene.options(scene.cloud.place, f"{scene.query}&timeout=600")
    log = scene.cloud.place / "log"
    with Process([*BDCS, "autoscale", "--interval", "1", *options], log=log) as process:
        until((scene.cloud.place / "told").exists)
        with pytest.raises(AlreadyAutoscaling):
            scene.autoscale()
        children = process.children()
        process.kill()
        for child in children:
            os.killpg(child, signal.SIGKILL)
    told = scene.cloud.calls
    assert scene.cloud.state["wanted"] == told[0]["wanted"] >= 1, "it had begun to start them"
    cloud.write_text(text)

    def is_over() -> dict[str, Any] | None:
        with contextlib.suppress(AlreadyAutoscaling):
            return scene.autoscale()
        return None

    found = until(is_over, what="the lease of the one that was killed being over")
    assert found is not None
    assert scene.cloud.state["wanted"] == found["needed"]


def test_lines_for_people(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    autoscale.run(command_parser("autoscale", autoscale).parse_args(["--dry-run"]), scene.settings())
    line = capsys.readouterr().out
    cloud = f"{scene.target} (command:{scene.cloud.place}/cloud)"
    assert line == f"{cloud}: 0 needed (no work); 0 ready, 0 starting, 0 leaving: nothing to do\n"
    with pytest.raises(ConfigurationError, match="no pool of builders is named"):
        autoscale.run(argparse.Namespace(), Settings(data=scene.collector.data))
