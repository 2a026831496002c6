# SPDX-License-Identifier: GPL-2.0-or-later
"""PostgreSQL as store, for several collectors.

Transactions that write take one lock at their beginning, and so run one after another whichever collector
they come from, each seeing all that was committed before: what SQLite does with BEGIN IMMEDIATE. Readers see
one state of the store, and wait for nobody.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.exc import DisconnectionError

from bdcs.errors import (
    ConfigurationError,
    LibraryMissing,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from bdcs.store import arithmetic  # noqa: F401 - makes sums what they are elsewhere
from bdcs.store.places import PostgreSQL

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    from bdcs.store.postgresql_values import take_any
except ImportError as error:
    raise LibraryMissing("store", "postgresql://", "psycopg", "postgresql") from error

TURN: Final = 0x67656E74776F6F  # "gentwoo": number of the lock that whoever writes holds
LOCK_TIMEOUT: Final = 10  # seconds that a transaction waits for its turn
IDLE_TIMEOUT: Final = 60  # seconds after which a transaction that writes ends if nobody goes on with it
READER_IDLE_TIMEOUT: Final = 3600  # … and one that reads: somebody may look at an export page by page
CONNECT_TIMEOUT: Final = 3  # seconds; for each of several hosts
APPENDERS: Final = 4  # connections of a process that append to logs
TRUSTED: Final = 1.0  # seconds for which a connection that writes is taken to be there still
SILENCE: Final = 6  # seconds after which a peer that does not acknowledge is given up, by either side

_CLIENT: Final[Mapping[str, Any]] = {
    "application_name": "bdcs",
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": SILENCE // 2,
    "keepalives_interval": 1,
    "keepalives_count": SILENCE // 2,
    "tcp_user_timeout": SILENCE * 1000,
    "client_encoding": "utf8",
}
"""What libpq is told, where the URL says nothing else."""

_SESSION: Final[Mapping[str, str]] = {
    "timezone": "UTC",
    "client_connection_check_interval": "1s",
    "tcp_keepalives_idle": f"{SILENCE // 2}s",
    "tcp_keepalives_interval": "1s",
    "tcp_keepalives_count": str(SILENCE // 2),
    "tcp_user_timeout": f"{SILENCE}s",
    "jit": "off",
}
"""What the server is told: a collector that hangs, or is cut off, does not keep the others from writing.

Nor does it compile statements: what reads records does so in every month's table, and compiling that takes
half a second where running it takes less.

Statements have no limit: it would be the commit's as well, and a commit whose wait for a synchronous replica
is cut short counts as done (`_Session.commit`).
"""

_READ_WRITE: Final = {"target_session_attrs": "read-write"}
"""Of several hosts the primary; also for readers: who was told that it is stored has to find it."""


_TAKE_TURN: Final = f"BEGIN; SELECT pg_advisory_xact_lock({TURN})"


class _Session(psycopg.Connection[Any]):
    """A connection whose commits are on the replica, too, where there is a synchronous one."""

    def commit(self) -> None:
        """Commit. Raises `psycopg.Error` also where nothing would be kept, or not on the replica.

        A transaction in which a statement failed is rolled back by COMMIT, without a word; and of a wait for
        the replica that somebody cancelled only a warning tells.
        """
        if self.info.transaction_status is psycopg.pq.TransactionStatus.INERROR:
            raise psycopg.errors.InFailedSqlTransaction("a statement failed: nothing of this can be stored")
        warnings: list[str] = []

        def note(diagnostic: psycopg.errors.Diagnostic) -> None:
            if diagnostic.severity_nonlocalized == "WARNING":
                warnings.append(diagnostic.message_primary or "")

        self.add_notice_handler(note)
        try:
            super().commit()
        finally:
            self.remove_notice_handler(note)
        if warnings:
            raise psycopg.OperationalError(f"nobody knows whether that is stored: {warnings[0]}")


def create_writer(place: PostgreSQL) -> Engine:
    """Return the engine that changes go through. Raises `ConfigurationError`; connects to nothing yet."""
    engine = _engine(place, IDLE_TIMEOUT, pool_size=1, max_overflow=2, pool_pre_ping=False)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.autocommit = True  # a transaction begins together with its turn: one round trip

    @event.listens_for(engine, "begin")
    def take_turn(connection: Any) -> None:
        connection.exec_driver_sql(_TAKE_TURN)

    @event.listens_for(engine, "do_execute")
    def execute(cursor: Any, statement: str, _values: object, _context: object) -> bool:
        if statement != _TAKE_TURN:
            return False
        cursor.execute(statement, prepare=False)  # two statements cannot be prepared as one
        return True

    _ask_after_a_rest(engine)
    return engine


def _ask_after_a_rest(engine: Engine) -> None:
    """Have a connection asked whether it is there before each transaction, unless it just served another."""

    @event.listens_for(engine, "checkin")
    def note(_connection: object, record: Any) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def look(connection: Any, record: Any, _proxy: object) -> None:
        used = record.info.get("used")
        if used is not None and time.monotonic() - used > TRUSTED:
            try:
                engine.dialect.do_ping(connection)
            except psycopg.Error as error:
                raise DisconnectionError(str(error)) from error


def create_appender(place: PostgreSQL) -> Engine:
    """Return the engine for changes to what nothing else depends on: they wait for no turn."""
    return _engine(place, IDLE_TIMEOUT, pool_size=APPENDERS, max_overflow=APPENDERS)


def create_reader(place: PostgreSQL, readers: int) -> Engine:
    """Return the engine that only reads, `readers` at once. Raises `ConfigurationError`."""
    engine = _engine(place, READER_IDLE_TIMEOUT, pool_size=readers, max_overflow=1)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True

    return engine


def copy_rows(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert `rows`, values of `columns`, in one go. Raises `StoreError`."""
    driver: Any = connection.connection.driver_connection
    names = ", ".join(f'"{name}"' for name in columns)
    try:
        with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        raise error_for(error) or error from error


