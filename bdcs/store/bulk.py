# SPDX-License-Identifier: GPL-2.0-or-later
"""Many rows in one call: of plain tuples, without a dictionary for each row.

SQLite has `executemany`. PostgreSQL is asked once for all rows: `COPY`, or a statement that takes them as
arrays, a fifth of the work for either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, repeat
from types import NoneType
from typing import Any, Final

from sqlalchemy import (
    Column,
    Connection,
    Dialect,
    Executable,
    Insert,
    Table,
    bindparam,
    column,
    func,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.visitors import replacement_traverse

from bdcs.store import partitions, sqlite
from bdcs.store.tables import package_state_changes

COPIED: Final = 10
"""From so many rows on `COPY`, or one statement for all, is faster than a statement for each."""

TOGETHER: Final = 200
"""Up to so many rows one statement for several tables is faster than a `COPY` into each."""

_POSTGRESQL: Final[Dialect] = postgresql.psycopg.dialect(paramstyle="format")  # type: ignore[no-untyped-call]


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert `rows`, whose values are in the order of the table's columns.

    Where the first row has None as first value, so do all, and the engine numbers them.
    """
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        sqlite.execute_rows(connection, _insert(table, connection.dialect), rows)
        return
    if table is package_state_changes:
        column = list(table.columns).index(table.c.created_at)
        partitions.make_room(connection, {row[column] for row in rows})
    skipped = int(rows[0][0] is None)
    columns = tuple(column.name for column in table.columns)[skipped:]
    values = [row[skipped:] for row in rows] if skipped else list(rows)
    if len(values) < COPIED:
        connection.exec_driver_sql(_insert_of(table, columns), values)
    else:
        from bdcs.store import postgresql as engine

        engine.copy_rows(connection, table, columns, values)


def execute_rows(
    connection: Connection, statement: Executable, names: tuple[str, ...], rows: Sequence[Any]
) -> int:
    """Run `statement` for each of `rows`, values of the parameters `names`; return how many it touched.

    No two of `rows` may mean the same row of the table.
    """
    if not rows:
        return 0
    if connection.dialect.name != "sqlite" and len(rows) >= COPIED:
        sql, order = _compiled(_for_all(statement), _POSTGRESQL)
        values = dict(zip(names, zip(*rows, strict=True), strict=True))
        return connection.exec_driver_sql(sql, tuple(_array(values[name]) for name in order)).rowcount
    sql, order = _compiled(statement, _positional(connection.dialect))
    if order != names:
        positions = [names.index(name) for name in order]
        rows = [tuple(row[position] for position in positions) for row in rows]
    if connection.dialect.name == "sqlite":
        return sqlite.execute_rows(connection, sql, rows)
    return connection.exec_driver_sql(sql, list(rows)).rowcount


def execute_row(
    connection: Connection, statement: Executable, names: tuple[str, ...], row: Sequence[Any]
) -> Sequence[Any] | None:
    """Run `statement` for `row`, values of the parameters `names`; return the first row it returns."""
    sql, order = _compiled(statement, _positional(connection.dialect))
    found = _fetched(connection, sql, tuple(row[names.index(name)] for name in order))
    return found[0] if found else None


def _fetched(connection: Connection, sql: str, values: tuple[Any, ...]) -> Sequence[Sequence[Any]]:
    if connection.dialect.name == "sqlite":
        return sqlite.fetch_rows(connection, sql, values)
    return connection.exec_driver_sql(sql, values).all()


Part = tuple[Executable, tuple[str, ...], Sequence[Any]]
"""A statement, the names of its parameters, and rows of their values, as `execute_rows` takes them."""


def goes_together(connection: Connection, count: int) -> bool:
    """Whether `count` rows are better written by `execute_together` than by a call for each table."""
    return connection.dialect.name != "sqlite" and count <= TOGETHER


def execute_together(connection: Connection, parts: Sequence[Part]) -> None:
    """Run the statements for all of their rows in one round trip, where the engine is one away.

    None sees what another does, and no two may touch the same row.
    """
    given = [part for part in parts if part[2]]
    if connection.dialect.name == "sqlite":
        for part in given:
            execute_rows(connection, *part)
        return
    values: list[Any] = []
    for statement, names, rows in given:
        _, order = _compiled(_for_all(statement), _POSTGRESQL)
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        values += (_array(columns[name]) for name in order)
    if given:
        connection.exec_driver_sql(_together(tuple(statement for statement, _, _ in given)), tuple(values))


