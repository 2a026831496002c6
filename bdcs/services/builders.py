# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders: machines that an administrator approved to upload packages to a target.

Whoever may publish is root on every client, so the approval names each target.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, and_, delete, select, update

from bdcs.domain.machines import State
from bdcs.errors import NoSuchBuilder, NoSuchMachine, NotABuilder
from bdcs.services import machines
from bdcs.services.machines import Machine
from bdcs.services.targets import Target
from bdcs.store import tables
from bdcs.store.listed import NUMBERS, TEXTS, Listed
from bdcs.store.slices import slices
from bdcs.store.tables import builder_targets
from bdcs.store.upserts import upsert
from gentwoo_client.wire.build_messages import Claim

BUILDER_SEEN: Final = 300
"""Seconds after which a builder that did not ask for work, nor told of any, counts as gone."""
SEEN: Final = 15
"""Seconds in which that a builder is there is not written down again."""
OPERATOR: Final = "operator"
AUTOSCALE: Final = "autoscale"
"""Who may have said that a builder gets no more work."""
FORGOTTEN = "forgotten"
"""What stands for a machine that was erased where it is named as the one who built something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """A machine that may upload to a target."""

    machine: UUID
    target: str
    approved_at: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A machine that may be a builder."""

    id: int
    state: State
    targets: dict[str, int]
    """What it may build for, by name."""


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


def known(connection: Connection, wanted: Collection[UUID]) -> dict[UUID, Known]:
    """Return those of these machines that are registered."""
    names = {str(machine): machine for machine in wanted}
    found: dict[UUID, Known] = {}
    for some in slices(names):
        for name, number, state, target, target_id in _KNOWN.execute(connection, names=some).all():
            machine = names[name]
            if machine not in found:
                found[machine] = Known(id=number, state=State(state), targets={})
            if target is not None:
                found[machine].targets[target] = target_id
    return found


def seen(
    connection: Connection, claims: Sequence[tuple[int, Claim]], now: int, others: Collection[int] = ()
) -> set[tuple[int, str]]:
    """Write down that builders (by machine) are there, or say that they leave; what is not new, seldom.

    What the autoscaler had one do is over when it has left, or comes anew; what the operator said stays.

    Return the builders of these machines, and of `others`, of whom somebody said that they get no more work,
    by machine and name. Who wants to say so waits for the end of this transaction, and then sees what was
    claimed in it. Else one who is dismissed since he builds nothing could be given something meanwhile.
    """
    before: dict[tuple[int, str], Mapping[str, Any]] = {}
    for some in slices({*others, *(machine for machine, _ in claims)}):
        for row in _ROWS.execute(connection, machines=some).all():
            before[row[0], row[1]] = dict(zip(_COLUMNS, row, strict=True))
    news = {}
    for machine, claim in claims:
        key = (machine, claim.name)
        values = _seen(before.get(key), machine, claim, now)
        if not _is_said(before.get(key), values):
            before[key] = news[key] = values
    if news:
        connection.execute(_SEEN, list(news.values()))
    return {key for key, values in before.items() if values["drained_by"] is not None}


def _is_said(known: Mapping[str, Any] | None, values: Mapping[str, Any]) -> bool:
    """Whether just that was written down a moment ago."""
    if known is None or known["seen_at"] <= values["seen_at"] - SEEN:
        return False
    return {**values, "seen_at": known["seen_at"]} == known


def _seen(known: Mapping[str, Any] | None, machine: int, claim: Claim, now: int) -> Mapping[str, Any]:
    values: dict[str, Any] = {
        "machine_id": machine,
        "name": claim.name,
        "targets": json.dumps(sorted(set(claim.targets))),
        "seen_at": now,
        "draining": claim.draining,
        "appeared_at": now,
        "drained_by": None,
    }
    if known is not None:
        comes_anew = not claim.draining and (known["draining"] or known["seen_at"] <= now - BUILDER_SEEN)
        if not comes_anew and known["appeared_at"] is not None:
            values["appeared_at"] = known["appeared_at"]
        if known["drained_by"] == OPERATOR or not (comes_anew or claim.draining):
            values["drained_by"] = known["drained_by"]
    return values


_KNOWN: Final = Listed(
    """
    SELECT machines.uuid, machines.id, machines.state, targets.name, targets.id AS target_id FROM machines
    LEFT JOIN builder_targets ON builder_targets.machine_id = machines.id
    LEFT JOIN targets ON targets.id = builder_targets.target_id
    WHERE machines.uuid {names}
    """,
    names=TEXTS,
)
_COLUMNS: Final = ("machine_id", "name", "targets", "seen_at", "draining", "appeared_at", "drained_by")
_ROWS: Final = Listed(
    f"""
    SELECT {", ".join(_COLUMNS)} FROM builders
    WHERE machine_id {{machines}} ORDER BY machine_id, name {{locked}}
    """,
    machines=NUMBERS,
)
_NOTED: Final = upsert(tables.builders)
_SEEN: Final = _NOTED.on_conflict_do_update(
    index_elements=["machine_id", "name"],
    set_={name: _NOTED.excluded[name] for name in _COLUMNS[2:]},
)


def drain(connection: Connection, name: str, by: str | None) -> None:
    """Let the builders of that name get no more work, or again where `by` is None. Raises `NoSuchBuilder`.

    What they build ends as it does.
    """
    rows = tables.builders
    if not connection.execute(update(rows).where(rows.c.name == name).values(drained_by=by)).rowcount:
        raise NoSuchBuilder(name)


def is_served(connection: Connection, target: Target, now: int) -> bool:
    """Whether somebody builds for the target, or is started as soon as there is work."""
    if has_builder(connection, target, now):
        return True
    pools = tables.pools
    names = connection.scalars(
        select(pools.c.targets).where(pools.c.looked_at > now - BUILDER_SEEN, pools.c.most > 0)
    )
    return any(target.name in json.loads(text) for text in names)


def has_builder(connection: Connection, target: Target, now: int) -> bool:
    """Whether a builder of the target is at work, or waits for some."""
    allowed = tables.builder_targets
    rows = connection.scalars(
        select(tables.builders.c.targets)
        .join(
            allowed,
            and_(allowed.c.machine_id == tables.builders.c.machine_id, allowed.c.target_id == target.id),
        )
        .where(
            tables.builders.c.seen_at > now - BUILDER_SEEN,
            ~tables.builders.c.draining,
            tables.builders.c.drained_by.is_(None),
        )
    )
    return any(target.name in json.loads(names) for names in rows)
