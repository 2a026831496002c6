# SPDX-License-Identifier: GPL-2.0-or-later
"""Lookups: statements that find a row by an index, as the engine itself runs them.

What is in memory anyway is found in some microseconds; a thread to ask in costs a hundred, and under load
waits for its turn twice. So what looks up little may do so where it stands; what reads more goes through
`Store.read`, as does whatever can wait for a disk.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Select
from sqlalchemy.dialects import sqlite

from bdcs.errors import StoreUnavailable

_DIALECT: Final = sqlite.dialect(paramstyle="named")


class Lookup:
    """A statement, compiled once. Rows are tuples of what the engine keeps: a truth is 0 or 1."""

    __slots__ = ("text",)

    def __init__(self, statement: Select[Any]) -> None:
        self.text: Final = str(statement.compile(dialect=_DIALECT))


class Lookups:
    """Runs lookups on one connection, whose transaction is somebody else's business."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def within(cls, connection: Connection) -> Lookups:
        """Return lookups in the transaction of `connection`."""
        driver: Any = connection.connection.driver_connection
        return cls(driver)

    def first(self, lookup: Lookup, **values: object) -> tuple[Any, ...] | None:
        """Return the first row that is found."""
        found: tuple[Any, ...] | None = self._connection.execute(lookup.text, values).fetchone()
        return found


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
                yield Lookups(self._connection)
            finally:
                self._connection.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(str(error)) from error

    def close(self) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
