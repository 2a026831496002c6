# SPDX-License-Identifier: GPL-2.0-or-later
"""`make run`, as somebody who has just cloned the repository sees it."""

import re
import shutil
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import prefix
from dev.places import ROOT
from tests.processes import GENTWOO, Process, environment, free_port, run
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)

RUN = (sys.executable, "-m", "dev.run")


@pytest.fixture
def port() -> Iterator[int]:
    """A free port; what was kept for it is removed afterwards."""
    port = free_port()
    yield port
    shutil.rmtree(ROOT / ".run" / str(port), ignore_errors=True)


def processes_with(word: str) -> list[str]:
    """Command lines of processes that have `word` in them."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if word in line:
            lines.append(line)
    return lines


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_records_arrive_and_a_signal_ends_everything(
    port: int, tmp_path: Path, ending: signal.Signals
) -> None:
    with Process(RUN, log=tmp_path / "run.log", env=environment(RUN_PORT=str(port))) as job:
        page = job.until_printed(r"This machine +(http://\S+)", 60)[1]
        job.until_printed(r"\n  20\S+ +(install|uninstall|failure) +\S+/\S+", 60)
        assert processes_with(f"/.run/{port}/")
        with urllib.request.urlopen(page) as answer:
            assert answer.status == 200
        assert job.stop(ending, timeout=60) == 0, job.output
    assert not processes_with(f"/.run/{port}/")


def test_where_portage_is_at_hand_packages_are_built_and_install(port: int, tmp_path: Path) -> None:
    """… in a Prefix as `make prefix` makes it, by one command, with what it says on the way."""
    world = prefix.make(tmp_path / "prefix")
    settings = environment(RUN_PORT=str(port), RUN_EPREFIX=str(world.root))
    with Process(RUN, log=tmp_path / "run.log", env=settings) as job:
        job.until_printed("a builder makes what is asked for", 120)
        config = ROOT / f".run/{port}/gentwoo.toml"
        search = [*GENTWOO, "--config", str(config), "search", "beta"]
        until(lambda: "app-misc/beta" in run(search).stdout, what="the Prefix's repository in the catalogue")
        done = run([*GENTWOO, "--config", config, "install", "--yes", "app-misc/beta"], timeout=240)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{job.output}"
        assert world.is_installed("app-misc/alpha-1.0")
        assert world.is_installed("app-misc/beta-2.1")
        assert "2 of 2 packages are there" in done.stdout
        job.until_printed(r"install +app-misc/beta-2\.1 +binary", 60)
        assert job.stop(timeout=60) == 0, job.output
    assert not processes_with(f"/.run/{port}/")


def test_a_port_that_is_taken_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(RUN, env=environment(RUN_PORT=str(port)), cwd=ROOT)
    assert done.returncode == 1
    assert re.search(rf"127\.0\.0\.1:{port}: Address already in use", done.stderr)
    assert "RUN_PORT=" in done.stderr
    assert not (ROOT / ".run" / str(port)).exists()
