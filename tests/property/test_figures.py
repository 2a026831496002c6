# SPDX-License-Identifier: GPL-2.0-or-later
"""Published figures against a model of the rule, over machines that come, go, change and are forgotten."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TypeVar
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, insert, select

from bdcs.domain.codes import INSTALL, UNINSTALL
from bdcs.domain.installations import COUNTED, PRESENT
from bdcs.domain.machines import State
from bdcs.domain.thresholds import Thresholds, figure
from bdcs.services import checking_figures, figures, forgetting, ingest, machines
from bdcs.store import tables
from bdcs.store.store import Store

PACKAGE = 1
VERSIONS = (1, 2)
ANY_VERSION = None
TEN = Thresholds()

Cell = int | None
T = TypeVar("T")

operations = st.lists(
    st.tuples(
        st.sampled_from(
            ["install", "install", "uninstall", "forget", "quarantine", "approve", "publish", "publish"]
        ),
        st.integers(min_value=1, max_value=13),
        st.integers(min_value=0, max_value=15),
        st.sampled_from(VERSIONS),
    ),
    max_size=25,
)


class OneTransaction(Store):
    """A store whose transactions are all part of the one that the test has open."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, work: Callable[[Connection], T]) -> T:
        return work(self._connection)

    async def write(self, work: Callable[[Connection], T]) -> T:
        return work(self._connection)


