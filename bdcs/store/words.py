# SPDX-License-Identifier: GPL-2.0-or-later
"""The index of words of the catalogue: SQLite's FTS5, PostgreSQL's tsvector.

Nothing else knows how words are found. A package is its number, its full name and its description.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from bdcs.store.tables import SEARCH_TABLE

NAME_WEIGHT: Final = 4.0
"""A word in the name counts as much as so many in the description."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Language:
    """How an engine says it."""

    put: str
    remove: str
    matching: str
    beginning: str
    """A word that begins so; `{}` is the beginning."""
    whole: str
    both: str
    """What stands between words that are all wanted."""


_SQLITE: Final = _Language(
    put=f"INSERT INTO {SEARCH_TABLE} (rowid, name, description) VALUES (?, ?, ?)",
    remove=f"DELETE FROM {SEARCH_TABLE} WHERE rowid = ?",
    matching=(
        f"SELECT rowid FROM {SEARCH_TABLE} WHERE {SEARCH_TABLE} MATCH ?"
        f" ORDER BY bm25({SEARCH_TABLE}, {NAME_WEIGHT}, 1.0), rowid LIMIT ?"
    ),
    beginning='"{}"*',
    whole='"{}"',
    both=" ",
)
_POSTGRESQL: Final = _Language(
    put=(
        f"INSERT INTO {SEARCH_TABLE} (package_id, words) VALUES"
        " (%s, setweight(to_tsvector('simple', %s), 'A') || setweight(to_tsvector('simple', %s), 'D'))"
    ),
    remove=f"DELETE FROM {SEARCH_TABLE} WHERE package_id = %s",
    matching=(
        f"SELECT package_id FROM {SEARCH_TABLE}, to_tsquery('simple', %s) wanted WHERE words @@ wanted"
        f" ORDER BY ts_rank(ARRAY[{1 / NAME_WEIGHT}, 0, 0, 1], words, wanted, 1) DESC, package_id LIMIT %s"
    ),
    beginning="'{}':*",
    whole="'{}'",
    both=" & ",
)
_LANGUAGES: Final = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}


def put(connection: Connection, packages: Sequence[tuple[int, str, str]]) -> None:
    """Have packages (number, full name, description) found by their words, and by no others than these."""
    remove(connection, [number for number, _, _ in packages])
    if packages:
        connection.exec_driver_sql(_language(connection).put, [_separated(each) for each in packages])


def remove(connection: Connection, numbers: Iterable[int]) -> None:
    """Have packages found no more."""
    rows: list[Any] = [(number,) for number in numbers]
    if rows:
        connection.exec_driver_sql(_language(connection).remove, rows)


def words(search: str) -> list[str]:
    """Return what is looked for in `search`: letters and digits, however they are separated."""
    return _WORD.findall(search)


def matching(connection: Connection, search: str, limit: int) -> list[int]:
    """Return the numbers of packages that have words beginning like all words of `search`, the best first.

    A single letter is no beginning: half of all packages would have such a word.
    """
    language = _language(connection)
    forms = [(language.beginning if len(word) > 1 else language.whole).format(word) for word in words(search)]
    if not forms:
        return []
    rows = connection.exec_driver_sql(language.matching, (language.both.join(forms), limit))
    return [number for (number,) in rows]


def _language(connection: Connection) -> _Language:
    return _LANGUAGES[connection.dialect.name]


def _separated(package: tuple[int, str, str]) -> tuple[int, str, str]:
    """Return `package` with nothing but words: PostgreSQL would take a path, or a host's name, as one."""
    number, name, description = package
    return number, " ".join(words(name)), " ".join(words(description))
