# SPDX-License-Identifier: GPL-2.0-or-later
"""The index of words of the catalogue: here SQLite's FTS5, elsewhere what that engine has.

Nothing else knows how words are found. A package is its number, its full name and its description.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import (
    Connection,
)

from bdcs.store.tables import SEARCH_TABLE

NAME_WEIGHT: Final = 4.0
"""A word in the name counts as much as so many in the description."""

_WORD = re.compile(r"\w+")
_PUT = f"INSERT INTO {SEARCH_TABLE} (rowid, name, description) VALUES (?, ?, ?)"
_REMOVE = f"DELETE FROM {SEARCH_TABLE} WHERE rowid = ?"
_MATCHING = (
    f"SELECT rowid FROM {SEARCH_TABLE} WHERE {SEARCH_TABLE} MATCH ?"
    f" ORDER BY bm25({SEARCH_TABLE}, ?, 1.0), rowid LIMIT ?"
)


def put(connection: Connection, packages: Sequence[tuple[int, str, str]]) -> None:
    """Have packages (number, full name, description) found by their words, and by no others than these."""
    remove(connection, [number for number, _, _ in packages])
    if packages:
        connection.exec_driver_sql(_PUT, list(packages))


def remove(connection: Connection, numbers: Iterable[int]) -> None:
    """Have packages found no more."""
    rows = [(number,) for number in numbers]
    if rows:
        connection.exec_driver_sql(_REMOVE, rows)


def words(search: str) -> list[str]:
    """Return what is looked for in `search`: letters and digits, however they are separated."""
    return _WORD.findall(search)


def matching(connection: Connection, search: str, limit: int) -> list[int]:
    """Return the numbers of packages that have words beginning like all words of `search`, the best first.

    A single letter is no beginning: half of all packages would have such a word.
    """
    wanted = " ".join(f'"{word}"{"*" if len(word) > 1 else ""}' for word in words(search))
    if not wanted:
        return []
    return [number for (number,) in connection.exec_driver_sql(_MATCHING, (wanted, NAME_WEIGHT, limit))]
