# SPDX-License-Identifier: GPL-2.0-or-later
"""Names and their numbers: packages, versions, repositories, audiences."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, select, tuple_

from bdcs.store import tables
from bdcs.store.bulk import insert_rows

LOOKUP = 400  # names asked for at once
REMEMBERED = 500_000  # names of a table that are kept in memory


class Numbers:
    """The numbers of one table's names, remembered. For the writer only; see `store.Transactional`."""

    def __init__(self, table: Table, *columns: str) -> None:
        self._table = table
        self._columns = [table.c[column] for column in columns]
        self.known: dict[Any, int] = {}
        """What is remembered: each name's number."""
        self._uncommitted: list[Any] = []

    def learn(self, connection: Connection, names: Iterable[Any]) -> None:
        """See that `known` has each of `names`; those that are new get a number."""
        wanted = dict.fromkeys(names)
        missing = [name for name in wanted if name not in self.known]
        if missing:
            if len(self.known) > REMEMBERED:
                self.known.clear()
                missing = list(wanted)
            self._look_up(connection, missing)
            new = [name for name in missing if name not in self.known]
            if new:
                rows = [(None, *name) if isinstance(name, tuple) else (None, name) for name in new]
                insert_rows(connection, self._table, rows)
                self._look_up(connection, new)
                self._uncommitted += new

    def committed(self) -> None:
        """Keep what was learnt."""
        self._uncommitted.clear()

    def rolled_back(self) -> None:
        """Forget the numbers that were given to new names: they may become others'."""
        for name in self._uncommitted:
            self.known.pop(name, None)
        self._uncommitted.clear()

    def _look_up(self, connection: Connection, names: list[Any]) -> None:
        key = self._columns[0] if len(self._columns) == 1 else tuple_(*self._columns)
        single = len(self._columns) == 1
        remaining = iter(names)
        while chunk := list(islice(remaining, LOOKUP)):
            found = connection.execute(select(self._table.c.id, *self._columns).where(key.in_(chunk)))
            for number, *name in found:
                self.known[name[0] if single else tuple(name)] = number


class Names:
    """All of them; mirrors the store."""

    def __init__(self) -> None:
        self.packages = Numbers(tables.packages, "category", "name")
        self.versions = Numbers(tables.versions, "text")
        self.repositories = Numbers(tables.repositories, "name")
        self.audiences = Numbers(tables.audiences, "url")
        self._all = (self.packages, self.versions, self.repositories, self.audiences)

    def learn(
        self,
        connection: Connection,
        *,
        packages: Iterable[tuple[str, str]],
        versions: Iterable[str],
        repositories: Iterable[str],
    ) -> None:
        """See that all these are known."""
        self.packages.learn(connection, packages)
        self.versions.learn(connection, versions)
        self.repositories.learn(connection, repositories)

    def committed(self) -> None:
        """Keep what was learnt."""
        for numbers in self._all:
            numbers.committed()

    def rolled_back(self) -> None:
        """Forget what was given out in vain."""
        for numbers in self._all:
            numbers.rolled_back()
