# SPDX-License-Identifier: GPL-2.0-or-later
"""A store in PostgreSQL, backed up and restored by PostgreSQL's own tools, as docs/operating.md says."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdcs.services.restoring import GAP
from tests.builds import CHOST, TARGET, HandBuilder, Wisher, specification
from tests.integration.test_backup import build, index
from tests.postgresql import Server, programs, running_postgresql
from tests.processes import BDCS, Collector, run
from tests.waiting import until

pytestmark = pytest.mark.engines


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Server]:
    with running_postgresql(tmp_path) as started:
        yield started


def test_a_dump_goes_on_as_a_store(cluster: Server, tmp_path: Path) -> None:
    """The dump is made while the collector serves; machines, clients and exports are ahead of it then."""
    lost, new = cluster.new_database(), cluster.new_database(is_empty=True)
    dump = tmp_path / "bdcs.dump"
    with Collector(tmp_path / "collector", options=["--store", lost]) as collector:
        cpus = ("--chost", CHOST, "--profile", "default/linux/amd64/23.0", "--cflags", "-O2")
        bdcs(collector, "target", "add", TARGET, *cpus, "--signatures", "optional")
        wisher = Wisher(collector.url)
        wisher.register()
        assert wisher.push(2).status == 200
        builder = HandBuilder(collector.url)
        builder.register()
        bdcs(collector, "admin", "builders", "approve", str(builder.machine), "--target", TARGET)
        builder.claim()
        build(wisher, builder, specification("app-misc/alpha-1.0"))
        refused = bdcs(collector, "backup", str(tmp_path / "backup"), check=False)
        assert "has its own tools" in refused
        run([programs() / "pg_dump", "--format=custom", f"--file={dump}", lost], check=True)
        shutil.copytree(collector.data / "packages", tmp_path / "packages")
        kept = (wisher.seq, wisher.prev)
        assert wisher.push(3).status == 200
        before = index(collector)["time"]
        elsewhere = ("--data", str(tmp_path / "elsewhere"))
        served = "collectors serve from there, on 127.0.0.1"
        assert served in run([*BDCS, "restore", *elsewhere, "--store", lost], check=False).stderr
        copy = [*BDCS, "copy-store", "--last", *elsewhere, lost, "sqlite:"]
        assert served in run(copy, check=False).stderr
        collector.kill()

        run([programs() / "pg_restore", "--no-owner", f"--dbname={new}", dump], check=True)
        collector.options = ["--store", new]
        assert "no differences" in bdcs(collector, "restore")
        collector.start()
        wisher.seq, wisher.prev = kept  # the client does this by itself: tests/integration/test_backup.py
        assert wisher.push(1).status == 200
        until(lambda: index(collector)["time"] > before, what="an index that is later than any")
        exported = bdcs(collector, "export").splitlines()
        assert len(exported) == 3
        assert f'"id":{GAP + 3}' in exported[-1]
        assert "no differences" in bdcs(collector, "check", "--only", "records")


def bdcs(collector: Collector, *arguments: str, check: bool = True) -> str:
    """What a command on the collector's store prints."""
    done = collector.bdcs(*arguments, *collector.options, check=check)
    return done.stdout + done.stderr
