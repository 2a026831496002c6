# SPDX-License-Identifier: GPL-2.0-or-later
"""Erasing a machine: its records, evidence and installations go at once; a keyed hash of its UUID stays."""

from __future__ import annotations

import time

from sqlalchemy import Connection, delete, select

from bdcs.services import (
    builders,
    events,
    figures,
    prebuild_demand,
    predictions,
    proposals,
    requests,
    watches,
)
from bdcs.services.jobs import Jobs
from bdcs.services.machines import Machine, tombstone
from bdcs.store import tables


def forget(connection: Connection, machine: Machine) -> None:
    """Erase everything of `machine` in the transaction of `connection`.

    Published figures count on it until they may move (`services.figures`): nobody sees one machine leave.
    """
    figures.machine_leaves(connection, machine.id)
    predictions.machine_leaves(connection, machine.id)
    prebuild_demand.machine_leaves(connection, machine.id)
    builders.machine_leaves(connection, machine)
    watches.machine_leaves(connection, machine.id)
    proposals.machine_leaves(connection, machine)
    requests.machine_leaves(Jobs(connection, time.time()), machine)
    segments, changes = tables.segments, tables.package_state_changes
    spans = connection.execute(
        select(segments.c.first_change, segments.c.records).where(segments.c.machine_id == machine.id)
    ).all()
    for first_change, records in spans:
        connection.execute(
            delete(changes).where(changes.c.id.between(first_change, first_change + records - 1))
        )
    connection.execute(delete(segments).where(segments.c.machine_id == machine.id))
    connection.execute(delete(tables.installations).where(tables.installations.c.machine_id == machine.id))
    connection.execute(delete(tables.quarantines).where(tables.quarantines.c.machine_id == machine.id))
    connection.execute(delete(tables.machines).where(tables.machines.c.id == machine.id))
    events.machine_forgotten(connection, machine.uuid)
    connection.execute(tables.tombstones.insert().values(hash=tombstone(connection, machine.uuid)))
