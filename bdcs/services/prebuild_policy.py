# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds what machines are likely to ask for, while builders have nothing else to do.

At each target with a builder and nothing in flight the best that fits into what is left of the day's budget
is queued, at the lowest priority and one at a time: whoever asks for something waits for one such build at
most. What is best follows from public figures (`services.prebuild`), so that the queue tells no more than the
page. Each digest is built once; what failed is not tried again as long as failures are remembered. A variant
of which a build lies unused waits until somebody asks for it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, exists, func, select

from bdcs.domain.build_policy import DAY
from bdcs.domain.jobs import Answer, JobState, Origin
from bdcs.domain.prebuild import serves
from bdcs.domain.thresholds import Thresholds
from bdcs.errors import CollectorError
from bdcs.measures import working
from bdcs.services import catalogue, prebuild, prebuild_demand, requests, targets
from bdcs.services.builders import has_builder
from bdcs.services.jobs import Jobs, in_flight
from bdcs.services.prebuild import Pick
from bdcs.services.prebuild_candidates import Want
from bdcs.services.prebuild_demand import Demand
from bdcs.services.targets import Target
from bdcs.services.verdicts import Judge, Verdict, Wish, wishes_of
from bdcs.services.waking import Transactions
from bdcs.store.tables import attempts, jobs
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.cpv import CPV

log = logging.getLogger(__name__)

INTERVAL: Final = 60.0  # seconds between two looks at whether builders are idle
REST: Final = 600.0  # … where they were, and nothing was worth building
UNUSED: Final = 30 * DAY
"""Seconds after which nobody is expected to take a build any more that nobody took so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prebuilder:
    """Follows the policy, in the server."""

    transactions: Transactions
    minutes: int
    """Of builders, a day and for each target; 0: nothing is built unasked."""
    thresholds: Thresholds

    async def run(self) -> None:
        """Look until cancelled; where nothing is to be built unasked, do nothing at all."""
        while self.minutes:
            pause = INTERVAL
            try:
                with working("prebuild", REST):
                    if await self.transactions.store.read(self._idle) and not await self.look():
                        pause = REST
            except CollectorError as error:
                log.warning("what to prebuild was not looked at: %s", error)
            await asyncio.sleep(pause)

    async def look(self) -> list[tuple[CPV, str]]:
        """Queue what is to be built now; return that, with the targets. Raises `StoreUnavailable`."""
        plan = await self.transactions.store.read(self._plan)
        if not plan:
            return []
        queued = await self.transactions.write(lambda book: self._queue(book, plan))
        for cpv, target in queued:
            log.info("queued %s for %s: likely to be asked for", cpv, target)
        return queued

    def _idle(self, connection: Connection) -> list[tuple[Target, int]]:
        """Return targets with idle builders, and the seconds of the day's budget that are left to each."""
        now = int(self.transactions.now())
        return [
            (target, left)
            for target in targets.listed(connection)
            if (left := 60 * self.minutes - spent(connection, target, now)) > 0
            and is_idle(connection, target, now)
        ]

    def _plan(self, connection: Connection) -> list[tuple[Target, Wish]]:
        now = int(self.transactions.now())
        found = []
        for target, left in self._idle(connection):
            places = prebuild.public_places(connection, self.thresholds, [target])
            picks = prebuild.within(prebuild.outlook(connection, places, self.thresholds, now), left)
            if picks:
                found.append((target, picks))
        if not found:
            return []
        demand = prebuild_demand.demand(connection, now)
        plan = []
        for target, picks in found:
            wanted = list(_in_use(connection, target, picks, demand, now))
            plan += [(target, wish) for wish in wishes_of(wanted[:1])]
        return plan

    def _queue(self, book: Jobs, plan: Sequence[tuple[Target, Wish]]) -> list[tuple[CPV, str]]:
        queued: list[tuple[CPV, str]] = []
        for target, wish in plan:
            known = targets.find(book.connection, target.name)
            if known is not None and is_idle(book.connection, known, book.now):
                verdicts = queue(book, known, [wish], fleet=self.thresholds.machines)
                queued += [
                    (each.wish.specification.cpv, target.name)
                    for each in verdicts
                    if each.answer is Answer.QUEUED
                ]
        return queued


def queue(book: Jobs, target: Target, wishes: Sequence[Wish], *, fleet: int) -> list[Verdict]:
    """Queue what of `wishes` can be built, behind all that was asked for; return what became of each."""
    judge = Judge(
        connection=book.connection,
        target=target,
        machine_id=None,
        now=book.now,
        catalogue=catalogue.objections,
        fleet=fleet,
        policy=book.policy,
    )
    verdicts = judge.verdicts(wishes)
    queued = [each for each in verdicts if each.answer is Answer.QUEUED]
    if queued:
        atoms = [f"={verdict.wish.specification.cpv}" for verdict in queued]
        requests.commit(book, target, queued, machine_id=None, atoms=atoms, origin=Origin.PREBUILD)
    return verdicts


def is_idle(connection: Connection, target: Target, now: int) -> bool:
    """Whether a builder waits for work at a target, and there is none."""
    busy = connection.scalar(select(exists().where(jobs.c.target_id == target.id, in_flight())))
    return not busy and has_builder(connection, target, now)


def spent(connection: Connection, target: Target, now: int) -> int:
    """Return the seconds that builds unasked took builders of a target in the last 24 hours."""
    took = func.coalesce(attempts.c.finished_at, now) - attempts.c.started_at
    query = (
        select(func.sum(took))
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(
            jobs.c.target_id == target.id,
            jobs.c.origin == str(Origin.PREBUILD),
            attempts.c.started_at > now - DAY,
        )
    )
    return connection.scalar(query) or 0


def _in_use(
    connection: Connection, target: Target, picks: Sequence[Pick], demand: Demand, now: int
) -> Iterator[BuildSpecification]:
    """Yield what machines ask for to this day, also since the last one like it was built unasked."""
    last = {key: max(each.at for each in machines.values()) for key, machines in demand.variants()}
    lying = _lying(connection, target, now)
    for pick in picks:
        if any(last.get(want.key, 0) > _lies_since(lying, want) for want in pick.wants):
            yield pick.candidate.specification


def _lies_since(lying: Sequence[tuple[BuildSpecification, int]], want: Want) -> int:
    """Return since when the newest build for a want is there, in Unix seconds; 0 where none is."""
    least = want.asked.cpv.version
    return max((since for built, since in lying if serves(built, want.asked, least=least)), default=0)


def _lying(connection: Connection, target: Target, now: int) -> list[tuple[BuildSpecification, int]]:
    """Return what was built unasked so long ago that somebody should have asked for it since, and when."""
    query = select(jobs.c.specification, jobs.c.finished_at).where(
        jobs.c.target_id == target.id,
        jobs.c.origin == str(Origin.PREBUILD),
        jobs.c.state == str(JobState.PUBLISHED),
        jobs.c.finished_at < now - UNUSED,
    )
    return [
        (built, finished_at)
        for text, finished_at in connection.execute(query)
        if (built := prebuild_demand.specification_in(text)) is not None
    ]
