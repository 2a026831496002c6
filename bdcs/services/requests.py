# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests: what machines want built, and what they are told at once.

    wishes = wishes_of(specifications)                            # pure; may take a while
    verdicts = Judge(connection, target, …).verdicts(wishes)      # a plan: nothing is written
    number = commit(jobs, verdicts, …)                            # the same, bindingly
    cancel(jobs, number), retry(jobs, number)

Of each package the first of these that holds is the answer: refused for the target's sake; published; joined;
refused for its own; queued. What needs a refused package of the same request is refused as well.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from bdcs.domain.admission import RESTRICTED
from bdcs.domain.build_policy import DAY, DEFAULT, BuildPolicy
from bdcs.domain.jobs import (
    Answer,
    JobState,
    MemberState,
    Origin,
    Refusal,
    RequestState,
)
from bdcs.services import build_digests, builders, estimates, tokens
from bdcs.services.builders import FORGOTTEN
from bdcs.services.jobs import Jobs, NewJob, finish_requests, in_flight
from bdcs.services.machines import Machine
from bdcs.services.targets import Target
from bdcs.store import tables
from bdcs.store.tables import builds, jobs, members, requests
from gentwoo_client.wire.build_messages import Access
from gentwoo_client.wire.builds import BuildSpecification, difference, needed_by
from gentwoo_client.wire.errors import NotFound, TooManyRequests

BUILDER_SEEN: Final = 300
"""Seconds after which a builder that did not ask for work, nor told of any, counts as gone."""
ASK_AGAIN: Final = 300
"""Seconds after which who has as much open as he may asks again: something may have ended by then."""
NEAR: Final = 5
"""Near misses that are named for one package."""
SLICE: Final = 500  # values in one statement; SQLite limits its parameters
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"

