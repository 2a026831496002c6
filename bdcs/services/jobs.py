# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to jobs: who gets one, who lost one, what ends with it. All in the caller's transaction.

    jobs = Jobs(connection, now)
    jobs.add(target, [NewJob(specification=…, digest=…)], Origin.REQUEST)
    jobs.release()                              # those that wait for nothing are queued
    lease = jobs.claim(builder)
    …
    jobs.touched                                # who is to be woken once this is durable

Every change of a job's state goes through `Jobs._move`, and that through `domain.jobs.TRANSITIONS`. A change
is one statement that names the state before, so that of two who try only one succeeds.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from bdcs.domain.batches import batches
from bdcs.domain.build_policy import DEFAULT, BuildPolicy
from bdcs.domain.jobs import (
    ENDS,
    IN_FLIGHT,
    LOSSES,
    PRIORITIES,
    AttemptState,
    Event,
    Failure,
    JobState,
    MemberState,
    Origin,
    before,
)
from bdcs.domain.jobs import TRANSITIONS as _TRANSITIONS
from bdcs.services import events, queueing
from bdcs.services.queueing import COLLECTOR as COLLECTOR
from bdcs.services.turns import Turn, Turns
from bdcs.store.listed import NUMBERS, TEXTS, Listed
from bdcs.store.slices import SLICE, slices
from bdcs.store.tables import attempts, builds, job_dependencies, jobs, members, requests
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.errors import LeaseLost, NotFound


