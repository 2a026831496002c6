# SPDX-License-Identifier: GPL-2.0-or-later
"""The next version upgrades the store while this one serves from it; not all of them allow that."""

from pathlib import Path

import pytest

from bdcs.store import schema
from tests import next_version
from tests.next_version import NEXT
from tests.peer import Peer
from tests.processes import BDCS, Collector, run


@pytest.mark.parametrize("allows_this", [True, False], ids=["allowed", "not allowed"])
def test_an_upgrade_under_a_running_collector(tmp_path: Path, allows_this: bool) -> None:
    next_version.make(tmp_path / "next", allows_this=allows_this)
    with Collector(tmp_path) as collector:
        peer = Peer(collector.url)
        assert peer.register().status == 201
        peer.push()
        said = next_version.upgrade(tmp_path / "next", "--data", collector.data)
        assert said.strip() == f"schema {schema.HEAD} → {NEXT}"
        peer.push(2)
        assert collector.stop() == 0
        if not allows_this:
            refused = run([*BDCS, "serve", "--data", collector.data, "--listen", "127.0.0.1:0"], check=False)
            assert refused.returncode == 78
            assert NEXT in refused.stderr
            return
        collector.start()
        peer.push()
        assert len(collector.export()) == 4
        assert "no differences" in collector.bdcs("check").stdout
        assert collector.bdcs("schema", "upgrade").stdout.strip() == f"schema {NEXT}: nothing to do"
        assert collector.stop() == 0
