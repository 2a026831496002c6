# SPDX-License-Identifier: GPL-2.0-or-later
"""The client against a real `bdcs serve`, both as real processes."""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_uploader import add_records, packages
from tests.processes import Collector, Machine, without
from tests.store_access import copy_data, remove_data

LOG = Path(__file__).parents[1] / "data" / "emerge-logs" / "emlop-10000.log"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with Collector(tmp_path / "collector") as collector:
        yield collector


@pytest.fixture
def machine(tmp_path: Path, collector: Collector) -> Machine:
    home = tmp_path / "machine"
    home.mkdir()
    (home / "emerge.log").touch()
    toml = (
        f'collector = "{collector.url}"\nrepositories = ["*"]\n'
        f'log = "{home}/emerge.log"\nstate_dir = "{home}/state"\n'
    )
    return Machine(home, toml)


def status(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.gentwoo("status", "--json", check=False).stdout)
    return found


def names(collector: Collector) -> list[str]:
    return [record["name"] for record in collector.export()]


def test_a_real_log_arrives_as_history_prints_it(machine: Machine, collector: Collector) -> None:
    shutil.copy(LOG, machine.home / "emerge.log")
    machine.register()
    machine.gentwoo("push")
    printed = machine.gentwoo("history", "--log", str(LOG), "--json").stdout
    history = [json.loads(line) for line in printed.splitlines()]
    arrived = collector.export()
    assert len(arrived) > 1000
    # The journal remembers of what is removed from where it came; the log alone does not say.
    more = ("repository", "machine", "created_at", "id", "root")
    assert without(arrived, *more) == without(history, *more)
    assert status(machine)["unsent"] == 0


def test_a_collector_restored_from_a_backup_gets_what_it_lost(
    machine: Machine, collector: Collector, tmp_path: Path
) -> None:
    machine.register()
    state_dir = machine.home / "state"
    add_records(state_dir, 1)
    machine.gentwoo("push")
    collector.stop()
    copy_data(collector.data, tmp_path / "backup")
    collector.start()
    add_records(state_dir, 2, 3)
    machine.gentwoo("push")
    collector.stop()
    remove_data(collector.data)
    copy_data(tmp_path / "backup", collector.data)
    collector.start()
    assert names(collector) == packages(1)
    add_records(state_dir, 4)
    machine.gentwoo("push")
    assert names(collector) == packages(1, 2, 3, 4)


def test_an_absent_collector_means_later(machine: Machine, collector: Collector) -> None:
    machine.register()
    add_records(machine.home / "state", 1)
    collector.kill()
    assert status(machine)["answers"] is False
    collector.start()
    machine.gentwoo("push")
    assert names(collector) == packages(1)


def test_a_clone_is_stopped_and_renewed(machine: Machine, collector: Collector, tmp_path: Path) -> None:
    machine.register()
    add_records(machine.home / "state", 1)
    machine.gentwoo("push")
    clone = Machine(tmp_path / "clone", machine.toml.replace(str(machine.home), str(tmp_path / "clone")))
    shutil.copytree(machine.home / "state", clone.home / "state")
    (clone.home / "emerge.log").touch()
    add_records(machine.home / "state", 2)
    add_records(clone.home / "state", 3)
    machine.gentwoo("push")
    refused = clone.gentwoo("push", check=False)
    assert refused.returncode == 78
    assert "gentwoo register --renew" in refused.stderr
    clone.gentwoo("register", "--renew", "--non-interactive")
    clone.gentwoo("push")
    assert names(collector) == packages(1, 2, 3)
    assert len({record["machine"] for record in collector.export()}) == 2


def test_forgetting_leaves_nothing(machine: Machine, collector: Collector) -> None:
    machine.register()
    add_records(machine.home / "state", 1)
    machine.gentwoo("push")
    machine.gentwoo("forget", "--yes")
    assert collector.export() == []
    assert machine.gentwoo("push", check=False).returncode == 78
    machine.register()
    machine.gentwoo("push")
    assert names(collector) == packages(1)


def test_the_report_opens(machine: Machine, collector: Collector) -> None:
    machine.register()
    add_records(machine.home / "state", 1)
    machine.gentwoo("push")
    link = machine.gentwoo("report").stdout.strip()
    with urllib.request.urlopen(link) as answer:
        assert answer.status == 200
        assert b"package1" in answer.read()
