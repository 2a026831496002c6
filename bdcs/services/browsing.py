# SPDX-License-Identifier: GPL-2.0-or-later
"""Browsing through the catalogue: its categories, and the packages of one, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from bdcs.services import searching
from bdcs.store.tables import catalogue_packages
from gentwoo_client.wire.search import FoundPackage

PAGE: Final = 50
"""Packages of a category before the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What there is to browse through: either is empty."""

    categories: tuple[tuple[str, int], ...]
    """Names, and how many packages each has."""
    packages: tuple[FoundPackage, ...]
    after: str | None
    """What the next page has to be asked with; None on the last."""


def categories(connection: Connection) -> list[tuple[str, int]]:
    """Return the categories of the catalogue, and how many packages each has."""
    table = catalogue_packages
    rows = connection.execute(
        select(table.c.category, func.count()).group_by(table.c.category).order_by(table.c.category)
    )
    return [(name, count) for name, count in rows]


def category(connection: Connection, name: str, after: str = "") -> Shelf:
    """Return packages of a category, those behind the one called `after`."""
    table = catalogue_packages
    numbers = connection.execute(
        select(table.c.id, table.c.name)
        .where(table.c.category == name, table.c.name > after)
        .order_by(table.c.name)
        .limit(PAGE + 1)
    ).all()
    shown = [row.id for row in numbers[:PAGE]]
    return Shelf(
        categories=(),
        packages=tuple(searching.describe(connection, shown)),
        after=numbers[PAGE - 1].name if len(numbers) > PAGE else None,
    )
