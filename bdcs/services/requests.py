# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests: what machines want built, and what becomes of it.

number = commit(jobs, verdicts, …)                            # see `verdicts`
cancel(jobs, number), retry(jobs, number)
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, delete, insert, select, update

from bdcs.domain.jobs import Answer, MemberState, Origin, RequestState
from bdcs.services.builders import FORGOTTEN
from bdcs.services.jobs import Jobs, NewJob, finish_requests
from bdcs.services.machines import Machine
from bdcs.services.targets import Target
from bdcs.services.verdicts import Judge, Verdict, wishes_of
from bdcs.store import tables
from bdcs.store.tables import jobs, members, requests
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.errors import NotFound

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request."""

    id: str
    machine_id: int | None
    target: str
    created_at: int
    cancelled_at: int | None
    finished_at: int | None
    atoms: tuple[str, ...]
    access: bytes | None = None
    """Hash of the token that opened a private target for it (`tokens.hash_of`)."""


def commit(
    book: Jobs,
    target: Target,
    verdicts: Sequence[Verdict],
    *,
    machine_id: int | None,
    atoms: Sequence[str] = (),
    key: str | None = None,
    origin: Origin = Origin.REQUEST,
    number: str | None = None,
    access: bytes | None = None,
) -> str:
    """Make a request of verdicts that were found in this transaction; return its id.

    `key` was chosen by the machine: see `earlier`. `number` is an id that was told before (`new_id`).
    """
    number = number or new_id()
    waits = any(verdict.state is MemberState.WAITING for verdict in verdicts)
    book.connection.execute(
        _NEW_REQUEST,
        {
            "id": number,
            "machine_id": machine_id,
            "target_id": target.id,
            "created_at": book.now,
            "cancelled_at": None,
            "finished_at": None if waits else book.now,
            "idempotency": None if key is None else idempotency(machine_id, key),
            "note": json.dumps(list(atoms)),
            "access": access,
        },
    )
    _write_members(book, target, number, list(enumerate(verdicts)), origin)
    if waits:
        book.touched.requests.add(number)
        book.release()
    return number


def earlier(connection: Connection, machine_id: int, key: str) -> str | None:
    """Return the request that the machine made before under the same key."""
    found: str | None = connection.scalar(
        select(requests.c.id).where(requests.c.idempotency == idempotency(machine_id, key))
    )
    return found


def require(connection: Connection, number: str, machine_id: int | None) -> Request:
    """Return a request of the machine. Raises `NotFound`, also for another's."""
    row = connection.execute(
        _REQUESTS.where(requests.c.id == number, requests.c.machine_id == machine_id)
    ).first()
    if row is None:
        raise NotFound("this machine has no such request")
    return _request(row)


def listed(connection: Connection, machine_id: int, *, limit: int) -> list[Request]:
    """Return the machine's requests, the newest first."""
    query = _REQUESTS.where(requests.c.machine_id == machine_id)
    order = (requests.c.created_at.desc(), requests.c.id)
    return [_request(row) for row in connection.execute(query.order_by(*order).limit(limit))]


def state_of(request: Request, states: Collection[str]) -> RequestState:
    """Return how a request stands whose members are in `states`."""
    if request.cancelled_at is not None:
        return RequestState.CANCELLED
    if request.finished_at is None:
        return RequestState.OPEN
    good = all(state == MemberState.PUBLISHED for state in states)
    return RequestState.PUBLISHED if good else RequestState.INCOMPLETE


def cancel(book: Jobs, number: str) -> None:
    """Nobody waits for what is left of the request any more; what has ended stays as it is."""
    waiting = and_(members.c.request_id == number, members.c.state == str(MemberState.WAITING))
    concerned = [
        job
        for job in book.connection.scalars(
            update(members)
            .where(waiting)
            .values(state=str(MemberState.CANCELLED))
            .returning(members.c.job_id)
        )
        if job is not None
    ]
    book.connection.execute(
        update(requests)
        .where(requests.c.id == number, requests.c.finished_at.is_(None))
        .values(cancelled_at=book.now, finished_at=book.now)
    )
    book.touched.requests.add(number)
    book.cancel_unwanted(concerned)
    book.wanted_otherwise(concerned)


