# SPDX-License-Identifier: GPL-2.0-or-later
"""SQLite as store: a file, one connection that writes, a few that read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

from bdcs.errors import (
    ConfigurationError,
    NoPermission,
    NoStore,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

BUSY_TIMEOUT = 30.0  # seconds that a statement waits for another process's transaction
CACHE_SIZE = 64 * 1024 * 1024  # bytes of pages that the writer keeps
READER_CACHE_SIZE = 16 * 1024 * 1024
LOG_TIMEOUT = 1.0  # seconds that emptying the log waits for readers, and writers for it
CHECKPOINT_PAGES = 4000  # pages in the write-ahead log before they are moved to their places


def create_writer(path: Path) -> Engine:
    """Return the engine that changes go through: one connection, transactions that lock at their beginning.

    Directory (mode 0700) and database (0600, as are the files beside it) are made if need be. Raises
    `NoPermission` where that is not allowed.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except PermissionError as error:
        raise NoPermission(path.parent) from error
    _require_access(path)
    engine = _sqlite(path, begin="BEGIN IMMEDIATE", cache=CACHE_SIZE, poolclass=StaticPool)

    @event.listens_for(engine, "do_connect")
    def make(*_arguments: object) -> None:
        with contextlib.suppress(OSError):  # it is there, or SQLite says what is wrong
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
        connection.execute("PRAGMA secure_delete = ON")  # what was erased is not left in free pages
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")

    return engine


def create_reader(path: Path, readers: int) -> Engine:
    """Return the engine that only reads, `readers` at once; each transaction sees one state of the store.

    Raises `NoStore` where there is none to read, `NoPermission`.
    """
    if not path.exists():
        raise NoStore(path)
    _require_access(path)
    engine = _sqlite(
        path,
        begin="BEGIN",
        cache=READER_CACHE_SIZE,
        poolclass=QueuePool,
        pool_size=readers,
        max_overflow=1,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    return engine


def empty_log(path: Path) -> bool:
    """Move what the write-ahead log holds into the database and cut it to nothing.

    Return False where a reader of an older state still needs it. Raises `StoreUnavailable`.
    """
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=LOG_TIMEOUT)) as connection:
            is_busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error as error:
        raise StoreUnavailable(str(error)) from error
    return not is_busy


def _require_access(path: Path) -> None:
    """Raise `NoPermission` unless the database and its directory may be written; `ConfigurationError`.

    Who reads must be allowed to write as well: in WAL mode readers take part in the locks.
    """
    if path.is_dir():
        raise ConfigurationError(f"{path} is a directory, no store")
    for place in (path.parent, path):
        if place.exists() and not os.access(place, os.R_OK | os.W_OK):
            error = NoPermission(place)
            if os.statvfs(place).f_flag & os.ST_RDONLY:
                error.advice = (
                    "its file system is mounted read-only, and also who only reads has to write there"
                )
            raise error


def _sqlite(path: Path, *, begin: str, cache: int, **options: Any) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False, "isolation_level": None},
        **options,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA cache_size = {-cache // 1024}")
        connection.execute("PRAGMA temp_store = MEMORY")

    @event.listens_for(engine, "begin")
    def start(connection: Any) -> None:
        fetch_rows(connection, begin)

    return engine


def fetch_rows(connection: Connection, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
    """Run a statement in the transaction of `connection`; return its rows, tuples. Raises `StoreError`.

    The driver does it alone: for a row or two, SQLAlchemy takes several times as long as SQLite.
    """
    try:
        return _driver(connection).execute(sql, values).fetchall()
    except sqlite3.Error as error:
        raise error_for(str(error)) or error from error


def execute_rows(connection: Connection, sql: str, rows: Iterable[Sequence[Any]]) -> int:
    """Run a statement for each of `rows` likewise; return how many it touched. Raises `StoreError`."""
    try:
        return _driver(connection).executemany(sql, rows).rowcount
    except sqlite3.Error as error:
        raise error_for(str(error)) or error from error


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def error_for(reason: str) -> StoreError | None:
    """Return our own error for what SQLite says, or None where that is a bug of ours."""
    for kind, signs in _SIGNS.items():
        if any(sign in reason for sign in signs):
            return kind(reason)
    return None


_SIGNS: Final[Mapping[type[StoreError], tuple[str, ...]]] = {
    StoreFull: ("disk is full", "disk I/O error"),
    StoreUnavailable: ("locked", "unable to open", "readonly", "read-only"),
    StoreDamaged: ("malformed", "not a database", "no such table", "no such column"),
}
"""What SQLite says, and what that is."""
