# SPDX-License-Identifier: GPL-2.0-or-later
"""The client under every Python it promises to run on: its own tests, and a push to a real collector."""

import ast
import subprocess
from pathlib import Path

import pytest

from dev.places import ROOT, client_venv
from tests.processes import Collector, Machine, environment
from tests.records import compared, install
from tests.waiting import until
from tests.world import World

pytestmark = pytest.mark.timeout(600)

OTHERS = ("3.12", "3.13")


@pytest.fixture(params=OTHERS)
def python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of the environment that `make setup` made for this version."""
    interpreter = client_venv(request.param) / "bin/python"
    if not interpreter.exists():
        pytest.skip(f"no environment for Python {request.param}: make setup found no such interpreter")
    return interpreter


def client_tests() -> list[Path]:
    """Unit and property tests that concern the client alone, by what they import."""
    paths = sorted([*ROOT.glob("tests/unit/**/test_*.py"), *ROOT.glob("tests/property/**/test_*.py")])
    return [path for path in paths if not imported(path) & NOT_THE_CLIENTS]


NOT_THE_CLIENTS = {"bdcs", "dev", "jinja2", "jsonschema", "playwright", "sqlalchemy"}


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports anywhere."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    from_ = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in plain | from_}


def test_the_clients_own_tests(python: Path, tmp_path: Path) -> None:
    tests = client_tests()
    assert len(tests) > 5
    options = [
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "-m",
        "not long",
        f"--basetemp={tmp_path / 'b'}",
    ]
    done = subprocess.run(
        [python, "-m", "pytest", *options, *tests],
        cwd=ROOT,
        env=environment(HYPOTHESIS_STORAGE_DIRECTORY=str(tmp_path / "hypothesis")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " skipped" not in done.stdout.splitlines()[-1]


def test_daemon_and_push(python: Path, tmp_path: Path, collector: Collector) -> None:
    """One record through the daemon, one more through a single push."""
    since = len(collector.export())
    world = World.create(tmp_path / "world")
    world.ebuild("app-misc/alpha-1")
    toml = world.settings_toml(collector=collector.url, state_dir=tmp_path / "state")
    machine = Machine(tmp_path, toml, [python, "-m", "gentwoo_client"])
    machine.register()
    with machine.daemon() as daemon:
        world.emerge("app-misc/alpha")
        until(lambda: len(collector.export()) > since, 60)
        assert daemon.stop() == 0, daemon.output
    world.emerge("--unmerge", "app-misc/alpha")
    machine.gentwoo("push")
    first, second = collector.export()[since:]
    assert compared([first]) == [install("app-misc/alpha-1")]
    assert (second["event"], second["cause"], second["seq"]) == ("uninstall", "manual", 2)