class Fleet:
    """Machines in a store, and beside it what the rule says about them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.identities = 0
        self.changes = 0
        self.installed: dict[int, set[int]] = {}
        self.quarantined: set[int] = set()
        self.counted: dict[Cell, set[int]] = {}
        self.published: dict[Cell, int] = {}
        connection.execute(insert(tables.secrets).values(name="tombstones", value=b"secret"))
        connection.execute(insert(tables.packages).values(id=PACKAGE, category="app-misc", name="alpha"))
        connection.execute(insert(tables.versions), [{"id": each, "text": f"{each}.0"} for each in VERSIONS])
        self.slots = [self.register() for _ in range(16)]

    def register(self) -> int:
        self.identities += 1
        self.connection.execute(
            insert(tables.machines).values(
                id=self.identities,
                uuid=str(UUID(int=self.identities)),
                public_key=b"",
                state=State.APPROVED,
                registered_at=0,
                head_seq=1,
            )
        )
        self.installed[self.identities] = set()
        return self.identities

    def do(self, kind: str, machine: int, version: int) -> None:
        if kind in ("install", "uninstall") and machine in self.quarantined:
            return  # nothing is taken from it
        if kind == "install":
            self.change(INSTALL, machine, version)
            self.installed[machine].add(version)
        elif kind == "uninstall":
            self.change(UNINSTALL, machine, version)
            self.installed[machine].discard(version)
        elif kind == "forget":
            found = machines.find(self.connection, UUID(int=machine))
            assert found is not None
            forgetting.forget(self.connection, found)
            del self.installed[machine]
            self.quarantined.discard(machine)
            self.slots[self.slots.index(machine)] = self.register()
        else:
            state = State.QUARANTINED if kind == "quarantine" else State.APPROVED
            machines.set_state(self.connection, UUID(int=machine), state)
            (self.quarantined.add if kind == "quarantine" else self.quarantined.discard)(machine)

    def change(self, event: int, machine: int, version: int) -> None:
        self.changes += 1
        row = (
            self.changes,
            machine,
            self.changes,
            PACKAGE,
            version,
            None,
            event,
            0,
            None,
            None,
            0,
            0,
            None,
            None,
            0,
            0,
            None,
        )
        self.connection.execute(tables.package_state_changes.insert().values(row))
        ingest.update_installations(self.connection, [row])

    def members(self, cell: Cell) -> set[int]:
        return {
            machine
            for machine, versions in self.installed.items()
            if machine not in self.quarantined and (versions if cell is ANY_VERSION else cell in versions)
        }

    def publish(self) -> None:
        for cell in (ANY_VERSION, *VERSIONS):
            now = self.members(cell)
            if cell in self.published:
                before = self.counted[cell]
                gone = before - self.installed.keys()
                left = before - gone - now
                if len(left) + max(len(gone), len(now - before)) < TEN.move:
                    continue
            elif len(now) < TEN.machines:
                continue
            self.published[cell] = figure(len(now), TEN)
            self.counted[cell] = now
        asyncio.run(figures.renew(OneTransaction(self.connection), TEN))

    def stored(self) -> dict[Cell, int]:
        rows = self.connection.execute(select(tables.figures.c.version_id, tables.figures.c.published))
        return {row.version_id: row.published for row in rows}


@settings(max_examples=25, deadline=None)  # each is a store of its own
@given(operations)
def test_what_is_published_follows_the_rule(steps: Iterable[tuple[str, int, int, int]]) -> None:
    engine = create_engine("sqlite://")
    tables.metadata.create_all(engine)
    with engine.begin() as connection:
        fleet = Fleet(connection)
        for kind, count, first, version in steps:
            if kind == "publish":
                fleet.publish()
                assert fleet.stored() == fleet.published
                continue
            for slot in range(first, first + count):
                fleet.do(kind, fleet.slots[slot % len(fleet.slots)], version)
            assert list(checking_figures.differing(connection).told()) == []
        fleet.publish()
        assert fleet.stored() == fleet.published
        unused = tables.installations.c.flags.bitwise_and(PRESENT | COUNTED) == 0
        assert connection.execute(select(tables.installations).where(unused)).all() == []
    engine.dispose()


def test_nine_machines_that_return_under_new_keys_never_move_a_figure() -> None:
    engine = create_engine("sqlite://")
    tables.metadata.create_all(engine)
    with engine.begin() as connection:
        fleet = Fleet(connection)
        for machine in fleet.slots[:13]:
            fleet.do("install", machine, 1)
        fleet.publish()
        first = fleet.stored()
        assert first == {None: 15, 1: 15}
        seen = defaultdict(set)
        for _ in range(5):
            for slot in range(9):
                fleet.do("forget", fleet.slots[slot], 1)
            fleet.publish()
            seen["after leaving"].add(tuple(fleet.stored().items()))
            for slot in range(9):
                fleet.do("install", fleet.slots[slot], 1)
            fleet.publish()
            seen["after returning"].add(tuple(fleet.stored().items()))
        assert set().union(*seen.values()) == {tuple(first.items())}
    engine.dispose()


def test_a_day_is_counted_once_when_it_is_over() -> None:
    engine = create_engine("sqlite://")
    tables.metadata.create_all(engine)
    noon = 20_000 * figures.DAY + figures.DAY // 2
    with engine.begin() as connection:
        fleet = Fleet(connection)

        def segment(machine: int, created_at: int) -> None:
            row = dict.fromkeys(("records", "first_change", "audience_id", "dictionary_id", "form"), 1)
            row |= {"machine_id": machine, "first_seq": created_at, "created_at": created_at}
            connection.execute(insert(tables.segments).values(**row, digest=b"", signature=b"", evidence=b""))

        def days() -> dict[str, int]:
            return {row.name: row.published for row in connection.execute(select(tables.fleet_figures))}

        for machine in fleet.slots[:14]:
            segment(machine, noon)
            segment(machine, noon + 1)
        for machine in fleet.slots[:9]:
            segment(machine, noon + figures.DAY)
        fleet.do("quarantine", fleet.slots[0], 1)
        assert not figures.has_day(connection, noon + figures.DAY)
        figures.publish_day(connection, TEN, noon + figures.DAY)
        assert days() == {"2024-10-04": 15}
        assert figures.has_day(connection, noon + figures.DAY)
        figures.publish_day(connection, TEN, noon + 2 * figures.DAY)
        assert days() == {"2024-10-04": 15, "2024-10-05": 0}
        # The newest segments are forgotten, and their ids given out again: what comes then still counts.
        for machine in fleet.slots[1:9]:
            fleet.do("forget", machine, 1)
        for machine in fleet.slots:
            segment(machine, noon + 2 * figures.DAY)
        figures.publish_day(connection, TEN, noon + 3 * figures.DAY)
        assert days()["2024-10-06"] == 15
    engine.dispose()
