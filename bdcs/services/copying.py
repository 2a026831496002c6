# SPDX-License-Identifier: GPL-2.0-or-later
"""A store copied into another one, of whatever engine, while its collectors go on.

Both are read in the order of each table's key, piece by piece, and what differs is mended in the copy. So a
copy that was interrupted goes on where it stopped, and one that is old catches up: nothing has to be
remembered but that the copy is one. What is never changed, only added and erased, is compared by its keys.

The source is seen in one state, from the first row to the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    true,
    tuple_,
)

from bdcs.errors import CopyUnfinished, NoCopy
from bdcs.store import numbering, schema, tables, words
from bdcs.store.bulk import insert_rows
from bdcs.store.engine import engine_errors
from bdcs.store.store import transaction

PIECE: Final = 5000  # rows that are compared at a time; of a table that has more, also those of a transaction
MARK: Final = "copy-store"
"""The sequence that a store has while it is a copy that nobody may serve from."""

NEVER_CHANGED: Final = frozenset({"segments", "package_state_changes"})
"""Tables whose rows only come and go."""

_SEQUENCES: Final = tables.sequences.c
_IS_MARK: Final = _SEQUENCES.name == MARK
_SIGNS_OF_USE: Final = (tables.machines, tables.targets, tables.requests, tables.catalogue_repositories)

Row = tuple[Any, ...]
Progress = Callable[[str, int, int], None]
"""Is told of which table how many rows are done, and of how many."""


@dataclass(slots=True, kw_only=True)
class Copied:
    """What was looked at, and what was done to the copy."""

    tables: int = 0
    rows: int = 0
    """That the source has."""
    added: int = 0
    changed: int = 0
    removed: int = 0


def copy(source: Engine, target: Engine, progress: Progress) -> Copied:
    """Make `target` hold what `source` holds. The schema of both must be that of this version.

    Afterwards `target` is still marked as a copy: nothing is served from it before `finish`. Raises `NoCopy`
    where it holds something else; `SchemaMismatch`, `StoreUnavailable`, `StoreFull`.
    """
    _begin(target)
    report = Copied()
    with transaction(source) as reading, engine_errors(), target.connect() as writing:
        schema.require_same(reading)
        for table in tables.metadata.sorted_tables:
            _TableCopy(table, reading, writing, report).run(progress)
            report.tables += 1
        _copy_numbers(reading, writing)
        _put_words(writing)
        writing.commit()
    return report


def finish(target: Engine) -> None:
    """Let the copy be a store like any other: its source is not to be served from any more."""
    with transaction(target) as connection:
        connection.execute(delete(tables.sequences).where(_IS_MARK))


def require_whole(connection: Connection) -> None:
    """Raise `CopyUnfinished` where the store is a copy that `finish` was not called for."""
    if connection.scalar(select(func.count()).where(_IS_MARK)):
        raise CopyUnfinished


def _begin(target: Engine) -> None:
    """Mark `target`, which must be empty or marked already. Raises `NoCopy`, `SchemaMismatch`."""
    with transaction(target) as connection:
        schema.require_same(connection)
        if connection.scalar(select(func.count()).where(_IS_MARK)):
            return
        for table in _SIGNS_OF_USE:
            if connection.scalar(select(func.count()).select_from(table)):
                raise NoCopy(table.name)
        connection.execute(insert(tables.sequences).values(name=MARK, value=1))


class _TableCopy:
    """One table on its way."""

    def __init__(self, table: Table, source: Connection, target: Connection, report: Copied) -> None:
        self._table = table
        self._source = source
        self._target = target
        self._report = report
        self._key: list[Column[Any]] = list(table.primary_key.columns)
        self._columns = self._key if table.name in NEVER_CHANGED else list(table.columns)
        self._places = [self._columns.index(column) for column in self._key]
        self._ours = ~_IS_MARK if table is tables.sequences else true()

    def run(self, progress: Progress) -> None:
        """Mend piece after piece, then what is behind the last row of the source."""
        total = self._source.scalar(select(func.count()).select_from(self._table)) or 0
        done, last = 0, None
        for piece in self._pieces():
            end = self._key_of(piece[-1]) if len(piece) == PIECE else None
            self._mend(piece, self._between(last, end))
            if end is not None:
                self._target.commit()
            done, last = done + len(piece), end
            progress(self._table.name, done, total)
        self._report.rows += done

    def _pieces(self) -> Iterator[list[Row]]:
        """Yield the source's rows in the order of their keys, of each the columns that are compared.

        The last piece is not full; it may be empty.
        """
        last: Row | None = None
        while True:
            piece = self._rows(self._source, self._columns, self._between(last, None), PIECE)
            yield piece
            if len(piece) < PIECE:
                return
            last = self._key_of(piece[-1])

    def _mend(self, piece: Sequence[Row], place: ColumnElement[bool]) -> None:
        """Make the copy's rows at `place` those of `piece`."""
        wanted = {self._key_of(row): row for row in piece}
        there = {self._key_of(row): row for row in self._rows(self._target, self._columns, place)}
        gone = [key for key in there if key not in wanted]
        changed = [key for key, row in there.items() if key in wanted and wanted[key] != row]
        missing = {key for key in wanted if key not in there}.union(changed)
        self._remove([*gone, *changed])
        if self._table is tables.catalogue_packages:
            words.remove(self._target, [number for number, *_ in gone])
        if missing:
            whole = self._rows(self._source, list(self._table.columns), place)
            positions = [list(self._table.columns).index(column) for column in self._key]
            rows = [row for row in whole if tuple(row[number] for number in positions) in missing]
            insert_rows(self._target, self._table, rows)
        self._report.removed += len(gone)
        self._report.changed += len(changed)
        self._report.added += len(missing) - len(changed)

    def _rows(
        self,
        connection: Connection,
        columns: Sequence[Column[Any]],
        place: ColumnElement[bool],
        limit: int | None = None,
    ) -> list[Row]:
        statement = select(*columns).where(place, self._ours).order_by(*self._key).limit(limit)
        return [tuple(row) for row in connection.execute(statement)]

    def _key_of(self, row: Row) -> Row:
        return tuple(row[place] for place in self._places)

    def _remove(self, keys: Sequence[Row]) -> None:
        if keys:
            is_one = [column == bindparam(f"key_{number}") for number, column in enumerate(self._key)]
            values = [{f"key_{number}": value for number, value in enumerate(key)} for key in keys]
            self._target.execute(delete(self._table).where(*is_one), values)

    def _between(self, after: Row | None, until: Row | None) -> ColumnElement[bool]:
        """Whether a row's key is behind `after` and not behind `until`; None: no such limit."""
        key = tuple_(*self._key)
        return and_(
            true() if after is None else key > tuple_(*after),
            true() if until is None else key <= tuple_(*until),
        )


def _copy_numbers(source: Connection, target: Connection) -> None:
    """Have the copy go on with numbers where the source would: what was erased keeps its own."""
    for table in tables.metadata.sorted_tables:
        if numbering.is_numbered(table):
            numbering.continue_after(target, table, numbering.last_number(source, table))


def _put_words(target: Connection) -> None:
    """Have the copy's catalogue found by its words."""
    packages, last = tables.catalogue_packages.c, 0
    while True:
        rows = target.execute(
            select(packages.id, packages.category, packages.name, packages.description)
            .where(packages.id > last)
            .order_by(packages.id)
            .limit(PIECE)
        ).all()
        if not rows:
            return
        words.put(target, [(row.id, f"{row.category}/{row.name}", row.description) for row in rows])
        last = rows[-1].id
