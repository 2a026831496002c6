# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told of requests, jobs, attempts and builders (`gentwoo_client.wire.build_messages`)."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, func, select

from bdcs.domain.forecast import Outlook, Queued, outlooks
from bdcs.domain.jobs import Answer, AttemptState, JobState, MemberState, RequestState
from bdcs.services import requests as wanted
from bdcs.services.builders import BUILDER_SEEN
from bdcs.services.jobs import COLLECTOR, Attempt, in_flight
from bdcs.services.listing import listed_in, needs_listed_in
from bdcs.services.request_hits import Hit
from bdcs.services.requests import Request
from bdcs.services.targets import Target
from bdcs.services.verdicts import Near, Verdict
from bdcs.store import tables
from bdcs.store.listed import NUMBERS, Listed
from bdcs.store.slices import slices
from bdcs.store.tables import attempts, builds, job_dependencies, jobs, members, requests
from gentwoo_client.wire.errors import NotFound
from gentwoo_client.wire.records import format_time

LISTED: Final = 100
"""Requests in a list."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildDocuments:
    """Makes the documents of builds on request."""

    public_url: str

    def request(
        self, connection: Connection, request: Request, now: int, near: Mapping[str, Sequence[Near]]
    ) -> Document:
        """Return what is told of a request; `near` are near misses by digest, where they are to be named."""
        rows = connection.execute(_MEMBERS.where(members.c.request_id == request.id)).all()
        foreseen = self._foreseen(connection, rows, now)
        left_out = _left_out(connection, request.id)
        packages = [
            self._package(
                row, request.target, foreseen, near.get(row.digest, ()), left_out.get(row.job_id, ())
            )
            for row in rows
        ]
        state = wanted.state_of(request, {row.state for row in rows})
        return {
            "id": request.id,
            "target": request.target,
            "state": str(state),
            "atoms": list(request.atoms),
            "created_at": format_time(request.created_at),
            "finished_at": _time(request.finished_at),
            "finish_at": _latest(packages),
            "listed_in": 0 if state is RequestState.OPEN else listed_in(connection, _published(rows)),
            "version": _version(str(state), packages),
            "packages": packages,
        }

    def plan(
        self,
        connection: Connection,
        target: str,
        verdicts: Sequence[Verdict],
        near: Mapping[str, Sequence[Near]],
        atoms: Sequence[str],
        now: int,
    ) -> Document:
        """Return what is told of a request that is only considered."""
        there = [verdict.build for verdict in verdicts if verdict.build]
        paths = self._paths(connection, there)
        packages = [self._planned(target, verdict, paths, near) for verdict in verdicts]
        return {
            "id": None,
            "target": target,
            "state": "planned",
            "atoms": list(atoms),
            "created_at": format_time(now),
            "finished_at": None,
            "finish_at": None,
            "listed_in": listed_in(connection, there),
            "version": _version("planned", packages),
            "packages": packages,
        }

    def answered(
        self,
        connection: Connection,
        request: Request,
        verdicts: Sequence[Verdict],
        near: Mapping[str, Sequence[Near]],
        now: int,
    ) -> Document:
        """Return what is told of a request that was just made of `verdicts`."""
        if request.finished_at is None:
            return self.request(connection, request, now, near)
        document = self.plan(connection, request.target, verdicts, near, request.atoms, now)
        state = str(wanted.state_of(request, {verdict.state for verdict in verdicts}))
        return {
            **document,
            "id": request.id,
            "state": state,
            "finished_at": format_time(request.finished_at),
            "version": _version(state, document["packages"]),
        }

    def hit(self, hit: Hit) -> Document:
        """Return what is told of a request of which all is published."""
        packages = [
            {
                **_PUBLISHED,
                "cpv": package.cpv,
                "digest": package.digest,
                "url": self.url(hit.target, package.path),
            }
            for package in hit.packages
        ]
        state = str(RequestState.PUBLISHED)
        at = format_time(hit.at)
        return {
            "id": hit.number,
            "target": hit.target,
            "state": state,
            "atoms": list(hit.atoms),
            "created_at": at,
            "finished_at": at,
            "finish_at": None,
            "listed_in": 0,
            "version": _version(state, packages),
            "packages": packages,
        }

    def summaries(self, connection: Connection, machine_id: int) -> Document:
        """Return the list of a machine's requests."""
        listed = wanted.listed(connection, machine_id, limit=LISTED)
        counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
        rows = connection.execute(
            select(members.c.request_id, members.c.state, func.count())
            .where(members.c.request_id.in_([request.id for request in listed]))
            .group_by(members.c.request_id, members.c.state)
        )
        for number, state, count in rows:
            counts[number][state] = count
        return {"builds": [_summary(request, counts[request.id]) for request in listed]}

    def job(self, connection: Connection, number: int, now: int) -> Document:
        """Return what is told of a job. Raises `NotFound`."""
        row = connection.execute(_JOBS.where(jobs.c.id == number)).first()
        if row is None:
            raise NotFound("there is no such job")
        outlook = _outlooks(connection, {row.target_id}, now).get(number, _NOTHING)
        tried = connection.execute(
            select(attempts).where(attempts.c.job_id == number).order_by(attempts.c.id)
        ).all()
        needs = connection.scalars(
            select(job_dependencies.c.needs_job_id).where(job_dependencies.c.job_id == number)
        )
        return {
            "job": row.id,
            "target": row.target,
            "cpv": row.cpv,
            "digest": row.digest,
            "state": row.state,
            "specification": json.loads(row.specification),
            "created_at": format_time(row.created_at),
            "finished_at": _time(row.finished_at),
            "failure": row.failure,
            "reason": row.failure_text,
            "failed_until": _time(row.failed_until),
            "url": self.url(row.target, row.path),
            "position": outlook.position,
            "expected_seconds": row.expected_seconds,
            "finish_at": _time(outlook.finish_at),
            "needs": sorted(needs),
            "attempts": [_attempt(attempt) for attempt in tried],
        }

    def leases(self, connection: Connection, leased: Collection[Attempt], seconds: int) -> dict[int, str]:
        """Return what builders are told of their attempts, by these: JSON, with specifications as kept."""
        begun = {attempt.job_id: attempt for attempt in leased}
        targets: dict[str, str] = {}
        told: dict[int, str] = {}
        for some in slices(begun):
            rows = _LEASED.execute(connection, ids=some).all()
            waits = needs_listed_in(connection, [(row.queued_at, row.timestamp) for row in rows])
            for row, wait in zip(rows, waits, strict=True):
                if row.name not in targets:
                    url = f"{self.public_url}/binhost/{row.name}"
                    described = {name: getattr(row, name) for name in _DESCRIBED}
                    target = {"name": row.name, **described, "bindist": bool(row.bindist), "url": url}
                    targets[row.name] = json.dumps(target)
                attempt = begun[row.id]
                facts = {
                    "job": row.id,
                    "cpv": row.cpv,
                    "digest": row.digest,
                    "repository": row.repository,
                    "listed_in": wait,
                }
                told[attempt.id] = (
                    f'{{"attempt": {attempt.id}, "fencing": {attempt.number}, "lease": {seconds},'
                    f' "job": {json.dumps(facts)[:-1]}, "specification": {row.specification}}},'
                    f' "target": {targets[row.name]}}}'
                )
        return told

    def builders(self, connection: Connection, now: int) -> Document:
        """Return who builds, or waits for work."""
        at_work: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        leased = attempts.c.state == str(AttemptState.LEASED)
        for row in connection.execute(select(attempts).where(leased).order_by(attempts.c.id)):
            at_work[row.machine_id, row.builder].append(row.job_id)
        rows = connection.execute(
            select(tables.builders, tables.machines.c.uuid)
            .join(tables.machines, tables.machines.c.id == tables.builders.c.machine_id)
            .where(tables.builders.c.seen_at > now - BUILDER_SEEN)
            .order_by(tables.builders.c.name, tables.builders.c.machine_id)
        )
        return {
            "builders": [
                {
                    "machine": row.uuid,
                    "name": row.name,
                    "targets": json.loads(row.targets),
                    "seen_at": format_time(row.seen_at),
                    "draining": row.draining or row.drained_by is not None,
                    "jobs": at_work[row.machine_id, row.name],
                }
                for row in rows
            ]
        }

    def url(self, target: str, path: str | None) -> str | None:
        """Return where a package file is."""
        return None if path is None else f"{self.public_url}/binhost/{target}/{path}"

    def _foreseen(self, connection: Connection, rows: Sequence[Row[Any]], now: int) -> Mapping[int, Outlook]:
        waiting = {row.job_target for row in rows if row.state == MemberState.WAITING}
        return _outlooks(connection, waiting, now) if waiting else {}

    def _package(
        self,
        row: Row[Any],
        target: str,
        foreseen: Mapping[int, Outlook],
        near: Sequence[Near],
        left_out: Sequence[str],
    ) -> Document:
        waits = row.state == MemberState.WAITING
        outlook = foreseen.get(row.job_id, _NOTHING) if waits else _NOTHING
        return {
            "cpv": row.cpv,
            "digest": row.digest,
            "answer": row.answer,
            "state": row.job_state if waits else row.state,
            "url": self.url(target, row.path),
            "refusal": row.refusal,
            "reason": row.reason,
            "near": [self._near(target, one) for one in near],
            "job": row.job_id,
            "position": outlook.position,
            "expected_seconds": row.expected_seconds if waits else None,
            "finish_at": _time(outlook.finish_at),
            "left_out": list(left_out),
        }

    def _planned(
        self,
        target: str,
        verdict: Verdict,
        paths: Mapping[int, str],
        near: Mapping[str, Sequence[Near]],
    ) -> Document:
        state = "queued" if verdict.state is MemberState.WAITING else str(verdict.state)
        return {
            "cpv": str(verdict.wish.specification.cpv),
            "digest": verdict.wish.digest,
            "answer": str(verdict.answer),
            "state": state,
            "url": self.url(target, paths.get(verdict.build or 0)),
            "refusal": None if verdict.refusal is None else str(verdict.refusal),
            "reason": verdict.reason,
            "near": [self._near(target, one) for one in near.get(verdict.wish.digest, ())],
            "job": verdict.job,
            "position": None,
            "expected_seconds": verdict.expected_seconds,
            "finish_at": None,
            "left_out": [],
        }

    def _near(self, target: str, near: Near) -> Document:
        return {
            "cpv": near.cpv,
            "url": self.url(target, near.path),
            "build_id": near.build_id,
            "difference": list(near.difference),
        }

    def _paths(self, connection: Connection, ids: Sequence[int]) -> dict[int, str]:
        found: dict[int, str] = {}
        for some in slices(ids):
            rows = connection.execute(_PATHS, {"ids": some})
            found.update((number, path) for number, path in rows)
        return found


