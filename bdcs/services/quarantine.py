# SPDX-License-Identifier: GPL-2.0-or-later
"""Setting machines and packages aside: they count nowhere in public, and nothing is erased.

A machine that is set aside leaves public figures under the same rule as one that leaves by itself: nobody
sees it go. A package that is set aside looks, at once, like one that nobody has.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, select

from bdcs.domain.machines import State
from bdcs.errors import NoSuchMachine, NoSuchPackage
from bdcs.services import machines
from bdcs.store.tables import machines as machine_rows
from bdcs.store.tables import packages, quarantines


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """Who, or what, is set aside, since when and why."""

    name: str
    """UUID of a machine; `category/name` of a package."""
    reason: str
    since: int | None
    """Unix seconds; None where nobody noted it."""


def is_shown(package_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a package is not set aside. Every public list and figure asks this."""
    return package_id.not_in(select(quarantines.c.package_id).where(quarantines.c.package_id.is_not(None)))


def set_aside(connection: Connection, name: str, reason: str, now: float) -> None:
    """Set a machine (UUID) or a package (`category/name`) aside. Raises `NoSuchMachine`, `NoSuchPackage`."""
    release(connection, name)
    if (uuid := _uuid(name)) is not None:
        machine = machines.find(connection, uuid)
        assert machine is not None  # `release` has seen it
        machines.set_state(connection, uuid, State.QUARANTINED)
        values: dict[str, object] = {"machine_id": machine.id}
    else:
        values = {"package_id": _package(connection, name)}
    connection.execute(quarantines.insert().values(**values, reason=reason, created_at=int(now)))


def release(connection: Connection, name: str) -> None:
    """Have a machine or a package count again. Raises `NoSuchMachine`, `NoSuchPackage`.

    What is not set aside stays as it is.
    """
    if (uuid := _uuid(name)) is None:
        package = _package(connection, name)
        connection.execute(delete(quarantines).where(quarantines.c.package_id == package))
        return
    machine = machines.find(connection, uuid)
    if machine is None:
        raise NoSuchMachine(name)
    if machine.state is State.QUARANTINED:
        machines.set_state(connection, uuid, State.APPROVED)


def listed(connection: Connection) -> list[Aside]:
    """Return all machines, then all packages that are set aside."""
    aside = [
        Aside(name=row.uuid, reason=row.reason or "", since=row.created_at)
        for row in connection.execute(
            select(machine_rows.c.uuid, quarantines.c.reason, quarantines.c.created_at)
            .outerjoin(quarantines, quarantines.c.machine_id == machine_rows.c.id)
            .where(machine_rows.c.state == State.QUARANTINED)
            .order_by(machine_rows.c.id)
        )
    ]
    aside += [
        Aside(name=f"{row.category}/{row.name}", reason=row.reason, since=row.created_at)
        for row in connection.execute(
            select(packages.c.category, packages.c.name, quarantines.c.reason, quarantines.c.created_at)
            .join(quarantines, quarantines.c.package_id == packages.c.id)
            .order_by(packages.c.category, packages.c.name)
        )
    ]
    return aside


def _uuid(name: str) -> UUID | None:
    if "/" in name:
        return None
    try:
        return UUID(name)
    except ValueError:
        raise NoSuchMachine(name) from None


def _package(connection: Connection, full_name: str) -> int:
    category, _, name = full_name.partition("/")
    found: int | None = connection.scalar(
        select(packages.c.id).where(packages.c.category == category, packages.c.name == name)
    )
    if found is None:
        raise NoSuchPackage(full_name)
    return found
