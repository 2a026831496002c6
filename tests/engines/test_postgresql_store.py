# SPDX-License-Identifier: GPL-2.0-or-later
"""PostgreSQL as store keeps the contract that SQLite keeps: the same tests, and what only a server can do."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.exc import DBAPIError

from bdcs.domain.statistics import DAY
from bdcs.errors import ConfigurationError, StoreDamaged, StoreFull, StoreUnavailable
from bdcs.store import postgresql, schema
from bdcs.store.bulk import insert_rows
from bdcs.store.engine import Place, PostgreSQL, create_reader, create_writer, place_of
from bdcs.store.store import Store, transaction
from bdcs.store.tables import metadata, package_state_changes, versions
from tests.integration.test_store import *  # noqa: F403 - the contract
from tests.integration.test_store import count, insert
from tests.postgresql import Server, running_postgresql
from tests.processes import BDCS, environment
from tests.waiting import until

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_postgresql(tmp_path_factory.mktemp("postgresql")) as running:
        yield running


@pytest.fixture(name="place")
def postgresql_place(server: Server) -> Place:
    return PostgreSQL(server.new_database())


def backends(server: Server) -> str:
    """All sessions of collectors."""
    return "SELECT pid FROM pg_stat_activity WHERE application_name = 'bdcs'"


# Schema.


def test_an_empty_database_gets_the_tables_of_this_version(server: Server) -> None:
    engine = create_writer(PostgreSQL(server.new_database(is_empty=True)))
    with transaction(engine) as connection:
        schema.require_known(connection)
        assert schema.upgrade(connection) is None
        assert schema.upgrade(connection) == schema.HEAD
        assert set(inspect(connection).get_table_names()) >= set(metadata.tables)
    engine.dispose()


def test_collectors_that_start_at_once_make_one_schema(server: Server, tmp_path: Path) -> None:
    url = server.new_database(is_empty=True)
    commands: list[list[str | Path]] = [
        [*BDCS, "schema", "upgrade", "--store", url, "--data", tmp_path] for _ in range(4)
    ]
    started = [
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    said = sorted(process.communicate(timeout=120)[0] for process in started)
    assert [process.returncode for process in started] == [0] * 4
    assert said == [f"schema {schema.HEAD}: nothing to do\n"] * 3 + [f"schema None → {schema.HEAD}\n"]


# Connections.


async def test_a_read_survives_the_end_of_its_connection(store: Store, server: Server) -> None:
    await store.write(insert("1"))
    server.execute(f"SELECT pg_terminate_backend(pid) FROM ({backends(server)}) AS s")
    assert await store.read(count) == 1


async def test_a_write_survives_the_end_of_its_connection(store: Store, server: Server) -> None:
    await store.write(insert("1"))
    server.execute(f"SELECT pg_terminate_backend(pid) FROM ({backends(server)}) AS s")
    await store.write(insert("2"))
    assert await store.read(count) == 2


def test_a_transaction_of_its_own_survives_the_end_of_its_connection(server: Server, place: Place) -> None:
    engine = create_writer(place)
    for name in ("1", "2"):
        with transaction(engine) as connection:
            insert(name)(connection)
            found = count(connection)
        server.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM ({backends(server)}) AS s")
    assert found == 2
    engine.dispose()


async def test_a_connection_that_ends_under_a_write_takes_it_along(store: Store, server: Server) -> None:
    """Nobody is told that it was done; who tries again succeeds."""

    def cut(connection: Connection) -> None:
        insert("lost")(connection)
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        server.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
        insert("lost as well")(connection)

    with pytest.raises(StoreUnavailable):
        await store.write(cut)
    assert await store.read(count) == 0
    await store.write(insert("1"))
    assert await store.read(count) == 1


async def test_a_connection_that_ends_under_a_copy_takes_it_along(store: Store, server: Server) -> None:
    def cut(connection: Connection) -> None:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        server.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
        insert_rows(connection, versions, [(None, str(number)) for number in range(100)])

    with pytest.raises(StoreUnavailable):
        await store.write(cut)
    assert await store.read(count) == 0


async def test_who_hangs_does_not_keep_others_from_writing(
    store: Store, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "IDLE_TIMEOUT", 1)
    hanging = create_writer(place)
    with hanging.connect() as connection:
        insert("never")(connection)
        await store.write(insert("1"))  # once the server has ended the other's transaction
        with pytest.raises(DBAPIError):
            insert("never")(connection)
    hanging.dispose()
    assert await store.read(count) == 1


async def test_who_waits_too_long_for_its_turn_is_told(
    server: Server, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "LOCK_TIMEOUT", 1)
    monkeypatch.setattr("bdcs.store.engine.FAILOVER", 0)
    writing = create_writer(place)
    store = Store(place)
    with writing.begin() as connection:
        insert("1")(connection)
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await store.write(insert("2"))
    await store.write(insert("2"))
    assert await store.read(count) == 2
    await store.close()
    writing.dispose()


async def test_a_store_that_is_not_there_is_told(server: Server) -> None:
    with pytest.raises(StoreUnavailable):
        Store(PostgreSQL(server.url_of("nowhere")))


# Commits.


def test_what_failed_is_not_taken_for_stored(place: Place) -> None:
    """COMMIT says nothing where it rolls back: a statement had failed, and somebody went on."""
    engine = create_writer(place)
    with engine.connect() as connection:
        insert("1")(connection)
        with pytest.raises(DBAPIError):
            connection.execute(text("SELECT 1/0"))
        with pytest.raises(DBAPIError, match="nothing of this"):
            connection.commit()
    engine.dispose()


async def test_a_wait_for_the_replica_that_is_cancelled_is_no_success(tmp_path: Path) -> None:
    with running_postgresql(tmp_path, is_durable=True) as server:
        store = Store(PostgreSQL(server.new_database()))
        await store.write(insert("1"))
        server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        server.execute("SELECT pg_reload_conf()")
        waiting = asyncio.create_task(store.write(insert("2")))
        syncing = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        (pid,) = await asyncio.to_thread(until, lambda: [row[0] for row in server.execute(syncing)])
        assert not waiting.done()
        server.execute(f"SELECT pg_cancel_backend({pid})")
        with pytest.raises(StoreUnavailable, match="nobody knows"):
            await waiting
        server.execute("ALTER SYSTEM RESET synchronous_standby_names")
        server.execute("SELECT pg_reload_conf()")
        await store.close()


# Errors.


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("53100", StoreFull),
        ("53300", StoreUnavailable),
        ("57P01", StoreUnavailable),
        ("25006", StoreUnavailable),
        ("55P03", StoreUnavailable),
        ("42P01", StoreDamaged),
        ("42703", StoreDamaged),
        ("XX001", StoreDamaged),
    ],
)
async def test_what_the_server_says_is_told_in_our_words(store: Store, state: str, kind: type) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'said so' USING ERRCODE = '{state}'; END $$"
    with pytest.raises(kind, match="said so") as caught:
        await store.read(lambda connection: connection.execute(text(raising)))
    assert type(caught.value) is kind


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    for url in (
        "postgresql://bdcs:hid:den@example.org,other.example.org:5433/gentwoo",
        "postgresql://bdcs:hid%2Fden@/gentwoo?host=example.org",
        "postgresql://example.org/gentwoo?user=bdcs&password=hidden&sslpassword=hidden",
    ):
        shown = str(place_of(url, tmp_path))
        assert "hid" not in shown
        assert "example.org" in shown
        assert "gentwoo" in shown
        assert "hid" not in repr(place_of(url, tmp_path))
    with pytest.raises(ConfigurationError) as caught:
        create_writer(PostgreSQL("postgresql://bdcs:hidden@example.org/gentwoo?no_such_option=1"))
    assert "hidden" not in str(caught.value)


# Records by month.

MAY, JUNE = 1_714_521_600, 1_717_200_000  # 2024-05-01, 2024-06-01


def change(number: int, created_at: int) -> tuple[object, ...]:
    return (
        number,
        1,
        number,
        1,
        1,
        None,
        0,
        None,
        None,
        None,
        created_at,
        created_at,
        None,
        None,
        0,
        0,
        None,
    )


async def test_each_month_has_a_table_of_its_own(store: Store) -> None:
    rows = [change(1, MAY), change(2, JUNE - 1), change(3, JUNE), change(4, JUNE + 40 * DAY)]
    await store.write(lambda connection: insert_rows(connection, package_state_changes, rows))
    await store.write(
        lambda connection: insert_rows(connection, package_state_changes, [change(5, JUNE + 1)])
    )
    where = text("SELECT tableoid::regclass::text, id FROM package_state_changes ORDER BY id")
    found = [tuple(row) for row in await store.read(lambda connection: connection.execute(where).all())]
    assert [(name.removeprefix("package_state_changes_"), number) for name, number in found] == [
        ("202405", 1),
        ("202405", 2),
        ("202406", 3),
        ("202407", 4),
        ("202406", 5),
    ]


async def test_a_month_that_begins_in_vain_begins_again(store: Store) -> None:
    def fail(connection: Connection) -> None:
        insert_rows(connection, package_state_changes, [change(1, MAY)])
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(fail)
    await store.write(lambda connection: insert_rows(connection, package_state_changes, [change(1, MAY)]))
    ids = select(package_state_changes.c.id)
    assert await store.read(lambda connection: list(connection.scalars(ids))) == [1]


async def test_a_month_begins_beside_a_long_read(store: Store) -> None:
    """… and no reader waits for it."""
    await store.write(lambda connection: insert_rows(connection, package_state_changes, [change(1, MAY)]))
    ids = select(package_state_changes.c.id).order_by(package_state_changes.c.id)
    begun, done = threading.Event(), threading.Event()

    def read(connection: Connection) -> list[list[int]]:
        before = list(connection.scalars(ids))
        begun.set()
        assert done.wait(60)
        return [before, list(connection.scalars(ids))]

    reading = asyncio.create_task(store.read(read))
    await asyncio.to_thread(begun.wait, 60)
    await store.write(lambda connection: insert_rows(connection, package_state_changes, [change(2, JUNE)]))
    done.set()
    assert await reading == [[1], [1]]
    assert await store.read(lambda connection: list(connection.scalars(ids))) == [1, 2]


async def test_the_log_is_not_ours_to_empty(store: Store) -> None:
    assert await store.empty_log()


async def test_nothing_is_looked_up_across_a_network(store: Store) -> None:
    with pytest.raises(StoreUnavailable):
        store.look_up(lambda lookups: lookups)


def test_who_reads_cannot_write(place: Place) -> None:
    reader = create_reader(place)
    with pytest.raises(StoreUnavailable), transaction(reader) as connection:
        insert("1")(connection)
    reader.dispose()


def test_psycopg_is_named_where_it_is_missing(tmp_path: Path) -> None:
    hidden = tmp_path / "psycopg.py"
    hidden.write_text("raise ImportError\n")
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), env["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "bdcs", "serve", "--check", "--store", "postgresql://nowhere/x"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "psycopg" in done.stderr
    assert "gentwoo[postgresql]" in done.stderr
