# SPDX-License-Identifier: GPL-2.0-or-later
"""Lookups: statements that find a row by an index, as the engine itself runs them.

What is in memory anyway is found in some microseconds; a thread to ask in costs a hundred, and under load
waits for its turn twice. So what looks up little may do so where it stands; what reads more goes through
`Store.read`, as does whatever can wait for a disk.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Select
from sqlalchemy.dialects import sqlite

from bdcs.errors import StoreUnavailable

_DIALECT: Final = sqlite.dialect(paramstyle="named")


class Lookup:
    """A statement, compiled once. Rows are tuples of what the engine keeps: a truth is 0 or 1."""

    __slots__ = ("statement", "text")

    def __init__(self, statement: Select[Any]) -> None:
        self.statement: Final = statement
        self.text: Final = str(statement.compile(dialect=_DIALECT))


class Lookups:
    """Runs lookups on one connection, whose transaction is somebody else's business."""

    __slots__ = ("_first",)

    def __init__(self, first: Callable[[Lookup, Mapping[str, object]], tuple[Any, ...] | None]) -> None:
        self._first = first

    @classmethod
    def on(cls, connection: sqlite3.Connection) -> Lookups:
        """Return lookups on a connection of SQLite's own."""
        return cls(lambda lookup, values: connection.execute(lookup.text, values).fetchone())

    @classmethod
    def within(cls, connection: Connection) -> Lookups:
        """Return lookups in the transaction of `connection`."""
        driver = connection.connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            return cls.on(driver)
        return cls(lambda lookup, values: _first(connection, lookup, values))

    def first(self, lookup: Lookup, **values: object) -> tuple[Any, ...] | None:
        """Return the first row that is found."""
        return self._first(lookup, values)


def _first(connection: Connection, lookup: Lookup, values: Mapping[str, object]) -> tuple[Any, ...] | None:
    row = connection.execute(lookup.statement, values).first()
    return None if row is None else tuple(row)


class LookupConnection:
    """A connection for lookups, opened when it is first needed, of one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Lookups]:
        """Give lookups that all see one state of the store. Never waits for others.

        Raises `StoreUnavailable`, also where the store is damaged: who then reads is told so.
        """
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
                self._connection.execute("PRAGMA query_only = ON")
            self._connection.execute("BEGIN")
            try:
                yield Lookups.on(self._connection)
            finally:
                self._connection.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(str(error)) from error

    def close(self) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class NoLookups:
    """Where the store is across a network, nothing can be looked up without waiting for it."""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Lookups]:
        """Raise `StoreUnavailable`: who then reads finds it."""
        raise StoreUnavailable("the store is not on this machine")
        yield

    def close(self) -> None:
        """There is nothing to close."""
