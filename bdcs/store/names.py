# SPDX-License-Identifier: GPL-2.0-or-later
"""Names and their numbers: packages, versions, repositories, audiences.

Each process that writes remembers them. Whoever deletes names calls `others_are_outdated` in the same
transaction, and every process begins anew before it next uses a number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Table, insert, literal_column, select, update

from bdcs.domain.batches import batches
from bdcs.store import tables
from bdcs.store.bulk import insert_rows, matching_rows

LOOKUP = 256  # names asked for at once
REMEMBERED = 500_000  # names of a table that are kept in memory

EDITION: Final = "names"
"""The sequence that counts how often names were deleted."""

_EDITION: Final = tables.sequences.c.name == EDITION
_EDITIONS: Final = tables.sequences.alias("editions")
CURRENT_EDITION: Final = (
    select(_EDITIONS.c.value).where(_EDITIONS.c.name == literal_column(f"'{EDITION}'")).scalar_subquery()
)
"""How often names were deleted, for whoever asks for something else as well; null: never."""


def others_are_outdated(connection: Connection) -> None:
    """Have every `Names`, of whatever process, forget all numbers once the transaction is committed."""
    value = tables.sequences.c.value
    if not connection.execute(update(tables.sequences).where(_EDITION).values(value=value + 1)).rowcount:
        connection.execute(insert(tables.sequences).values(name=EDITION, value=1))


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

    def forget(self) -> None:
        """Know nothing any more."""
        self.known.clear()
        self._uncommitted.clear()

    def committed(self) -> None:
        """Keep what was learnt."""
        self._uncommitted.clear()

    def rolled_back(self) -> None:
        """Forget the numbers that were given to new names: they may become others'."""
        for name in self._uncommitted:
            self.known.pop(name, None)
        self._uncommitted.clear()

    def _look_up(self, connection: Connection, names: list[Any]) -> None:
        single = len(self._columns) == 1
        for chunk in batches(names, LOOKUP):
            for number, *name in matching_rows(connection, self._table.c.id, tuple(self._columns), chunk):
                self.known[name[0] if single else tuple(name)] = number


class Names:
    """All of them; mirrors the store. In each transaction `refresh` comes first."""

    def __init__(self) -> None:
        self.packages = Numbers(tables.packages, "category", "name")
        self.versions = Numbers(tables.versions, "text")
        self.repositories = Numbers(tables.repositories, "name")
        self.audiences = Numbers(tables.audiences, "url")
        self._all = (self.packages, self.versions, self.repositories, self.audiences)
        self._edition: int | None = None
        self._is_edition_committed = True

    def refresh(self, connection: Connection) -> None:
        """Forget all numbers if names were deleted since; to be called whenever they are about to be used."""
        self.refresh_to(connection.execute(select(CURRENT_EDITION)).scalar())

    def refresh_to(self, current: int | None) -> None:
        """Do that where `CURRENT_EDITION` was asked for in this transaction, and is `current`."""
        edition = current or 0
        if edition != self._edition:
            for numbers in self._all:
                numbers.forget()
            self._edition, self._is_edition_committed = edition, False

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
        self._is_edition_committed = True
        for numbers in self._all:
            numbers.committed()

    def rolled_back(self) -> None:
        """Forget what was given out in vain."""
        if not self._is_edition_committed:
            self._edition = None  # its number may become another one's
        for numbers in self._all:
            numbers.rolled_back()
