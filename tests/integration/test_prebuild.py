# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines asked for, what is said of it in public, and what is worth building, in a real store."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from bdcs.services import prebuild, quarantine, targets
from bdcs.services.prebuild import Pick
from bdcs.services.prebuild_candidates import OVERHEAD, UNKNOWN, Standing
from bdcs.store import tables
from bdcs.store.store import transaction
from tests.index_rows import NAME
from tests.prebuild_scene import DAY, Scene, prepared


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with prepared(tmp_path) as scene:
        yield scene


def shown(picks: tuple[Pick, ...]) -> list[tuple[str, tuple[str, ...], int]]:
    return [
        (str(pick.candidate.specification.cpv), pick.candidate.specification.use, pick.machines)
        for pick in picks
    ]


async def test_the_variant_of_a_crowd_is_worth_building(scene: Scene) -> None:
    scene.ask(range(1, 16), scene.made("dev-libs/a-1", "ssl"))
    scene.ask(range(16, 28), scene.made("dev-libs/a-1", "doc"))
    scene.ask(range(28, 38), scene.made("dev-libs/a-1", "doc ssl"))
    scene.end_jobs()
    await scene.keeper.look()
    (one,) = scene.outlook().coverage
    assert (one.place.machines, one.variants, one.served, one.curve) == (35, 3, 35, (15, 25, 35))
    assert scene.outlook().picks == ()
    scene.withdraw()
    found = scene.outlook()
    assert shown(found.picks)[0] == ("dev-libs/a-1", ("ssl",), 15)
    pick = found.picks[0]
    assert (pick.candidate.seconds, pick.candidate.saved) == (OVERHEAD + UNKNOWN, UNKNOWN)
    assert not pick.candidate.variant.is_hidden
    assert pick.candidate.variant.enabled == ("ssl",)


async def test_the_operator_sees_all_of_it(scene: Scene) -> None:
    scene.ask([1, 2, 3], scene.made("dev-libs/a-1", "ssl"))
    scene.ask([4], scene.made("dev-libs/a-1", "doc"))
    scene.end_jobs("cancelled")
    (one,) = scene.outlook(exact=True).coverage
    assert (one.place.machines, one.variants, one.served, one.curve) == (4, 2, 0, (3, 4))
    assert [machines for _, _, machines in shown(scene.outlook(exact=True).picks)] == [3, 1]
    await scene.keeper.look()
    assert scene.outlook().coverage == ()


async def test_a_newer_version_takes_the_place_of_what_was_asked_for(scene: Scene) -> None:
    scene.ask(range(1, 13), scene.made("dev-libs/a-1", "ssl"))
    scene.end_jobs()
    await scene.keeper.look()
    scene.tree.add("dev-libs/a-2", IUSE="ssl doc +new", RDEPEND="ssl? ( dev-libs/x:= )")
    scene.tree.add("dev-libs/a-3", IUSE="ssl doc", KEYWORDS="~amd64")
    scene.tree.add("dev-libs/a-9999", IUSE="ssl doc", KEYWORDS="", PROPERTIES="live")
    scene.refresher.refresh("gentoo")
    (pick,) = scene.outlook().picks
    specification = pick.candidate.specification
    assert (str(specification.cpv), specification.use) == ("dev-libs/a-2", ("new", "ssl"))
    assert specification.rdepend == "dev-libs/x:="
    assert scene.outlook().coverage[0].served == 0


async def test_what_is_bound_to_an_old_sub_slot_is_built_anew(scene: Scene) -> None:
    bound = {"RDEPEND": "dev-libs/x:=", "bound": '{"dev-libs/x:=": "0/1"}'}
    scene.ask(range(1, 13), scene.made("dev-libs/a-1", "ssl", **bound))
    scene.end_jobs()
    await scene.keeper.look()
    assert scene.outlook().picks == ()
    scene.ask([1], scene.made("dev-libs/x-7", SLOT="0/7"))
    scene.end_jobs()
    (pick,) = scene.outlook().picks
    assert pick.candidate.specification.built_against == {"dev-libs/x:0": "0/7"}


async def test_each_machine_counts_once_with_what_it_asked_for_last(scene: Scene) -> None:
    scene.ask(range(1, 13), scene.made("dev-libs/a-1", "doc"))
    scene.clock.now += 60
    scene.ask(range(1, 13), scene.made("dev-libs/a-1", "ssl"))
    scene.ask(range(1, 13), scene.made("dev-libs/a-1", "ssl"))
    scene.end_jobs("cancelled")
    await scene.keeper.look()
    (one,) = scene.outlook().coverage
    assert (one.place.machines, one.curve) == (10, (10,))
    assert one.place.users == 10


