# SPDX-License-Identifier: GPL-2.0-or-later
"""A store in which machines asked for builds, for tests of what is worth building before anyone asks.

scene.ask(range(12), scene.made("dev-libs/a-1", "ssl"))      # twelve machines, each in a request of its own
await scene.keeper.look()                                     # publishes what may be published
scene.outlook().picks                                         # what everybody may know
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert, select, update

from bdcs.bus.memory import Bus
from bdcs.domain.ebuild_repositories import SyncType
from bdcs.domain.machines import State
from bdcs.domain.thresholds import Thresholds
from bdcs.services import forgetting, machines, prebuild, prebuild_demand, repositories, requests, targets
from bdcs.services.jobs import Jobs, finish_requests
from bdcs.services.prebuild import Outlook
from bdcs.services.prebuild_demand import PrebuildKeeper
from bdcs.services.prebuild_policy import Prebuilder
from bdcs.services.refreshing import Refresher
from bdcs.services.verdicts import Judge, wishes_of
from bdcs.services.waking import Transactions
from bdcs.store import tables
from bdcs.store.engine import SQLITE_NAME
from bdcs.store.store import Store, transaction
from gentwoo_client.wire.builds import BuildSpecification
from tests.ebuild_repositories import Tree
from tests.index_rows import NAME, IndexRows, made
from tests.stores import IS_POSTGRESQL

NOW = 1_795_000_000
DAY = 86_400
BUILDER = 9_999


@dataclass(slots=True)
class Clock:
    """Time that tests move."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class Scene:
    """A target with a builder, a repository, and machines that ask."""

    rows: IndexRows
    tree: Tree
    refresher: Refresher
    store: Store
    clock: Clock
    keeper: PrebuildKeeper
    prebuilder: Prebuilder
    thresholds: Thresholds = field(default_factory=Thresholds)

    def made(self, cpv: str, use: str = "", **more: str) -> BuildSpecification:
        """What a machine asks for."""
        metadata = {"EAPI": "8", "SLOT": "0", "KEYWORDS": "amd64", "IUSE": "ssl doc", "repository": "gentoo"}
        bound = json.loads(more.pop("bound", "{}"))
        wished = [*use.split(), "amd64"]
        return BuildSpecification.from_wish(NAME, cpv, {**metadata, **more}, use=wished, bound=bound)

    def ask(self, numbers: Iterable[int], *wanted: BuildSpecification) -> list[str]:
        """Have machines ask, each for all of it; return their requests."""
        made_requests = []
        for number in numbers:
            with transaction(self.rows.engine) as connection:
                self.join(connection, number)
                target = self.rows.target_in(connection)
                book = Jobs(connection, self.clock())
                judge = Judge(connection=connection, target=target, machine_id=number, now=book.now)
                verdicts = judge.verdicts(wishes_of(wanted))
                made_requests.append(requests.commit(book, target, verdicts, machine_id=number))
        return made_requests

    def join(self, connection: Connection, number: int) -> None:
        """Have a machine, if it is not there yet."""
        table = tables.machines
        if connection.scalar(select(table.c.id).where(table.c.id == number)) is None:
            values = {"uuid": f"00000000-0000-8000-8000-{number:012}", "public_key": b"", "head_seq": 1}
            connection.execute(
                insert(table).values(id=number, state=State.APPROVED, registered_at=1, **values)
            )

    def forget(self, number: int) -> None:
        with transaction(self.rows.engine) as connection:
            uuid = connection.scalar(select(tables.machines.c.uuid).where(tables.machines.c.id == number))
            machine = machines.find(connection, UUID(uuid))
            assert machine is not None
            forgetting.forget(connection, machine)

    def end_jobs(self, state: str = "published", **values: Any) -> None:
        """Have whatever is in flight end; what is published is in the index then."""
        with transaction(self.rows.engine) as connection:
            rows = connection.execute(
                select(tables.jobs).where(tables.jobs.c.state.in_(("waiting", "queued", "building")))
            ).all()
        for row in rows:
            build = self.publish(row) if state == "published" else None
            ends = {"state": state, "finished_at": int(self.clock()), "build_id": build, **values}
            with transaction(self.rows.engine) as connection:
                connection.execute(update(tables.jobs).where(tables.jobs.c.id == row.id).values(**ends))
                of_it = tables.members.c.job_id == row.id
                connection.execute(update(tables.members).where(of_it).values(state=state, build_id=build))
                finish_requests(connection, self._requests_of(connection, row.id), int(self.clock()))

    def _requests_of(self, connection: Connection, job: int) -> list[str]:
        members = tables.members.c
        return list(connection.scalars(select(members.request_id).where(members.job_id == job)))

    def publish(self, job: Any) -> int:
        """Publish what a job is about; return the id of the build."""
        one = BuildSpecification.from_json(json.loads(job.specification))
        row = made(job.cpv)
        row |= {"path": f"{row['path']}.{job.digest}", "digest": job.digest, "iuse": " ".join(one.iuse)}
        row |= {"use": " ".join(("amd64", *one.use)), "slot": one.slot, "keywords": " ".join(one.keywords)}
        return self.rows.publish([row])[0]

    def withdraw(self) -> None:
        """Take everything out of the index."""
        builds = tables.builds.c
        with transaction(self.rows.engine) as connection:
            ids = list(connection.scalars(select(builds.id).where(builds.visible)))
        self.rows.publish([], ids)

    def builder(self) -> None:
        """Have a builder that waits for work."""
        with transaction(self.rows.engine) as connection:
            target = targets.require(connection, NAME)
            connection.execute(tables.builder_targets.delete())
            connection.execute(tables.builders.delete())
            connection.execute(
                insert(tables.builder_targets).values(machine_id=BUILDER, target_id=target.id, approved_at=1)
            )
            connection.execute(
                insert(tables.builders).values(
                    machine_id=BUILDER,
                    name="b",
                    targets=json.dumps([NAME]),
                    seen_at=int(self.clock()),
                    draining=False,
                )
            )

    def outlook(self, *, exact: bool = False) -> Outlook:
        """What everybody may know, or the operator."""
        with transaction(self.rows.engine) as connection:
            some = targets.listed(connection)
            if exact:
                wanted = prebuild_demand.demand(connection, self.clock())
                places = prebuild.exact_places(connection, wanted, some)
            else:
                places = prebuild.public_places(connection, self.thresholds, some)
            return prebuild.outlook(connection, places, self.thresholds, self.clock())

    def jobs(self, origin: str = "prebuild") -> list[Any]:
        with transaction(self.rows.engine) as connection:
            table = tables.jobs
            query = select(table).where(table.c.origin == origin).order_by(table.c.id)
            return list(connection.execute(query))


