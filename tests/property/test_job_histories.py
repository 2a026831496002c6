# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever happens to jobs, in whatever order: one build of a wish at a time, nobody waits for nothing."""

import shutil
import tempfile
import uuid
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, func, literal_column, select

from bdcs.domain.jobs import IN_FLIGHT, Failure, JobState, MemberState
from bdcs.domain.targets import Cause
from bdcs.services import generations, queueing, requests, targets
from bdcs.services.jobs import Attempt, Claimant, Jobs, published_build
from bdcs.services.turns import Turns
from bdcs.services.verdicts import Judge, wishes_of
from bdcs.store import schema, tables
from bdcs.store.engine import create_writer
from bdcs.store.store import transaction
from gentwoo_client.wire.errors import LeaseLost
from tests.builds import TARGET, specification

MACHINES = (1, 2, 3)
BUILDERS = (11, 12)
NAMES = "abcde"
WAITS = {str(state) for state in IN_FLIGHT}


def wish_for(index: int) -> Any:
    """One of five packages with two choices of USE; each depends on those before it."""
    name, use = NAMES[index // 2], ("gtk",) if index % 2 else ()
    needs = " ".join(f"app-misc/{other}" for other in NAMES[: index // 2])
    return specification(f"app-misc/{name}-1", use=use, DEPEND=needs)


WISHES = [wishes_of([wish_for(index)])[0] for index in range(2 * len(NAMES))]
wanted = st.lists(st.integers(0, len(WISHES) - 1), min_size=1, max_size=4, unique=True).map(sorted)


@cache
def empty_store() -> Path:
    """A store without anything in it, made once."""
    path = Path(tempfile.mkdtemp()) / "empty.sqlite"
    engine = create_writer(path)
    with transaction(engine) as connection:
        schema.upgrade(connection)
    engine.dispose()
    return path


class Histories(RuleBasedStateMachine):
    """Machines, builders and an administrator, each doing what comes to mind."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        shutil.copy(empty_store(), self.directory / "bdcs.sqlite")
        self.engine = create_writer(self.directory / "bdcs.sqlite")
        connection = self.engine.raw_connection().driver_connection
        assert connection is not None
        connection.execute("PRAGMA synchronous = OFF")  # no power fails here
        self.now = 1_000_000
        self.held: list[Attempt] = []
        self.successes: Counter[int] = Counter()
        with transaction(self.engine) as connection:
            chost = {"chost": "x86_64-pc-linux-gnu", "profile": "default"}
            self.target = targets.add(connection, TARGET, now=self.now, **chost)
            for number in (*MACHINES, *BUILDERS):
                row = {"public_key": b"", "state": "approved", "registered_at": 0, "head_seq": 0}
                connection.execute(tables.machines.insert().values(id=number, uuid=str(uuid.uuid4()), **row))
            for number in BUILDERS:
                connection.execute(
                    tables.builder_targets.insert().values(
                        machine_id=number, target_id=self.target.id, approved_at=0
                    )
                )
                connection.execute(
                    tables.builders.insert().values(
                        machine_id=number,
                        name="b",
                        targets=f'["{TARGET}"]',
                        seen_at=self.now * 2,
                        draining=False,
                    )
                )

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.dispose()
            shutil.rmtree(self.directory)

    def judge(self, connection: Connection, machine: int, *, retry: bool) -> Judge:
        return Judge(connection=connection, target=self.target, machine_id=machine, now=self.now, retry=retry)

    @rule(machine=st.sampled_from(MACHINES), indexes=wanted, retry=st.booleans())
    def submit(self, machine: int, indexes: list[int], retry: bool) -> None:
        wishes = [WISHES[index] for index in indexes]
        with transaction(self.engine) as connection:
            book = Jobs(connection, self.now)
            verdicts = self.judge(connection, machine, retry=retry).verdicts(wishes)
            requests.commit(book, self.target, verdicts, machine_id=machine)

    @rule(builder=st.sampled_from(BUILDERS))
    def claim(self, builder: int) -> None:
        with transaction(self.engine) as connection:
            waits = connection.scalar(select(func.count()).where(tables.jobs.c.state == "queued"))
            claimant = Claimant(machine_id=builder, name="b", target_ids=(self.target.id,))
            attempt = Jobs(connection, self.now).claim(claimant)
            assert attempt is not None or not waits or self.all_published(connection)
        if attempt is not None:
            self.held.append(attempt)

    @rule(builders=st.lists(st.sampled_from(BUILDERS), min_size=2, max_size=5))
    def claim_together(self, builders: list[int]) -> None:
        """Who claim in one go get what they would have got one after the other."""
        claimants = [
            Claimant(machine_id=builder, name="b", target_ids=(self.target.id,)) for builder in builders
        ]
        with self.engine.connect() as connection:
            one_by_one = [Jobs(connection, self.now).claim(claimant) for claimant in claimants]
            left = self.everything(connection)
            connection.rollback()
        with transaction(self.engine) as connection:
            together = Jobs(connection, self.now).claim_all(claimants)
            assert together == one_by_one
            assert self.everything(connection) == left
        self.held += [attempt for attempt in together if attempt is not None]

    def everything(self, connection: Connection) -> list[Any]:
        """What claims change, and what comes of it."""
        changed = (tables.jobs, tables.attempts, tables.members, tables.queue, tables.requesters)
        return [sorted(map(repr, connection.execute(select(table)))) for table in changed]

    def all_published(self, connection: Connection) -> bool:
        """Whether nothing is queued any more, since `claim` found it published."""
        return not connection.scalar(select(func.count()).where(tables.jobs.c.state == "queued"))

    @rule(seconds=st.integers(1, 100))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        with transaction(self.engine) as connection:
            Jobs(connection, self.now).expire()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), what=st.sampled_from(("beat", "fail", "broken", "release", "publish", "differ")))
    def act(self, data: st.DataObject, what: str) -> None:
        """A builder does something with an attempt that it has, or had."""
        attempt = data.draw(st.sampled_from(self.held))
        with transaction(self.engine) as connection:
            book = Jobs(connection, self.now)
            assert attempt.machine_id is not None
            try:
                held = book.leased(attempt.id, attempt.number, attempt.machine_id)
            except LeaseLost:
                self.held.remove(attempt)
                return
            if what == "beat":
                book.renew(held)
                return
            if what == "fail":
                book.fail(held, Failure.BUILD, "it failed")
            elif what == "broken":
                book.fail(held, Failure.BUILDER, "no disk")
            elif what == "release":
                book.give_back(held)
            else:
                self.succeed(book, held, differs=what == "differ")

    def succeed(self, book: Jobs, attempt: Attempt, *, differs: bool) -> None:
        """Publish what was built, unless somebody published the same meanwhile: then that is the build."""
        connection = book.connection
        job = connection.execute(select(tables.jobs).where(tables.jobs.c.id == attempt.job_id)).one()
        digest = f"other-{attempt.id}" if differs else job.digest
        build = published_build(connection, self.target.id, digest)
        if build is None:
            build = self.publish(connection, job.cpv, digest, f"attempt-{attempt.id}")
            self.successes[attempt.id] += 1
        book.succeed(attempt, build, ("it differs",) if differs else ())
        book.finish_published(self.target.id)

    def publish(self, connection: Connection, cpv: str, digest: str, actor: str) -> int:
        texts = dict.fromkeys(
            ("md5", "sha1", "slot", "repository", "use", "iuse", "keywords", "license", "chost", "cflags"), ""
        )
        count = connection.scalar(select(func.count()).select_from(tables.builds)) or 0
        connection.execute(
            tables.builds.insert().values(
                id=count + 1, target_id=self.target.id, category="app-misc", name=cpv, version="1", cpv=cpv,
                path=f"p{count}", size=1, mtime=1, build_time=1, installed_size=1, entry="", origin="upload",
                actor=actor, visible=False, published_at=self.now, digest=digest, **texts,
            )
        )  # fmt: skip
        target = targets.require(connection, TARGET)
        generations.advance(
            connection, target, [count + 1], [], cause=Cause.PUBLISH, actor=actor, now=self.now
        )
        return count + 1

    @rule(index=st.integers(0, len(WISHES) - 1))
    def an_administrator_publishes(self, index: int) -> None:
        wish = WISHES[index]
        with transaction(self.engine) as connection:
            there = select(tables.builds.c.id).where(tables.builds.c.digest == wish.digest)
            if connection.execute(there).first() is None:
                self.publish(connection, str(wish.specification.cpv), wish.digest, "admin")
            Jobs(connection, self.now).finish_published()

    @rule(data=st.data(), again=st.booleans())
    def cancel_or_retry(self, data: st.DataObject, again: bool) -> None:
        with transaction(self.engine) as connection:
            # In the order in which they were made: their ids are random.
            rows = connection.execute(select(tables.requests).order_by(literal_column("rowid"))).all()
            if not rows:
                return
            row = data.draw(st.sampled_from(rows))
            book = Jobs(connection, self.now)
            if again:
                requests.retry(book, self.target, self.judge(connection, row.machine_id, retry=True), row.id)
            else:
                requests.cancel(book, row.id)

    @invariant()
    def the_queue_has_what_is_queued(self) -> None:
        with transaction(self.engine) as connection:
            assert queueing.wrong(connection) == []

    @invariant()
    def whose_turn_it_is_follows_from_everything(self) -> None:
        """What the index tells is what comes of looking at all."""
        wanting: dict[int, list[int]] = {}
        machines = {request.id: request.machine_id or 0 for request in self.rows(tables.requests)}
        for member in self.rows(tables.members):
            if member.state == MemberState.WAITING:
                wanting.setdefault(member.job_id, []).append(machines[member.request_id])
        jobs = self.jobs()
        running = Counter(
            machine for job in jobs if job.state == JobState.BUILDING for machine in wanting.get(job.id, ())
        )
        served = {row.machine_id: row.served for row in self.rows(tables.requesters)}
        turns = [
            (-job.priority, running[machine], served.get(machine, 0), job.queued_at, job.id, machine)
            for job in jobs
            if job.state == JobState.QUEUED
            for machine in wanting.get(job.id, [0])
        ]
        with transaction(self.engine) as connection:
            turn = Turns(connection).next([self.target.id])
        assert (turn and turn.job_id) == (min(turns)[-2] if turns else None)

    @invariant()
    def one_job_in_flight_for_each_wish(self) -> None:
        for digest, count in Counter(job.digest for job in self.jobs() if job.state in WAITS).items():
            assert count == 1, digest

    @invariant()
    def one_publication_for_each_success(self) -> None:
        assert all(count == 1 for count in self.successes.values())
        actors = Counter(row.actor for row in self.rows(tables.builds) if row.actor != "admin")
        assert actors == Counter(f"attempt-{number}" for number in self.successes)

    @invariant()
    def nothing_is_published_twice(self) -> None:
        counts = Counter(row.digest for row in self.rows(tables.builds))
        assert not [digest for digest, count in counts.items() if count > 1]

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        jobs = {job.id: job for job in self.jobs()}
        waiting: Counter[str] = Counter()
        for member in self.rows(tables.members):
            if member.state == MemberState.WAITING:
                assert jobs[member.job_id].state in WAITS
                waiting[member.request_id] += 1
        for request in self.rows(tables.requests):
            assert (request.finished_at is None) == (waiting[request.id] > 0)

    @invariant()
    def what_is_in_flight_can_go_on(self) -> None:
        """A waiting job needs one in flight, and following that leads to one that is queued or built."""
        jobs = {job.id: job for job in self.jobs()}
        needs: dict[int, list[int]] = {}
        for edge in self.rows(tables.job_dependencies):
            assert {jobs[edge.job_id].state, jobs[edge.needs_job_id].state} <= WAITS
            needs.setdefault(edge.job_id, []).append(edge.needs_job_id)
        for job in jobs.values():
            assert (job.state == JobState.WAITING) == bool(needs.get(job.id)), (job, needs)
            steps = 0
            while job.state == JobState.WAITING:
                job, steps = jobs[needs[job.id][0]], steps + 1
                assert steps <= len(jobs), "a circle"

    @invariant()
    def somebody_wants_what_is_in_flight(self) -> None:
        wanted = {row.job_id for row in self.rows(tables.members) if row.state == MemberState.WAITING}
        wanted |= {edge.needs_job_id for edge in self.rows(tables.job_dependencies)}
        assert {job.id for job in self.jobs() if job.state in WAITS} <= wanted

    @invariant()
    def what_is_built_has_one_lease(self) -> None:
        leased = Counter(row.job_id for row in self.rows(tables.attempts) if row.state == "leased")
        building = Counter(job.id for job in self.jobs() if job.state == JobState.BUILDING)
        assert leased == building

    def jobs(self) -> list[Any]:
        return self.rows(tables.jobs)

    def rows(self, table: Any) -> list[Any]:
        if not hasattr(self, "engine"):
            return []
        with self.engine.connect() as connection:
            return list(connection.execute(select(table)))


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
