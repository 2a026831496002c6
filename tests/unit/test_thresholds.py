# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be said of a count of machines, and when it may be said anew."""

from __future__ import annotations

import pytest

from bdcs.domain.thresholds import Cell, Thresholds, figure, may_publish, rounded, settled, settled_parts

TEN = Thresholds()


def cell(
    present: int, *, joined: int = 0, left: int = 0, gone: int = 0, published: int | None = None
) -> Cell:
    return Cell(present=present, joined=joined, left=left, gone=gone, published=published)


def test_the_threshold_is_ten_unless_told_and_never_below_five() -> None:
    assert TEN.machines == 10
    assert Thresholds(5).machines == 5
    with pytest.raises(ValueError, match="never below 5"):
        Thresholds(4)


@pytest.mark.parametrize(
    ("count", "nearest"), [(0, 0), (2, 0), (3, 5), (10, 10), (12, 10), (13, 15), (17, 15), (18, 20)]
)
def test_figures_are_multiples_of_five(count: int, nearest: int) -> None:
    assert rounded(count) == nearest


def test_below_the_threshold_nothing_is_said() -> None:
    assert [figure(count, TEN) for count in (0, 1, 9)] == [0, 0, 0]
    assert [figure(count, TEN) for count in (10, 13)] == [10, 15]


def test_a_cell_is_first_published_at_the_threshold() -> None:
    assert not may_publish(cell(9, joined=9), TEN)
    assert may_publish(cell(10, joined=10), TEN)
    assert may_publish(cell(5, joined=5), Thresholds(5))


def test_a_cell_moves_only_when_ten_machines_changed_it() -> None:
    assert not may_publish(cell(19, joined=9, published=10), TEN)
    assert may_publish(cell(20, joined=10, published=10), TEN)
    assert may_publish(cell(10, joined=5, left=5, published=10), TEN)
    assert not may_publish(cell(14, joined=9, published=5), Thresholds(5)), (
        "the move is a crowd of ten also then"
    )
    assert not may_publish(cell(38, joined=18, published=20), Thresholds(20))


def test_a_hidden_cell_moves_by_the_same_rule() -> None:
    assert not may_publish(cell(12, joined=9, published=0), TEN)
    assert may_publish(cell(12, joined=10, published=0), TEN)


def test_forgotten_machines_count_as_changes_but_not_twice_when_they_return() -> None:
    assert may_publish(cell(10, gone=10, published=20), TEN)
    assert not may_publish(cell(20, joined=5, gone=5, published=20), TEN), (
        "five machines that renewed their keys"
    )
    assert not may_publish(cell(20, joined=9, gone=9, published=20), TEN), "nine of them"
    assert may_publish(cell(19, joined=9, left=1, gone=9, published=20), TEN)


def test_a_part_is_never_shown_larger_than_its_whole() -> None:
    assert settled(20, 25, TEN) == 20


def test_a_difference_of_a_few_machines_is_not_shown() -> None:
    assert settled(25, 20, TEN) == 25, "20 of 25 would prove that one to nine machines are in the difference"
    assert settled(30, 20, TEN) == 20
    assert settled(25, 25, TEN) == 25


def test_hidden_parts_are_left_out_and_the_rest_keeps_its_order() -> None:
    assert settled_parts(100, {"1.2": 20, "1.1": 0, "1.0": 60}, TEN) == {"1.2": 20, "1.0": 60}
    assert settled_parts(0, {"1.2": 20}, TEN) == {}


def test_the_largest_part_takes_a_rest_that_would_be_a_few_machines() -> None:
    assert settled_parts(100, {"b": 40, "a": 45}, Thresholds(30)) == {"b": 40, "a": 60}