@lru_cache(maxsize=16)
def insertion(table: Table) -> tuple[Insert, tuple[str, ...]]:
    """Return the statement that inserts a row, and its parameters: of each column that is not numbered."""
    given = [column.name for column in table.c if column is not table.autoincrement_column]
    statement = table.insert().values({name: bindparam(f"new_{name}") for name in given})
    return statement, tuple(f"new_{name}" for name in given)


@lru_cache(maxsize=16)
def _together(statements: tuple[Executable, ...]) -> str:
    """Return one statement that does what all do: the last, after the others as common table expressions."""
    *others, last = (_compiled(_for_all(statement), _POSTGRESQL)[0] for statement in statements)
    before = ", ".join(f"part{number} AS ({sql})" for number, sql in enumerate(others))
    return f"WITH {before} {last}" if others else last


def matching_rows(
    connection: Connection, number: Column[int], columns: tuple[Column[Any], ...], wanted: Sequence[Any]
) -> Sequence[Sequence[Any]]:
    """Return `number` and `columns` of the rows that are among `wanted`: tuples, or values of one column."""
    size = 1 << (len(wanted) - 1).bit_length()  # few statements, each compiled once: the last is asked again
    asked = [*wanted, *repeat(wanted[-1], size - len(wanted))]
    sql = _matching(number, columns, size, _positional(connection.dialect))
    return _fetched(connection, sql, tuple(asked if len(columns) == 1 else chain.from_iterable(asked)))


def _positional(dialect: Dialect) -> Dialect:
    return dialect if dialect.name == "sqlite" else _POSTGRESQL


@lru_cache(maxsize=64)
def _matching(number: Column[int], columns: tuple[Column[Any], ...], size: int, dialect: Dialect) -> str:
    key: Any = columns[0] if len(columns) == 1 else tuple_(*columns)
    places = [""] * size if len(columns) == 1 else [("",) * len(columns)] * size
    statement = select(number, *columns).where(key.in_(places))
    return str(statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True}))


@lru_cache(maxsize=64)
def _insert(table: Table, dialect: Dialect) -> str:
    return str(table.insert().compile(dialect=dialect))


@lru_cache(maxsize=64)
def _insert_of(table: Table, columns: tuple[str, ...]) -> str:
    return str(table.insert().inline().compile(dialect=_POSTGRESQL, column_keys=columns))


def _array(values: tuple[Any, ...]) -> str | list[Any]:
    """Return an array of `values`; numbers and bytes as text, which psycopg writes one by one else."""
    kinds = set(map(type, values))
    if kinds <= {int, NoneType}:
        return f"{{{str(list(values))[1:-1].replace('None', 'NULL')}}}"
    if kinds == {bytes}:
        return '{"\\\\x' + '","\\\\x'.join(value.hex() for value in values) + '"}'
    return list(values)


@lru_cache(maxsize=64)
def _for_all(statement: Any) -> Any:
    """Return the statement that does at once what `statement` does for rows: its parameters are arrays."""
    kinds = {name: bind.type for name, bind in statement.compile(dialect=_POSTGRESQL).binds.items()}
    # Inside of a query of its own an array has no size that is known when plans are made. With it PostgreSQL
    # reads the whole table for a few thousand rows; without it takes an index for each.
    arrays = (
        select(bindparam(name, type_=postgresql.ARRAY(kind))).scalar_subquery()
        for name, kind in kinds.items()
    )
    columns = (column(name, kind) for name, kind in kinds.items())
    rows = func.unnest(*arrays).table_valued(*columns, name="given").render_derived()

    def given(element: Any, **_options: object) -> Any:
        return rows.c[element.key] if isinstance(element, BindParameter) and element.key in kinds else None

    if not isinstance(statement, Insert):
        return replacement_traverse(statement, {}, given)
    values = {name: replacement_traverse(value, {}, given) for name, value in statement._values.items()}  # type: ignore[union-attr]
    insertion = statement.table.insert().inline()
    insertion = insertion.from_select(list(values), select(*values.values()).select_from(rows))
    insertion._post_values_clause = statement._post_values_clause
    return insertion


@lru_cache(maxsize=64)
def _compiled(statement: Executable, dialect: Dialect) -> tuple[str, tuple[str, ...]]:
    compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
    assert isinstance(compiled, SQLCompiler)
    return str(compiled), tuple(compiled.positiontup or ())
