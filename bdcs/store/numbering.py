# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbers that the engine itself gives to rows, and where it goes on with them."""

from __future__ import annotations

from sqlalchemy import Connection, Table, func, select, text


def is_numbered(table: Table) -> bool:
    """Whether the engine gives this table's rows their numbers."""
    return table.autoincrement_column is not None


def last_number(connection: Connection, table: Table) -> int:
    """Return the last number that was given out, also where its row is gone; 0: none."""
    column = table.autoincrement_column
    assert column is not None
    if connection.dialect.name == "sqlite":
        known = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        last = connection.scalar(known, {"name": table.name})
        return last or connection.scalar(select(func.max(column))) or 0
    sequence = _sequence(connection, table.name, column.name)
    if sequence is None:
        return connection.scalar(select(func.max(column))) or 0
    return (
        connection.scalar(text(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")) or 0
    )


def continue_after(connection: Connection, table: Table, number: int) -> None:
    """Have the next row of `table` get a number behind `number`."""
    column = table.autoincrement_column
    assert column is not None
    if connection.dialect.name == "sqlite":
        if table.dialect_options["sqlite"]["autoincrement"]:
            values = {"name": table.name, "number": number}
            connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
            connection.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :number)"), values)
        return
    sequence = _sequence(connection, table.name, column.name)
    if sequence is not None:
        values = {"sequence": sequence, "number": max(number, 1), "is_called": number > 0}
        connection.execute(text("SELECT setval(:sequence, :number, :is_called)"), values)


def _sequence(connection: Connection, table: str, column: str) -> str | None:
    names = {"table": table, "column": column}
    found: str | None = connection.scalar(text("SELECT pg_get_serial_sequence(:table, :column)"), names)
    return found