def queue_of(connection: Connection, target: Target, now: int) -> Mapping[int, Outlook]:
    """Return what is foreseen for the jobs in flight at one target."""
    return _outlooks(connection, {target.id}, now)


_PUBLISHED: Final[Document] = {
    "cpv": "",
    "digest": "",
    "answer": str(Answer.PUBLISHED),
    "state": str(MemberState.PUBLISHED),
    "url": None,
    "refusal": None,
    "reason": None,
    "near": [],
    "job": None,
    "position": None,
    "expected_seconds": None,
    "finish_at": None,
    "left_out": [],
}
"""What is told of any package that is there."""
_NOTHING: Final = Outlook(position=None, finish_at=None)

_MEMBERS: Final = (
    select(
        members,
        jobs.c.state.label("job_state"),
        jobs.c.target_id.label("job_target"),
        jobs.c.expected_seconds,
        builds.c.path,
    )
    .outerjoin(jobs, jobs.c.id == members.c.job_id)
    .outerjoin(builds, builds.c.id == members.c.build_id)
    .order_by(members.c.position)
)

_PATHS: Final = select(builds.c.id, builds.c.path).where(builds.c.id.in_(bindparam("ids", expanding=True)))

_DESCRIBED: Final = ("chost", "profile", "cflags", "cpu", "toolchain", "bindist", "signatures")
"""What a builder is told of its target."""
_LEASED: Final = Listed(
    f"""
    SELECT jobs.id, jobs.cpv, jobs.digest, jobs.repository, jobs.specification,
           jobs.queued_at, targets.timestamp, targets.name,
           {", ".join(f"targets.{name}" for name in _DESCRIBED)}
    FROM jobs
    JOIN targets ON targets.id = jobs.target_id
    WHERE jobs.id {{ids}}
    """,
    ids=NUMBERS,
)