@dataclass(slots=True, kw_only=True)
class Touched:
    """Whom a transaction concerned."""

    requests: set[str] = field(default_factory=set)
    jobs: set[int] = field(default_factory=set)
    attempts: set[int] = field(default_factory=set)
    """Those that were ended by somebody else than their builders."""
    targets: set[int] = field(default_factory=set)
    """Those with something new in their queues."""
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many attempts ended in which state, and why."""
    expired: int = 0
    """… since their builders were not heard of any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """A builder that wants work."""

    machine_id: int
    name: str
    target_ids: tuple[int, ...]
    """What it may build for, and wants to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One builder's attempt at a job."""

    id: int
    job_id: int
    number: int
    """Of its job, from 1: its fencing number."""
    machine_id: int | None
    builder: str
    started_at: int
    lease_until: int
    finished_at: int | None
    state: AttemptState
    failure: str | None
    failure_text: str | None
    log_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job that is to be made."""

    specification: BuildSpecification
    digest: str
    needs: tuple[int | str, ...] = ()
    """Jobs that must end before it: in flight (their ids), or new as well (their digests)."""
    expected_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """Jobs that are to end, and what is written down of it."""

    ids: Sequence[int]
    event: Event
    build: int | None = None
    reason: str | None = None
    failure: Failure | None = None
    failed_until: int | None = None

    @property
    def values(self) -> dict[str, Any]:
        failure = None if self.failure is None else str(self.failure)
        return {
            "build_id": self.build,
            "failure": failure,
            "failure_text": self.reason,
            "failed_until": self.failed_until,
        }


class Jobs:
    """Jobs as one transaction sees and changes them."""

    def __init__(self, connection: Connection, now: float, policy: BuildPolicy = DEFAULT) -> None:
        self.connection = connection
        self.now = int(now)
        self.policy = policy
        self.touched = Touched()

    # Beginnings.

    def add(self, target_id: int, new: Sequence[NewJob], origin: Origin) -> dict[str, int]:
        """Make jobs that wait, or begin those anew that ended without success; return their ids by digest.

        No job of these digests is in flight at the target. Afterwards, call `release`.
        """
        fresh = {"priority": PRIORITIES[origin], "origin": str(origin), "queued_at": self.now}
        ids = self._begin_anew(target_id, new, fresh)
        rows = [_row_of(job) for job in new if job.digest not in ids]
        common = {"target_id": target_id, "state": str(JobState.WAITING), "created_at": self.now, **fresh}
        for some in batches(rows, SLICE):
            made = self.connection.execute(
                insert(jobs).returning(jobs.c.digest, jobs.c.id), [{**common, **row} for row in some]
            )
            begun = {row.digest: row.id for row in made}
            events.jobs_changed(self.connection, begun.values(), self.now)
            ids.update(begun)
        edges = {
            (ids[job.digest], ids[need] if isinstance(need, str) else need)
            for job in new
            for need in job.needs
        }
        if edges:
            self.connection.execute(
                insert(job_dependencies),
                [{"job_id": job, "needs_job_id": needed} for job, needed in sorted(edges)],
            )
        self.touched.jobs.update(ids.values())
        return ids

    def raise_priority(self, ids: Collection[int], origin: Origin) -> None:
        """Somebody wants jobs in flight for a better reason than they were made for."""
        better = {"priority": PRIORITIES[origin], "origin": str(origin)}
        for some in slices(ids):
            self.connection.execute(
                update(jobs).where(jobs.c.id.in_(some), jobs.c.priority < PRIORITIES[origin]).values(**better)
            )
        queueing.renew(self.connection, ids)

    def wanted_otherwise(self, ids: Collection[int]) -> None:
        """Others than before wait for these jobs: to be said once that is written."""
        queueing.renew(self.connection, ids)

    def release(self) -> None:
        """Queue the waiting jobs that need nothing in flight."""
        needed = jobs.alias()
        blocked = exists().where(
            job_dependencies.c.job_id == jobs.c.id,
            needed.c.id == job_dependencies.c.needs_job_id,
            needed.c.state.in_(_IN_FLIGHT),
        )
        ready = list(
            self.connection.scalars(select(jobs.c.id).where(jobs.c.state == str(JobState.WAITING), ~blocked))
        )
        moved = self._move(ready, Event.READY, queued_at=self.now)
        self._touch_targets(moved)

    # Attempts.

    def claim(self, claimant: Claimant) -> Attempt | None:
        """Give the claimant the job whose turn it is; None where nothing is queued for it."""
        return self.claim_all([claimant])[0]

    def claim_all(self, claimants: Sequence[Claimant]) -> list[Attempt | None]:
        """Give each claimant the job whose turn it is, one after the other; None where nothing is queued.

        Whose turn that is: `services.turns`.
        """
        targets = {target for claimant in claimants for target in claimant.target_ids}
        turns = Turns(self.connection, targets, expected=len(claimants))
        given: dict[int, Turn] = {}
        for index, claimant in enumerate(claimants):
            while (turn := turns.next(claimant.target_ids)) is not None and turn.build is not None:
                # Somebody published it otherwise.
                self._end(_End(ids=[turn.job_id], event=Event.PUBLISH, build=turn.build))
                turns.ended(turn)
            if turn is not None:
                turns.take(turn)
                given[index] = turn
        queueing.renew(self.connection, turns.wrong)
        leases = iter(self._lease([(turn, claimants[index]) for index, turn in given.items()]))
        return [next(leases) if index in given else None for index in range(len(claimants))]

    def attempt(self, number: int, machine_id: int) -> Attempt:
        """Return that builder's attempt. Raises `NotFound`, also where it is another's."""
        row = self.connection.execute(
            select(attempts).where(attempts.c.id == number, attempts.c.machine_id == machine_id)
        ).first()
        if row is None:
            raise NotFound("this machine has no such attempt")
        return attempt_of(row)

    def leased(self, number: int, fencing: int, machine_id: int) -> Attempt:
        """Return that builder's attempt if it may still act. Raises `NotFound`, `LeaseLost`."""
        found = self.attempt(number, machine_id)
        if found.number != fencing or found.state is not AttemptState.LEASED:
            raise LeaseLost(f"this attempt is {found.state}: another may be building the same")
        return found

    def renew(self, attempt: Attempt, seconds: int | None = None) -> None:
        """The builder is still at work, for `seconds` at least; by default for a lease."""
        until = self.now + (self.policy.lease if seconds is None else seconds)
        self.connection.execute(update(attempts).where(attempts.c.id == attempt.id).values(lease_until=until))

    def fail(self, attempt: Attempt, kind: Failure, text: str) -> None:
        """The attempt failed, and its job with it; where the builder is to blame, another may try."""
        if kind is Failure.BUILDER:
            self._lose(attempts.c.id == attempt.id, text)
            return
        self._end_attempts(
            attempts.c.id == attempt.id, AttemptState.FAILED, failure=str(kind), failure_text=text
        )
        self._fail([attempt.job_id], kind, text)

    def give_back(self, attempt: Attempt) -> None:
        """The builder leaves: another may take the job, and nobody is to blame."""
        self._end_attempts(
            attempts.c.id == attempt.id, AttemptState.LOST, failure_text="the builder gave it back"
        )
        self._touch_targets(self._move([attempt.job_id], Event.LOSE))

    def expire(self) -> int:
        """Take back what builders lost; return how many attempts that were."""
        lost = self._lose(attempts.c.lease_until < self.now, "the builder was not heard of any more")
        self.touched.expired += lost
        return lost

    def succeed(
        self, attempt: Attempt, build: int, difference: Sequence[str], left_out: Sequence[str] = ()
    ) -> None:
        """What the attempt built is published as `build`; with a `difference`, that is not the wish.

        `left_out` are CPVs that were built as well and must not be passed on.
        """
        self._end_attempts(
            attempts.c.id == attempt.id,
            AttemptState.PUBLISHED,
            left_out=json.dumps(list(left_out)) if left_out else None,
        )
        if difference:
            self._end(
                _End(
                    ids=[attempt.job_id],
                    event=Event.DIFFER,
                    build=build,
                    reason="\n".join(difference),
                    failure=Failure.MISMATCH,
                    failed_until=self.now + self.policy.remembered(Failure.MISMATCH),
                )
            )
        else:
            self._end(_End(ids=[attempt.job_id], event=Event.PUBLISH, build=build))

    # Ends that come from elsewhere.

    def finish_published(self, target_id: int | None = None) -> None:
        """End the jobs that no builder has and whose wish is published, of one target or of all."""
        waits: ColumnElement[bool] = jobs.c.state.in_((str(JobState.WAITING), str(JobState.QUEUED)))
        if target_id is not None:
            waits &= jobs.c.target_id == target_id
        rows = self.connection.execute(
            select(jobs.c.id, func.max(builds.c.id))
            .join(builds, and_(builds.c.target_id == jobs.c.target_id, builds.c.digest == jobs.c.digest))
            .where(waits, builds.c.visible)
            .group_by(jobs.c.id)
        ).all()
        for number, build in rows:
            self._end(_End(ids=[number], event=Event.PUBLISH, build=build))

    def cancel_unwanted(self, ids: Collection[int]) -> None:
        """Cancel those of the jobs `ids`, and what they need, that nobody wants any more."""
        edges = self._edges()
        unwanted = _reachable(ids, edges) - _reachable(self._waited_for(), edges)
        cancelled = self._move(unwanted, Event.CANCEL, finished_at=self.now)
        for some in slices(cancelled):
            self._end_attempts(attempts.c.job_id.in_(some), AttemptState.CANCELLED)
        self._forget_edges(cancelled)
        self.release()

    # How it is done.

    def _move(self, ids: Collection[int], event: Event, **values: Any) -> list[int]:
        """Let `event` happen to those of `ids` to which it can; return these."""
        moved: list[int] = []
        for state in before(event):
            after = _TRANSITIONS[state, event]
            statement = _changing(tuple(values))
            for some in slices(ids):
                rows = statement.execute(
                    self.connection, ids=some, before=str(state), after=str(after), **values
                )
                moved += rows.scalars().all()
        if event in _QUEUED_BY:
            queueing.renew(self.connection, moved)
        else:
            queueing.drop(self.connection, moved)
        self.touched.jobs.update(moved)
        events.jobs_changed(self.connection, moved, self.now)
        for some in slices(moved):
            self.touched.requests.update(_REQUESTS.execute(self.connection, ids=some).scalars().all())
        return moved

    def _begin_anew(self, target_id: int, new: Sequence[NewJob], fresh: Mapping[str, Any]) -> dict[str, int]:
        again = [str(state) for state in before(Event.RETRY)]
        ids: dict[str, int] = {}
        for some in slices(job.digest for job in new):
            rows = self.connection.execute(
                select(jobs.c.digest, func.max(jobs.c.id))
                .where(jobs.c.target_id == target_id, jobs.c.digest.in_(some), jobs.c.state.in_(again))
                .group_by(jobs.c.digest)
            )
            ids.update((digest, number) for digest, number in rows)
        cleared = dict.fromkeys(("finished_at", "failure", "failure_text", "failed_until", "build_id"))
        self._move(ids.values(), Event.RETRY, **cleared, **fresh)
        return ids

    def _lease(self, given: Sequence[tuple[Turn, Claimant]]) -> list[Attempt]:
        """Lease jobs that are queued, in this order."""
        if not given:
            return []
        ids = [turn.job_id for turn, _ in given]
        moved = self._move(ids, Event.CLAIM)
        assert len(moved) == len(ids), "what is queued was looked at in this transaction"
        lease_until = self.now + self.policy.lease
        rows = [
            (place, turn.job_id, claimant.machine_id, claimant.name)
            for place, (turn, claimant) in enumerate(given)
        ]
        begun: dict[int, tuple[int, int]] = {}
        for some in batches(rows, SLICE):
            result = _LEASE.execute(self.connection, given=some, now=self.now, until=lease_until)
            begun.update((job, (attempt, number)) for attempt, job, number in result.all())
        leases = []
        for turn, claimant in given:
            attempt, number = begun[turn.job_id]
            leases.append(
                Attempt(
                    id=attempt,
                    job_id=turn.job_id,
                    number=number,
                    machine_id=claimant.machine_id,
                    builder=claimant.name,
                    started_at=self.now,
                    lease_until=lease_until,
                    finished_at=None,
                    state=AttemptState.LEASED,
                    failure=None,
                    failure_text=None,
                    log_size=0,
                )
            )
        served = {turn.machine_id: lease.id for (turn, _), lease in zip(given, leases, strict=True)}
        _SERVED.execute(self.connection, given=list(served.items()))
        return leases

    def _end_attempts(self, which: ColumnElement[bool], state: AttemptState, **values: Any) -> list[int]:
        """End those attempts that are under way; return their jobs."""
        rows = self.connection.execute(
            update(attempts)
            .where(which, attempts.c.state == str(AttemptState.LEASED))
            .values(state=str(state), finished_at=self.now, **values)
            .returning(attempts.c.id, attempts.c.job_id)
        ).all()
        self.touched.attempts.update(number for number, _ in rows)
        self.touched.ended[str(state), values.get("failure") or "none"] += len(rows)
        return [job for _, job in rows]

    def _lose(self, which: ColumnElement[bool], text: str) -> int:
        """Give the jobs of lost attempts back, or give them up where that happened too often."""
        lost = self._end_attempts(which, AttemptState.LOST, failure=str(Failure.LOST), failure_text=text)
        hopeless = [job for job in lost if self._losses(job) >= LOSSES]
        self._touch_targets(self._move(set(lost).difference(hopeless), Event.LOSE))
        self._fail(hopeless, Failure.LOST, f"{LOSSES} builders were lost with it; of the last: {text}")
        return len(lost)

    def _losses(self, job: int) -> int:
        """Return how many attempts were lost since the job began, or began anew."""
        since = select(jobs.c.queued_at).where(jobs.c.id == job).scalar_subquery()
        return (
            self.connection.scalar(
                select(func.count()).where(
                    attempts.c.job_id == job,
                    attempts.c.state == str(AttemptState.LOST),
                    attempts.c.failure.is_not(None),
                    attempts.c.started_at >= since,
                )
            )
            or 0
        )

    def _fail(self, ids: Sequence[int], kind: Failure, text: str) -> None:
        if ids:
            self._end(self._failed(ids, kind, text))

    def _failed(self, ids: Sequence[int], kind: Failure, text: str) -> _End:
        until = self.now + self.policy.remembered(kind)
        return _End(ids=ids, event=Event.FAIL, reason=text, failure=kind, failed_until=until)

    def _end(self, end: _End) -> None:
        """Let jobs end, and with each that failed those that need it; others can go on."""
        ends = deque([end])
        while ends:
            end = ends.popleft()
            ended = self._move(end.ids, end.event, finished_at=self.now, **end.values)
            self._end_members(ended, end)
            dependents = self._dependents_of(ended) if end.failure is not None else {}
            self._forget_edges(ended)
            if end.event is Event.FAIL:
                for cpv, needing in dependents.items():
                    ends.append(self._failed(needing, Failure.DEPENDENCIES, f"it needs {cpv}, which failed"))
        self.release()

    def _end_members(self, ended: Sequence[int], end: _End) -> None:
        """What waited for jobs that all ended in the same way does not wait any more."""
        concerned: set[str] = set()
        for some in slices(ended):
            state = JobState(self.connection.scalar(select(jobs.c.state).where(jobs.c.id == some[0])) or "")
            concerned.update(
                self.connection.scalars(
                    update(members)
                    .where(members.c.job_id.in_(some), members.c.state == str(MemberState.WAITING))
                    .values(state=str(ENDS[state]), build_id=end.build, reason=end.reason)
                    .returning(members.c.request_id)
                )
            )
        self.touched.requests.update(concerned)
        finish_requests(self.connection, concerned, self.now)

    def _forget_edges(self, ended: Sequence[int]) -> None:
        """Jobs that ended need nothing, and nothing waits for them: they may begin anew."""
        which = job_dependencies.c
        for some in slices(ended):
            self.connection.execute(
                delete(job_dependencies).where(or_(which.job_id.in_(some), which.needs_job_id.in_(some)))
            )

    def _dependents_of(self, ids: Collection[int]) -> dict[str, list[int]]:
        """Return the jobs that need each of `ids`, by its CPV."""
        dependents: defaultdict[str, list[int]] = defaultdict(list)
        for some in slices(ids):
            rows = self.connection.execute(
                select(jobs.c.cpv, job_dependencies.c.job_id)
                .join(jobs, jobs.c.id == job_dependencies.c.needs_job_id)
                .where(job_dependencies.c.needs_job_id.in_(some))
            )
            for cpv, job in rows:
                dependents[cpv].append(job)
        return dependents

    def _edges(self) -> dict[int, list[int]]:
        """Return what each job in flight needs."""
        edges: defaultdict[int, list[int]] = defaultdict(list)
        for job, needed in self.connection.execute(
            select(job_dependencies.c.job_id, job_dependencies.c.needs_job_id)
        ):
            edges[job].append(needed)
        return edges

    def _waited_for(self) -> list[int]:
        """Return the jobs in flight that requests wait for."""
        waits = members.c.state == str(MemberState.WAITING)
        return [
            job for job in self.connection.scalars(select(members.c.job_id).where(waits).distinct()) if job
        ]

    def _touch_targets(self, ids: Collection[int]) -> None:
        for some in slices(ids):
            self.touched.targets.update(
                self.connection.scalars(select(jobs.c.target_id).where(jobs.c.id.in_(some)).distinct())
            )


