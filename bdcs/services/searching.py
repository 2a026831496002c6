# SPDX-License-Identifier: GPL-2.0-or-later
"""Searching the catalogue: packages by name and by the words of their description, the likeliest first."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import Connection, case, func, or_, select

from bdcs.store import words
from bdcs.store.tables import catalogue_packages, catalogue_repositories, catalogue_versions
from gentwoo_client.wire import limits
from gentwoo_client.wire.search import FoundPackage, SearchAnswer
from gentwoo_client.wire.version import Version

PAGE: Final = 50
"""Packages of an answer, unless asked otherwise."""
NEAREST: Final = 8
DEEPEST: Final = 2000
"""Nobody pages on behind so many."""


def search(connection: Connection, query: str, *, after: str = "", limit: int = PAGE) -> SearchAnswer:
    """Return packages that `query`, one or more words, may mean. Without a word it finds nothing.

    An `after` that no page gave starts at the beginning.
    """
    query = " ".join(query[: limits.SEARCH_LENGTH].split())
    numbers = _ranked(connection, query) if words.words(query) else []
    start = int(after) if after.isascii() and after.isdigit() and len(after) < 6 else 0
    end = start + limit
    return SearchAnswer(
        packages=tuple(describe(connection, numbers[start:end])),
        after=str(end) if end < min(len(numbers), DEEPEST) else None,
        nearest=() if numbers else tuple(nearest(connection, query)),
    )


def nearest(connection: Connection, query: str) -> list[str]:
    """Return full names that are written almost like `query`, the nearest first."""
    wanted = query.rpartition("/")[2].lower()
    table, length = catalogue_packages, func.length(catalogue_packages.c.name)
    if not wanted or len(wanted) > limits.SEARCH_LENGTH:
        return []
    rows = connection.execute(
        select(table.c.category, table.c.name)
        .where(length.between(len(wanted) - 2, len(wanted) + 2))
        .where(
            or_(
                table.c.name.istartswith(wanted[0], autoescape=True),
                table.c.name.iendswith(wanted[-1], autoescape=True),
            )
        )
        .order_by(table.c.category, table.c.name)
    )
    by_name: dict[str, list[str]] = {}
    for category, name in rows:
        by_name.setdefault(name.lower(), []).append(f"{category}/{name}")
    near = difflib.get_close_matches(wanted, by_name, n=NEAREST, cutoff=0.7)
    return [full_name for name in near for full_name in by_name[name]][:NEAREST]


def _ranked(connection: Connection, query: str) -> list[int]:
    """Numbers of all matches: what is called so, begins so, has it in its name, or is described so."""
    table = catalogue_packages
    name = table.c.category + "/" + table.c.name if "/" in query else table.c.name
    match = case(
        (func.lower(name) == query.lower(), 0), (name.istartswith(query, autoescape=True), 1), else_=2
    )
    by_name = connection.scalars(
        select(table.c.id)
        .where(name.icontains(query, autoescape=True))
        .order_by(match, func.length(name), name, table.c.category)
        .limit(DEEPEST)
    )
    return list(dict.fromkeys([*by_name, *words.matching(connection, query, DEEPEST)]))


def describe(connection: Connection, numbers: Sequence[int]) -> Iterator[FoundPackage]:
    """Yield what is told of packages with these numbers, in their order."""
    packages, versions, repositories = catalogue_packages, catalogue_versions, catalogue_repositories
    rows = connection.execute(
        select(
            packages.c.id,
            packages.c.category,
            packages.c.name,
            packages.c.description,
            versions.c.version,
            versions.c.keywords,
            repositories.c.name.label("repository"),
        )
        .join(versions, versions.c.package_id == packages.c.id)
        .join(repositories, repositories.c.id == versions.c.repository_id)
        .where(packages.c.id.in_(numbers))
        .order_by(versions.c.repository_id)
    )
    by_number = defaultdict(list)
    for row in rows:
        by_number[row.id].append(row)
    for number in numbers:
        offered = by_number[number]
        if offered:  # else it went a moment ago
            newest = max(offered, key=lambda row: (bool(row.keywords), Version.parse(row.version)))
            yield FoundPackage(
                category=newest.category,
                name=newest.name,
                description=newest.description,
                newest=newest.version,
                repositories=tuple(dict.fromkeys(row.repository for row in offered)),
            )