_JOBS: Final = (
    select(jobs, tables.targets.c.name.label("target"), builds.c.path)
    .join(tables.targets, tables.targets.c.id == jobs.c.target_id)
    .outerjoin(builds, builds.c.id == jobs.c.build_id)
)


def _outlooks(connection: Connection, targets: set[int], now: int) -> dict[int, Outlook]:
    foreseen: dict[int, Outlook] = {}
    for target in targets:
        queued = _queued(connection, target)
        names = connection.execute(
            select(func.count())
            .select_from(tables.builders)
            .join(
                tables.builder_targets,
                tables.builder_targets.c.machine_id == tables.builders.c.machine_id,
            )
            .where(
                tables.builder_targets.c.target_id == target,
                tables.builders.c.seen_at > now - BUILDER_SEEN,
            )
        ).scalar_one()
        building = sum(job.started_at is not None for job in queued)
        foreseen.update(outlooks(queued, builders=max(names, building, 1), now=now))
    return foreseen


def _queued(connection: Connection, target: int) -> list[Queued]:
    needs: defaultdict[int, set[int]] = defaultdict(set)
    edges = select(job_dependencies).join(jobs, jobs.c.id == job_dependencies.c.job_id)
    for job, needed in connection.execute(edges.where(jobs.c.target_id == target)):
        needs[job].add(needed)
    rows = connection.execute(
        select(
            jobs.c.id,
            jobs.c.priority,
            jobs.c.queued_at,
            jobs.c.expected_seconds,
            func.min(func.coalesce(requests.c.machine_id, COLLECTOR)).label("requester"),
            func.max(attempts.c.started_at).label("started_at"),
        )
        .outerjoin(members, (members.c.job_id == jobs.c.id) & (members.c.state == str(MemberState.WAITING)))
        .outerjoin(requests, requests.c.id == members.c.request_id)
        .outerjoin(
            attempts, (attempts.c.job_id == jobs.c.id) & (attempts.c.state == str(AttemptState.LEASED))
        )
        .where(jobs.c.target_id == target, in_flight())
        .group_by(jobs.c.id)
    )
    return [
        Queued(
            id=row.id,
            requester=row.requester or COLLECTOR,
            priority=row.priority,
            since=row.queued_at,
            expected_seconds=row.expected_seconds,
            started_at=row.started_at,
            needs=frozenset(needs[row.id]),
        )
        for row in rows
    ]


