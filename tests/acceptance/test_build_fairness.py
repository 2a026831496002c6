# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose turn it is, and what becomes of builds when those go who wanted or made them: on a real store."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from bdcs.domain.jobs import Answer
from bdcs.services import forgetting, machines, requests, targets
from bdcs.services.jobs import Attempt, Claimant, Jobs
from bdcs.services.targets import Target
from bdcs.services.verdicts import Judge, wishes_of
from bdcs.store import schema, tables
from bdcs.store.engine import create_writer
from bdcs.store.store import transaction
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.errors import NotFound
from tests.builds import CHOST, TARGET, specification

NOW = 1_000_000
GREEDY, MODEST, THIRD = 1, 2, 3
BUILDER, OTHER_BUILDER = 11, 12
MANY = 3000


@dataclass
class Bench:
    """A store with machines and builders."""

    connection: Connection
    target: Target
    now: int = NOW

    @property
    def book(self) -> Jobs:
        return Jobs(self.connection, self.now)

    def ask(self, machine: int, wanted: Sequence[BuildSpecification]) -> str:
        """Have a machine ask for packages; return its request."""
        judge = Judge(connection=self.connection, target=self.target, machine_id=machine, now=self.now)
        verdicts = judge.verdicts(wishes_of(wanted))
        assert {verdict.answer for verdict in verdicts} <= {Answer.QUEUED, Answer.JOINED}
        return requests.commit(self.book, self.target, verdicts, machine_id=machine)

    def claim(self, builder: int = BUILDER) -> Attempt | None:
        """Have a builder take the next job."""
        claimant = Claimant(machine_id=builder, name="b", target_ids=(self.target.id,))
        return self.book.claim(claimant)

    def claimed(self, builder: int = BUILDER) -> str:
        """The CPV of what a builder takes."""
        attempt = self.claim(builder)
        assert attempt is not None
        return str(self.job(attempt.job_id).cpv)

    def job(self, number: int) -> Any:
        return self.connection.execute(select(tables.jobs).where(tables.jobs.c.id == number)).one()

    def states(self) -> dict[str, str]:
        """State by CPV."""
        return {row.cpv: row.state for row in self.connection.execute(select(tables.jobs))}

    def forget(self, number: int) -> None:
        """A machine is erased."""
        row = self.connection.execute(
            select(tables.machines.c.uuid).where(tables.machines.c.id == number)
        ).one()
        forgetting.forget(self.connection, machines.require(self.connection, uuid.UUID(row.uuid)))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    engine = create_writer(tmp_path / "bdcs.sqlite")
    with transaction(engine) as connection:
        schema.upgrade(connection)
        target = targets.add(connection, TARGET, now=NOW, chost=CHOST, profile="default")
        for number in (GREEDY, MODEST, THIRD, BUILDER, OTHER_BUILDER):
            row = {"public_key": b"", "state": "approved", "registered_at": 0, "head_seq": 0}
            connection.execute(
                tables.machines.insert().values(id=number, uuid=str(uuid.UUID(int=number)), **row)
            )
        for number in (BUILDER, OTHER_BUILDER):
            seen = {"targets": f'["{TARGET}"]', "seen_at": NOW, "draining": False}
            connection.execute(tables.builders.insert().values(machine_id=number, name="b", **seen))
            allowed = {"machine_id": number, "target_id": target.id, "approved_at": 0}
            connection.execute(tables.builder_targets.insert().values(**allowed))
        yield Bench(connection, target)
    engine.dispose()


def packages(count: int, name: str) -> list[BuildSpecification]:
    return [specification(f"app-misc/{name}{number}x-1") for number in range(count)]


def test_who_asks_for_one_is_next_after_who_asks_for_3000(bench: Bench) -> None:
    """Whether his many are under way or not; and among many who ask for much, everybody gets his turn."""
    bench.ask(GREEDY, packages(MANY, "much"))
    assert bench.claimed().startswith("app-misc/much")
    bench.ask(MODEST, packages(1, "little"))
    assert bench.claimed(OTHER_BUILDER) == "app-misc/little0x-1"
    bench.ask(MODEST, packages(10, "more"))
    bench.ask(THIRD, packages(10, "third"))
    turns = [bench.claimed().removeprefix("app-misc/")[:4] for _ in range(6)]
    assert turns == ["thir", "much", "more"] * 2


def test_a_lost_builders_job_is_the_next_ones(bench: Bench) -> None:
    bench.ask(MODEST, packages(1, "lost"))
    first = bench.claim()
    assert first is not None
    assert bench.claim(OTHER_BUILDER) is None
    bench.now = first.lease_until
    assert bench.book.expire() == 0, "to the last second it is his"
    bench.now += 1
    assert bench.book.expire() == 1
    second = bench.claim(OTHER_BUILDER)
    assert second is not None
    assert (second.job_id, second.number) == (first.job_id, first.number + 1)


def test_what_only_a_forgotten_machine_wanted_is_cancelled(bench: Bench) -> None:
    """… also what is being built; what others want as well, or what theirs needs, goes on."""
    own, shared = specification("app-misc/own-1"), specification("app-misc/shared-1")
    needed = specification("app-misc/needed-1")
    needing = specification("app-misc/needing-1", DEPEND="app-misc/needed")
    built = specification("app-misc/built-1")
    bench.ask(GREEDY, [built])
    attempt = bench.claim()
    assert attempt is not None
    gone = bench.ask(GREEDY, [own, shared, needed])
    bench.now += 1
    kept = bench.ask(MODEST, [shared, needed, needing])
    bench.forget(GREEDY)
    assert bench.states() == {
        "app-misc/built-1": "cancelled",
        "app-misc/own-1": "cancelled",
        "app-misc/shared-1": "queued",
        "app-misc/needed-1": "queued",
        "app-misc/needing-1": "waiting",
    }
    assert bench.book.attempt(attempt.id, BUILDER).state == "cancelled"
    with pytest.raises(NotFound):
        requests.require(bench.connection, gone, GREEDY)
    assert requests.require(bench.connection, kept, MODEST).finished_at is None
    members = bench.connection.execute(select(tables.members.c.request_id).distinct()).scalars()
    assert set(members) == {kept}
    assert {bench.claimed() for _ in range(2)} == {"app-misc/shared-1", "app-misc/needed-1"}


def test_what_a_forgotten_builder_had_runs_again(bench: Bench) -> None:
    bench.ask(MODEST, packages(1, "held"))
    held = bench.claim()
    assert held is not None
    bench.forget(BUILDER)
    bench.now = held.lease_until + 1
    bench.book.expire()
    again = bench.claim(OTHER_BUILDER)
    assert again is not None
    assert again.job_id == held.job_id
    row = bench.connection.execute(select(tables.attempts).where(tables.attempts.c.id == held.id)).one()
    assert (row.machine_id, row.builder, row.state) == (None, "forgotten", "lost")
