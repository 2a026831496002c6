# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks in PostgreSQL, for what takes longer than a transaction: held by a connection of their own.

The server lets go of one when its holder's connection ends, by whatever death; who is cut off is given up
after some seconds, as every connection of ours (`store.postgresql`). Such a holder does not know it. So
whoever takes the lock writes down a token of his own, and whoever relies on it looks in the transaction that
matters whether his is still there. That look also holds the next one up until that transaction has ended:
who has the lock sees all that those before him did, and they do nothing more.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Engine, select, text

from bdcs.errors import StoreUnavailable
from bdcs.store.engine import engine_errors
from bdcs.store.tables import sequences

TOKEN_BITS: Final = 62


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLock:
    """A lock that is, or was, held."""

    name: str
    session: int
    """The server's process for the connection that holds it."""
    token: int
    """Whose it is; nobody else ever has the same."""

    def require(self, connection: Connection) -> None:
        """Let nobody else have it before this transaction has ended, in which something is written.

        Raises `StoreUnavailable` where somebody else has had it since.
        """
        query = select(sequences.c.value).where(sequences.c.name == _row(self.name))
        if connection.scalar(query.with_for_update(read=True)) != self.token:
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
            token = secrets.randbits(TOKEN_BITS)
            session.execute(_PUT_TOKEN, (_row(name), token))
        yield SessionLock(name=name, session=session.info.backend_pid, token=token)


@contextlib.contextmanager
def session_lock_if_free(
    engine: Engine, name: str, *, is_shared: bool
) -> Iterator[Callable[[], bool] | None]:
    """Hold the lock, alone or (`is_shared`) with others who do so, unless somebody is in the way.

    Gives what tells whether it is held yet; None where it is not. Raises `StoreUnavailable`.
    """
    function = "pg_try_advisory_lock_shared" if is_shared else "pg_try_advisory_lock"
    with _session(engine) as session:
        with _errors():
            row = session.execute(f"SELECT {function}({_key(name)})").fetchone()
        yield partial(_is_connected, session) if row[0] else None


def holders(engine: Engine, name: str) -> list[str]:
    """Return the addresses of who holds a lock, each once, as far as the server tells us.

    Raises `StoreUnavailable`.
    """
    key = _key(name) & (2**64 - 1)
    values = {"high": key >> 32, "low": key & (2**32 - 1)}
    with engine_errors(), engine.connect() as connection:
        return sorted(connection.scalars(_HOLDERS, values))


@contextlib.contextmanager
def _session(engine: Engine) -> Iterator[Any]:
    """Give a connection of the driver's, in no transaction, that ends with the block."""
    with engine_errors(), _errors():  # the driver's own are not wrapped here
        connection = engine.raw_connection()
    session: Any = connection.driver_connection
    connection.detach()  # it is the lock's, and no pool's
    try:
        session.autocommit = True
        yield session
    finally:
        session.close()


def _is_connected(session: Any) -> bool:
    """Whether the server still has the session; who does not hear of it waits for some seconds."""
    import psycopg

    try:
        session.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


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


def _row(name: str) -> str:
    """Return what the sequence is called that has the token of a lock."""
    return f"lock {name}"


_HOLDERS: Final = text(
    "SELECT DISTINCT coalesce(host(client_addr), 'this host') FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid = :high AND objid = :low"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND pid != pg_backend_pid()"
)
_PUT_TOKEN: Final = (
    "INSERT INTO sequences (name, value) VALUES (%s, %s)"
    " ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value"
)
