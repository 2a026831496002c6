# SPDX-License-Identifier: GPL-2.0-or-later
"""A data directory has one server at a time, and whoever died is in nobody's way."""

from pathlib import Path

import pytest

from bdcs.blobs.server_lock import LOCK
from tests.processes import BDCS, Collector, run


def test_a_second_server_is_refused(tmp_path: Path) -> None:
    with Collector(tmp_path) as collector:
        assert collector.process is not None
        second = run([*BDCS, "serve", "--listen", "127.0.0.1:0", "--data", collector.data], check=False)
        assert second.returncode == 1
        assert f"{collector.data}: process " in second.stderr
        assert "serves from there already" in second.stderr
        collector.kill()
        assert (collector.data / LOCK).exists()
        collector.start()
        assert collector.stop() == 0


@pytest.mark.sqlite  # of others, tests/engines/test_many_collectors.py says who may serve from them
def test_one_store_has_one_server_as_well(tmp_path: Path) -> None:
    with Collector(tmp_path) as collector:
        store = f"sqlite:{collector.data}/bdcs.sqlite"
        other: list[str | Path] = [
            *BDCS,
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data",
            tmp_path / "other",
            "--store",
            store,
        ]
        second = run(other, check=False)
        assert second.returncode == 1
        assert f"{collector.data}: process " in second.stderr
