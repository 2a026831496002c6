# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts: what becomes of each package that is wanted.

    wishes = wishes_of(specifications)                            # pure; may take a while
    verdicts = Judge(connection, target, …).verdicts(wishes)      # nothing is written

Of each package the first of these that holds is the answer: refused for the target's sake; published; joined;
refused for its own; queued. What needs a refused package of the same request is refused as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, func, select

from bdcs.domain.admission import RESTRICTED
from bdcs.domain.build_policy import DEFAULT, BuildPolicy
from bdcs.domain.jobs import Answer, JobState, MemberState, Refusal
from bdcs.services import build_digests, builders, estimates
from bdcs.services.jobs import in_flight
from bdcs.services.targets import Target
from bdcs.store.slices import slices
from bdcs.store.tables import builds, jobs, members, requests
from gentwoo_client.wire.builds import BuildSpecification, difference, needed_by
from gentwoo_client.wire.errors import InvalidParameter
from gentwoo_client.wire.parameters import check_flags

NEAR: Final = 5
"""Near misses that are named for one package."""
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
        no_builder = bool(rest) and not builders.is_served(self.connection, self.target, self.now)
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
        if objection := self.objection or flags_objection(self.target):
            return _refused(wish, Refusal.PARAMETER, objection)
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


def flags_objection(target: Target) -> str | None:
    """Return why no builder builds with the target's flags: they could run code, say; None where any does."""
    try:
        check_flags("cflags", target.cflags)
    except InvalidParameter as error:
        return f"nothing can be built for {target.name}: {error.detail}"
    return None


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


_PUBLISHED: Final = (
    select(builds.c.digest, func.max(builds.c.id))
    .where(
        builds.c.target_id == bindparam("target"),
        builds.c.digest.in_(bindparam("digests", expanding=True)),
        builds.c.visible,
    )
    .group_by(builds.c.digest)
)


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
