# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests fork (`tests.warm`) does what it does with an interpreter of its own."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import warm
from tests.processes import BDCS, GENTWOO, Collector, environment, run


@pytest.mark.parametrize(
    "words",
    [
        ("target", "list", "--json"),
        ("target", "show", "nobody"),
        ("check", "--data", "absent"),
        ("export", "--no-such-option"),
        ("no-such-command",),
    ],
    ids="-".join,
)
def test_a_command_says_the_same(tmp_path: Path, words: tuple[str, ...]) -> None:
    with Collector(tmp_path) as collector:
        settings = ("--chost=x86_64-pc-linux-gnu", "--profile=default", "--cflags=-O2")
        collector.bdcs("target", "add", "one", *settings)
    given = environment(BDCS_DATA=str(collector.data))
    forked = run([*BDCS, *words], env=given, cwd=tmp_path)
    with warm.anew():
        started = run([*BDCS, *words], env=given, cwd=tmp_path)
    assert forked.stdout + forked.stderr
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


def test_a_collector_is_watched_and_ended(tmp_path: Path) -> None:
    with Collector(tmp_path) as collector:
        process = collector.process
        assert process is not None
        assert isinstance(process.process, warm.Forked)
        assert process.is_running()
        assert os.readlink(f"/proc/{process.pid}/cwd") == str(tmp_path)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        assert collector.stop() == 0
        collector.start()
        collector.kill()
        assert collector.process is not None
        assert collector.process.wait() == -signal.SIGKILL
        assert not Path(f"/proc/{collector.process.pid}").exists()


def test_what_runs_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run([*BDCS, "serve", "--listen", "127.0.0.1:0", "--data", tmp_path], timeout=0.1)


def test_what_has_to_be_started_anew_is() -> None:
    given = environment()
    words = [*BDCS, "check"]
    assert warm.suits(words, given)
    assert warm.suits(words, {**given, "BDCS_DATA": "/srv", "HOME": "/"})
    assert not warm.suits(words, {**given, "PYTHONWARNINGS": "error"})
    assert not warm.suits(words, {**given, "TZ": "Asia/Tokyo"})
    assert not warm.suits(["prlimit", "--nofile=300", *words], given)
    assert not warm.suits([*GENTWOO, "check"], given)
    with warm.anew():
        assert not warm.suits(words, given)
    assert warm.suits(words, given)
