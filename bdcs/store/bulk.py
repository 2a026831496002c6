# SPDX-License-Identifier: GPL-2.0-or-later
"""Many rows in one call: `executemany` of plain tuples, without a dictionary for each row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Executable, Table
from sqlalchemy.sql.compiler import SQLCompiler


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert `rows`, whose values are in the order of the table's columns."""
    if rows:
        connection.exec_driver_sql(_insert(table, connection.dialect), list(rows))


def execute_rows(
    connection: Connection, statement: Executable, names: tuple[str, ...], rows: Sequence[Any]
) -> int:
    """Run `statement` for each of `rows`, values of the parameters `names`; return how many it touched."""
    if not rows:
        return 0
    sql, order = _compiled(statement, connection.dialect)
    if order != names:
        positions = [names.index(name) for name in order]
        rows = [tuple(row[position] for position in positions) for row in rows]
    return connection.exec_driver_sql(sql, list(rows)).rowcount


@lru_cache(maxsize=64)
def _insert(table: Table, dialect: Dialect) -> str:
    return str(table.insert().compile(dialect=dialect))


@lru_cache(maxsize=64)
def _compiled(statement: Executable, dialect: Dialect) -> tuple[str, tuple[str, ...]]:
    compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
    assert isinstance(compiled, SQLCompiler)
    return str(compiled), tuple(compiled.positiontup or ())