Catalogue = Callable[[Connection, Sequence[BuildSpecification]], Sequence[str | None]]
"""Says of each why there can be no such package; None where there can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One package that is wanted."""

    specification: BuildSpecification
    digest: str
    needs: frozenset[str]
    """CATEGORY/NAME of all that it depends on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A published build of the same version that is not the one that is wanted."""

    cpv: str
    build_id: int | None
    path: str
    difference: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is answered to one wish."""

    wish: Wish
    answer: Answer
    build: int | None = None
    """The id of the published build."""
    job: int | None = None
    """In flight; or the one that failed."""
    refusal: Refusal | None = None
    reason: str | None = None
    expected_seconds: int | None = None

    @property
    def state(self) -> MemberState:
        """How its member of the request begins."""
        return _BEGINNINGS[self.answer]


_BEGINNINGS: Final = {
    Answer.PUBLISHED: MemberState.PUBLISHED,
    Answer.JOINED: MemberState.WAITING,
    Answer.QUEUED: MemberState.WAITING,
    Answer.REFUSED: MemberState.REFUSED,
}


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


def wishes_of(specifications: Iterable[BuildSpecification]) -> list[Wish]:
    """Return what is wanted, without repetitions; computes digests and reads dependencies."""
    wishes = {}
    for specification in specifications:
        digest = specification.digest()
        if digest not in wishes:
            wishes[digest] = Wish(specification=specification, digest=digest, needs=needed_by(specification))
    return list(wishes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Decides what becomes of wishes."""

    connection: Connection
    target: Target
    machine_id: int | None
    """Whose quota counts; None: the collector itself."""
    now: int
    retry: bool = False
    """Whether recent failures do not count."""
    catalogue: Catalogue = field(default=lambda _connection, specifications: [None] * len(specifications))
    objection: str | None = None
    """What is wrong with the machine's parameters, if anything."""
    fleet: int = 10
    """Machines whose records must be known for an estimate from the fleet."""
    policy: BuildPolicy = DEFAULT

    def verdicts(self, wishes: Sequence[Wish]) -> list[Verdict]:
        """Return an answer for each wish, in their order."""
        published = self._published(wishes)
        rest = [wish for wish in wishes if wish.digest not in published]
        flying = self._in_flight(rest)
        failed = {} if self.retry else self._failed(rest)
        missing = self._missing([wish for wish in rest if wish.digest not in flying])
        no_builder = bool(rest) and not has_builder(self.connection, self.target, self.now)
        room = self._room() if rest else 0
        refused: set[str] = set()
        verdicts = []
        for wish in wishes:
            verdict = self._verdict(wish, published, flying, failed, missing)
            if verdict.answer in (Answer.JOINED, Answer.QUEUED):
                if no_builder:
                    verdict = _refused(wish, Refusal.NO_BUILDER, f"nobody builds for {self.target.name} now")
                elif room <= 0:
                    reason = _too_many_packages(self.policy)
                    verdict = _refused(wish, Refusal.QUOTA, reason)
            if verdict.answer is Answer.QUEUED and (lacking := wish.needs & refused):
                reason = f"it needs {', '.join(sorted(lacking))}, which is refused"
                verdict = _refused(wish, Refusal.DEPENDENCIES, reason)
            if verdict.answer is Answer.REFUSED:
                refused.add(wish.specification.cpv.cp)
            elif verdict.answer is not Answer.PUBLISHED:
                room -= 1
            verdicts.append(verdict)
        return self._estimated(verdicts)

    def _verdict(
        self,
        wish: Wish,
        published: Mapping[str, int],
        flying: Mapping[str, int],
        failed: Mapping[str, tuple[int, str, str]],
        missing: Mapping[str, str],
    ) -> Verdict:
        if wish.specification.target != self.target.name:
            reason = f"it is specified for target {wish.specification.target}"
            return _refused(wish, Refusal.PARAMETER, reason)
        if wish.digest in published:
            return Verdict(wish=wish, answer=Answer.PUBLISHED, build=published[wish.digest])
        if self.objection is not None:
            return _refused(wish, Refusal.PARAMETER, self.objection)
        if wish.digest in flying:
            return Verdict(wish=wish, answer=Answer.JOINED, job=flying[wish.digest])
        restricted = [word for word in RESTRICTED if word in wish.specification.restrict.split()]
        if restricted and not self.target.bindist:
            reason = f"its RESTRICT has {' and '.join(restricted)}: what is built of it must not be passed on"
            return _refused(wish, Refusal.BINDIST, reason)
        if wish.digest in missing:
            return _refused(wish, Refusal.UNKNOWN, missing[wish.digest])
        if wish.digest in failed:
            job, kind, text = failed[wish.digest]
            return replace(_refused(wish, Refusal.FAILED, f"{kind}: {text}"), job=job)
        return Verdict(wish=wish, answer=Answer.QUEUED)

    def _missing(self, wishes: Sequence[Wish]) -> dict[str, str]:
        """Return why there can be no such packages, of those of which that is so."""
        if not wishes:
            return {}
        objections = self.catalogue(self.connection, [wish.specification for wish in wishes])
        return {
            wish.digest: objection
            for wish, objection in zip(wishes, objections, strict=True)
            if objection is not None
        }

    def _published(self, wishes: Sequence[Wish]) -> dict[str, int]:
        found: dict[str, int] = {}
        for some in slices(wish.digest for wish in wishes):
            rows = self.connection.execute(_PUBLISHED, {"target": self.target.id, "digests": some})
            found.update((digest, number) for digest, number in rows)
        self._add_unread(wishes, found)
        return found

    def _add_unread(self, wishes: Sequence[Wish], found: dict[str, int]) -> None:
        """Add builds that have no digest in their rows yet."""
        wanted = {wish.digest for wish in wishes}
        for some in slices(str(wish.specification.cpv) for wish in wishes if wish.digest not in found):
            rows = self.connection.execute(
                select(*build_digests.COLUMNS)
                .where(
                    builds.c.target_id == self.target.id,
                    builds.c.visible,
                    builds.c.cpv.in_(some),
                    builds.c.digest.is_(None),
                )
                .order_by(builds.c.id)
            )
            for row in rows:
                specification = build_digests.specification_of(self.target.name, row)
                if specification is not None and (digest := specification.digest()) in wanted:
                    found[digest] = row.id

    def _in_flight(self, wishes: Sequence[Wish]) -> dict[str, int]:
        found: dict[str, int] = {}
        for some in slices(wish.digest for wish in wishes):
            rows = self.connection.execute(
                select(jobs.c.digest, jobs.c.id).where(
                    jobs.c.target_id == self.target.id, jobs.c.digest.in_(some), in_flight()
                )
            )
            found.update((digest, number) for digest, number in rows)
        return found

    def _failed(self, wishes: Sequence[Wish]) -> dict[str, tuple[int, str, str]]:
        """Return the jobs that failed, how and why, and that are still remembered for it."""
        found: dict[str, tuple[int, str, str]] = {}
        for some in slices(wish.digest for wish in wishes):
            rows = self.connection.execute(
                select(jobs.c.digest, jobs.c.id, jobs.c.failure, jobs.c.failure_text)
                .where(
                    jobs.c.target_id == self.target.id,
                    jobs.c.digest.in_(some),
                    jobs.c.state.in_((str(JobState.FAILED), str(JobState.MISMATCH))),
                    jobs.c.failed_until > self.now,
                )
                .order_by(jobs.c.id)
            )
            found.update((digest, (number, kind, text)) for digest, number, kind, text in rows)
        return found

    def _room(self) -> int:
        """Return how many packages the machine may wait for beyond those that it waits for."""
        if self.machine_id is None:
            return self.policy.open_packages
        waiting: int = self.connection.execute(
            select(func.count())
            .select_from(requests)
            .join(members, members.c.request_id == requests.c.id)
            .where(
                requests.c.machine_id == self.machine_id,
                requests.c.finished_at.is_(None),
                members.c.state == str(MemberState.WAITING),
            )
        ).scalar_one()
        return self.policy.open_packages - waiting

    def _estimated(self, verdicts: list[Verdict]) -> list[Verdict]:
        """Add how long builds that are to be queued are likely to take."""
        cpvs = [one.wish.specification.cpv for one in verdicts if one.answer is Answer.QUEUED]
        if not cpvs:
            return verdicts
        names = {(cpv.category, cpv.name) for cpv in cpvs}
        expected = estimates.expected_seconds(self.connection, self.target.id, names, machines=self.fleet)

        def seconds(verdict: Verdict) -> int | None:
            cpv = verdict.wish.specification.cpv
            return expected.get((cpv.category, cpv.name)) if verdict.answer is Answer.QUEUED else None

        return [replace(verdict, expected_seconds=seconds(verdict)) for verdict in verdicts]