async def test_what_was_taken_back_refused_patched_or_is_long_ago_does_not_count(scene: Scene) -> None:
    taken_back = scene.ask(range(1, 11), scene.made("dev-libs/a-1", "ssl"))
    with transaction(scene.rows.engine) as connection:
        table = tables.requests
        connection.execute(update(table).where(table.c.id.in_(taken_back)).values(cancelled_at=1))
    scene.ask(range(11, 21), scene.made("dev-libs/a-1", "doc", RESTRICT="bindist"))
    scene.ask(range(21, 31), scene.made("dev-libs/a-1", "doc", USER_PATCHES="0123"))
    assert scene.outlook(exact=True).coverage == ()
    scene.ask(range(31, 41), scene.made("dev-libs/a-1", "doc ssl"))
    assert len(scene.outlook(exact=True).coverage) == 1
    scene.clock.now += 91 * DAY
    assert scene.outlook(exact=True).coverage == ()


async def test_compiling_that_is_saved_for_the_time_it_takes_decides_the_order(scene: Scene) -> None:
    for name, machines in (("quick", 20), ("slow", 15), ("alike", 20)):
        scene.ask(range(1, machines + 1), scene.made(f"dev-libs/{name}-1", IUSE=""))
        scene.tree.add(f"dev-libs/{name}-1")
    scene.refresher.refresh("gentoo")
    scene.end_jobs("cancelled")
    with transaction(scene.rows.engine) as connection:
        for number, (name, log) in enumerate((("quick", 250), ("slow", 800)), 1):
            connection.execute(insert(tables.packages).values(id=number, category="dev-libs", name=name))
            values = {"major": "", "log": log, "spread": 1, "machines": 20, "as_of": 1, "gone": 0}
            connection.execute(insert(tables.predictions).values(package_id=number, published_at=1, **values))
    await scene.keeper.look()
    found = scene.outlook()
    assert [cpv for cpv, _, _ in shown(found.picks)] == [
        "dev-libs/alike-1",
        "dev-libs/slow-1",
        "dev-libs/quick-1",
    ]
    assert [pick.candidate.is_known for pick in found.picks] == [False, True, True]
    (cheap,) = prebuild.within(found, 60)
    assert str(cheap.candidate.specification.cpv) == "dev-libs/quick-1"


async def test_machines_that_have_a_package_count_beside_those_that_asked(scene: Scene) -> None:
    scene.ask(range(1, 11), scene.made("dev-libs/a-1", "ssl"), scene.made("dev-libs/b-1", IUSE=""))
    scene.ask(range(11, 41), scene.made("dev-libs/b-1", IUSE=""))
    scene.tree.add("dev-libs/b-1")
    scene.refresher.refresh("gentoo")
    scene.end_jobs("cancelled")
    with transaction(scene.rows.engine) as connection:
        connection.execute(insert(tables.packages).values(id=1, category="dev-libs", name="a"))
        connection.execute(insert(tables.figures).values(package_id=1, published=500, gone=0))
        connection.execute(insert(tables.fleet_figures).values(name="machines", published=1000, gone=0))
    await scene.keeper.look()
    likely = {pick.candidate.specification.cpv.name: pick.likely for pick in scene.outlook().picks}
    assert likely == {"a": 20, "b": 40}


async def test_how_builds_stand(scene: Scene) -> None:
    cases: list[tuple[str, dict[str, object], Standing]] = [
        ("queued", {}, Standing.COMING),
        ("cancelled", {}, Standing.OPEN),
        ("failed", {"failure": "build", "failed_until": 2_000_000_000}, Standing.FAILED),
        ("failed", {"failure": "build", "failed_until": 1}, Standing.OPEN),
        ("failed", {"failure": "build", "failed_until": 1, "origin": "prebuild"}, Standing.FAILED),
        ("failed", {"failure": "fetch", "failed_until": 1, "origin": "prebuild"}, Standing.OPEN),
        ("mismatch", {"failed_until": 1, "origin": "prebuild"}, Standing.FAILED),
        ("published", {}, Standing.THERE),
    ]
    for number, (state, values, _) in reversed(list(enumerate(cases))):
        scene.tree.add(f"dev-libs/p{number}-1")
        scene.ask(range(1, 11), scene.made(f"dev-libs/p{number}-1", IUSE=""))
        scene.end_jobs(state, **values)
    scene.refresher.refresh("gentoo")
    await scene.keeper.look()
    found = scene.outlook()
    standings = {one.specification.cpv.name: one.standing for one in found.candidates.values()}
    assert standings == {f"p{number}": standing for number, (_, _, standing) in enumerate(cases)}
    assert {cpv for cpv, _, _ in shown(found.picks)} == {f"dev-libs/p{number}-1" for number in (1, 3, 5)}


async def test_what_was_built_unasked_and_went_is_not_built_again(scene: Scene) -> None:
    scene.ask(range(1, 11), scene.made("dev-libs/a-1", "ssl"))
    scene.end_jobs("published", origin="prebuild")
    scene.withdraw()
    await scene.keeper.look()
    assert scene.outlook().picks == ()