_STORES: dict[bool, bytes] = {}
"""A store with a public and one with a private target: making one takes longer than most tests."""


def _rows(data: Path, *, private: bool = False) -> IndexRows:
    """A target without anything."""
    if IS_POSTGRESQL:
        return IndexRows.create(data, private=private)
    if private not in _STORES:
        rows = IndexRows.create(data, private=private)
        rows.engine.dispose()  # empties the write-ahead log
        _STORES[private] = (data / SQLITE_NAME).read_bytes()
    data.mkdir(parents=True, exist_ok=True)
    (data / SQLITE_NAME).write_bytes(_STORES[private])
    return IndexRows.open(data)


@asynccontextmanager
async def prepared(home: Path, *, private: bool = False) -> AsyncIterator[Scene]:
    """A scene with `dev-libs/a-1` in its repository."""
    rows = _rows(home / "data", private=private)
    tree = Tree.create(home / "repo")
    tree.add("dev-libs/a-1", IUSE="ssl doc")
    with transaction(rows.engine) as connection:
        repositories.add(
            connection, "gentoo", data=rows.data, sync_type=SyncType.LOCAL, location=tree.root, now=1
        )
    path = rows.data / SQLITE_NAME
    refresher, store, clock = Refresher.of(store=path, data=rows.data), Store(path), Clock()
    refresher.refresh("gentoo")
    thresholds = Thresholds()
    transactions = Transactions(store=store, bus=Bus(), now=clock)
    scene = Scene(
        rows,
        tree,
        refresher,
        store,
        clock,
        PrebuildKeeper(store, thresholds, clock),
        Prebuilder(transactions=transactions, minutes=60, thresholds=thresholds),
    )
    scene.builder()
    try:
        yield scene
    finally:
        await store.close()
        refresher.close()
        rows.engine.dispose()


async def crowded(scene: Scene) -> None:
    """Have machines ask for much, of which some is there; and have what nobody has built."""
    flags = {"IUSE": "doc gtk qt6 ssl +wayland"}
    slots = {"IUSE": "doc ssl", "SLOT": "3.14", "bound": '{"dev-libs/x:=": "0/1"}', "RDEPEND": "dev-libs/x:="}
    scene.ask(range(1, 31), scene.made("www-client/browser-140.0", "wayland gtk", **flags))
    scene.ask(range(31, 51), scene.made("www-client/browser-140.0", "wayland qt6", **flags))
    scene.ask(range(51, 63), scene.made("www-client/browser-140.0", "gtk ssl", **flags))
    scene.ask(range(63, 72), scene.made("www-client/browser-140.0", "doc", **flags))
    scene.ask(range(1, 21), scene.made("dev-lang/snake-3.14.1", "ssl", **slots))
    scene.end_jobs()
    scene.ask(range(1, 26), scene.made("dev-libs/a-1", "ssl"))
    scene.ask(range(1, 16), scene.made("sys-apps/a-package-with-quite-a-long-name-20260101_p3-r2", IUSE=""))
    scene.end_jobs("cancelled")
    for cpv in ("www-client/browser-140.0", "www-client/browser-141.0_p20260801"):
        scene.tree.add(cpv, **{"IUSE": flags["IUSE"]})
    scene.tree.add("dev-lang/snake-3.14.1", IUSE="doc ssl", SLOT="3.14")
    scene.tree.add("sys-apps/a-package-with-quite-a-long-name-20260101_p3-r2")
    scene.refresher.refresh("gentoo")
    with transaction(scene.rows.engine) as connection:
        connection.execute(insert(tables.fleet_figures).values(name="machines", published=200, gone=0))
        for number, (package, machines, log) in enumerate(INSTALLED, 1):
            category, _, name = package.partition("/")
            connection.execute(insert(tables.packages).values(id=number, category=category, name=name))
            connection.execute(insert(tables.figures).values(package_id=number, published=machines, gone=0))
            values = {"major": "", "log": log, "spread": 1, "machines": machines, "as_of": 1, "gone": 0}
            connection.execute(insert(tables.predictions).values(package_id=number, published_at=1, **values))
    await scene.keeper.look()


def left_behind(home: Path, *, is_crowded: bool) -> Path:
    """Return the data of a collector at which that happened, or nothing; also beside a loop that runs."""

    async def happen() -> None:
        async with prepared(home) as scene:
            if is_crowded:
                await crowded(scene)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(happen())).result()
    return home / "data"


INSTALLED = (
    ("www-client/browser", 190, 880),
    ("dev-lang/snake", 20, 600),
    ("dev-libs/a", 150, 300),
    ("sys-devel/compiler", 200, 850),
    ("app-office/suite", 80, 900),
)
"""Packages on so many machines, and what they take: hundredths of the logarithm of seconds."""
