# SPDX-License-Identifier: GPL-2.0-or-later
"""What figures carry on is what counting all machines anew gives, whatever happened, on either engine."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Connection, case, insert, select, text, update

from bdcs.domain.codes import INSTALL, UNINSTALL
from bdcs.domain.installations import AWAY, COUNTED_PACKAGE, COUNTED_VERSION, PRESENT
from bdcs.domain.machines import State
from bdcs.domain.thresholds import Cell, Thresholds, figure, may_publish
from bdcs.services import checking_figures, figures, forgetting, ingest, machines
from bdcs.store import schema, tables
from bdcs.store.bulk import insert_rows
from bdcs.store.engine import create_writer
from bdcs.store.store import Store, transaction
from tests.processes import BDCS, run

MACHINES = 24
PACKAGES = (1, 2, 3)
VERSIONS = (1, 2, 3, 4)
TEN = Thresholds()
JUNE = 1_780_272_000

CellKey = tuple[int, int | None]


class Fleet:
    """Machines that do anything, and collectors of this version and of the one before."""

    def __init__(self, store: Store, chance: random.Random) -> None:
        self.store = store
        self.chance = chance
        self.changes = 0
        self.slots: list[int] = []
        self.identities = 0
        self.deeds: list[Callable[[Connection], None]] = [
            *[self.push] * 6,
            self.change_state,
            self.forget,
            self.change_state_by_the_version_before,
            self.publish_by_the_version_before,
        ]

    def begin(self, connection: Connection) -> None:
        names = [{"id": each, "category": "app-misc", "name": f"p{each}"} for each in PACKAGES]
        connection.execute(insert(tables.packages), names)
        connection.execute(insert(tables.versions), [{"id": each, "text": f"{each}.0"} for each in VERSIONS])
        self.slots = [self.register(connection) for _ in range(MACHINES)]

    def register(self, connection: Connection) -> int:
        self.identities += 1
        connection.execute(
            insert(tables.machines).values(
                id=self.identities,
                uuid=str(UUID(int=self.identities)),
                public_key=b"",
                state=State.APPROVED,
                registered_at=0,
                head_seq=1,
            )
        )
        return self.identities

    def push(self, connection: Connection) -> None:
        """A batch: many machines, each up to three records that may mean the same package."""
        rows = []
        approved = set(
            connection.scalars(select(tables.machines.c.id).where(tables.machines.c.state == State.APPROVED))
        )
        package, version = self.chance.choice(PACKAGES), self.chance.choice(VERSIONS)
        for machine in self.chance.sample(self.slots, self.chance.randrange(1, MACHINES)):
            for _ in range(self.chance.randrange(1, 4)):
                if machine not in approved:
                    continue
                if self.chance.random() < 0.3:
                    package, version = self.chance.choice(PACKAGES), self.chance.choice(VERSIONS)
                event = self.chance.choice((INSTALL, INSTALL, INSTALL, UNINSTALL))
                replaced = self.chance.choice((None, None, *VERSIONS)) if event == INSTALL else None
                self.changes += 1
                name = (self.changes, machine, self.changes, package, version, None)
                rows.append((*name, event, 0, None, replaced, 0, JUNE, None, None, 0, 0, None))
        insert_rows(connection, tables.package_state_changes, rows)
        ingest.update_installations(connection, rows)

    def change_state(self, connection: Connection) -> None:
        state = self.chance.choice((State.APPROVED, State.QUARANTINED))
        for machine in self.chance.sample(self.slots, self.chance.randrange(1, MACHINES // 2)):
            machines.set_state(connection, UUID(int=machine), state)

    def forget(self, connection: Connection) -> None:
        for slot in self.chance.sample(range(MACHINES), self.chance.randrange(1, 4)):
            found = machines.require(connection, UUID(int=self.slots[slot]))
            forgetting.forget(connection, found)
            self.slots[slot] = self.register(connection)

    def change_state_by_the_version_before(self, connection: Connection) -> None:
        """It marks nothing but the packages that are to be looked at."""
        state = self.chance.choice((State.APPROVED, State.QUARANTINED))
        few = self.chance.sample(self.slots, 3)
        connection.execute(
            update(tables.machines).where(tables.machines.c.id.in_(few)).values(state=str(state))
        )

    def publish_by_the_version_before(self, connection: Connection) -> None:
        """It does not say how many machines a figure counts."""
        of = self.chance.choice(PACKAGES)
        connection.execute(
            update(tables.figures).where(tables.figures.c.package_id == of).values(counted=None)
        )

    async def live(self, steps: int) -> None:
        """Do so much of all that, and see after each renewal that counting anew would not move anything."""
        await self.store.write(self.begin)
        for _ in range(steps):
            await self.store.write(self.chance.choice(self.deeds))
            assert await self.store.read(differences) == []
            if self.chance.random() < 0.4:
                await figures.renew(self.store, TEN)
                await self.store.read(assert_settled)


def touch_all(connection: Connection) -> None:
    packages = select(tables.packages.c.id)
    connection.execute(insert(tables.touched_packages).from_select(["package_id"], packages))


def differences(connection: Connection) -> list[str]:
    return list(checking_figures.differing(connection).told())


def cells_anew(connection: Connection) -> Iterator[tuple[CellKey, Cell, int | None]]:
    """Every cell, counted from all installations and states of machines, and what it says it counts."""
    now: dict[CellKey, set[int]] = defaultdict(set)
    then: dict[CellKey, set[int]] = defaultdict(set)
    installed, states = tables.installations, tables.machines
    query = select(installed, states.c.state).join(states, states.c.id == installed.c.machine_id)
    for row in connection.execute(query):
        for version, bit in ((row.version_id, COUNTED_VERSION), (None, COUNTED_PACKAGE)):
            if row.flags & PRESENT and row.state == State.APPROVED:
                now[row.package_id, version].add(row.machine_id)
            if row.flags & bit:
                then[row.package_id, version].add(row.machine_id)
    shown = {(row.package_id, row.version_id): row for row in connection.execute(select(tables.figures))}
    for key in now.keys() | then.keys() | shown.keys():
        before = shown.get(key)
        cell = Cell(
            present=len(now[key]),
            joined=len(now[key] - then[key]),
            left=len(then[key] - now[key]),
            gone=before.gone if before else 0,
            published=before.published if before else None,
        )
        yield key, cell, before.counted if before else None


def assert_settled(connection: Connection) -> None:
    for key, cell, counted in cells_anew(connection):
        assert not may_publish(cell, TEN), key
        if counted is not None:  # else of a package that nothing happened to since the version before
            assert cell.published == figure(counted, TEN), key
            assert counted - cell.gone + cell.joined - cell.left == cell.present, key


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    engine = create_writer(tmp_path / "bdcs.sqlite")
    with transaction(engine) as connection:
        schema.upgrade(connection)
    engine.dispose()
    opened = Store(tmp_path / "bdcs.sqlite")
    yield opened
    await opened.close()


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_is_lost_and_nothing_counted_twice(store: Store, seed: int) -> None:
    await Fleet(store, random.Random(seed)).live(40)


async def test_what_does_not_add_up_is_found_and_mended(store: Store) -> None:
    fleet = Fleet(store, random.Random(7))
    await store.write(fleet.begin)
    for _ in range(5):
        await store.write(fleet.push)
    await store.write(fleet.change_state)
    await figures.renew(store, TEN)
    assert len(await store.read(checking_figures.differing)) == 0

    def spoil(connection: Connection) -> None:
        connection.execute(update(tables.figures).values(counted=tables.figures.c.counted + 3))
        own = tables.installations.c.machine_id.in_(fleet.slots[:2])
        flags = tables.installations.c.flags
        turned = case((flags.bitwise_and(AWAY) == 0, flags + AWAY), else_=flags - AWAY)
        connection.execute(update(tables.installations).where(own).values(flags=turned))

    await store.write(spoil)
    told = await store.read(differences)
    assert "the figure of the package is said to count" in " ".join(told)
    assert "marked wrongly" in " ".join(told)
    found = await store.read(checking_figures.differing)
    assert len(found) == len(told)
    await store.write(partial(checking_figures.mend, found=found))
    await figures.renew(store, TEN)
    assert await store.read(differences) == []
    await store.read(assert_settled)


async def test_what_was_published_before_the_upgrade_is_counted_after_it(store: Store) -> None:
    fleet = Fleet(store, random.Random(11))
    await store.write(fleet.begin)
    for _ in range(8):
        await store.write(fleet.push)
    await figures.renew(store, TEN)
    await store.write(fleet.forget)
    await store.write(fleet.change_state)
    await figures.renew(store, TEN)

    def carried(connection: Connection) -> list[tuple[object, ...]]:
        cells = select(tables.figures.c.id, tables.figures.c.counted).order_by(tables.figures.c.id)
        marks = select(tables.installations).order_by(*tables.installations.primary_key)
        away = select(tables.away_machines).order_by(tables.away_machines.c.machine_id)
        return [tuple(row) for query in (cells, marks, away) for row in connection.execute(query)]

    def take_back(connection: Connection) -> None:
        for statement in (
            "DROP INDEX ix_installations_unsettled",
            "DROP TABLE away_machines",
            "ALTER TABLE figures DROP COLUMN counted",
            "UPDATE installations SET flags = flags & 7",
            "UPDATE alembic_version SET version_num = '0021'",
        ):
            connection.execute(text(statement))

    before = await store.read(carried)
    await store.write(take_back)
    assert await store.write(schema.upgrade) == "0021"
    await store.write(touch_all)
    await figures.renew(store, TEN)
    assert await store.read(carried) == before
    assert await store.read(differences) == []


async def test_the_command_repairs(store: Store, tmp_path: Path) -> None:
    fleet = Fleet(store, random.Random(3))
    await store.write(fleet.begin)
    for _ in range(5):
        await store.write(fleet.push)
    await figures.renew(store, TEN)
    more = update(tables.figures).values(counted=tables.figures.c.counted + 3)
    await store.write(lambda connection: connection.execute(more))
    assert await store.read(differences)
    command: list[str | Path] = [*BDCS, "check", "--data", tmp_path, "--only", "builds", "--repair"]
    done = await asyncio.to_thread(run, command)
    assert "will be counted anew" in done.stdout
    assert await store.read(differences) == []
    await figures.renew(store, TEN)
    await store.read(assert_settled)