def retry(book: Jobs, target: Target, judge: Judge, number: str) -> list[Verdict]:
    """Begin anew what failed, differs, was cancelled, or was refused since it had failed; as `judge` says.

    What was refused for another reason is to be asked for again. Return what is said of it now.
    """
    rows = book.connection.execute(
        select(members.c.position, jobs.c.specification)
        .join(jobs, jobs.c.id == members.c.job_id)
        .where(members.c.request_id == number, members.c.state.in_(_RETRIED))
        .order_by(members.c.position)
    ).all()
    specifications = [BuildSpecification.from_json(json.loads(row.specification)) for row in rows]
    verdicts = judge.verdicts(wishes_of(specifications))
    by_digest = {verdict.wish.digest: verdict for verdict in verdicts}
    again = [
        (row.position, by_digest[specification.digest()])
        for row, specification in zip(rows, specifications, strict=True)
    ]
    which = (members.c.request_id == number, members.c.position.in_([position for position, _ in again]))
    book.connection.execute(members.delete().where(*which))
    if again:
        book.connection.execute(
            update(requests).where(requests.c.id == number).values(cancelled_at=None, finished_at=None)
        )
    _write_members(book, target, number, again, Origin.REQUEST)
    finish_requests(book.connection, [number], book.now)
    book.touched.requests.add(number)
    book.release()
    return verdicts


def machine_leaves(book: Jobs, machine: Machine) -> None:
    """Cancel and erase the requests of the machine; what it built for others stays, without its name."""
    connection, mine = book.connection, requests.c.machine_id == machine.id
    for number in list(connection.scalars(select(requests.c.id).where(mine))):
        cancel(book, number)
        connection.execute(delete(members).where(members.c.request_id == number))
    connection.execute(delete(requests).where(mine))
    attempts, builders, requesters = tables.attempts, tables.builders, tables.requesters
    connection.execute(
        update(attempts).where(attempts.c.machine_id == machine.id).values(machine_id=None, builder=FORGOTTEN)
    )
    connection.execute(delete(builders).where(builders.c.machine_id == machine.id))
    connection.execute(delete(requesters).where(requesters.c.machine_id == machine.id))


_RETRIED: Final = tuple(
    str(state)
    for state in (
        MemberState.FAILED,
        MemberState.MISMATCH,
        MemberState.CANCELLED,
        MemberState.REFUSED,
    )
)
_NEW_REQUEST: Final = insert(requests)
_NEW_MEMBERS: Final = insert(members)
_REQUESTS: Final = select(requests, tables.targets.c.name.label("target")).join(
    tables.targets, tables.targets.c.id == requests.c.target_id
)


def _request(row: Row[Any]) -> Request:
    return Request(
        id=row.id,
        machine_id=row.machine_id,
        target=row.target,
        created_at=row.created_at,
        cancelled_at=row.cancelled_at,
        finished_at=row.finished_at,
        atoms=tuple(json.loads(row.note)),
        access=row.access,
    )


def _write_members(
    book: Jobs, target: Target, number: str, verdicts: Sequence[tuple[int, Verdict]], origin: Origin
) -> None:
    """Write down the members of a request at their positions, with the jobs that are to be made."""
    new: list[NewJob] = []
    on_the_way: dict[str, int | str] = {}  # jobs of the packages before, by CATEGORY/NAME
    for _, verdict in verdicts:
        wish = verdict.wish
        if verdict.answer is Answer.QUEUED:
            new.append(
                NewJob(
                    specification=wish.specification,
                    digest=wish.digest,
                    needs=tuple(on_the_way[name] for name in wish.needs & on_the_way.keys()),
                    expected_seconds=verdict.expected_seconds,
                )
            )
            on_the_way[wish.specification.cpv.cp] = wish.digest
        elif verdict.answer is Answer.JOINED and verdict.job is not None:
            on_the_way[wish.specification.cpv.cp] = verdict.job
    book.raise_priority([one.job for _, one in verdicts if one.answer is Answer.JOINED and one.job], origin)
    made = book.add(target.id, new, origin) if new else {}
    rows = [
        {
            "request_id": number,
            "position": position,
            "cpv": str(verdict.wish.specification.cpv),
            "digest": verdict.wish.digest,
            "job_id": made.get(verdict.wish.digest, verdict.job),
            "build_id": verdict.build,
            "answer": str(verdict.answer),
            "state": str(verdict.state),
            "refusal": None if verdict.refusal is None else str(verdict.refusal),
            "reason": verdict.reason,
        }
        for position, verdict in verdicts
    ]
    if rows:
        book.connection.execute(_NEW_MEMBERS, rows)
        book.wanted_otherwise([verdict.job for _, verdict in verdicts if verdict.job is not None])


def idempotency(machine_id: int | None, key: str) -> str:
    """Return what tells that a request is the one that the machine made under `key`."""
    return hashlib.sha256(f"{machine_id}:{key}".encode()).hexdigest()


def new_id() -> str:
    """Return an id for a request: nobody guesses it."""
    return "".join(_ALPHABET[octet % len(_ALPHABET)] for octet in secrets.token_bytes(10))