async def test_what_the_repository_does_not_have_is_impossible(scene: Scene) -> None:
    scene.ask(range(1, 11), scene.made("dev-libs/gone-1", IUSE=""))
    scene.end_jobs("cancelled")
    await scene.keeper.look()
    found = scene.outlook()
    assert [one.standing for one in found.candidates.values()] == [Standing.IMPOSSIBLE]
    assert (found.picks, found.coverage[0].curve) == ((), ())


async def test_a_package_that_is_set_aside_is_not_shown(scene: Scene) -> None:
    scene.ask(range(1, 11), scene.made("dev-libs/a-1", "ssl"))
    await scene.keeper.look()
    assert scene.outlook().coverage
    with transaction(scene.rows.engine) as connection:
        connection.execute(insert(tables.packages).values(id=1, category="dev-libs", name="a"))
        quarantine.set_aside(connection, "dev-libs/a", "", 1)
    assert scene.outlook().coverage == ()


async def test_no_order_of_requests_matters(tmp_path: Path) -> None:
    asked = [(number, "ssl" if number % 3 else "doc") for number in range(1, 40)]
    found = []
    for seed in (None, 1, 2):
        mixed = list(asked)
        if seed is not None:
            random.Random(seed).shuffle(mixed)
        async with prepared(tmp_path / str(seed)) as scene:
            for number, use in mixed:
                scene.ask([number], scene.made("dev-libs/a-1", use))
            scene.end_jobs("cancelled")
            await scene.keeper.look()
            outlook = scene.outlook()
            found.append((outlook.coverage[0].curve, shown(outlook.picks)))
    assert found[0][0] == (25, 40)
    assert found[0] == found[1] == found[2]


# Thresholds -----------------------------------------------------------------------------------------------


def public(scene: Scene) -> list[tuple[str, int, int, tuple[int, ...]]]:
    """All figures that anybody can see."""
    return [
        (one.place.key.name, one.place.machines, one.served, one.curve) for one in scene.outlook().coverage
    ]


async def test_nine_machines_of_an_attackers_never_show_a_tenth(scene: Scene) -> None:
    """They come, ask, are forgotten and come again; whether the victim asked never shows."""
    scene.ask([500], scene.made("dev-libs/a-1", "doc ssl"))
    for start in (1, 101, 201):
        mine = range(start, start + 8)
        scene.ask(mine, scene.made("dev-libs/a-1", "doc ssl"))
        await scene.keeper.look()
        assert public(scene) == []
        for number in mine:
            scene.forget(number)
        await scene.keeper.look()
        assert public(scene) == []


async def test_nobody_sees_one_machine_come_change_or_go(scene: Scene) -> None:
    scene.ask(range(1, 21), scene.made("dev-libs/a-1", "ssl"))
    scene.end_jobs()
    await scene.keeper.look()
    before = public(scene)
    assert before == [("a", 20, 20, (20,))]
    for number in range(101, 109):
        scene.ask([number], scene.made("dev-libs/a-1", "ssl"))
    scene.clock.now += 1
    scene.ask([1], scene.made("dev-libs/a-1", "doc"))
    await scene.keeper.look()
    assert public(scene) == before
    for number in range(101, 109):
        scene.forget(number)
        scene.ask([number + 100], scene.made("dev-libs/a-1", "ssl"))
    await scene.keeper.look()
    assert public(scene) == before, "who is forgotten and comes again is one change"
    scene.ask(range(301, 304), scene.made("dev-libs/a-1", "ssl"))
    await scene.keeper.look()
    assert public(scene) == [("a", 30, 30, (30,))], "ten others make a crowd"


async def test_forgetting_leaves_nothing_but_a_number(scene: Scene) -> None:
    scene.ask(range(1, 13), scene.made("dev-libs/a-1", "ssl"))
    await scene.keeper.look()
    scene.forget(5)
    with transaction(scene.rows.engine) as connection:
        counted = tables.prebuild_counted.c.machine_id
        assert 5 not in set(connection.scalars(select(counted)))
        assert set(connection.scalars(select(tables.prebuild_cells.c.gone))) == {1}
    await scene.keeper.look()
    assert public(scene) == [("a", 10, 0, (10,))]


async def test_a_difference_that_proves_a_few_is_not_shown(scene: Scene) -> None:
    """25 that asked and 20 of one variant would say that a few asked for another."""
    scene.ask(range(1, 21), scene.made("dev-libs/a-1", "ssl"))
    scene.ask(range(21, 26), scene.made("dev-libs/a-1", "doc"))
    await scene.keeper.look()
    assert public(scene) == [("a", 25, 0, (25,))]


async def test_a_target_takes_along_what_machines_asked_of_it(scene: Scene) -> None:
    scene.ask(range(1, 16), scene.made("dev-libs/a-1", "ssl"))
    await scene.keeper.look()
    with transaction(scene.rows.engine) as connection:
        assert connection.execute(select(tables.prebuild_counted)).first() is not None
        targets.remove(connection, targets.require(connection, NAME), force=True)
        for table in (tables.prebuild_cells, tables.prebuild_counted):
            assert connection.execute(select(table)).first() is None
