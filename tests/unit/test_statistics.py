# SPDX-License-Identifier: GPL-2.0-or-later
"""What one machine's records say of a package, and what numbers are made of many machines'."""

from __future__ import annotations

import pytest

from bdcs.domain.codes import CAUSE, EVENT, INSTALL_TYPE
from bdcs.domain.statistics import (
    ADOPTION_EDGES,
    DAY,
    HOUR,
    WEEK,
    Change,
    Key,
    Topic,
    adoption_bucket,
    adoption_curve,
    adoption_hours,
    duration_bucket,
    duration_edges,
    duration_quantile,
    is_dominated,
    story,
    two_digits,
    week_of,
    week_start,
    wilson,
)

RANKS = {1: 0, 2: 1, 3: 2}
MONDAY = week_start(2900)
GURU = 7


def change(event: str = "install", version: int = 1, at: int = MONDAY, **fields: object) -> Change:
    values: dict[str, object] = {
        "id": 1,
        "version": version,
        "event": EVENT[event],
        "install_type": INSTALL_TYPE["source" if event != "uninstall" else None],
        "cause": None,
        "replaces": None,
        "repository": GURU,
        "recorded_at": at,
        "time_delta": None,
        **fields,
    }
    return Change(**values)  # type: ignore[arg-type]


def keys(*changes: Change, arrivals: dict[int, int] | None = None, weeks: int = 3) -> set[Key]:
    told = story(changes, RANKS)
    return told.keys(range(2899, 2900 + weeks), arrivals or {})


def of(topic: Topic, found: set[Key]) -> set[tuple[int, int]]:
    return {key[1:] for key in found if key[0] == topic}


def test_a_machine_holds_a_package_from_the_week_in_which_it_came() -> None:
    found = keys(change(), change("uninstall", at=MONDAY + 2 * WEEK, cause=CAUSE["manual"]))
    assert of(Topic.HOLDS, found) == {(0, 2900), (0, 2901), (1, 2900), (1, 2901)}
    assert of(Topic.REPOSITORY, found) == set()


def test_an_update_leaves_the_package_where_it_is() -> None:
    update = change(version=2, at=MONDAY + WEEK, replaces=1)
    found = keys(change(), change("uninstall", at=MONDAY + WEEK, cause=CAUSE["replaced"]), update)
    assert of(Topic.HOLDS, found) == {
        (0, 2900), (0, 2901), (0, 2902), (1, 2900), (2, 2901), (2, 2902)
    }  # fmt: skip
    assert of(Topic.REPOSITORY, found) == {(0, GURU)}


def test_a_clock_that_jumps_back_does_not_turn_time_round() -> None:
    found = keys(change(at=MONDAY + WEEK), change("uninstall", at=MONDAY, cause=CAUSE["manual"]))
    assert of(Topic.HOLDS, found) == set()


@pytest.mark.parametrize(
    ("cause", "failed"), [("build", True), (None, True), ("fetch", False), ("interrupted", False)]
)
def test_what_counts_as_a_failure(cause: str | None, failed: bool) -> None:
    found = keys(change("failure", version=3, cause=CAUSE[cause]))
    assert bool(of(Topic.FAILED, found)) is failed
    assert of(Topic.TRIED, found) == of(Topic.FAILED, found)


def test_a_binary_package_is_no_try() -> None:
    found = keys(change(install_type=INSTALL_TYPE["binary"]))
    assert of(Topic.TRIED, found) == set()
    assert of(Topic.FETCHED, found) == {(0, 2900)}
    assert of(Topic.BINARY, found) == {(0, 0)}


def test_the_last_merge_says_where_it_is_from() -> None:
    binary = change(install_type=INSTALL_TYPE["binary"], at=MONDAY + 1)
    assert of(Topic.SOURCE, keys(binary, change(at=MONDAY + 2))) == {(0, 0)}
    assert of(Topic.BINARY, keys(binary, change(at=MONDAY + 2))) == set()


