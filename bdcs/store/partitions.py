# SPDX-License-Identifier: GPL-2.0-or-later
"""Records by the month in which they arrived, each month a table of its own on PostgreSQL.

Old months are then left alone by vacuum, can be moved to slower disks, and stay out of the indexes that all
new records go through. Whoever inserts makes the month's table first, in the same transaction.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, String, bindparam, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import ReturnTypeFromArgs

from bdcs.store.tables import package_state_changes

TABLE = package_state_changes.name
DAY: Final = 86_400  # seconds


def make_room(connection: Connection, times: Iterable[int]) -> None:
    """See that there are tables for records that arrived at `times` (Unix seconds)."""
    for month in sorted({_month(time) for time in times}):
        if not connection.execute(_THERE, {"room": _name(month)}).scalar():
            _make(connection, month)


def room_for(time: int) -> str:
    """Return the value of the parameter `room` of `HAS_ROOM` for records that arrive at `time`."""
    return _room_of(time // DAY)


@lru_cache(maxsize=4)
def _room_of(day: int) -> str:
    return _name(_month(day * DAY))


class _table_named(ReturnTypeFromArgs[str]):
    """The table of that name, or null; of an engine that has one table for all records, the name."""

    inherit_cache = True


@compiles(_table_named)
def _named(function: Any, compiler: Any, **options: Any) -> str:
    name = "to_regclass" if compiler.dialect.name == "postgresql" else ""
    return f"{name}{compiler.function_argspec(function, **options)}"


HAS_ROOM: Final[ColumnElement[bool]] = _table_named(bindparam("room", type_=String())).is_not(None)
"""Whether there is a table for records of that month, for whoever asks for something else as well."""
_THERE: Final = select(HAS_ROOM)


def _make(connection: Connection, month: datetime.datetime) -> None:
    """Make it beside, and attach it then: that waits for no reader, and no reader for that."""
    name, following = _name(month), _month(int(month.timestamp()) + 32 * DAY)
    bounds = f"FROM ({int(month.timestamp())}) TO ({int(following.timestamp())})"
    connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING DEFAULTS INCLUDING STORAGE)")
    connection.exec_driver_sql(f"ALTER TABLE {TABLE} ATTACH PARTITION {name} FOR VALUES {bounds}")


def _month(time: Any) -> datetime.datetime:
    moment = datetime.datetime.fromtimestamp(time, datetime.UTC)
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _name(month: datetime.datetime) -> str:
    return f"{TABLE}_{month:%Y%m}"