def finish_requests(connection: Connection, ids: Collection[str], now: int) -> None:
    """End those of the requests in which nothing waits any more."""
    waits = exists().where(members.c.request_id == requests.c.id, members.c.state == str(MemberState.WAITING))
    for some in slices(ids):
        connection.execute(
            update(requests)
            .where(requests.c.id.in_(some), requests.c.finished_at.is_(None), ~waits)
            .values(finished_at=now)
        )


def published_build(connection: Connection, target_id: int, digest: str) -> int | None:
    """Return the newest build of that digest that the target's index lists."""
    number: int | None = connection.scalar(
        select(func.max(builds.c.id)).where(
            builds.c.target_id == target_id, builds.c.digest == digest, builds.c.visible
        )
    )
    return number


def attempt_of(row: Any) -> Attempt:
    """Return the attempt that a row of the table is."""
    values = {name: getattr(row, name) for name in Attempt.__dataclass_fields__}
    return Attempt(**{**values, "state": AttemptState(row.state)})


def in_flight() -> ColumnElement[bool]:
    """Whether a job is on its way."""
    return jobs.c.state.in_(_IN_FLIGHT)


@lru_cache
def _changing(names: tuple[str, ...]) -> Listed:
    """Return the statement that changes jobs' state from `before` to `after`, and what else is named.

    The state before is no plain comparison: of two or more jobs SQLite would look at all in that state, by
    its index.
    """
    values = "".join(f", {name} = :{name}" for name in names)
    return Listed(
        f"UPDATE jobs SET state = :after{values} WHERE id {{ids}} AND state || '' = :before RETURNING id",
        ids=NUMBERS,
    )


