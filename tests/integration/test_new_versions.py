# SPDX-License-Identifier: GPL-2.0-or-later
"""New versions in a repository are queued for the targets and variants that machines use."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from bdcs.bus.memory import Bus
from bdcs.domain.ebuild_repositories import SyncType
from bdcs.services import catalogue, repositories, targets
from bdcs.services.new_versions import PATIENCE, NewVersions
from bdcs.services.refreshing import Refresher
from bdcs.services.waking import Transactions
from bdcs.store import tables
from bdcs.store.store import Store, transaction
from gentwoo_client.wire.builds import BuildSpecification
from tests.ebuild_repositories import Tree
from tests.index_rows import NAME, IndexRows, made

DAY = 86_400


@dataclass(frozen=True, slots=True)
class Scene:
    """A target with a builder, a repository, and who queues new versions."""

    rows: IndexRows
    tree: Tree
    refresher: Refresher
    store: Store
    new_versions: NewVersions

    def publish(self, cpv: str, use: str = "", **values: str) -> int:
        """Publish a build; return its id."""
        fields = {"IUSE": "ssl doc", "REPO": "gentoo", "SLOT": "0", **values}
        row = made(cpv, more="".join(f"{key}: {value}\n" for key, value in fields.items()))
        row |= {"use": f"amd64 {use}".strip(), "iuse": fields["IUSE"], "path": f"{row['path']}.{use}"}
        row["slot"] = fields["SLOT"]
        return self.rows.publish([row])[0]

    def ask(self, build: int, *, days_ago: int = 0) -> None:
        """Have a machine ask for a published build."""
        with transaction(self.rows.engine) as connection:
            number = f"r{build}-{days_ago}"
            at = int(time.time()) - days_ago * DAY
            connection.execute(
                insert(tables.requests).values(
                    id=number,
                    machine_id=7,
                    target_id=self.rows.target_in(connection).id,
                    created_at=at,
                    finished_at=at,
                    note="[]",
                )
            )
            connection.execute(
                insert(tables.members).values(
                    request_id=number,
                    position=0,
                    cpv="",
                    digest="",
                    build_id=build,
                    answer="published",
                    state="published",
                )
            )

    def builder(self, seen_at: float) -> None:
        """Have a builder that was last seen then."""
        with transaction(self.rows.engine) as connection:
            target = targets.require(connection, NAME)
            connection.execute(tables.builder_targets.delete())
            connection.execute(tables.builders.delete())
            connection.execute(
                insert(tables.builder_targets).values(machine_id=9, target_id=target.id, approved_at=1)
            )
            connection.execute(
                insert(tables.builders).values(
                    machine_id=9, name="b", targets=json.dumps([NAME]), seen_at=int(seen_at), draining=False
                )
            )

    async def look(self) -> int:
        """Refresh the repository, and see what is new."""
        self.refresher.refresh("gentoo")
        return await self.new_versions.look()

    def jobs(self) -> list[Any]:
        with transaction(self.rows.engine) as connection:
            return list(connection.execute(select(tables.jobs).order_by(tables.jobs.c.id)))

    def new(self) -> list[str]:
        """Versions that nobody has looked at."""
        with transaction(self.rows.engine) as connection:
            return [str(version.cpv) for version in catalogue.new_versions(connection, 100)]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    rows = IndexRows.create(tmp_path / "data")
    tree = Tree.create(tmp_path / "repo")
    tree.add("dev-libs/a-1", IUSE="ssl doc")
    with transaction(rows.engine) as connection:
        repositories.add(
            connection,
            "gentoo",
            data=rows.data,
            sync_type=SyncType.LOCAL,
            location=tree.root,
            now=1,
        )
    path = rows.data / "bdcs.sqlite"
    refresher, store = Refresher.of(store=path, data=rows.data), Store(path)
    refresher.refresh("gentoo")
    transactions = Transactions(store=store, bus=Bus(), now=time.time)
    made_scene = Scene(rows, tree, refresher, store, NewVersions(transactions=transactions, days=90))
    made_scene.builder(time.time())
    yield made_scene
    await store.close()
    refresher.close()
    rows.engine.dispose()


async def test_a_new_version_is_queued_once_for_each_variant_in_use(scene: Scene) -> None:
    scene.ask(scene.publish("dev-libs/a-1", "ssl"))
    scene.ask(scene.publish("dev-libs/a-1", "doc"), days_ago=80)
    scene.ask(scene.publish("dev-libs/a-1", "ssl doc"), days_ago=100)
    scene.publish("dev-libs/a-1")
    scene.tree.add("dev-libs/a-2", IUSE="ssl doc +new")
    assert await scene.look() == 2
    found = [BuildSpecification.from_json(json.loads(job.specification)) for job in scene.jobs()]
    assert sorted((str(one.cpv), one.use) for one in found) == [
        ("dev-libs/a-2", ("doc", "new")),
        ("dev-libs/a-2", ("new", "ssl")),
    ]
    assert {(job.origin, job.state) for job in scene.jobs()} == {("new-version", "queued")}
    assert scene.new() == []
    assert await scene.look() == 0
    assert len(scene.jobs()) == 2


async def test_nothing_is_queued_of_what_nobody_uses(scene: Scene) -> None:
    scene.publish("dev-libs/a-1", "ssl")
    scene.tree.add("dev-libs/a-2", IUSE="ssl doc")
    scene.tree.add("dev-libs/unheard-1")
    assert await scene.look() == 0
    assert scene.new() == [], "and it is not looked at again"


async def test_a_package_on_many_machines_needs_nobody_who_asks(scene: Scene) -> None:
    scene.publish("dev-libs/a-1", "ssl")
    with transaction(scene.rows.engine) as connection:
        connection.execute(insert(tables.packages).values(id=3, category="dev-libs", name="a"))
        columns = {column.name for column in tables.figures.c if not column.nullable} - {"id"}
        values = dict.fromkeys(columns, 0) | {"package_id": 3, "version_id": None, "published": 20}
        connection.execute(insert(tables.figures).values(**values))
    scene.tree.add("dev-libs/a-2", IUSE="ssl doc")
    assert await scene.look() == 1


async def test_it_waits_for_a_builder_but_not_for_ever(scene: Scene) -> None:
    scene.ask(scene.publish("dev-libs/a-1", "ssl"))
    scene.builder(time.time() - DAY)
    scene.tree.add("dev-libs/a-2", IUSE="ssl doc")
    assert await scene.look() == 0
    assert scene.new() == ["dev-libs/a-2"]
    scene.builder(time.time())
    assert await scene.new_versions.look() == 1
    scene.builder(time.time() - DAY)
    scene.tree.add("dev-libs/a-3", IUSE="ssl doc")
    scene.refresher.refresh("gentoo")
    with transaction(scene.rows.engine) as connection:
        versions = tables.catalogue_versions
        connection.execute(update(versions).values(added_at=int(time.time()) - PATIENCE - 1))
    assert await scene.new_versions.look() == 0
    assert scene.new() == []


async def test_dependencies_are_those_of_the_new_ebuild_bound_to_what_is_published(scene: Scene) -> None:
    scene.publish("dev-libs/x-5", SLOT="0/5.1")
    scene.publish("dev-libs/x-4", SLOT="0/4.0")
    scene.ask(scene.publish("dev-libs/a-1", "ssl"))
    scene.tree.add(
        "dev-libs/a-2", IUSE="ssl doc", RDEPEND="ssl? ( dev-libs/x:= ) doc? ( dev-libs/y:= ) dev-libs/z:0="
    )
    assert await scene.look() == 1
    specification = BuildSpecification.from_json(json.loads(scene.jobs()[0].specification))
    assert specification.rdepend == "dev-libs/x:= dev-libs/z:="
    assert specification.built_against == {"dev-libs/x:0": "0/5.1"}
    assert specification.keywords == ("amd64",)


async def test_a_spoilt_ebuild_is_passed_over(scene: Scene) -> None:
    scene.ask(scene.publish("dev-libs/a-1", "ssl"))
    scene.tree.add("dev-libs/a-2", IUSE="ssl doc", DEPEND="|| ( unfinished")
    assert await scene.look() == 0
    assert scene.new() == []


async def test_nothing_is_built_unasked_where_the_operator_says_so(scene: Scene) -> None:
    scene.ask(scene.publish("dev-libs/a-1", "ssl"))
    scene.tree.add("dev-libs/a-2", IUSE="ssl doc")
    scene.refresher.refresh("gentoo")
    never = NewVersions(transactions=scene.new_versions.transactions, days=0)
    assert await never.look() == 0
    assert scene.new() == []


def specification(cpv: str, *, repository: str = "gentoo", iuse: str = "ssl") -> BuildSpecification:
    metadata = {"EAPI": "8", "SLOT": "0", "KEYWORDS": "amd64", "IUSE": iuse, "repository": repository}
    return BuildSpecification.from_wish(NAME, cpv, metadata, use=["amd64"], bound={})


async def test_wishes_are_held_against_the_catalogue(scene: Scene) -> None:
    with transaction(scene.rows.engine) as connection:

        def objection(one: BuildSpecification) -> str:
            return catalogue.objections(connection, [one])[0] or ""

        assert objection(specification("dev-libs/a-1")) == ""
        assert "no dev-libs/a-2" in objection(specification("dev-libs/a-2"))
        assert objection(specification("dev-libs/x-1", repository="guru")) == "", "nothing is known of it"
        assert "no such flags here: gtk" in objection(specification("dev-libs/a-1", iuse="gtk ssl"))
        repositories.remove(connection, repositories.require(connection, "gentoo"))
        assert objection(specification("dev-libs/a-2")) == ""
