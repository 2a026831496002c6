# SPDX-License-Identifier: GPL-2.0-or-later
"""An attacker who sees every answer before and after each event, with nine machines that may be forgotten.

The attack is tried: after each step everything is published that may be, and whatever moved is held against
what the machines really did, which the test works out by itself from their records.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from bdcs.domain.machines import State
from bdcs.domain.statistics import Change, Key, Topic, story, week_of
from bdcs.domain.thresholds import Thresholds
from bdcs.services import forgetting, machines, statistics
from bdcs.services.ingest import SegmentWriter
from bdcs.services.rollups import weeks_until
from bdcs.store import tables
from bdcs.store.names import Names
from gentwoo_client.wire.records import PackageStateChange
from gentwoo_client.wire.segments import Segment, digest, sign_segment
from tests.statistics_stores import arrived, empty_store, publish
from tests.wire_samples import AUDIENCE, NOW, machine, private_key, public_key, record

TEN = Thresholds()
HONEST = 16
ATTACKERS = 9
KINDS = ("install", "install", "install", "fail", "remove", "binary")
Members = dict[Key, set[int]]


@dataclass(slots=True)
class Participant:
    """One machine and its chain."""

    number: int
    seq: int = 0
    prev: str | None = None
    installed: str | None = None
    now: int = NOW - 30 * 86_400

    def event(self, kind: str, version: str) -> PackageStateChange:
        """The record of what it does next with the one package there is."""
        self.seq += 1
        self.now += 3600
        base = record(seq=self.seq, recorded_at=self.now, version=version, replaces=None, time_delta=None)
        if kind == "fail":
            return replace(base, event="failure", cause="build")
        if kind == "remove" and self.installed is not None:
            gone, self.installed = self.installed, None
            return replace(
                base, event="uninstall", cause="manual", version=gone, install_type=None, concurrency=None
            )
        before, self.installed = self.installed, version
        install_type = "binary" if kind == "binary" else "source"
        return replace(base, replaces=before, install_type=install_type, time_delta=60)


@dataclass(slots=True)
class World:
    """A store, who takes part, and what each figure counted when it was published."""

    connection: Connection
    numbers: count[int] = field(default_factory=lambda: count(1))
    writer: SegmentWriter = field(default_factory=lambda: SegmentWriter(Names(), lambda: NOW))
    shown: dict[Key, int] = field(default_factory=dict)
    counted: Members = field(default_factory=lambda: defaultdict(set))

    def join(self) -> Participant:
        number = next(self.numbers)
        machines.enrol(self.connection, machine(number), public_key(number), State.APPROVED, now=0)
        return Participant(number)

    def act(self, who: Participant, kind: str, version: str) -> None:
        change = who.event(kind, version)
        segment = Segment(
            machine=machine(who.number),
            audience=AUDIENCE,
            first_seq=change.seq,
            prev=who.prev,
            created_at=NOW,
            records=(change,),
        )
        compact = sign_segment(segment, private_key(who.number))
        self.writer.store(self.connection, [arrived(compact)])
        who.prev = digest(compact)

    def forget(self, who: Participant) -> None:
        found = machines.find(self.connection, machine(who.number))
        assert found is not None
        forgetting.forget(self.connection, found)

    def members(self) -> tuple[Members, set[int]]:
        """Which machine is in which cell now, and which there are at all."""
        arrivals = {
            row.version_id: row.arrived_at
            for row in self.connection.execute(select(tables.version_dates))
            if row.arrived_at is not None
        }
        changes: dict[int, list[Change]] = defaultdict(list)
        columns = [tables.package_state_changes.c[name] for name in COLUMNS]
        query = select(tables.package_state_changes.c.machine_id, *columns)
        for row in self.connection.execute(query.order_by(tables.package_state_changes.c.id)):
            changes[row.machine_id].append(Change._make(row[1:]))
        texts = {row.id: row.text for row in self.connection.execute(select(tables.versions))}
        ranks = {number: rank for rank, number in enumerate(sorted(texts, key=lambda each: texts[each]))}
        found: Members = defaultdict(set)
        for number, records in changes.items():
            for key in story(records, ranks).keys(weeks_until(week_of(NOW), ()), arrivals):
                found[key].add(number)
        return found, set(self.connection.scalars(select(tables.machines.c.id)))

    def look(self) -> None:
        """Publish, and see that whatever moved was moved by a crowd."""
        publish(self.connection, TEN)
        cells = {
            (row.topic, row.version_id, row.bucket): row.published
            for row in self.connection.execute(select(tables.statistic_cells))
        }
        now, known = self.members()
        for key in cells.keys() | self.shown.keys():
            if cells.get(key) == self.shown.get(key):
                continue
            before = self.counted[key]
            gone = len(before - known)
            left, joined = len(before & known - now[key]), len(now[key] - before)
            assert left + max(joined, gone) >= TEN.move, (key, self.shown.get(key), cells.get(key))
            assert not cells.get(key) or len(now[key]) >= TEN.machines
            if key not in cells:
                assert key[0] == Topic.HOLDS, "only a week of a series may fall back on the one before it"
            self.counted[key] = now[key]
        self.shown = cells


COLUMNS = (
    "id",
    "version_id",
    "event",
    "install_type",
    "cause",
    "replaces_id",
    "repository_id",
    "recorded_at",
    "time_delta",
)


@settings(max_examples=3, deadline=None, derandomize=True)  # each is a history of some ten publications
@given(st.integers(min_value=0, max_value=2**32))
def test_nothing_moves_that_no_crowd_moved(seed: int) -> None:
    random = Random(seed)
    with empty_store([]) as connection:
        world = World(connection)
        honest = [world.join() for _ in range(HONEST)]
        own = [world.join() for _ in range(ATTACKERS)]
        for who in honest:
            world.act(who, "install", "1.0")
        world.look()
        for _ in range(5):
            kind, version = random.choice(KINDS), random.choice(["1.0", "2.0"])
            for place in random.sample(range(ATTACKERS), random.randint(1, ATTACKERS)):
                if random.random() < 0.4:
                    world.forget(own[place])
                    own[place] = world.join()
                world.act(own[place], kind, version)
            world.look()
            world.act(random.choice(honest), random.choice(KINDS), random.choice(["1.0", "2.0"]))
            world.look()


@settings(max_examples=2, deadline=None, derandomize=True)
@given(st.integers(min_value=0, max_value=2**32))
def test_nine_machines_that_come_and_go_learn_nothing(seed: int) -> None:
    """All answers stay as they are, to the letter, however often nine machines return under new keys."""
    random = Random(seed)
    with empty_store([]) as connection:
        world = World(connection)
        for who in [world.join() for _ in range(HONEST)]:
            world.act(who, "install", "1.0")
        world.look()
        before = answers(connection)
        assert statistics.package(connection, "app-misc", "alpha", TEN, NOW).weeks[-1].machines == 15
        own = [world.join() for _ in range(ATTACKERS)]
        for _ in range(2):
            for place, who in enumerate(own):
                world.act(who, random.choice(KINDS), random.choice(["1.0", "2.0"]))
                publish(connection, TEN)
                assert answers(connection) == before
                world.forget(who)
                own[place] = world.join()
            publish(connection, TEN)
            assert answers(connection) == before


def test_who_is_set_aside_refused_and_forgotten_is_one_machine() -> None:
    """Nine that the operator sets aside have left once, whatever becomes of them then."""
    with empty_store([]) as connection:
        world = World(connection)
        own = [world.join() for _ in range(ATTACKERS)]
        for who in [*own, *(world.join() for _ in range(HONEST))]:
            world.act(who, "install", "1.0")
        world.look()
        before = answers(connection)
        for state in (State.QUARANTINED, State.QUARANTINED, State.REFUSED):
            for who in own:
                machines.set_state(connection, machine(who.number), state)
            publish(connection, TEN)
            assert answers(connection) == before
        for who in own:
            world.forget(who)
        publish(connection, TEN)
        assert answers(connection) == before


def answers(connection: Connection) -> tuple[object, ...]:
    """Everything that is said of the one package, and of everything together."""
    return (
        statistics.package(connection, "app-misc", "alpha", TEN, NOW),
        [statistics.ranking(connection, sort) for sort in statistics.Sort],
        statistics.category_overview(connection, "app-misc"),
        statistics.repository_overview(connection, "gentoo"),
        statistics.fleet(connection),
    )