def _engine(place: PostgreSQL, idle_timeout: int, **pool: Any) -> Engine:
    try:
        given = conninfo_to_dict(place.url)
    except psycopg.ProgrammingError:
        # What libpq says has parts of the password in it.
        raise ConfigurationError(
            f"store: {place} is no URL that libpq reads; in a password, write %25 for %, %40 for @, %2F for /"
        ) from None
    wanted = {
        **_SESSION,
        "lock_timeout": f"{LOCK_TIMEOUT}s",
        "idle_in_transaction_session_timeout": f"{idle_timeout}s",
    }
    session = " ".join(f"-c {name}={value}" for name, value in wanted.items())
    options = f"{session} {given.pop('options', None) or os.environ.get('PGOPTIONS', '')}".strip()
    engine = create_engine(
        "postgresql+psycopg://",
        connect_args={**_CLIENT, **_READ_WRITE, **given, "options": options},
        **{"pool_pre_ping": True, **pool},
    )

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, _words: object, values: dict[str, Any]) -> _Session:
        return _Session.connect(**values)

    return take_any(engine)


def error_for(problem: BaseException | None) -> StoreError | None:
    """Return our own error for what PostgreSQL reports, or None where that is a bug of ours."""
    if not isinstance(problem, psycopg.Error):
        return None
    reason = str(problem).strip()
    state = problem.sqlstate
    if state is None:  # libpq's own: no connection, or none any more
        is_about_connection = isinstance(problem, psycopg.OperationalError | psycopg.InterfaceError)
        return StoreUnavailable(reason) if is_about_connection else None
    for beginning, kind in _STATES.items():
        if state.startswith(beginning):
            return kind(reason)
    return None


_STATES: Final[Mapping[str, type[StoreError]]] = {
    "53100": StoreFull,  # disk_full
    "53": StoreUnavailable,  # out of memory, too many connections
    "08": StoreUnavailable,  # connection exceptions
    "25006": StoreUnavailable,  # read_only_sql_transaction: a replica
    "25P03": StoreUnavailable,  # idle_in_transaction_session_timeout
    "28": StoreUnavailable,  # authentication: an operator's matter, and nothing of ours is lost
    "3D": StoreUnavailable,  # no such database, yet
    "40": StoreUnavailable,  # serialization failure, deadlock
    "55P03": StoreUnavailable,  # lock_not_available: somebody has been writing for long
    "57": StoreUnavailable,  # cancelled, shut down, starting up
    "58": StoreUnavailable,  # of the system below it: I/O
    "42P01": StoreDamaged,  # undefined_table
    "42703": StoreDamaged,  # undefined_column
    "XX001": StoreDamaged,  # data_corrupted
    "XX002": StoreDamaged,  # index_corrupted
}
"""What is said by SQLSTATE, or the beginning of one, and what that is; the first that fits counts."""
