# SPDX-License-Identifier: GPL-2.0-or-later
"""The clock of the store: the one that all who use it can agree on, whatever their own say."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection, Engine

_NOW: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400",
        "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    }
)


def is_shared(store: Connection | Engine) -> bool:
    """Whether collectors on several hosts may use this store at a time."""
    return store.dialect.name != "sqlite"


def store_time(connection: Connection) -> float:
    """Return the time by the clock of the store, in Unix seconds, as it is just now."""
    return float(connection.exec_driver_sql(_NOW[connection.dialect.name]).scalar_one())


def agreed_time(connection: Connection, now: float | None = None) -> float:
    """Return the time that all who use the store go by, in Unix seconds; `now`, where that is given.

    That is our own clock, unless others may have another.
    """
    if now is not None:
        return now
    return store_time(connection) if is_shared(connection) else time.time()
