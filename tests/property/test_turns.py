# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose turn it is at several targets, for who claims one after the other: as looking at everything says."""

import random
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from bdcs.services import queueing
from bdcs.services.jobs import Claimant, Jobs
from bdcs.store import schema, tables
from bdcs.store.engine import create_writer
from bdcs.store.store import transaction

TARGETS = (1, 2, 3)
MACHINES = (1, 2, 3, 4, 5)
BUILDER = 9
JOBS = 120
CLAIMS = 70


def fill(connection: Connection, chance: random.Random) -> None:
    """Jobs of all priorities; some machines want many, and some jobs are wanted by several or by nobody."""
    for machine in (*MACHINES, BUILDER):
        row = {"public_key": b"", "state": "approved", "registered_at": 0, "head_seq": 0}
        connection.execute(
            insert(tables.machines).values(id=machine, uuid=str(uuid.UUID(int=machine)), **row)
        )
    wishers = (None, *MACHINES)
    priorities = chance.choice(((10, 50, 100), (100,)))  # short lines, or long ones
    for number, wisher in enumerate(wishers * 2):
        row = {"id": str(number), "machine_id": wisher, "target_id": 1, "created_at": 0, "note": "[]"}
        connection.execute(insert(tables.requests).values(row))
    for machine in chance.sample(MACHINES, 3):
        served = chance.randint(1, 9)
        connection.execute(insert(tables.requesters).values(machine_id=machine, served=served))
    for number in range(1, JOBS + 1):
        state = chance.choice(("queued",) * 9 + ("building",))
        values = dict.fromkeys(("category", "name", "version", "repository", "origin"), "") | {
            "id": number, "target_id": chance.choice(TARGETS), "digest": str(number), "cpv": str(number),
            "specification": "{}", "state": state, "priority": chance.choice(priorities), "created_at": 0,
            "queued_at": chance.randint(0, 20),
        }  # fmt: skip
        connection.execute(insert(tables.jobs).values(values))
        for request in chance.sample(range(len(wishers) * 2), chance.choice((0, 1, 1, 1, 2, 4))):
            member = {"position": number, "cpv": "", "digest": "", "answer": "queued", "state": "waiting"}
            connection.execute(
                insert(tables.members).values(request_id=str(request), job_id=number, **member)
            )
    connection.execute(
        insert(tables.attempts),
        [
            {"job_id": number, "number": 1, "machine_id": BUILDER, "builder": "b",
             "started_at": 0, "lease_until": 10, "state": "lost", "log_size": 0}
            for number in range(1, 20)
        ],
    )  # fmt: skip
    queueing.renew(connection, range(1, JOBS + 1))


def expected(connection: Connection, claimed: list[tuple[int, ...]]) -> list[int | None]:
    """The jobs that are given to who claims for these targets, one after the other."""
    machine_of = {row.id: row.machine_id or 0 for row in connection.execute(select(tables.requests))}
    wanting: dict[int, list[int]] = {}
    for row in connection.execute(select(tables.members)):
        wanting.setdefault(row.job_id, []).append(machine_of[row.request_id])
    jobs = {row.id: row for row in connection.execute(select(tables.jobs))}
    states = {number: job.state for number, job in jobs.items()}
    served = {row.machine_id: row.served for row in connection.execute(select(tables.requesters))}
    given: list[int | None] = []
    for attempt, targets in enumerate(claimed, start=100):
        running = Counter(
            machine for number in jobs if states[number] == "building" for machine in wanting.get(number, ())
        )
        turns: list[Any] = [
            (-job.priority, running[machine], served.get(machine, 0), job.queued_at, job.id, machine)
            for job in jobs.values()
            if states[job.id] == "queued" and job.target_id in targets
            for machine in wanting.get(job.id, [0])
        ]
        if not turns:
            given.append(None)
            continue
        *_, number, machine = min(turns)
        states[number] = "building"
        served[machine] = attempt
        given.append(number)
    return given


@pytest.mark.parametrize("seed", range(8))
def test_many_who_claim_for_some_targets_each(tmp_path: Path, seed: int) -> None:
    """In one go, in several, and one by one."""
    chance = random.Random(seed)
    engine = create_writer(tmp_path / "bdcs.sqlite")
    with transaction(engine) as connection:
        schema.upgrade(connection)
        fill(connection, chance)
        claimed = [
            tuple(chance.sample(TARGETS, chance.choice((1, 2, 3)))) for _ in range(CLAIMS + 60 * (seed % 2))
        ]
        wanted = expected(connection, claimed)
        claimants = [Claimant(machine_id=BUILDER, name="b", target_ids=targets) for targets in claimed]
        size = chance.choice((1, 7, len(claimants)))
        got: list[int | None] = []
        for start in range(0, len(claimants), size):
            leases = Jobs(connection, 50).claim_all(claimants[start : start + size])
            got += [None if lease is None else lease.job_id for lease in leases]
            for lease in leases:
                assert lease is None or lease.number == (2 if lease.job_id < 20 else 1)
        assert got == wanted
        assert queueing.wrong(connection) == []
    engine.dispose()


def test_what_the_queue_has_wrongly_is_not_given(tmp_path: Path) -> None:
    """… and not kept."""
    engine = create_writer(tmp_path / "bdcs.sqlite")
    with transaction(engine) as connection:
        schema.upgrade(connection)
        fill(connection, random.Random(1))
        connection.execute(tables.jobs.update().where(tables.jobs.c.id % 2 == 0).values(state="cancelled"))
        claimants = [Claimant(machine_id=BUILDER, name="b", target_ids=TARGETS)] * JOBS
        leases = [lease for lease in Jobs(connection, 50).claim_all(claimants) if lease is not None]
        assert leases
        assert all(lease.job_id % 2 for lease in leases)
        assert queueing.wrong(connection) == []
    engine.dispose()
