# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs prebuild`: what the operator is told, and has queued."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bdcs.cli import command_parser, prebuild
from bdcs.domain.jobs import PRIORITIES, Origin
from bdcs.errors import NoSuchTarget
from bdcs.settings import Settings
from tests.prebuild_scene import Scene, prepared

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; return its exit code and what it printed."""

    parser = command_parser("prebuild", prebuild)

    def command(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = prebuild.run(parser.parse_args(words), Settings(data=tmp_path / "data"))
        return code, capsys.readouterr().out

    return command


async def some_ask(scene: Scene) -> None:
    """Now, by the clock that commands go by."""
    scene.clock.now = time.time()
    scene.builder()
    scene.ask([1, 2, 3], scene.made("dev-libs/a-1", "ssl"))
    scene.ask([4], scene.made("dev-libs/a-1", "doc"))
    scene.end_jobs("cancelled")
    await scene.keeper.look()


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_the_operator_is_told_all_of_it(tmp_path: Path, run: Run) -> None:
    async with prepared(tmp_path) as scene:
        await some_ask(scene)
    code, text = run()
    assert code == 0
    assert [line.split("  ")[0:3] for line in text.splitlines()] == [
        ["dev-libs/a-1", "amd64", "USE='ssl'"],
        ["dev-libs/a-1", "amd64", "USE='doc'"],
    ]
    assert "3 asked, saves 0.1 h, takes 1.3 min (assumed)" in text
    found = documents(run("--json", "--target", "amd64")[1])
    assert [(each["cpv"], each["use"], each["machines"]) for each in found] == [
        ("dev-libs/a-1", ["ssl"], 3),
        ("dev-libs/a-1", ["doc"], 1),
    ]
    assert len(documents(run("--json", "--budget", "2")[1])) == 1
    (coverage,) = documents(run("--json", "--coverage")[1])
    assert (coverage["machines"], coverage["variants"], coverage["curve"]) == (4, 2, [3, 4])
    assert "4 asked for 2 variants: 1 serves 75 %, 2 serve 100 %; 0 % there now" in run("--coverage")[1]


async def test_what_everybody_may_know(tmp_path: Path, run: Run) -> None:
    async with prepared(tmp_path) as scene:
        await some_ask(scene)
    assert run("--public", "--json") == (0, "")
    assert "nothing is to be said" in run("--public")[1]


async def test_it_is_queued_by_hand_once(tmp_path: Path, run: Run) -> None:
    async with prepared(tmp_path) as scene:
        await some_ask(scene)
        assert run("--queue", "--budget", "2") == (0, "dev-libs/a-1 for amd64: queued\n")
        (job,) = scene.jobs()
        assert (job.state, job.priority) == ("queued", PRIORITIES[Origin.PREBUILD])
        assert run("--queue") == (0, "dev-libs/a-1 for amd64: queued\n")
        assert run("--queue") == (0, "nothing is to be built\n")
        assert len(scene.jobs()) == 2


async def test_without_a_builder_nothing_is_queued(tmp_path: Path, run: Run) -> None:
    async with prepared(tmp_path) as scene:
        await some_ask(scene)
        scene.clock.now -= 86_400
        scene.builder()
        code, text = run("--queue")
        assert code == 1
        assert "not queued: nobody builds for amd64 now" in text
        assert scene.jobs() == []


async def test_wrong_usage(tmp_path: Path, run: Run) -> None:
    async with prepared(tmp_path):
        pass
    with pytest.raises(NoSuchTarget):
        run("--target", "nothing")
    with pytest.raises(SystemExit):
        run("--budget", "0")