_REQUESTS: Final = Listed(
    "SELECT DISTINCT request_id FROM members WHERE job_id {ids} AND state = 'waiting'", ids=NUMBERS
)
_LEASE: Final = Listed(
    """
    INSERT INTO attempts (job_id, number, machine_id, builder, started_at, lease_until, state, log_size)
    SELECT given.job, 1 + coalesce((SELECT max(earlier.number) FROM attempts AS earlier
                                    WHERE earlier.job_id = given.job), 0),
           given.machine, given.builder, :now, :until, 'leased', 0
    FROM {given} ORDER BY given.place RETURNING id, job_id, number
    """,
    given={"place": NUMBERS, "job": NUMBERS, "machine": NUMBERS, "builder": TEXTS},
)
_SERVED: Final = Listed(
    """
    INSERT INTO requesters (machine_id, served) SELECT given.machine, given.attempt FROM {given} WHERE true
    ON CONFLICT (machine_id) DO UPDATE SET served = excluded.served
    """,
    given={"machine": NUMBERS, "attempt": NUMBERS},
)
_IN_FLIGHT: Final = tuple(str(state) for state in IN_FLIGHT)
_QUEUED_BY: Final = {event for (_, event), state in _TRANSITIONS.items() if state is JobState.QUEUED}


def _row_of(job: NewJob) -> dict[str, Any]:
    cpv = job.specification.cpv
    return {
        "digest": job.digest,
        "cpv": str(cpv),
        "category": cpv.category,
        "name": cpv.name,
        "version": cpv.version,
        "repository": job.specification.repository,
        "specification": json.dumps(job.specification.to_json()),
        "expected_seconds": job.expected_seconds,
    }


def _reachable(starts: Iterable[int], edges: Mapping[int, Sequence[int]]) -> set[int]:
    reached: set[int] = set()
    waiting = list(starts)
    while waiting:
        job = waiting.pop()
        if job not in reached:
            reached.add(job)
            waiting += edges.get(job, ())
    return reached
