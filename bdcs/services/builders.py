# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders: machines that an administrator approved to upload packages to a target.

Whoever may publish is root on every client, so the approval names each target.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, and_, delete, select, update

from bdcs.errors import NoSuchMachine, NotABuilder
from bdcs.services import machines
from bdcs.services.machines import Machine
from bdcs.services.targets import Target
from bdcs.store import tables
from bdcs.store.tables import builder_targets

BUILDER_SEEN: Final = 300
"""Seconds after which a builder that did not ask for work, nor told of any, counts as gone."""
FORGOTTEN = "forgotten"
"""What stands for a machine that was erased where it is named as the one who built something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """A machine that may upload to a target."""

    machine: UUID
    target: str
    approved_at: int
    """Unix seconds."""


def approve(connection: Connection, target: Target, machine: UUID, *, now: float) -> bool:
    """Let the machine upload to the target; return False where it may already. Raises `NoSuchMachine`."""
    found = machines.find(connection, machine)
    if found is None:
        raise NoSuchMachine(str(machine))
    if is_approved(connection, target, found):
        return False
    connection.execute(
        builder_targets.insert().values(machine_id=found.id, target_id=target.id, approved_at=int(now))
    )
    return True


def is_approved(connection: Connection, target: Target, machine: Machine) -> bool:
    """Whether the machine may upload to the target; its own state (`domain.machines`) is another matter."""
    return (
        connection.execute(
            select(builder_targets.c.machine_id).where(
                builder_targets.c.machine_id == machine.id, builder_targets.c.target_id == target.id
            )
        ).first()
        is not None
    )


def listed(connection: Connection, target: Target | None = None) -> list[Builder]:
    """Return the builders of `target`, or all, by target and in order of their approval."""
    query = (
        select(tables.machines.c.uuid, tables.targets.c.name, builder_targets.c.approved_at)
        .join(tables.machines, tables.machines.c.id == builder_targets.c.machine_id)
        .join(tables.targets, tables.targets.c.id == builder_targets.c.target_id)
        .order_by(tables.targets.c.name, builder_targets.c.approved_at, tables.machines.c.id)
    )
    if target is not None:
        query = query.where(builder_targets.c.target_id == target.id)
    return [
        Builder(machine=UUID(uuid), target=name, approved_at=approved_at)
        for uuid, name, approved_at in connection.execute(query)
    ]


def revoke(connection: Connection, target: Target, machine: UUID) -> None:
    """Let the machine upload no longer; what it built stays. Raises `NotABuilder`."""
    known = select(tables.machines.c.id).where(tables.machines.c.uuid == str(machine)).scalar_subquery()
    done = connection.execute(
        delete(builder_targets).where(
            builder_targets.c.machine_id == known, builder_targets.c.target_id == target.id
        )
    )
    if not done.rowcount:
        raise NotABuilder(target.name, str(machine))


def machine_leaves(connection: Connection, machine: Machine) -> None:
    """Take back its approvals and uploads, and its name from what it built: the packages stay."""
    for table in (builder_targets, tables.uploads):
        connection.execute(delete(table).where(table.c.machine_id == machine.id))
    for table in (tables.builds, tables.generations):
        connection.execute(update(table).where(table.c.actor == str(machine.uuid)).values(actor=FORGOTTEN))


def has_builder(connection: Connection, target: Target, now: int) -> bool:
    """Whether a builder of the target is at work, or waits for some."""
    allowed = tables.builder_targets
    rows = connection.scalars(
        select(tables.builders.c.targets)
        .join(
            allowed,
            and_(allowed.c.machine_id == tables.builders.c.machine_id, allowed.c.target_id == target.id),
        )
        .where(tables.builders.c.seen_at > now - BUILDER_SEEN, ~tables.builders.c.draining)
    )
    return any(target.name in json.loads(names) for names in rows)
