# SPDX-License-Identifier: GPL-2.0-or-later
"""What a target may be called and say, when its index is dated, and how sets of builds differ."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdcs.domain.amounts import size_of, size_text
from bdcs.domain.builds import Build, compare, effective_use, main_slot
from bdcs.domain.packages_index import LEAD, STEP, is_due
from bdcs.domain.targets import check, check_header, next_index_time
from bdcs.errors import InvalidHeader, TargetRefused


@pytest.mark.parametrize("name", ["amd64", "x86-64-v3", "a", "0.1_b-c"])
def test_names_of_targets(name: str) -> None:
    assert check("name", name) == name


@pytest.mark.parametrize(
    "name", ["", "keys", "all", "Amd64", "-a", ".a", "a/b", "a b", "ä", "a" * 65, "..", "a\n", "a%41"]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(TargetRefused, match="name"):
        check("name", name)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("chost", "x86_64-pc-linux-gnu"),
        ("profile", "default/linux/amd64/23.0/split-usr/no-multilib"),
        ("cflags", "-O2 -march=x86-64-v3 -pipe"),
        ("description", "für die kleinen Maschinen"),
        ("cpu", ""),
    ],
)
def test_settings_that_a_target_may_have(setting: str, value: str) -> None:
    assert check(setting, value) == value


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("chost", ""),
        ("chost", "x86_64"),
        ("chost", "x86_64-pc-linux-gnu; reboot"),
        ("profile", "../default"),
        ("profile", "/default/linux"),
        ("profile", ""),
        ("cflags", "-O2 $(reboot)"),
        ("cflags", "-O2 `reboot`"),
        ("cflags", "-O2 -march=native"),
        ("cflags", "-mtune=native"),
        ("description", "a\x1b[31mred"),
        ("description", "x" * 600),
    ],
)
def test_settings_that_it_may_not_have(setting: str, value: str) -> None:
    with pytest.raises(TargetRefused, match=setting):
        check(setting, value)


def test_blanks_are_folded() -> None:
    assert check("cflags", "  -O2\n\t-pipe ") == "-O2 -pipe"


def test_keys_of_the_header() -> None:
    header = {"USE_EXPAND": "A  B", "ARCH": "amd64", "IUSE_IMPLICIT": ""}
    assert list(check_header(header).items()) == [("ARCH", "amd64"), ("USE_EXPAND", "A B")]


@pytest.mark.parametrize("key", ["CHOST", "PROFILE"])
def test_the_header_repeats_settings_that_are_not_given_twice(key: str) -> None:
    with pytest.raises(TargetRefused, match=key):
        check_header({key: "x"})


@pytest.mark.parametrize("key", ["TIMESTAMP", "VERSION", "PACKAGES", "a b", "A:B"])
def test_keys_that_no_header_may_be_given(key: str) -> None:
    with pytest.raises(InvalidHeader):
        check_header({key: "1"})


def test_an_index_is_dated_by_the_clock_where_that_is_later() -> None:
    assert next_index_time(1000, 0, 1000) == 1000
    assert next_index_time(1000, 994, 994) == 1000
    assert next_index_time(1000, 995, 995) == 1001


def test_far_ahead_of_the_clock_generations_share_one_index() -> None:
    first = next_index_time(1000, 1060, 1000)
    assert first == 1066
    assert not is_due(1000, first)
    assert next_index_time(1001, first, 1000) == first
    assert next_index_time(1005, first, 1001) == first
    assert is_due(1006, first)
    assert next_index_time(1006, first, 1005) == first + STEP


def test_a_clock_that_went_back_hides_no_publication() -> None:
    """The index before was written at once, whatever the clock says now; clients have its TIMESTAMP."""
    assert next_index_time(1000, 5000, 5000) == 5006


@given(
    steps=st.lists(st.integers(min_value=-30, max_value=120), min_size=1, max_size=60),
    lags=st.lists(st.integers(min_value=0, max_value=3), min_size=60, max_size=60),
)
def test_nobody_misses_a_publication(steps: list[int], lags: list[int]) -> None:
    """Whatever the clock does, no two indexes that were written differ by less than a client needs."""
    now, timestamp, made_at = 10_000, 0, 10_000
    written: list[int] = []
    for step, lag in zip(steps, lags, strict=False):
        now += step
        if timestamp and is_due(now, timestamp) and written[-1:] != [timestamp]:
            written.append(timestamp)  # the keeper's turn
        before = timestamp
        timestamp = next_index_time(now, timestamp, made_at)
        made_at = now
        assert timestamp >= max(before, now)
        assert timestamp not in written, "what was published since is hidden by a 304"
        if is_due(now, timestamp) and lag == 0:
            written.append(timestamp)
    assert all(later - earlier >= STEP for earlier, later in pairwise(written))


def test_generations_in_quick_succession_do_not_run_away() -> None:
    now, timestamp = 10_000, 0
    for _ in range(500):
        timestamp = next_index_time(now, timestamp, now)
    assert timestamp <= now + LEAD + STEP


BUILD = Build(
    id=1,
    category="dev-libs",
    name="alpha",
    version="1.0",
    build_id=1,
    slot="0",
    use=frozenset(),
    repository="gentoo",
    size=100,
    build_time=1000,
    published_at=1000,
)


def test_use_is_compared_within_iuse() -> None:
    assert effective_use("amd64 ssl gtk elibc_glibc", "+ssl -gtk doc") == {"ssl", "gtk"}


def test_the_slot_is_compared_without_sub_slot() -> None:
    assert [main_slot(slot) for slot in ("0/1.2", "3", "")] == ["0", "3", "0"]


def test_another_version_is_a_change() -> None:
    newer = replace(BUILD, id=2, version="1.1")
    difference = compare([BUILD], [newer])
    assert (difference.came, difference.went) == ((), ())
    (change,) = difference.changed
    assert (change.before, change.after, change.is_other_version) == (BUILD, newer, True)


def test_other_use_is_a_change_that_names_the_flags() -> None:
    old, new = replace(BUILD, use=frozenset({"a", "b"})), replace(BUILD, id=2, use=frozenset({"b", "c"}))
    (change,) = compare([old], [new]).changed
    assert (set(change.use_gained), set(change.use_lost)) == ({"c"}, {"a"})
    assert not change.is_other_version


def test_a_build_beside_another_just_came() -> None:
    other = replace(BUILD, id=2, version="1.1")
    assert compare([BUILD], [BUILD, other]).came == (other,)
    assert compare([BUILD, other], [BUILD]).went == (other,)


def test_another_slot_is_no_change_of_version() -> None:
    other = replace(BUILD, id=2, version="2.0", slot="2")
    difference = compare([BUILD], [other])
    assert (difference.came, difference.went, difference.changed) == ((other,), (BUILD,), ())


def test_variants_are_paired_with_what_is_most_like_them() -> None:
    plain, ssl = BUILD, replace(BUILD, id=2, use=frozenset({"ssl"}))
    new_ssl = replace(BUILD, id=3, version="1.1", use=frozenset({"ssl"}))
    again = replace(BUILD, id=4, build_time=2000)
    difference = compare([plain, ssl], [new_ssl, again])
    assert {(change.before.id, change.after.id) for change in difference.changed} == {(1, 4), (2, 3)}


builds = st.builds(
    lambda number, version, use, slot: replace(
        BUILD, id=number, version=version, use=use, slot=slot, build_time=1000 + number
    ),
    number=st.integers(min_value=1, max_value=30),
    version=st.sampled_from(["1.0", "1.1", "1.10", "2.0_rc1"]),
    use=st.frozensets(st.sampled_from(["a", "b"])),
    slot=st.sampled_from(["0", "1"]),
)
sets = st.lists(builds, max_size=15, unique_by=lambda build: build.id)


@given(both=sets, before=sets, after=sets)
def test_a_difference_accounts_for_everything_once(
    both: list[Build], before: list[Build], after: list[Build]
) -> None:
    known = {build.id: build for build in (*after, *before, *both)}
    old, new = {build.id for build in (*both, *before)}, {build.id for build in (*both, *after)}
    difference = compare([known[number] for number in old], [known[number] for number in new])
    went = [*difference.went, *(change.before for change in difference.changed)]
    came = [*difference.came, *(change.after for change in difference.changed)]
    assert sorted(build.id for build in went) == sorted(old - new)
    assert sorted(build.id for build in came) == sorted(new - old)
    for change in difference.changed:
        assert change.before.slot == change.after.slot
    places = {build.slot for build in difference.went} & {build.slot for build in difference.came}
    assert not places, "something that went could have been paired with something that came"


@pytest.mark.parametrize(
    ("text", "size"), [("1024", 1024), ("500M", 500 << 20), ("1.5 GiB", 3 << 29), ("2k", 2048), ("0", 0)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1X", "G", "1e3", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        size_of(text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes_are_written(size: int, text: str) -> None:
    assert size_text(size) == text