def _published(rows: Sequence[Row[Any]]) -> list[int]:
    return [row.build_id for row in rows if row.state == MemberState.PUBLISHED and row.build_id is not None]


def _left_out(connection: Connection, request: str) -> Mapping[int, Sequence[str]]:
    """Return what was built for packages of the request and not published, by the job that built it."""
    rows = connection.execute(
        select(attempts.c.job_id, attempts.c.left_out)
        .join(members, members.c.job_id == attempts.c.job_id)
        .where(members.c.request_id == request, attempts.c.left_out.is_not(None))
        .order_by(attempts.c.id)
    )
    return {job: _names(text) for job, text in rows}


def _names(text: str | None) -> list[str]:
    return [] if text is None else [str(name) for name in json.loads(text)]


def _attempt(row: Row[Any]) -> Document:
    return {
        "attempt": row.id,
        "number": row.number,
        "builder": row.builder,
        "state": row.state,
        "started_at": format_time(row.started_at),
        "finished_at": _time(row.finished_at),
        "failure": row.failure,
        "reason": row.failure_text,
        "log_size": row.log_size,
        "log_deleted_at": _time(row.log_deleted_at),
        "left_out": _names(row.left_out),
    }


def _summary(request: Request, counts: Mapping[str, int]) -> Document:
    total = sum(counts.values())
    return {
        "id": request.id,
        "target": request.target,
        "state": str(wanted.state_of(request, counts.keys())),
        "atoms": list(request.atoms),
        "created_at": format_time(request.created_at),
        "finished_at": _time(request.finished_at),
        "packages": total,
        "ended": total - counts.get(str(MemberState.WAITING), 0),
    }


def _version(state: str, packages: Sequence[Document]) -> str:
    """Return a text that changes when anything but what is foreseen does."""
    facts = [[state]] + [
        [package[name] for name in ("digest", "answer", "state", "url", "reason", "job")]
        for package in packages
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _latest(packages: Sequence[Document]) -> str | None:
    """Return when the last of what waits is likely to be there; None where that of one is not known."""
    waiting = [package for package in packages if package["state"] in _ON_THE_WAY]
    times = [package["finish_at"] for package in waiting]
    return max(times) if times and all(times) else None


_ON_THE_WAY: Final = (str(JobState.WAITING), str(JobState.QUEUED), str(JobState.BUILDING))


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else format_time(seconds)
