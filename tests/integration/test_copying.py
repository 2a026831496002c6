# SPDX-License-Identifier: GPL-2.0-or-later
"""A store is copied while it is in use, goes on after an interruption, and is nobody's until it is whole."""

import lzma
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, insert, select, text, update

from bdcs.errors import CopyUnfinished, NoCopy
from bdcs.services import copying
from bdcs.services.copying import copy, finish, require_whole
from bdcs.store import numbering, schema, tables, words
from bdcs.store.engine import create_reader, create_writer
from bdcs.store.store import transaction
from dev.places import ROOT
from tests.processes import BDCS, Collector, run
from tests.stored_rows import contents, fill

pytestmark = pytest.mark.sqlite  # tests/engines/test_copying_postgresql.py has the others


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Engine]:
    engine = create_writer(tmp_path / "source.sqlite")
    with transaction(engine) as connection:
        schema.upgrade(connection)
        fill(connection, 1, 40)
    yield engine
    engine.dispose()


@pytest.fixture
def reading(tmp_path: Path, source: Engine) -> Iterator[Engine]:
    engine = create_reader(tmp_path / "source.sqlite")
    yield engine
    engine.dispose()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Engine]:
    engine = create_writer(tmp_path / "target.sqlite")
    with transaction(engine) as connection:
        schema.upgrade(connection)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PIECE", 15)


def ignore(_table: str, _done: int, _total: int) -> None:
    """Nobody looks."""


def assert_equal(one: Engine, other: Engine) -> None:
    with transaction(one) as first, transaction(other) as second:
        there = contents(second)
        there["sequences"] = [row for row in there["sequences"] if row[0] != copying.MARK]
        assert contents(first) == there


def test_every_row_of_every_table_arrives(source: Engine, reading: Engine, target: Engine) -> None:
    copied = copy(reading, target, ignore)
    assert copied.tables == len(tables.metadata.sorted_tables)
    assert copied.rows >= 40 * copied.tables
    assert_equal(source, target)


def test_what_changed_since_is_caught_up_with(source: Engine, reading: Engine, target: Engine) -> None:
    copy(reading, target, ignore)
    again = copy(reading, target, ignore)
    assert (again.added, again.changed, again.removed) == (0, 0, 0)
    with transaction(source) as connection:
        fill(connection, 41, 5)
        connection.execute(delete(tables.machines).where(tables.machines.c.id.between(1003, 1020)))
        connection.execute(delete(tables.package_state_changes))
        connection.execute(delete(tables.catalogue_packages).where(tables.catalogue_packages.c.id > 1040))
        connection.execute(update(tables.jobs).where(tables.jobs.c.id > 1030).values(failure=None))
    caught_up = copy(reading, target, ignore)
    assert caught_up.added > 0
    assert caught_up.changed > 0
    assert caught_up.removed >= 18 + 40
    assert_equal(source, target)


def test_a_copy_that_is_interrupted_goes_on(source: Engine, reading: Engine, target: Engine) -> None:
    def stop(table: str, done: int, _total: int) -> None:
        if table == "package_state_changes" and done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(reading, target, stop)
    with transaction(target) as connection, pytest.raises(CopyUnfinished):
        require_whole(connection)
    copied = copy(reading, target, ignore)
    assert copied.added < copied.rows
    assert_equal(source, target)


def test_a_copy_is_nobodys_until_it_is_finished(reading: Engine, target: Engine) -> None:
    copy(reading, target, ignore)
    with transaction(target) as connection, pytest.raises(CopyUnfinished):
        require_whole(connection)
    finish(target)
    with transaction(target) as connection:
        require_whole(connection)
    with pytest.raises(NoCopy):  # it may have records of its own by now
        copy(reading, target, ignore)


def test_a_store_in_use_is_not_written_over(reading: Engine, target: Engine) -> None:
    with transaction(target) as connection:
        fill(connection, 500, 1)
    with transaction(target) as connection:
        before = contents(connection)
    with pytest.raises(NoCopy, match="machines"):
        copy(reading, target, ignore)
    with transaction(target) as connection:
        assert contents(connection) == before


def test_numbers_of_what_was_erased_are_not_given_out_again(
    source: Engine, reading: Engine, target: Engine
) -> None:
    with transaction(source) as connection:
        connection.execute(delete(tables.machines).where(tables.machines.c.id > 1010))
    copy(reading, target, ignore)
    with transaction(target) as connection:
        assert numbering.last_number(connection, tables.machines) == 1040
        row = {"uuid": "u", "public_key": b"", "state": "s", "registered_at": 1, "head_seq": 0}
        new = connection.execute(insert(tables.machines).values(row).returning(tables.machines.c.id))
        assert new.scalar_one() == 1041


def test_the_copys_catalogue_is_found_by_its_words(source: Engine, reading: Engine, target: Engine) -> None:
    with transaction(source) as connection:
        connection.execute(
            update(tables.catalogue_packages)
            .where(tables.catalogue_packages.c.id == 1005)
            .values(description="a wonderful thing")
        )
    copy(reading, target, ignore)
    with transaction(target) as connection:
        assert words.matching(connection, "wonder", 10) == [1005]
    with transaction(source) as connection:
        connection.execute(delete(tables.catalogue_packages).where(tables.catalogue_packages.c.id == 1005))
    copy(reading, target, ignore)
    with transaction(target) as connection:
        assert words.matching(connection, "wonder", 10) == []


def test_the_command(tmp_path: Path) -> None:
    """Real evidence, copied while it is served, then served from the copy; the first store is untouched."""
    first = tmp_path / "first/data/bdcs.sqlite"
    first.parent.mkdir(parents=True)
    first.write_bytes(lzma.decompress((ROOT / "tests/data/stores/0001.sqlite.xz").read_bytes()))
    second = f"sqlite:{tmp_path}/second/data/bdcs.sqlite"
    command = [*BDCS, "copy-store", f"sqlite:{first}", second, "--data", str(first.parent)]
    with Collector(tmp_path / "first") as serving:
        done = run(command)
        assert "12 added" not in done.stdout
        assert "--last" in done.stdout
        refused = run([*command, "--last"], check=False)
        assert refused.returncode == 1
        assert "serves from there already" in refused.stderr
        unserved = run([*BDCS, "serve", "--data", tmp_path / "second/data"], check=False)
        assert unserved.returncode == 78
        assert "then run bdcs copy-store with --last" in unserved.stderr
        assert serving.stop() == 0
    last = run([*command, "--last", "--json"])
    assert '"finished": true' in last.stdout
    with Collector(tmp_path / "second") as serving:
        assert len(serving.export()) == 12
        assert "no differences" in serving.bdcs("check").stdout
    with transaction(create_reader(first)) as connection:
        assert connection.execute(select(text("count(*)")).select_from(tables.machines)).scalar() == 3
