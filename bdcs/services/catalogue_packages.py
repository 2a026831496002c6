# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages of the catalogue follow from their versions: this keeps them, and the words that find them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, select, update

from bdcs.domain.batches import batches
from bdcs.store import words
from bdcs.store.bulk import insert_rows, matching_rows
from bdcs.store.slices import slices
from bdcs.store.tables import catalogue_packages, catalogue_versions
from gentwoo_client.wire.version import Version

AT_ONCE: Final = 256  # packages asked for at once


def numbers(connection: Connection, packages: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the number of each of `packages` (category, name); those that are new get one."""
    known = _known(connection, list(packages))
    new = [package for package in packages if package not in known]
    if new:
        insert_rows(connection, catalogue_packages, [(None, *package, "", "") for package in new])
        known |= _known(connection, new)
    return known


def settle(connection: Connection, touched: Collection[int]) -> None:
    """Have packages, whose versions changed, say what their newest one says; without any, they go."""
    for some in slices(touched):
        _settle(connection, some)


def _known(connection: Connection, packages: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    table, known = catalogue_packages, {}
    for some in batches(packages, AT_ONCE):
        rows = matching_rows(connection, table.c.id, (table.c.category, table.c.name), some)
        known.update({(category, name): number for number, category, name in rows})
    return known


def _settle(connection: Connection, wanted: Sequence[int]) -> None:
    newest = _newest(connection, wanted)
    gone = [number for number in wanted if number not in newest]
    if gone:
        connection.execute(delete(catalogue_packages).where(catalogue_packages.c.id.in_(gone)))
        words.remove(connection, gone)
    if not newest:
        return
    table = catalogue_packages
    rows = connection.execute(select(table).where(table.c.id.in_(newest))).all()
    changed = [
        row
        for row in rows
        if (row.description, row.homepage) != (newest[row.id].description, newest[row.id].homepage)
        or not row.description
    ]
    if not changed:
        return
    connection.execute(
        update(table)
        .where(table.c.id == bindparam("number"))
        .values(description=bindparam("text"), homepage=bindparam("uris")),
        [
            {"number": row.id, "text": newest[row.id].description, "uris": newest[row.id].homepage}
            for row in changed
        ],
    )
    words.put(
        connection, [(row.id, f"{row.category}/{row.name}", newest[row.id].description) for row in changed]
    )


def _newest(connection: Connection, wanted: Sequence[int]) -> dict[int, Row[*tuple[Any, ...]]]:
    """The newest version of each package, of the repository that was added first where several have it."""
    table = catalogue_versions
    rows = connection.execute(
        select(table.c.package_id, table.c.version, table.c.description, table.c.homepage)
        .where(table.c.package_id.in_(wanted))
        .order_by(table.c.repository_id.desc())
    )
    newest: dict[int, Row[*tuple[Any, ...]]] = {}
    for row in rows:
        other = newest.get(row.package_id)
        if other is None or Version.parse(other.version) <= Version.parse(row.version):
            newest[row.package_id] = row
    return newest
