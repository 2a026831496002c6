# SPDX-License-Identifier: GPL-2.0-or-later
"""What the event feed is told of jobs, publications and machines, in the transaction that changes them.

Nothing of private targets is told, and in public events nothing of machines, of who asked, or of flags.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from uuid import UUID, uuid4

from sqlalchemy import Connection, select

from bdcs.domain.machines import State
from bdcs.services import outbox
from bdcs.services.targets import Target
from bdcs.store.slices import slices
from bdcs.store.tables import builds, jobs, targets
from gentwoo_client.wire.events import BuildEvent, MachineEvent, PublicationEvent


def jobs_changed(connection: Connection, ids: Collection[int], now: int) -> None:
    """Tell the states that jobs came into."""
    if not ids or not outbox.is_wanted(connection):
        return
    for some in slices(ids):
        rows = connection.execute(
            select(
                jobs.c.id,
                jobs.c.target_id,
                jobs.c.category,
                jobs.c.name,
                jobs.c.version,
                jobs.c.repository,
                jobs.c.state,
                jobs.c.failure,
                targets.c.name.label("target"),
            )
            .join(targets, targets.c.id == jobs.c.target_id)
            .where(jobs.c.id.in_(some), ~targets.c.private)
            .order_by(jobs.c.id)
        ).all()
        for row in rows:
            event = BuildEvent(
                id=str(uuid4()),
                at=now,
                target=row.target,
                category=row.category,
                name=row.name,
                version=row.version,
                repository=row.repository,
                state=row.state,
                job=row.id,
                failure=row.failure,
            )
            outbox.put(connection, [event], target_id=row.target_id)


def index_changed(
    connection: Connection,
    target: Target,
    added: Collection[int],
    removed: Collection[int],
    *,
    generation: int,
    at: int,
) -> None:
    """Tell which builds a target's index lists from now on, and which no longer."""
    if target.private or not outbox.is_wanted(connection):
        return
    for state, ids in (("withdrawn", removed), ("published", added)):
        for some in slices(ids):
            rows = connection.execute(
                select(
                    builds.c.category,
                    builds.c.name,
                    builds.c.version,
                    builds.c.repository,
                    builds.c.build_id,
                    builds.c.path,
                    builds.c.size,
                )
                .where(builds.c.id.in_(some))
                .order_by(builds.c.id)
            )
            events = [
                PublicationEvent(
                    id=str(uuid4()), at=at, target=target.name, state=state, generation=generation, **row
                )
                for row in rows.mappings()
            ]
            outbox.put(connection, events, target_id=target.id)


def machine_registered(connection: Connection, machine: UUID, state: State, now: float) -> None:
    """Tell that a machine is known now, as what it begins."""
    _tell(connection, machine, "registered", now, approved=state is State.APPROVED)


def machine_changed(connection: Connection, machine: UUID, state: State) -> None:
    """Tell which state a machine was put into."""
    _tell(connection, machine, str(state), time.time(), approved=state is State.APPROVED)


def machine_forgotten(connection: Connection, machine: UUID) -> None:
    """Tell that nothing of a machine is here any more, and nothing else of it that was not told before."""
    outbox.drop_machine(connection, machine)
    _tell(connection, machine, "forgotten", time.time(), approved=False)


def _tell(connection: Connection, machine: UUID, state: str, now: float, *, approved: bool) -> None:
    if outbox.is_wanted(connection):
        event = MachineEvent(
            id=str(uuid4()), at=int(now), machine=str(machine), state=state, approved=approved
        )
        outbox.put(connection, [event], machine=machine)