def near_misses(
    connection: Connection, target: Target, verdicts: Sequence[Verdict]
) -> dict[str, tuple[Near, ...]]:
    """Return, by digest, the published builds of the versions that are not published as wished."""
    wanting: defaultdict[str, list[Wish]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.answer is not Answer.PUBLISHED:
            wanting[str(verdict.wish.specification.cpv)].append(verdict.wish)
    found: defaultdict[str, list[Near]] = defaultdict(list)
    for some in slices(wanting):
        rows = connection.execute(
            select(*build_digests.COLUMNS)
            .where(builds.c.target_id == target.id, builds.c.visible, builds.c.cpv.in_(some))
            .order_by(builds.c.id.desc())
        )
        for row in rows:
            specification = build_digests.specification_of(target.name, row)
            for wish in wanting[row.cpv] if specification is not None else ():
                assert specification is not None
                found[wish.digest].append(_near(row, specification, wish))
    return {
        digest: tuple(sorted(near, key=lambda one: len(one.difference))[:NEAR])
        for digest, near in found.items()
    }


def check_quota(connection: Connection, machine_id: int, policy: BuildPolicy, now: int) -> None:
    """Raise `TooManyRequests` where the machine may not ask for anything else to be built now."""
    mine = requests.c.machine_id == machine_id
    is_open = mine & requests.c.finished_at.is_(None)
    if connection.execute(select(func.count()).where(is_open)).scalar_one() >= policy.open_requests:
        raise TooManyRequests(
            f"this machine has {policy.open_requests} requests open, as many as one may: cancel some"
            " (`gentwoo builds`), or wait until they end",
            retry_after=ASK_AGAIN,
            limit="open_requests",
            allowed=policy.open_requests,
        )
    made = connection.execute(
        select(func.count(), func.min(requests.c.created_at)).where(mine, requests.c.created_at > now - DAY)
    ).one()
    if made[0] >= policy.requests_per_day:
        raise TooManyRequests(
            f"this machine made {policy.requests_per_day} requests in the last 24 hours, as many as one may",
            retry_after=made[1] + DAY - now,
            limit="requests_per_day",
            allowed=policy.requests_per_day,
        )


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
            "idempotency": None if key is None else _idempotency(machine_id, key),
            "note": json.dumps(list(atoms)),
        },
    )
    _write_members(book, target, number, list(enumerate(verdicts)), origin)
    if waits:
        book.touched.requests.add(number)
        book.release()
    return number


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
                "idempotency": None if hit.key is None else _idempotency(hit.machine_id, hit.key),
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
        connection.execute(_NEW_MEMBERS, rows)


def may_ask(connection: Connection, machine: Machine, target: Target, access: Access | None) -> bool:
    """Whether the machine may know the target: a private one is for its builders and holders of a token."""
    if not target.private or builders.is_approved(connection, target, machine):
        return True
    return access is not None and tokens.accepts(connection, target, access.name, access.token)


def earlier(connection: Connection, machine_id: int, key: str) -> str | None:
    """Return the request that the machine made before under the same key."""
    found: str | None = connection.scalar(
        select(requests.c.id).where(requests.c.idempotency == _idempotency(machine_id, key))
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


def retry(book: Jobs, target: Target, judge: Judge, number: str) -> None:
    """Begin anew what failed, differs, was cancelled, or was refused since it had failed; as `judge` says.

    What was refused for another reason is to be asked for again.
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
_PUBLISHED: Final = (
    select(builds.c.digest, func.max(builds.c.id))
    .where(
        builds.c.target_id == bindparam("target"),
        builds.c.digest.in_(bindparam("digests", expanding=True)),
        builds.c.visible,
    )
    .group_by(builds.c.digest)
)

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


def _refused(wish: Wish, refusal: Refusal, reason: str) -> Verdict:
    return Verdict(wish=wish, answer=Answer.REFUSED, refusal=refusal, reason=reason)


def _too_many_packages(policy: BuildPolicy) -> str:
    most = policy.open_packages
    return f"this machine may wait for {most:,} packages at a time, and does: ask again when some are there"


def _near(row: Row[Any], specification: BuildSpecification, wish: Wish) -> Near:
    return Near(
        cpv=row.cpv,
        build_id=row.build_id,
        path=row.path,
        difference=difference(specification, wish.specification),
    )


def _idempotency(machine_id: int | None, key: str) -> str:
    return hashlib.sha256(f"{machine_id}:{key}".encode()).hexdigest()


def new_id() -> str:
    """Return an id for a request: nobody guesses it."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def slices(values: Iterable[str]) -> Iterator[list[str]]:
    """Yield values, each once, as many as one statement takes at a time."""
    ordered = sorted(set(values))
    for start in range(0, len(ordered), SLICE):
        yield ordered[start : start + SLICE]
