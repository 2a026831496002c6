# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders that have nothing else to do build what is likely to be asked for, within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from bdcs.domain.jobs import PRIORITIES, Origin
from bdcs.services.prebuild_candidates import OVERHEAD, UNKNOWN
from bdcs.services.prebuild_policy import UNUSED, Prebuilder
from bdcs.store import tables
from bdcs.store.store import transaction
from gentwoo_client.wire.cpv import CPV
from tests.index_rows import NAME
from tests.prebuild_scene import BUILDER, DAY, Scene, prepared
from tests.waiting import until


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Twelve machines asked for a package with either of two flags, and nobody builds it."""
    async with prepared(tmp_path) as scene:
        await crowd_asks(scene)
        yield scene


async def crowd_asks(scene: Scene) -> None:
    scene.ask(range(1, 25), scene.made("dev-libs/a-1", "ssl"))
    scene.ask(range(25, 40), scene.made("dev-libs/a-1", "doc"))
    scene.end_jobs("cancelled")
    await scene.keeper.look()


def attempt(scene: Scene, *, seconds: int) -> None:
    """Have the last job unasked taken so long by a builder."""
    began, job = int(scene.clock()) - seconds, scene.jobs()[-1].id
    with transaction(scene.rows.engine) as connection:
        connection.execute(
            insert(tables.attempts).values(
                job_id=job,
                number=1,
                machine_id=BUILDER,
                builder="b",
                started_at=began,
                lease_until=began,
                finished_at=began + seconds,
                state="published",
                log_size=0,
            )
        )


async def test_the_best_is_queued_behind_everything_else_one_at_a_time(scene: Scene) -> None:
    assert await scene.prebuilder.look() == [(CPV("dev-libs", "a", "1"), NAME)]
    (job,) = scene.jobs()
    assert (job.state, job.priority) == ("queued", PRIORITIES[Origin.PREBUILD])
    assert '"use": ["ssl"]' in job.specification
    assert await scene.prebuilder.look() == [], "the builder has something to do"
    scene.end_jobs()
    assert len(await scene.prebuilder.look()) == 1
    assert '"use": ["doc"]' in scene.jobs()[-1].specification
    scene.end_jobs()
    assert await scene.prebuilder.look() == [], "all of it is there"


async def test_it_waits_for_builders_that_are_idle(scene: Scene) -> None:
    scene.ask([1], scene.made("dev-libs/other-1", IUSE=""))
    assert await scene.prebuilder.look() == []
    scene.end_jobs("cancelled")
    scene.clock.now += 3600
    assert await scene.prebuilder.look() == [], "no builder was seen for an hour"
    scene.builder()
    assert len(await scene.prebuilder.look()) == 1


async def test_it_stays_within_the_budget_of_a_day(scene: Scene) -> None:
    one = OVERHEAD + UNKNOWN
    small = Prebuilder(transactions=scene.prebuilder.transactions, minutes=2, thresholds=scene.thresholds)
    assert len(await small.look()) == 1
    attempt(scene, seconds=one)
    scene.end_jobs()
    assert await small.look() == [], "40 s are left, and it takes 80"
    scene.clock.now += DAY
    scene.builder()
    assert len(await small.look()) == 1


async def test_off_means_off(scene: Scene) -> None:
    never = Prebuilder(transactions=scene.prebuilder.transactions, minutes=0, thresholds=scene.thresholds)
    await never.run()
    assert await never.look() == []
    assert scene.jobs() == []


async def test_the_server_does_it_by_itself(scene: Scene) -> None:
    work = asyncio.create_task(scene.prebuilder.run())
    try:
        await asyncio.to_thread(until, scene.jobs)
    finally:
        work.cancel()
        await asyncio.wait([work])


async def test_what_few_asked_for_is_not_built_unasked(tmp_path: Path) -> None:
    async with prepared(tmp_path) as scene:
        scene.ask(range(1, 10), scene.made("dev-libs/a-1", "ssl"))
        scene.end_jobs("cancelled")
        await scene.keeper.look()
        assert await scene.prebuilder.look() == []


@pytest.mark.parametrize(
    ("values", "is_tried_again"),
    [
        ({"failure": "fetch"}, True),
        ({"failure": "build"}, False),
    ],
)
async def test_a_failure_is_remembered(scene: Scene, values: dict[str, Any], is_tried_again: bool) -> None:
    until = int(scene.clock()) + 3600
    assert len(await scene.prebuilder.look()) == 1
    scene.end_jobs("failed", failed_until=until, failure_text="", **values)
    assert '"use": ["doc"]' in (await queued_now(scene))
    scene.end_jobs()
    assert await scene.prebuilder.look() == [], "as long as it is remembered"
    scene.clock.now += 3601
    scene.builder()
    assert bool(await scene.prebuilder.look()) is is_tried_again


async def queued_now(scene: Scene) -> str:
    """Have something queued; return its specification."""
    assert len(await scene.prebuilder.look()) == 1
    specification: str = scene.jobs()[-1].specification
    return specification


async def test_it_is_built_once(scene: Scene) -> None:
    for _ in range(2):
        assert len(await scene.prebuilder.look()) == 1
        scene.end_jobs()
    scene.withdraw()
    assert await scene.prebuilder.look() == []


async def test_it_ends_when_nobody_asks_any_more(scene: Scene) -> None:
    """The public figure stays until a crowd moves it; but nothing follows from it."""
    scene.clock.now += 91 * DAY
    scene.builder()
    assert scene.outlook().picks
    assert await scene.prebuilder.look() == []


async def test_what_nobody_took_is_not_built_in_its_next_version(scene: Scene) -> None:
    while await scene.prebuilder.look():
        scene.end_jobs()
    scene.clock.now += UNUSED + DAY
    scene.builder()
    scene.tree.add("dev-libs/a-2", IUSE="ssl doc")
    scene.refresher.refresh("gentoo")
    assert len(scene.outlook().picks) == 2
    assert await scene.prebuilder.look() == []
    scene.ask([1], scene.made("dev-libs/a-1", "ssl"))
    assert '"use": ["ssl"]' in (await queued_now(scene))
    scene.end_jobs()
    assert await scene.prebuilder.look() == [], "the other one still lies there"


async def test_a_specification_of_other_rules_stops_nobody(scene: Scene) -> None:
    await scene.prebuilder.look()
    scene.end_jobs()
    with transaction(scene.rows.engine) as connection:
        unasked = tables.jobs.c.origin == str(Origin.PREBUILD)
        connection.execute(update(tables.jobs).where(unasked).values(specification="{}"))
    scene.clock.now += UNUSED + DAY
    scene.builder()
    assert '"use": ["doc"]' in (await queued_now(scene))


async def test_who_asks_goes_first(scene: Scene) -> None:
    """Also for the very same: then it is no build that nobody asked for."""
    await scene.prebuilder.look()
    scene.ask([1], scene.made("dev-libs/a-1", "ssl"))
    (job,) = (each for each in scene.jobs("request") if each.state == "queued")
    assert job.priority == PRIORITIES[Origin.REQUEST]
    assert scene.jobs() == []


async def test_a_machine_set_aside_is_no_demand(scene: Scene) -> None:
    with transaction(scene.rows.engine) as connection:
        connection.execute(update(tables.machines).values(state="quarantined"))
    assert await scene.prebuilder.look() == []
