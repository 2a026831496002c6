# SPDX-License-Identifier: GPL-2.0-or-later
"""The public list of packages that are about to leave: an operator keeps it, machines compare themselves."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from bdcs.domain.thresholds import Thresholds
from bdcs.services.public_figures import package_figures
from bdcs.store.tables import leaving
from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.errors import Malformed
from gentwoo_client.wire.leaving import MOST, Leaving, checked_day, checked_reason


def add(connection: Connection, atom: str, *, reason: str, leaves_on: str | None, now: float) -> Atom:
    """Put an atom on the list, in place of the same one. Raises `Malformed`."""
    parsed = Atom.parse(atom)
    if parsed.blocker or parsed.use or parsed.slot_operator:
        raise Malformed(f"{atom[:100]!r}: what leaves has a version, a slot and a repository at most")
    checked_reason(reason)
    if leaves_on is not None:
        checked_day(leaves_on)
    remove(connection, str(parsed))
    if len(listed(connection)) >= MOST:
        raise Malformed(f"the list has {MOST} atoms, as many as may be")
    connection.execute(
        insert(leaving).values(
            atom=str(parsed),
            category=parsed.category,
            name=parsed.name,
            reason=reason,
            leaves_on=leaves_on,
            created_at=int(now),
        )
    )
    return parsed


def remove(connection: Connection, atom: str) -> bool:
    """Take an atom off the list; return whether it was on it. Raises `Malformed`."""
    found = delete(leaving).where(leaving.c.atom == str(Atom.parse(atom)))
    return bool(connection.execute(found).rowcount)


def listed(connection: Connection) -> list[Leaving]:
    """Return the list without figures, in order of atoms' packages."""
    order = (leaving.c.category, leaving.c.name, leaving.c.atom)
    rows = connection.execute(select(leaving).order_by(*order))
    return [
        Leaving(atom=Atom.parse(row.atom), reason=row.reason, leaves_on=row.leaves_on, machines=None)
        for row in rows
    ]


def with_figures(connection: Connection, thresholds: Thresholds) -> list[Leaving]:
    """Return the list with the machines that have each package, where that is shown."""
    found = []
    for each in listed(connection):
        category, name = each.atom.category, each.atom.name
        assert category is not None
        machines = package_figures(connection, category, name, thresholds).machines
        found.append(
            Leaving(atom=each.atom, reason=each.reason, leaves_on=each.leaves_on, machines=machines or None)
        )
    return found


def of_package(connection: Connection, category: str, name: str) -> dict[str, str]:
    """Return the atoms of a package that are on the list, and the day, or an empty text."""
    rows = connection.execute(
        select(leaving.c.atom, leaving.c.leaves_on)
        .where(leaving.c.category == category, leaving.c.name == name)
        .order_by(leaving.c.atom)
    )
    return {row.atom: row.leaves_on or "" for row in rows}
