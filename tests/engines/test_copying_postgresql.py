# SPDX-License-Identifier: GPL-2.0-or-later
"""A store of SQLite becomes one of PostgreSQL, under whatever its collector does meanwhile."""

import contextlib
import json
import lzma
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update

from bdcs.blobs.directory import Directory
from bdcs.services import copying
from bdcs.services.copying import copy
from bdcs.services.stored_logs import StoredLogs
from bdcs.store import numbering, schema, tables, words
from bdcs.store.engine import create_reader, create_writer
from bdcs.store.places import PostgreSQL
from bdcs.store.store import transaction
from dev.places import ROOT
from tests.builds import specification
from tests.integration.test_backup import build, builder_of, claimed
from tests.postgresql import Server, running_postgresql
from tests.processes import BDCS, Collector, run
from tests.s3 import REGION, running_s3
from tests.stored_rows import contents, fill

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_postgresql(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


def ignore(_table: str, _done: int, _total: int) -> None:
    """Nobody looks."""


def test_all_rows_arrive_and_later_ones_too(
    tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "PIECE", 25)
    source = create_writer(tmp_path / "source.sqlite")
    with transaction(source) as connection:
        schema.upgrade(connection)
        fill(connection, 1, 60)
    reading = create_reader(tmp_path / "source.sqlite")
    target = create_writer(PostgreSQL(postgresql.new_database()))
    first = copy(reading, target, ignore)
    assert first.added >= 60 * len(tables.metadata.sorted_tables)
    again = copy(reading, target, ignore)
    assert (again.added, again.changed, again.removed) == (0, 0, 0)
    with transaction(source) as connection:
        fill(connection, 61, 5)
        connection.execute(delete(tables.machines).where(tables.machines.c.id.between(1003, 1020)))
        connection.execute(delete(tables.machines).where(tables.machines.c.id > 1060))
        connection.execute(delete(tables.package_state_changes))
        connection.execute(
            update(tables.catalogue_packages)
            .where(tables.catalogue_packages.c.id == 1005)
            .values(description="a wonderful thing")
        )
    copy(reading, target, ignore)
    with transaction(source) as one, transaction(target) as other:
        there = contents(other)
        there["sequences"] = [row for row in there["sequences"] if row[0] != copying.MARK]
        assert contents(one) == there
        assert words.matching(other, "wonder", 10) == [1005]
        assert numbering.last_number(other, tables.machines) == 1065
        row = {"uuid": "u", "public_key": b"", "state": "s", "registered_at": 1, "head_seq": 0}
        new = other.execute(insert(tables.machines).values(row).returning(tables.machines.c.id))
        assert new.scalar_one() == 1066
    for engine in (source, reading, target):
        engine.dispose()


def test_a_collector_moves_to_postgresql(tmp_path: Path, postgresql: Server) -> None:
    first = tmp_path / "data/bdcs.sqlite"
    first.parent.mkdir(parents=True)
    first.write_bytes(lzma.decompress((ROOT / "tests/data/stores/0001.sqlite.xz").read_bytes()))
    url = postgresql.new_database(is_empty=True)
    command = [*BDCS, "copy-store", "sqlite:", url, "--data", str(first.parent)]
    with Collector(tmp_path) as serving:
        assert "--last" in run(command).stdout
        unfinished = run([*BDCS, "serve", "--data", tmp_path / "b", "--store", url], check=False)
        assert unfinished.returncode == 78
        assert serving.stop() == 0
    assert "no differences" in run([*command, "--last"]).stdout
    with Collector(tmp_path, options=["--store", url]) as serving:
        done = run([*BDCS, "check", "--data", first.parent, "--store", url])
        assert "3 machines" in done.stdout
        assert "12 records" in done.stdout
        assert "no differences" in done.stdout
        assert serving.stop() == 0


def test_logs_of_builds_move_with_it(tmp_path: Path, postgresql: Server) -> None:
    """They go to the bucket, each once; what is interrupted goes on."""
    with Collector(tmp_path) as serving:
        wisher, builder = builder_of(serving, "optional")
        for name in ("alpha", "beta"):
            build(wisher, builder, specification(f"app-misc/{name}-1.0"))
        wisher.ask(specification("app-misc/gamma-1.0"))
        lease = claimed(builder)
        assert builder.act(lease, "log", offset=0, text="it begins\n").status == 200
        assert serving.stop() == 0
    url = postgresql.new_database(is_empty=True)
    with running_s3(tmp_path) as s3:
        config = tmp_path / "bdcs.toml"
        bucket = f"s3://{s3.new_bucket()}/some"
        config.write_text(f'blobs = "{bucket}"\ns3_endpoint = "{s3.url}"\ns3_region = "{REGION}"\n')
        options: list[str | Path] = ["--data", tmp_path / "data", "--config", config]
        copy = [*BDCS, "copy-store", "sqlite:", url, *options, "--json"]
        s3.fail("PUT", "", "refused", times=3)
        assert "reduce your request rate" in run(copy, check=False).stderr
        counts = [json.loads(run([*copy, *more]).stdout) for more in ((), ("--last",))]
        assert [(one["logs"], one["copied_logs"]) for one in counts] == [(2, 2), (3, 1)]
        (tmp_path / "data/logs").rename(tmp_path / "logs")
        checked = run([*BDCS, "check", "--only", "builds", *options, "--store", url]).stdout
        assert "3 logs, 30 B: no differences" in checked
        with contextlib.closing(StoredLogs.of(PostgreSQL(url), Directory(tmp_path))) as logs:
            number = lease["attempt"]
            assert logs.read(number, 0, 99) == b"it begins\n"
            assert logs.append(number, 10, b"and goes on\n") == 22
