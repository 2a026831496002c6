# SPDX-License-Identifier: GPL-2.0-or-later
"""The state of an earlier version under this one: nothing is lost, and the chain goes on.

The port is a fixed one, since it stands in what was signed; it is below those that the kernel gives away.
"""

import json
import tarfile
from pathlib import Path

import pytest

from dev.places import ROOT
from tests.processes import Collector, Machine

STATES = sorted((ROOT / "tests/data/releases").glob("*.tar.xz"))
URL = "http://127.0.0.1:18642"

pytestmark = [pytest.mark.timeout(180), pytest.mark.sqlite]


@pytest.mark.parametrize("state", STATES, ids=lambda path: path.name.partition(".")[0])
def test_the_state_of_an_earlier_version_is_taken_over(state: Path, tmp_path: Path) -> None:
    with tarfile.open(state) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "state").chmod(0o700)
    (tmp_path / "collector").rename(tmp_path / "data")
    log = tmp_path / "emerge.log"
    toml = f'collector = "{URL}"\nlog = "{log}"\nstate_dir = "{tmp_path}/state"\n'
    machine = Machine(tmp_path, toml)
    key = (tmp_path / "state/machine.key").read_bytes()

    with Collector(tmp_path, url=URL) as collector:
        status = json.loads(machine.gentwoo("status", "--json").stdout)
        assert (status["registered"], status["unsent"], status["acknowledged"]) == (True, 2, 20)
        machine.gentwoo("push")
        records = collector.export()
        assert [record["name"] for record in records] == [f"p{number}" for number in range(22)]
        assert [record["seq"] for record in records] == list(range(1, 23))
        assert "no differences" in collector.bdcs("check", "--only", "records").stdout
        assert collector.stop() == 0
    assert (tmp_path / "state/machine.key").read_bytes() == key
