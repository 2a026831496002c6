# SPDX-License-Identifier: GPL-2.0-or-later
"""How many builders there should be: what holds whatever the queue looks like, and some figures by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdcs.domain.capacity import Builder, Decision, PoolStanding, Standing, backlogs, decide
from bdcs.domain.capacity_pools import Limits, pool, pools
from bdcs.domain.forecast import Queued
from bdcs.errors import ConfigurationError

NOW = 1_800_000_000
PATIENCE = 600
HOUR = 3600


def job(number: int, seconds: int | None = 600, *needs: int, waits: int = 0, priority: int = 100) -> Queued:
    return Queued(
        id=number,
        requester=1,
        priority=priority,
        since=NOW - waits,
        expected_seconds=seconds,
        needs=frozenset(needs),
    )


def ready(name: str, *, idle: int | None = None, age: int = HOUR) -> Builder:
    """One that has been idle for so long, or builds."""
    return Builder(name=name, appeared_at=NOW - age, idle_since=None if idle is None else NOW - idle)


def pool_of(name: str = "amd64", **facts: object) -> PoolStanding:
    """One whose engine was told to have whom we know, unless said."""
    builders = facts.get("builders", ())
    assert isinstance(builders, tuple)
    return PoolStanding(**{"name": name, "limits": Limits(most=10), "wanted": len(builders), **facts})  # type: ignore[arg-type]


def decided(standing: PoolStanding, *, total: int | None = None, patience: int = PATIENCE) -> Decision:
    return decide([standing], patience=patience, total=total, now=NOW)[standing.name]


@st.composite
def queues(draw: st.DrawFn) -> tuple[Queued, ...]:
    """Jobs that need earlier ones, of all priorities; some are built."""
    found: list[Queued] = []
    for number in range(draw(st.integers(0, 12))):
        needs = draw(st.sets(st.integers(0, max(0, number - 1)), max_size=2)) if number else set()
        one = job(
            number,
            draw(st.integers(1, 3 * HOUR)),
            *needs,
            waits=draw(st.integers(0, 2 * HOUR)),
            priority=draw(st.sampled_from((10, 50, 100))),
        )
        is_built = not needs and draw(st.booleans())
        found.append(replace(one, started_at=NOW - draw(st.integers(0, HOUR))) if is_built else one)
    return tuple(found)


@st.composite
def standings(draw: st.DrawFn, name: str = "amd64") -> PoolStanding:
    least = draw(st.integers(0, 3))
    limits = Limits(
        least=least,
        most=least + draw(st.integers(0, 8)),
        idle=draw(st.sampled_from((0, 60, 300))),
        startup=draw(st.sampled_from((0, 30, 300))),
        slots=draw(st.integers(1, 3)),
    )
    builders = tuple(
        Builder(
            name=f"{name}-{number}",
            standing=draw(st.sampled_from(Standing)),
            appeared_at=NOW - draw(st.integers(0, HOUR)),
            idle_since=draw(st.none() | st.integers(NOW - HOUR, NOW)),
        )
        for number in range(draw(st.integers(0, 8)))
    )
    return PoolStanding(
        name=name,
        limits=limits,
        jobs=draw(queues()),
        wanted=draw(st.integers(0, 12)),
        builders=builders,
        outside=draw(st.integers(0, 2)),
        quiet_since=NOW - draw(st.integers(0, HOUR)),
    )


several = st.tuples(standings("amd64"), standings("arm64"), standings("riscv"))


def told(standing: PoolStanding) -> int:
    return max(standing.wanted, len(standing.builders))


@given(several, st.none() | st.integers(0, 30))
def test_no_more_are_asked_for_than_there_may_be(found: tuple[PoolStanding, ...], total: int | None) -> None:
    decisions = decide(found, patience=PATIENCE, total=total, now=NOW)
    for standing in found:
        decision = decisions[standing.name]
        assert standing.limits.least <= decision.needed <= standing.limits.most
        if decision.start:
            assert told(standing) + decision.start <= standing.limits.most
    if total is not None and any(decision.start for decision in decisions.values()):
        asked = sum(told(one) + decisions[one.name].start - decisions[one.name].forgo for one in found)
        assert asked <= total


@given(several, st.none() | st.integers(0, 30))
def test_nobody_is_sent_away_and_fetched_at_once(found: tuple[PoolStanding, ...], total: int | None) -> None:
    for name, decision in decide(found, patience=PATIENCE, total=total, now=NOW).items():
        (standing,) = (one for one in found if one.name == name)
        comes, goes = decision.start or decision.recall, decision.release or decision.forgo
        assert not (comes and goes)
        assert len(standing.ready) + standing.starting - len(decision.release) - decision.forgo >= min(
            standing.capacity, standing.limits.least
        )
        assert set(decision.release) <= {one.name for one in standing.ready}
        assert set(decision.recall) <= {one.name for one in standing.leaving}


@given(standings())
def test_who_builds_is_not_sent_away_unless_there_are_too_many(standing: PoolStanding) -> None:
    if standing.capacity <= standing.limits.most:
        released = set(decided(standing).release)
        assert not released & {one.name for one in standing.ready if one.idle_since is None}


@given(standings(), st.integers(1, 3 * HOUR), st.sampled_from((10, 50, 100)), st.booleans())
def test_more_work_never_means_fewer(
    standing: PoolStanding, seconds: int, priority: int, is_needing: bool
) -> None:
    needs = (standing.jobs[-1].id,) if is_needing and standing.jobs else ()
    more = replace(standing, jobs=(*standing.jobs, job(99, seconds, *needs, priority=priority)))
    assert decided(more).needed >= decided(standing).needed


@given(standings())
def test_without_work_only_the_least_are_needed(standing: PoolStanding) -> None:
    idle = replace(standing, jobs=())
    assert decided(idle).needed == standing.limits.least


@given(several, st.integers(0, 30))
def test_order_does_not_matter(found: tuple[PoolStanding, ...], total: int) -> None:
    one = decide(found, patience=PATIENCE, total=total, now=NOW)
    assert one == decide(found[::-1], patience=PATIENCE, total=total, now=NOW)


@given(standings())
def test_what_was_decided_and_done_is_decided_no_more(standing: PoolStanding) -> None:
    """With those asked for on their way, and those released on theirs, nothing more is to be started."""
    decision = decided(standing)
    leaving = {
        **dict.fromkeys(decision.release, Standing.LEAVING),
        **dict.fromkeys(decision.recall, Standing.READY),
    }
    after = replace(
        standing,
        wanted=told(standing) + decision.start - decision.forgo,
        builders=tuple(
            replace(one, standing=leaving.get(one.name, one.standing)) for one in standing.builders
        ),
    )
    again = decided(after)
    if decision.release or decision.forgo:
        assert not again.start
    if not decision.recall:
        assert not again.start


def test_some_figures_by_hand() -> None:
    """Six hours in 24 quarters, nobody there, a minute to start: 345 min beside the chain / 9 min = 39."""
    many = tuple(job(number, HOUR // 4) for number in range(24))
    assert decided(pool_of(jobs=many, limits=Limits(most=100))).needed == 24
    assert decided(pool_of(jobs=many, limits=Limits(most=100)), patience=3600).needed == 6
    assert decided(pool_of(jobs=many, limits=Limits(most=4))).needed == 4
    assert decided(pool_of(jobs=many, limits=Limits(most=100, slots=4))).needed == 6


def test_a_chain_needs_one() -> None:
    chain = (job(0, HOUR), *(job(number, HOUR, number - 1) for number in range(1, 10)))
    assert decided(pool_of(jobs=chain)).needed == 1


def test_what_cannot_begin_for_long_needs_nobody_yet_and_then_in_time() -> None:
    """Nine wait for one that takes an hour: they are started for when it has less than patience left."""
    waiting = tuple(job(number, HOUR, 0) for number in range(1, 10))
    first = replace(job(0, HOUR), started_at=NOW)
    assert decided(pool_of(jobs=(first, *waiting), builders=(ready("a"),))).needed == 1
    almost_done = replace(first, started_at=NOW - HOUR + 500)
    assert decided(pool_of(jobs=(almost_done, *waiting), builders=(ready("a"),))).needed == 10


def test_who_has_waited_long_is_hurried_for() -> None:
    def needed(waits: int) -> int:
        return decided(pool_of(jobs=tuple(job(n, 300, waits=waits) for n in range(10)))).needed

    assert needed(0) == 5
    assert needed(400) == 10
    assert needed(10_000) == 10


def test_work_that_nobody_waits_for_may_take_longer() -> None:
    def needed(priority: int) -> int:
        return decided(pool_of(jobs=tuple(job(n, 900, priority=priority) for n in range(10)))).needed

    assert (needed(100), needed(50), needed(10)) == (10, 4, 1)
    urgent = (job(0, 900, priority=10), job(1, 900, 0, priority=100))
    assert [priority for priority, _ in backlogs(urgent, 60, PATIENCE, NOW)] == [100]


def test_no_builder_comes_for_what_is_done_before_it_could() -> None:
    small = tuple(job(number, 60) for number in range(4))
    slow = Limits(most=10, startup=900)
    assert decided(pool_of(jobs=small, limits=slow, builders=(ready("a"),)), patience=30).needed == 1
    assert decided(pool_of(jobs=small, limits=slow), patience=30).needed > 1


def test_builders_of_nobodys_pool_count() -> None:
    many = tuple(job(number, 600) for number in range(6))
    assert decided(pool_of(jobs=many)).start == 6
    assert decided(pool_of(jobs=many, outside=6)).start == 0


def test_idle_ones_go_after_a_while_the_longest_first() -> None:
    builders = (ready("a", idle=400), ready("b", idle=500), ready("c", idle=100), ready("d"))
    assert decided(pool_of(builders=builders)).release == ("b", "a")
    few = pool_of(builders=builders, limits=Limits(least=3, most=10))
    assert decided(few).release == ("b",)
    fresh = (*builders, ready("e", idle=10, age=10))
    assert decided(pool_of(builders=fresh)).release == ()


def test_who_would_be_needed_with_half_the_patience_stays() -> None:
    """Otherwise the next package would have one started again."""
    jobs = tuple(replace(job(number, 300), started_at=NOW) for number in range(3))
    builders = (*(ready(name) for name in "abc"), ready("d", idle=400))
    waiting = (job(10, 300), job(11, 300))
    assert decided(pool_of(jobs=jobs, builders=builders)).release == ("d",)
    assert decided(pool_of(jobs=(*jobs, *waiting), builders=builders)).release == ()


def test_who_was_to_leave_is_called_back_before_another_is_started() -> None:
    leaving = replace(ready("a", idle=400), standing=Standing.LEAVING)
    going = replace(ready("b"), standing=Standing.GOING)
    jobs = tuple(job(number, 600) for number in range(3))
    decision = decided(pool_of(jobs=jobs, builders=(leaving, going)))
    assert (decision.recall, decision.start) == (("a",), 2)


def test_those_on_their_way_are_given_up_only_when_it_is_quiet() -> None:
    coming = pool_of(wanted=3, quiet_since=NOW - 10)
    assert decided(coming).forgo == 0
    assert decided(replace(coming, quiet_since=NOW - 400)).forgo == 3


def test_lower_limits_let_go_at_once() -> None:
    builders = (ready("a"), ready("b"), ready("c", idle=1, age=5))
    assert decided(pool_of(builders=builders, limits=Limits(most=1))).release == ("c", "a")


def test_of_a_limited_total_those_who_are_waited_for_get_theirs_first() -> None:
    def of(name: str, priority: int, least: int = 0) -> PoolStanding:
        jobs = tuple(job(number, HOUR, priority=priority) for number in range(8))
        return pool_of(name, jobs=jobs, limits=Limits(least=least, most=8))

    found = [of("a", 10), of("b", 100), of("c", 100)]
    decisions = decide(found, patience=PATIENCE, total=7, now=NOW)
    assert {name: decision.start for name, decision in decisions.items()} == {"a": 0, "b": 4, "c": 3}
    found[0] = of("a", 10, least=2)
    decisions = decide(found, patience=PATIENCE, total=7, now=NOW)
    assert {name: decision.start for name, decision in decisions.items()} == {"a": 2, "b": 3, "c": 2}


def test_idle_ones_make_room_where_the_total_is_limited() -> None:
    idle = pool_of("a", builders=(ready("a1", idle=1), ready("a2")))
    wanting = pool_of("b", jobs=tuple(job(number, HOUR) for number in range(3)))
    decisions = decide([idle, wanting], patience=PATIENCE, total=3, now=NOW)
    assert (decisions["a"].release, decisions["b"].start) == (("a1",), 1)
    decisions = decide([idle, wanting], patience=PATIENCE, total=5, now=NOW)
    assert (decisions["a"].release, decisions["b"].start) == ((), 3)


def test_pools_are_described_by_a_word() -> None:
    found = pool("amd64+llvm=asg:gentwoo?region=eu-central-1&max=20&min=1&idle=600&startup=180&jobs=2")
    assert (found.name, found.engine, found.place) == ("amd64+llvm", "asg", "gentwoo")
    assert found.options == {"region": "eu-central-1"}
    assert found.limits == Limits(least=1, most=20, idle=600, startup=180, slots=2)
    assert pool("arm64=marathon:http://m:8080/gentwoo/arm64").place == "http://m:8080/gentwoo/arm64"
    assert found.limits.within(2, 5) == Limits(least=2, most=5, idle=600, startup=180, slots=2)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("local:", "is not TARGET=ENGINE"),
        ("amd64=ec2:x", "one of local, asg"),
        ("amd64=asg:", "needs to be told where"),
        ("amd64=local:there", "nowhere else"),
        ("Amd64=local:", "Amd64"),
        ("amd64=local:?maximum=3", "knows no maximum"),
        ("amd64=local:?max", "name=value"),
        ("amd64=local:?max=x", "max is no whole number from 0"),
        ("amd64=local:?jobs=0", "jobs is no whole number from 1"),
        ("amd64=local:?min=3&max=2", "min is more than max, which is 2"),
        ("amd64=asg:a?server=x", "knows no server"),
    ],
)
def test_what_is_wrong_with_a_word_is_told(word: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match="capacity: ") as caught:
        pool(word)
    assert told in str(caught.value)


def test_a_target_is_in_one_pool() -> None:
    with pytest.raises(ConfigurationError, match="target b is in two pools"):
        pools(["a+b=local:", "b+c=local:"])
