# SPDX-License-Identifier: GPL-2.0-or-later
"""What only the store in a file has: the file, and lookups in the thread of the loop."""

import sqlite3
import stat
from pathlib import Path

import pytest
from sqlalchemy import bindparam, select

from bdcs.errors import NoStore, StoreDamaged, StoreUnavailable
from bdcs.store import schema
from bdcs.store.engine import create_reader, create_writer
from bdcs.store.lookups import Lookup, LookupConnection, Lookups
from bdcs.store.sqlite import execute_rows, fetch_rows
from bdcs.store.store import Store
from bdcs.store.tables import versions


def test_a_reader_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(NoStore):
        create_reader(tmp_path / "absent.sqlite")


def test_a_store_is_readable_to_its_owner_alone_whatever_its_directory_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # as `useradd --create-home` makes one
    engine = create_writer(tmp_path / "bdcs.sqlite")
    with engine.connect() as connection:
        schema.upgrade(connection)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    engine.dispose()
    assert set(modes) == {"bdcs.sqlite", "bdcs.sqlite-wal", "bdcs.sqlite-shm"}
    assert set(modes.values()) == {0o600}


async def test_a_lookup_in_the_loop_sees_what_is_committed(tmp_path: Path) -> None:
    store = Store(tmp_path / "bdcs.sqlite")
    await store.write(schema.upgrade)
    by_text = Lookup(select(versions.c.text).where(versions.c.text == bindparam("text")))

    def found(lookups: Lookups) -> object:
        return lookups.first(by_text, text="1.0")

    assert store.look_up(found) is None
    await store.write(lambda connection: connection.execute(versions.insert().values(text="1.0")))
    assert store.look_up(found) == ("1.0",)
    await store.close()


def test_a_lookup_does_not_wait(tmp_path: Path) -> None:
    """Where the store cannot be opened just now, it says so."""
    all_of_them = Lookup(select(versions.c.text))
    missing = LookupConnection(tmp_path / "missing" / "bdcs.sqlite")
    with pytest.raises(StoreUnavailable), missing.transaction() as lookups:
        lookups.first(all_of_them)


def test_what_the_driver_does_alone_fails_as_everything_else(tmp_path: Path) -> None:
    """What is wrong with the store is told in our own errors, and not what is wrong with a statement."""
    engine = create_writer(tmp_path / "bdcs.sqlite")
    with engine.begin() as connection:
        for run in (fetch_rows, execute_rows):
            with pytest.raises(StoreDamaged, match="no such table"):
                run(connection, "SELECT id FROM versions", ())
        assert fetch_rows(connection, "CREATE TABLE versions (text UNIQUE)") == []
        insertion = "INSERT INTO versions VALUES (?)"
        assert execute_rows(connection, insertion, [("1.0",), ("1.1",)]) == 2
        with pytest.raises(sqlite3.IntegrityError):
            execute_rows(connection, insertion, [("1.0",)])
        assert fetch_rows(connection, "SELECT text FROM versions") == [("1.0",), ("1.1",)]
    engine.dispose()
