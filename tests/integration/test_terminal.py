# SPDX-License-Identifier: GPL-2.0-or-later
"""What `gentwoo` asks and tells on a real terminal, and on streams that are none."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.collector_simulator import CollectorSimulator
from tests.processes import environment

GENTWOO = [sys.executable, "-m", "gentwoo_client"]
HISTORY = "How much of the past may be sent"


@pytest.fixture
async def collector() -> AsyncIterator[CollectorSimulator]:
    async with CollectorSimulator() as simulator:
        yield simulator


async def converse(home: Path, *arguments: str, talk: Sequence[tuple[str, str]]) -> tuple[int, str]:
    """Run `gentwoo` on a terminal; type each answer once its question is seen. Returns code and output."""
    import asyncio

    return await asyncio.to_thread(_converse, home, arguments, talk)


def _converse(home: Path, arguments: Sequence[str], talk: Sequence[tuple[str, str]]) -> tuple[int, str]:
    argv = [*GENTWOO, "--state-dir", str(home / "state"), *arguments]
    variables = {**environment(), "EMERGE_LOG_DIR": str(home)}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, variables)
    output, seen, waiting = "", 0, list(talk)
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 1.0)[0]:
                try:
                    output += os.read(terminal, 4096).decode()
                except OSError:  # its other end is closed
                    break
            if waiting and (place := output.find(waiting[0][0], seen)) >= 0:
                seen = place + 1
                os.write(terminal, waiting.pop(0)[1].encode())
        else:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output


async def test_register_asks_until_the_answers_can_be_used(
    tmp_path: Path, collector: CollectorSimulator
) -> None:
    talk = [
        ("URL of the collector", "nonsense\n"),
        ("URL of the collector", f"{collector.url}\n"),
        (HISTORY, "yesterday\n"),
        (HISTORY, "2020-01-01\n"),
    ]
    code, output = await converse(tmp_path, "register", talk=talk)
    assert code == 0, output
    assert "'nonsense' is not" in output
    assert "'yesterday' is not allowed" in output
    assert "since 2020-01-01" in output
    assert "Registered with" in output


async def test_it_gives_up_after_three_answers(tmp_path: Path) -> None:
    code, output = await converse(tmp_path, "register", talk=[("URL of the collector", "x\n")] * 3)
    assert code == 2
    assert "give --collector" in output


async def test_ctrl_c_ends_a_question_at_once(tmp_path: Path) -> None:
    code, output = await converse(tmp_path, "register", talk=[("URL of the collector", "\x03")])
    assert code == 130
    assert "Traceback" not in output


async def test_forget_asks_and_no_is_no(tmp_path: Path, collector: CollectorSimulator) -> None:
    code, output = await converse(
        tmp_path, "register", "--collector", collector.url, talk=[(HISTORY, "none\n")]
    )
    assert code == 0, output
    code, output = await converse(tmp_path, "forget", talk=[("[y/N]", "\n")])
    assert code == 1
    assert "Nothing was done" in output
    code, output = await converse(tmp_path, "forget", talk=[("[y/N]", "\x03")])
    assert code == 130
    code, output = await converse(tmp_path, "forget", talk=[("[y/N]", "y\n")])
    assert code == 0, output


@pytest.mark.parametrize(
    ("redirection", "expected"),
    [(">&-", 78), ("2>&-", 78), (">/dev/full", 75)],
    ids=["stdout", "stderr", "full"],
)
def test_closed_and_full_streams_give_no_traceback(tmp_path: Path, redirection: str, expected: int) -> None:
    command = f'"$@" status --state-dir "{tmp_path}/none" {redirection}'
    result = subprocess.run(
        ["sh", "-c", command, "sh", *GENTWOO], env=environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == expected, result.stderr
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr


def test_help_in_ascii_and_into_a_closed_pipe() -> None:
    ascii_only = {**environment(), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = subprocess.run([*GENTWOO, "--help"], env=ascii_only, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    reading, writing = os.pipe()
    os.close(reading)
    gone = subprocess.run(
        [*GENTWOO, "--version"], env=environment(), stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (gone.returncode, gone.stderr) == (141, b"")
