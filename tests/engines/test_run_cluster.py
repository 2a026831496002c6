# SPDX-License-Identifier: GPL-2.0-or-later
"""`make run-cluster`: packages are built and installed, whatever of it is killed; so with itself."""

import contextlib
import os
import re
import shutil
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import prefix
from dev.orphans import orphans
from dev.places import ROOT
from tests.processes import BDCS, GENTWOO, Process, environment, free_port, run
from tests.s3 import CREDENTIALS
from tests.waiting import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

CLUSTER = (sys.executable, "-m", "dev.cluster")
KILLED = (
    "collector-1",
    "postgresql",
    "rabbitmq",
    "haproxy",
    "s3",
    "signer",
    "collector-2",
    "builder-1",
    "builder-2",
    "daemon",
)


@pytest.fixture
def port() -> Iterator[int]:
    """A free port; what was kept for it is removed afterwards."""
    port = free_port()
    yield port
    shutil.rmtree(ROOT / f".run/cluster-{port}", ignore_errors=True)


def shows_pages(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def test_whatever_is_killed_the_cluster_goes_on(port: int, tmp_path: Path) -> None:
    world = prefix.make(tmp_path / "prefix")
    home = ROOT / f".run/cluster-{port}"
    settings = environment(RUN_PORT=str(port), RUN_EPREFIX=str(world.root))
    with Process(CLUSTER, log=tmp_path / "cluster.log", env=settings) as job:
        job.until_printed("Records as they arrive:", 300)
        client: list[str | Path] = [*GENTWOO, "--config", home / "gentwoo.toml"]
        pids = {name: int(pid) for name, pid in re.findall(r"\n  ([a-z0-9-]+) +(\d+)", job.output)}
        assert set(pids) == set(KILLED)
        first = run([*client, "install", "--yes", "app-misc/alpha"], timeout=300)
        assert first.returncode == 0, f"{first.stdout}\n{first.stderr}\n{job.output}"
        for name in KILLED:
            with contextlib.suppress(ProcessLookupError):  # it ended, and was started again, before
                os.kill(pids[name], signal.SIGKILL)
            job.until_printed(rf"{name} (died|ended)", 120)
            until(lambda: shows_pages(f"http://127.0.0.1:{port}/"), what=f"pages after {name} was killed")
        second = run([*client, "install", "--yes", "app-misc/beta"], timeout=300)
        assert second.returncode == 0, f"{second.stdout}\n{second.stderr}\n{job.output}"
        assert world.is_installed("app-misc/beta-2.1")
        job.until_printed(r"install +app-misc/beta-2\.1 +binary", 120)
        check: list[str | Path] = [*BDCS, "--config", home / "collector-1.toml", "check"]
        done = run(check, env=environment(**CREDENTIALS))
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("no differences") == 3
        (inside,) = job.children()
        os.kill(inside, signal.SIGKILL)
        job.wait()
        left = orphans(home)
        assert len(left) >= len(KILLED)
    with Process(CLUSTER, log=tmp_path / "next.log", env=settings) as job:
        job.until_printed("Records as they arrive:", 300)
        assert not set(left) & set(orphans(home)), "the next start ends what a killed one has left"
        assert job.stop(signal.SIGINT, timeout=120) == 0, job.output
    assert orphans(home) == []
