# SPDX-License-Identifier: GPL-2.0-or-later
"""Migrations lead to the tables that the code works with, and never lose what is there."""

import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, select, text

from bdcs.errors import ConfigurationError, NoPermission, SchemaMismatch
from bdcs.services.checking import check
from bdcs.store import schema
from bdcs.store.engine import create_writer, sqlite_path
from bdcs.store.store import transaction
from bdcs.store.tables import SEARCH_TABLE, dictionaries, metadata, secrets
from dev.places import ROOT

pytestmark = pytest.mark.sqlite


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = create_writer(tmp_path / "bdcs.sqlite")
    with transaction(engine) as opened:
        yield opened
    engine.dispose()


def differences(connection: Connection) -> list[Any]:
    """How the store differs from the tables; the index of words is none that SQLAlchemy knows."""
    options = {"include_name": lambda name, _type, _parents: not str(name).startswith(SEARCH_TABLE)}
    found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    return found


def definitions(connection: Connection) -> dict[str, list[str]]:
    """What SQLite was told to make; the words are sorted, since the order of constraints means nothing."""
    rows = connection.execute(text("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")).all()
    marks = str.maketrans(dict.fromkeys('",()', " "))
    return {name: sorted(sql.translate(marks).split()) for name, sql in rows if "alembic" not in name}


def test_an_empty_store_gets_what_all_migrations_make(connection: Connection, tmp_path: Path) -> None:
    schema.migrate(connection, None)
    assert schema.current(connection) == schema.HEAD
    assert differences(connection) == []
    made = create_writer(tmp_path / "made.sqlite")
    with transaction(made) as other:
        assert schema.upgrade(other) is None
        assert schema.current(other) == schema.HEAD
        assert definitions(connection) == definitions(other)
        assert contents(connection) == {**contents(other), secrets.name: [], dictionaries.name: []}
    made.dispose()


def contents(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but Alembic's own and the index of words."""
    names = set(inspect(connection).get_table_names()) - {"alembic_version"}
    names = {name for name in names if not name.startswith(SEARCH_TABLE)}
    return {
        name: [tuple(row) for row in connection.execute(text(f'SELECT * FROM "{name}"'))] for name in names
    }


def test_the_first_schema_is_upgraded_with_all_that_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "bdcs.sqlite"
    path.write_bytes(lzma.decompress((ROOT / "tests/data/stores/0001.sqlite.xz").read_bytes()))
    engine = create_writer(path)
    with transaction(engine) as connection:
        before = contents(connection)
        assert len(before["package_state_changes"]) == 12
        with pytest.raises(SchemaMismatch):
            schema.require(connection)
        assert schema.upgrade(connection) == "0001"
    with transaction(engine) as connection:
        schema.require(connection)
        after = contents(connection)
        assert after["sequences"].pop() == (schema.OLDEST, 19)
        assert {name: after[name] for name in before} == before
        assert not any(after[name] for name in after.keys() - before.keys())
        assert differences(connection) == []
    report = check(engine, lambda _done, _machines: None)
    assert (report.machines, report.records, report.differences) == (3, 12, 0), report.first
    engine.dispose()


def test_upgrading_again_changes_nothing(connection: Connection) -> None:
    schema.upgrade(connection)
    before = connection.execute(select(secrets)).all(), connection.execute(select(dictionaries.c.id)).all()
    assert schema.upgrade(connection) == schema.HEAD
    assert (
        connection.execute(select(secrets)).all(),
        connection.execute(select(dictionaries.c.id)).all(),
    ) == before


def test_a_store_of_newer_software_is_refused(connection: Connection) -> None:
    schema.upgrade(connection)
    connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    schema.note_oldest(connection, "9999")
    with pytest.raises(SchemaMismatch, match="9999"):
        schema.upgrade(connection)
    with pytest.raises(SchemaMismatch):
        schema.require(connection)


def test_an_upgrade_that_fails_leaves_nothing(tmp_path: Path) -> None:
    engine = create_writer(tmp_path / "bdcs.sqlite")

    def fail() -> None:
        with transaction(engine) as connection:
            schema.upgrade(connection)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with transaction(engine) as connection:
        assert schema.current(connection) is None
        assert definitions(connection) == {}
    engine.dispose()


@pytest.mark.parametrize("url", ["mysql://x", "sqlite", "/var/lib/x"])
def test_other_stores_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        sqlite_path(url, Path("/data"))


def test_where_the_file_is() -> None:
    assert sqlite_path("sqlite:", Path("/data")) == Path("/data/bdcs.sqlite")
    assert sqlite_path("sqlite:other.db", Path("/data")) == Path("/data/other.db")
    assert sqlite_path("sqlite:/srv/x.db", Path("/data")) == Path("/srv/x.db")


def test_a_data_directory_that_may_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((NoPermission, OSError)):
        create_writer(tmp_path / "file" / "data" / "bdcs.sqlite")
