# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a store is: a file of SQLite, or a database of PostgreSQL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bdcs.errors import ConfigurationError

SQLITE_NAME: Final = "bdcs.sqlite"
POSTGRESQL: Final = ("postgresql://", "postgres://")

_PASSWORDS: Final = re.compile(r"(?<=//)([^/@:?]*:).*(?=@)|(?<=[?&])(\w*password=)[^&]*")


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """A database of PostgreSQL, by a URL as libpq reads it, which may name several hosts.

    As text it shows no password.
    """

    url: str = field(repr=False)

    def __str__(self) -> str:
        return _PASSWORDS.sub(r"\1\2***", self.url)


Place = Path | PostgreSQL


def place_of(url: str, data: Path) -> Place:
    """Return the place that `url` names: `sqlite:`, `sqlite:PATH` (relative to `data`) or `postgresql://…`.

    Raises `ConfigurationError` for every other kind of URL.
    """
    if url.startswith(POSTGRESQL):
        return PostgreSQL(url)
    return sqlite_path(url, data)


def sqlite_path(url: str, data: Path) -> Path:
    """Return the database file that `url` (`sqlite:` or `sqlite:PATH`) names, in `data` by default.

    Raises `ConfigurationError` for every other kind of URL.
    """
    scheme, separator, rest = url.partition(":")
    if scheme != "sqlite" or not separator:
        raise ConfigurationError(
            f"store: {url!r} is no store that this version knows; write sqlite:, sqlite:PATH or"
            " postgresql://HOST/DATABASE"
        )
    return data / rest if rest else data / SQLITE_NAME


def directory_of(place: Place, data: Path) -> Path:
    """Return the directory whose owner the store is written by: that of its file, or `data`."""
    return place.parent if isinstance(place, Path) else data
