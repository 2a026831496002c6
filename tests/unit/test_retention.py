# SPDX-License-Identifier: GPL-2.0-or-later
"""Which builds stay when a target is pruned."""

from dataclasses import replace
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from bdcs.domain.builds import Build
from bdcs.domain.retention import DAY, Rules, Surroundings, Verdict, judge, remaining
from gentwoo_client.wire.version import Version

NOW = 1_790_000_000.0
NOTHING_ELSE = Surroundings(now=NOW, kept={}, installed=frozenset())
numbers = count(1)


def build(
    version: str, use: str = "", *, name: str = "alpha", slot: str = "0", days: int = 100, size: int = 10
) -> Build:
    """A build of dev-libs/`name` that was made and published `days` ago; later calls: higher BUILD_IDs."""
    number = next(numbers)
    at = int(NOW) - days * DAY
    return Build(
        id=number,
        category="dev-libs",
        name=name,
        version=version,
        build_id=number,
        slot=slot,
        use=frozenset(use.split()),
        repository="gentoo",
        size=size,
        build_time=at,
        published_at=at,
    )


def staying(verdicts: list[Verdict]) -> set[int]:
    return {verdict.build.id for verdict in verdicts if verdict.stays}


def ids(*builds: Build) -> set[int]:
    return {each.id for each in builds}


def test_the_newest_versions_of_each_slot_stay() -> None:
    old, middle, new = build("1.9"), build("1.10_rc1"), build("1.10")
    other_slot, other_package = build("0.1", slot="1"), build("0.1", name="beta")
    everything = [old, middle, new, other_slot, other_package]
    assert staying(judge(everything, Rules(versions=1), NOTHING_ELSE)) == ids(new, other_slot, other_package)
    assert staying(judge(everything, Rules(versions=2), NOTHING_ELSE)) == ids(
        middle, new, other_slot, other_package
    )


def test_every_choice_of_use_stays_of_a_version() -> None:
    variants = [build("1.0"), build("1.0", "ssl"), build("1.0", "ssl gtk")]
    assert staying(judge(variants, Rules(versions=1), NOTHING_ELSE)) == ids(*variants)


def test_a_version_that_is_old_goes_in_all_its_variants() -> None:
    """Else what was built with a flag that newer versions no longer have would stay for ever."""
    old, new = build("1.0", "obsolete"), build("1.1")
    assert staying(judge([old, new], Rules(versions=1), NOTHING_ELSE)) == ids(new)


def test_what_was_built_again_goes() -> None:
    first, again = build("1.0", "ssl", days=20), build("1.0", "ssl", days=10)
    (gone, stays) = judge([again, first], Rules(versions=5), NOTHING_ELSE)
    assert (gone.build, stays.build) == (first, again)
    assert str(again) in gone.reason


def test_revisions_are_versions_and_equal_versions_are_one() -> None:
    plain, zero, one = build("1.0"), build("1.0-r0"), build("1.0-r1")
    assert staying(judge([plain, zero, one], Rules(versions=1), NOTHING_ELSE)) == ids(one)
    assert staying(judge([plain, zero, one], Rules(versions=2), NOTHING_ELSE)) == ids(plain, zero, one)


def test_what_is_installed_somewhere_stays_in_its_newest_build() -> None:
    first, again, new = build("1.0", days=30), build("1.0", days=20), build("2.0", days=1)
    world = Surroundings(now=NOW, kept={}, installed={"dev-libs/alpha-1.0"})
    verdicts = judge([first, again, new], Rules(versions=1), world)
    assert staying(verdicts) == ids(again, new)
    assert {verdict.reason for verdict in verdicts if verdict.build == again} == {"installed somewhere"}


def test_what_is_young_stays() -> None:
    old, young, new = build("1.0", days=30), build("1.1", days=5), build("2.0", days=1)
    again = build("2.0", days=0)
    assert staying(judge([old, young, new, again], Rules(versions=1, age=7 * DAY), NOTHING_ELSE)) == ids(
        young, new, again
    )


