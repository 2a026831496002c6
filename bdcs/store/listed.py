# SPDX-License-Identifier: GPL-2.0-or-later
"""Statements about many rows in which a list is one parameter, however long it is.

    _NAMES = Listed("SELECT id, name FROM targets WHERE id {ids}", ids=NUMBERS)
    _NAMES.execute(connection, ids=[1, 2, 3]).all()

With a parameter for each value, an engine gets another statement for each length, which SQLAlchemy writes and
PostgreSQL plans anew: more than half of the work for some dozens of rows found by their keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, CursorResult

from bdcs.store import sqlite

NUMBERS: Final = "bigint"
TEXTS: Final = "text"

Kind = str | Mapping[str, str]
"""Of a list of values, or of each column of a list of rows."""


class Listed:
    """A statement with `:name` for a value, `{name}` for a list: `WHERE id {ids}`, or `FROM {rows}`."""

    def __init__(self, sql: str, **lists: Kind) -> None:
        """`lists` says of what each is: `NUMBERS`, `TEXTS`, or these by the columns that its rows have."""
        self._kinds = lists
        self._sqlite = sql.format(locked="", **{name: _sqlite(name, kind) for name, kind in lists.items()})
        self._postgresql = re.sub(r":(\w+)", r"%(\1)s", sql).format(
            locked="FOR UPDATE", **{name: _postgresql(name, kind) for name, kind in lists.items()}
        )

    def execute(self, connection: Connection, **values: Any) -> CursorResult[*tuple[Any, ...]]:
        """Run it; a list of rows is given as a list of tuples. What it returns is as the driver has it."""
        if connection.dialect.name == "sqlite":
            return connection.exec_driver_sql(self._sqlite, self._with_json(values))
        return connection.exec_driver_sql(self._postgresql, self._with_arrays(values))

    def rows(self, connection: Connection, **values: Any) -> Sequence[Sequence[Any]]:
        """Run it likewise, and return all rows: tuples, sooner than from `execute`."""
        if connection.dialect.name == "sqlite":
            return sqlite.fetch_rows(connection, self._sqlite, self._with_json(values))
        return connection.exec_driver_sql(self._postgresql, self._with_arrays(values)).all()

    def _with_json(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: json.dumps(value) if name in self._kinds else value for name, value in values.items()}

    def _with_arrays(self, values: Mapping[str, Any]) -> dict[str, Any]:
        given = {}
        for name, value in values.items():
            kind = self._kinds.get(name)
            if isinstance(kind, Mapping):
                columns = zip(*value, strict=True)
                for (column, of), column_values in zip(kind.items(), columns, strict=True):
                    given[f"{name}_{column}"] = _array(of, column_values)
            else:
                given[name] = value if kind is None else _array(kind, value)
        return given


def _sqlite(name: str, kind: Kind) -> str:
    if isinstance(kind, str):
        return f"IN (SELECT value FROM json_each(:{name}))"
    columns = (f"json_extract(value, '$[{place}]') AS {column}" for place, column in enumerate(kind))
    return f"(SELECT {', '.join(columns)} FROM json_each(:{name})) AS {name}"


def _postgresql(name: str, kind: Kind) -> str:
    if isinstance(kind, str):
        return f"= ANY (%({name})s::{kind}[])"
    arrays = (f"%({name}_{column})s::{of}[]" for column, of in kind.items())
    return f"unnest({', '.join(arrays)}) AS {name} ({', '.join(kind)})"


def _array(kind: str, values: Sequence[Any]) -> str:
    """Return an array as text, in one piece: psycopg writes lists one value after the other."""
    if kind == NUMBERS:
        return f"{{{','.join(map(str, values))}}}"
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return '{"' + '","'.join(quoted) + '"}' if values else "{}"
