# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows for every table of a store, as arbitrary as their columns allow, and all that a store holds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Column, Connection, Integer, LargeBinary, SmallInteger, Table, select

from bdcs.store import schema
from bdcs.store.tables import metadata

SEEDED = ("secrets", "dictionaries")
"""Tables that have rows from the beginning."""


def fill(connection: Connection, first: int, count: int) -> None:
    """Put rows into every table, each of which depends on its number, from `first` on."""
    schema.upgrade(connection)
    for table in metadata.sorted_tables:
        rows = [_row(table, number) for number in range(first, first + count)]
        connection.execute(table.insert(), rows)


def contents(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, in the order of the keys."""
    return {
        table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
        for table in metadata.sorted_tables
    }


def _row(table: Table, number: int) -> dict[str, Any]:
    return {column.name: _value(column, number) for column in table.columns}


def _value(column: Column[Any], number: int) -> Any:
    if column.nullable and number % 3 == 0:
        return None
    if isinstance(column.type, Boolean):
        return number % 2 == 0
    if isinstance(column.type, SmallInteger):
        return number
    if isinstance(column.type, Integer):
        return 1_000 + number
    if isinstance(column.type, LargeBinary):
        return bytes([number % 256, 0, 255]) * 3
    return f"{column.name} {number} Ä'\"\\ z"