@pytest.mark.parametrize(("after", "discarded"), [(DAY, True), (DAY + 1, False)])
def test_removed_within_a_day(after: int, discarded: bool) -> None:
    found = keys(change(), change("uninstall", at=MONDAY + after, cause=CAUSE["manual"]))
    assert bool(of(Topic.DISCARDED, found)) is discarded


def test_the_day_begins_with_the_package_and_not_with_its_update() -> None:
    update = change(version=2, at=MONDAY + 2 * DAY, replaces=1)
    removal = change("uninstall", version=2, at=MONDAY + 2 * DAY + 60, cause=CAUSE["manual"])
    replaced = change("uninstall", at=MONDAY + 2 * DAY, cause=CAUSE["replaced"])
    assert of(Topic.DISCARDED, keys(change(), replaced, update, removal)) == set()


def test_a_downgrade_is_that_of_the_version_left() -> None:
    assert of(Topic.DOWNGRADED, keys(change(version=3), change(version=1, replaces=3))) == {(3, 0)}
    assert of(Topic.DOWNGRADED, keys(change(version=1), change(version=3, replaces=1))) == set()


def test_a_build_time_is_the_median_of_the_last_five() -> None:
    builds = [change(time_delta=seconds, at=MONDAY + seconds) for seconds in (9000, 10, 20, 64, 70, 90)]
    assert of(Topic.SECONDS, keys(*builds)) == {(0, duration_bucket(64))}


def test_adoption_counts_from_the_arrival() -> None:
    early, late = change(at=MONDAY), change(version=2, at=MONDAY + 30 * HOUR)
    found = keys(early, late, arrivals={1: MONDAY + HOUR, 2: MONDAY})
    assert of(Topic.ADOPTED, found) == {(1, 0), (2, adoption_bucket(30 * HOUR))}


@pytest.mark.parametrize("week", [0, 1, 2900])
def test_weeks_begin_on_monday(week: int) -> None:
    assert week_of(week_start(week)) == week
    assert week_of(week_start(week) - 1) == week - 1
    assert week_start(2900) % DAY == 0


@pytest.mark.parametrize("seconds", [0, 1, 2, 3, 64, 90, 100_000])
def test_a_duration_lies_in_its_bar(seconds: int) -> None:
    low, high = duration_edges(duration_bucket(seconds))
    assert low * (1 - 1e-9) <= max(seconds, 1) < high


def test_quantiles_of_bars() -> None:
    assert duration_quantile({}, 0.5) is None
    assert duration_quantile({12: 10, 14: 10}, 0.5) == pytest.approx(duration_edges(12)[1], abs=1)
    low, middle, high = (duration_quantile({12: 10, 13: 20, 14: 10}, each) for each in (0.1, 0.5, 0.9))
    assert low
    assert middle
    assert high
    assert low < middle < high


def test_hours_of_adoption() -> None:
    assert adoption_hours({}, 0.5) is None
    assert adoption_hours({0: 10}, 0.9) == 0
    assert adoption_hours({3: 20}, 0.5) == 18
    assert adoption_hours({1: 10, len(ADOPTION_EDGES): 10}, 0.9) is None
    curve = list(adoption_curve({0: 10, 3: 30}))
    assert curve[0] == (0, 0.25)
    assert curve[3] == (1, 1.0)


def test_wilson_as_published() -> None:
    """Newcombe 1998, table I: 81 of 263, and 15 of 148."""
    assert wilson(81, 263)[::2] == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148)[::2] == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(20, 20).high == 1


@pytest.mark.parametrize(("value", "shown"), [(0, 0), (0.4, 0), (7, 7), (123, 120), (98_765, 99_000)])
def test_two_digits(value: float, shown: int) -> None:
    assert two_digits(value) == shown


def test_a_sum_is_dominated_by_more_than_a_quarter() -> None:
    assert not is_dominated(100, 25)
    assert is_dominated(100, 26)
    assert not is_dominated(0, 0)
