# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks in PostgreSQL, for what takes longer than a transaction: held by a connection of their own.

The server lets go of one when its holder's connection ends, by whatever death; who is cut off is given up
after some seconds, as every connection of ours (`store.postgresql`). Such a holder does not know it. So
whoever relies on the lock asks in the transaction that matters whether it is still held.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, text

from bdcs.errors import StoreUnavailable
from bdcs.store.engine import engine_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLock:
    """A lock that is, or was, held."""

    name: str
    session: int
    """The server's process for the connection that holds it."""

    def require(self, connection: Connection) -> None:
        """Raise `StoreUnavailable` where it is not held any more: somebody else may be at work."""
        key = _key(self.name) & (2**64 - 1)
        values = {"session": self.session, "high": key >> 32, "low": key & (2**32 - 1)}
        if connection.execute(_IS_HELD, values).first() is None:
            raise StoreUnavailable(f"the lock {self.name} was lost, with its connection to the store")


@contextlib.contextmanager
def session_lock(engine: Engine, name: str) -> Iterator[SessionLock]:
    """Hold the lock of that name, waiting for whoever has it; it must not be taken twice.

    Raises `StoreUnavailable`.
    """
    with _session(engine) as session:
        with _errors():
            session.execute("SET lock_timeout = 0")
            session.execute(f"SELECT pg_advisory_lock({_key(name)})")
        yield SessionLock(name=name, session=session.info.backend_pid)


@contextlib.contextmanager
def session_lock_if_free(engine: Engine, name: str, *, is_shared: bool) -> Iterator[bool]:
    """Hold the lock, alone or (`is_shared`) with others who do so, unless somebody is in the way.

    Gives whether it is held. Raises `StoreUnavailable`.
    """
    function = "pg_try_advisory_lock_shared" if is_shared else "pg_try_advisory_lock"
    with _session(engine) as session:
        with _errors():
            row = session.execute(f"SELECT {function}({_key(name)})").fetchone()
        yield bool(row[0])


@contextlib.contextmanager
def _session(engine: Engine) -> Iterator[Any]:
    """Give a connection of the driver's, in no transaction, that ends with the block."""
    with engine_errors():
        connection = engine.raw_connection()
    session: Any = connection.driver_connection
    connection.detach()  # it is the lock's, and no pool's
    try:
        session.autocommit = True
        yield session
    finally:
        connection.close()


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turn what the driver itself raises into our own errors."""
    import psycopg

    from bdcs.store.postgresql import error_for

    try:
        yield
    except psycopg.Error as error:
        raise error_for(error) or error from error


def _key(name: str) -> int:
    """Return a number of 64 bits for a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


_IS_HELD: Final = text(
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = :session AND objsubid = 1"
    " AND classid = :high AND objid = :low"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