def test_a_generation_that_is_kept_keeps_its_builds() -> None:
    old, again, new = build("1.0"), build("1.0"), build("2.0")
    world = Surroundings(now=NOW, kept={old.id: 7}, installed=frozenset())
    verdicts = judge([old, again, new], Rules(versions=1), world)
    assert staying(verdicts) == ids(old, new)
    assert any("generation 7" in verdict.reason for verdict in verdicts)


def test_no_version_at_all_may_be_kept() -> None:
    assert staying(judge([build("1.0"), build("2.0")], Rules(versions=0), NOTHING_ELSE)) == set()


def test_a_size_takes_no_more_than_needed_and_the_least_useful_first() -> None:
    replaced, again = build("3.0", days=9), build("3.0", days=8)
    oldest, older = build("1.0", days=50), build("2.0", days=40)
    everything = [oldest, older, replaced, again]
    order = [oldest, older, again]
    for size, rest in ((40, everything), (39, order), (30, order), (29, [older, again]), (10, [again])):
        verdicts = judge(everything, Rules(versions=1, size=size), NOTHING_ELSE)
        assert staying(verdicts) == ids(*rest), size
        assert remaining(verdicts) <= size


def test_a_size_is_not_reached_by_breaking_rules() -> None:
    verdicts = judge([build("1.0"), build("2.0")], Rules(versions=2, size=5), NOTHING_ELSE)
    assert remaining(verdicts) == 20


versions = st.sampled_from(["1.0", "1.1", "1.10", "2.0_rc1", "2.0", "2.0-r1"])
builds = st.lists(
    st.builds(
        build,
        versions,
        st.sampled_from(["", "a", "a b"]),
        name=st.sampled_from(["alpha", "beta"]),
        slot=st.sampled_from(["0", "1"]),
        days=st.integers(min_value=0, max_value=60),
        size=st.integers(min_value=1, max_value=50),
    ),
    max_size=25,
)


@given(
    builds=builds,
    keep=st.integers(min_value=0, max_value=3),
    age=st.sampled_from([0, 10 * DAY]),
    size=st.none() | st.integers(min_value=0, max_value=500),
    data=st.data(),
)
def test_rules_hold_for_any_target(
    builds: list[Build], keep: int, age: int, size: int | None, data: st.DataObject
) -> None:
    kept = data.draw(st.sets(st.sampled_from([each.id for each in builds]))) if builds else set()
    installed = data.draw(st.sets(st.sampled_from([each.cpv for each in builds]))) if builds else set()
    world = Surroundings(now=NOW, kept=dict.fromkeys(kept, 1), installed=installed)
    verdicts = judge(builds, Rules(versions=keep, age=age, size=size), world)
    assert sorted(verdict.build.id for verdict in verdicts) == sorted(each.id for each in builds)
    stay = staying(verdicts)
    assert kept <= stay
    assert {each.id for each in builds if NOW - each.published_at < age} <= stay
    survivors = {(each.cpv, each.slot, each.use) for each in builds if each.id in stay}
    for each in builds:
        slot = {
            Version.parse(other.version)
            for other in builds
            if (other.name, other.slot) == (each.name, each.slot)
        }
        is_new = sum(version > Version.parse(each.version) for version in slot) < keep
        if is_new or each.cpv in installed:
            # Its version and USE can still be installed from here.
            assert (each.cpv, each.slot, each.use) in survivors
    if size is not None:
        gone = [verdict.build for verdict in verdicts if not verdict.stays]
        if gone:
            assert remaining(verdicts) + gone[-1].size > size, "the last that went need not have"


@given(builds=builds, keep=st.integers(min_value=0, max_value=3))
def test_pruning_again_changes_nothing(builds: list[Build], keep: int) -> None:
    once = staying(judge(builds, Rules(versions=keep), NOTHING_ELSE))
    left = [replace(each) for each in builds if each.id in once]
    assert staying(judge(left, Rules(versions=keep), NOTHING_ELSE)) == once
