# SPDX-License-Identifier: GPL-2.0-or-later
"""The servers that tests start: what a killed test run leaves, the next one ends and removes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgresql import remove_abandoned, running_postgresql
from tests.processes import environment

pytestmark = pytest.mark.engines

START = """
import sys
from pathlib import Path
from tests.postgresql import start_postgresql
server = start_postgresql(Path(sys.argv[1]))
print(server.process.pid, server.directory, flush=True)
sys.stdin.read()
"""


def test_only_servers_whose_test_run_is_gone_are_ended(tmp_path: Path) -> None:
    with running_postgresql(tmp_path) as ours:
        with subprocess.Popen(
            [sys.executable, "-c", START, str(tmp_path)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as killed:
            assert killed.stdout is not None
            pid, directory = killed.stdout.readline().split()
            remove_abandoned()
            assert Path(directory).exists()
            killed.kill()
        remove_abandoned()
        assert not Path(directory).parent.exists()
        process = Path("/proc", pid, "cmdline")
        assert not process.exists() or directory not in process.read_text()
        assert ours.execute("SELECT 1") == [(1,)]
