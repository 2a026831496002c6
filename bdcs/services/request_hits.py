# SPDX-License-Identifier: GPL-2.0-or-later
"""Hits: requests of which all was published when they were made, written down after they were answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from bdcs.domain.jobs import Answer, MemberState
from bdcs.services.requests import idempotency
from bdcs.store import tables
from bdcs.store.tables import members, requests
from bdcs.store.upserts import upsert


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A build that is what somebody wished for."""

    cpv: str
    digest: str
    build: int
    """Its id."""
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A request of which all is published."""

    number: str
    """Its id."""
    machine_id: int
    target_id: int
    target: str
    at: int
    atoms: tuple[str, ...]
    key: str | None
    packages: tuple[Published, ...]


def write_down(connection: Connection, hits: Sequence[Hit]) -> None:
    """Make requests of what was published when it was asked for, and has been answered.

    Nothing is written of machines that were erased meanwhile, nor twice under one key.
    """
    machines = tables.machines.c.id
    there = set(connection.scalars(select(machines).where(machines.in_({hit.machine_id for hit in hits}))))
    hits = [hit for hit in hits if hit.machine_id in there]
    if not hits:
        return
    connection.execute(
        upsert(requests).on_conflict_do_nothing(index_elements=["idempotency"]),
        [
            {
                "id": hit.number,
                "machine_id": hit.machine_id,
                "target_id": hit.target_id,
                "created_at": hit.at,
                "cancelled_at": None,
                "finished_at": hit.at,
                "idempotency": None if hit.key is None else idempotency(hit.machine_id, hit.key),
                "note": json.dumps(list(hit.atoms)),
            }
            for hit in hits
        ],
    )
    known = set(
        connection.scalars(select(requests.c.id).where(requests.c.id.in_([hit.number for hit in hits])))
    )
    rows = [
        {
            "request_id": hit.number,
            "position": position,
            "cpv": package.cpv,
            "digest": package.digest,
            "job_id": None,
            "build_id": package.build,
            "answer": str(Answer.PUBLISHED),
            "state": str(MemberState.PUBLISHED),
            "refusal": None,
            "reason": None,
        }
        for hit in hits
        if hit.number in known
        for position, package in enumerate(hit.packages)
    ]
    if rows:
        connection.execute(insert(members), rows)
