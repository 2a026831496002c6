# SPDX-License-Identifier: GPL-2.0-or-later
"""Engines are chosen here, by their place, and nowhere else."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from bdcs.errors import StoreError, StoreUnavailable
from bdcs.store import sqlite
from bdcs.store.lookups import LookupConnection, NoLookups
from bdcs.store.places import SQLITE_NAME, Place, PostgreSQL, directory_of, place_of, sqlite_path

__all__ = [
    "READERS",
    "SQLITE_NAME",
    "Place",
    "PostgreSQL",
    "create_appender",
    "create_reader",
    "create_writer",
    "directory_of",
    "empty_log",
    "engine_errors",
    "lookups_of",
    "patience",
    "place_of",
    "sqlite_path",
    "translated",
]

READERS: Final = 4
"""Reads of a process that run at once."""

FAILOVER: Final = 10.0
"""Seconds that a transaction may take to begin while another server takes the place of one that died."""


def create_writer(place: Place) -> Engine:
    """Return the engine that changes go through: its transactions run one after another, whoever begins them.

    Raises `NoPermission`, `LibraryMissing`, `ConfigurationError`.
    """
    if isinstance(place, PostgreSQL):
        from bdcs.store import postgresql

        return postgresql.create_writer(place)
    return sqlite.create_writer(place)


def create_appender(place: Place) -> Engine:
    """Return an engine for rows that nothing else depends on, such as pieces of logs.

    Their transactions run beside all others, where the store can do that. Raises as `create_writer` does.
    """
    if isinstance(place, PostgreSQL):
        from bdcs.store import postgresql

        return postgresql.create_appender(place)
    return sqlite.create_writer(place)


def create_reader(place: Place) -> Engine:
    """Return the engine that only reads; each transaction sees one state of the store.

    Raises `NoStore` where there is none to read, `NoPermission`, `LibraryMissing`, `ConfigurationError`.
    """
    if isinstance(place, PostgreSQL):
        from bdcs.store import postgresql

        return postgresql.create_reader(place, READERS)
    return sqlite.create_reader(place, READERS)


def lookups_of(place: Place) -> LookupConnection | NoLookups:
    """Return what lookups are made on in the loop's own thread; across a network there is no such thing."""
    return LookupConnection(place) if isinstance(place, Path) else NoLookups()


def empty_log(place: Place) -> bool:
    """Move what the engine's log holds into the database and cut it to nothing.

    Return False where a reader of an older state still needs it. Raises `StoreUnavailable`. PostgreSQL's log
    is not ours: it is what replicas and backups are made from, and goes when these have had it.
    """
    return sqlite.empty_log(place) if isinstance(place, Path) else True


def patience(engine: Engine) -> float:
    """Return how many seconds to go on trying to begin a transaction; SQLite itself waits for its turn."""
    return 0 if engine.dialect.name == "sqlite" else FAILOVER


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """Turn what an engine says about its disk, its locks and its file into our own errors."""
    try:
        yield
    except DBAPIError as error:
        raise translated(error) from error
    except PoolTimeout as error:
        raise StoreUnavailable("all connections to the store are in use") from error


def translated(error: DBAPIError) -> DBAPIError | StoreError:
    """Return our own error for what the engine reports, or `error` itself where it is a bug of ours."""
    if isinstance(error.orig, sqlite3.Error):
        return sqlite.error_for(str(error.orig)) or error
    from bdcs.store import postgresql

    return postgresql.error_for(error.orig) or error


def is_lost(error: BaseException) -> bool:
    """Whether `error` is that of a connection which had died before; another may work."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_over(error: BaseException) -> bool:
    """Whether the engine gave up the whole transaction: a full disk, a lock, a connection that is lost."""
    if isinstance(error, DBAPIError):
        return is_lost(error) or isinstance(translated(error), StoreUnavailable)
    return isinstance(error, StoreUnavailable)
