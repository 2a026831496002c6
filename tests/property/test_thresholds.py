# SPDX-License-Identifier: GPL-2.0-or-later
"""What an observer can conclude from published figures, however they are combined."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdcs.domain.thresholds import ROUNDING, Cell, Thresholds, figure, may_publish, settled_parts

counts = st.integers(min_value=0, max_value=200)
thresholds = st.builds(Thresholds, st.integers(min_value=5, max_value=40))


@given(counts, thresholds)
def test_a_figure_is_hidden_or_a_rounded_crowd(count: int, thresholds: Thresholds) -> None:
    shown = figure(count, thresholds)
    assert shown % ROUNDING == 0
    assert shown == 0 if count < thresholds.machines else abs(shown - count) <= ROUNDING // 2


@given(
    present=counts,
    published=counts,
    machines=st.lists(st.sampled_from(["joins", "leaves", "renews", "goes"]), max_size=9),
)
def test_nine_machines_never_move_a_cell(present: int, published: int, machines: list[str]) -> None:
    joined, left = machines.count("joins"), machines.count("leaves")
    renewed, gone = machines.count("renews"), machines.count("goes")
    cell = Cell(present=present, joined=joined + renewed, left=left, gone=gone + renewed, published=published)
    assert not may_publish(cell, Thresholds())


@pytest.mark.parametrize("threshold", [5, 10, 15, 20])
def test_no_subtraction_proves_a_small_group(threshold: int) -> None:
    """Packages and versions that look alike in public: some of them differ by nothing or by a crowd."""
    limits = Thresholds(threshold)
    rests: dict[Hashable, set[int]] = defaultdict(set)
    for package in range(threshold, threshold + 73):
        for version in range(package + 1):
            whole = figure(package, limits)
            shown = settled_parts(whole, {"version": figure(version, limits)}, limits)
            rests[whole, shown.get("version")].add(package - version)
    few = set(range(1, threshold))
    assert not [seen for seen, rest in rests.items() if rest <= few]


@pytest.mark.parametrize("threshold", [5, 10, 15])
def test_no_sum_of_versions_proves_a_small_rest(threshold: int) -> None:
    """The same for packages that are installed in one version at a time, of which two may be shown."""
    limits = Thresholds(threshold)
    rests: dict[Hashable, set[int]] = defaultdict(set)
    for package in range(threshold, 3 * threshold + 13):
        for first in range(package + 1):
            for second in range(package - first + 1):
                whole = figure(package, limits)
                versions = {"first": figure(first, limits), "second": figure(second, limits)}
                shown = settled_parts(whole, versions, limits)
                if len(shown) == 2:
                    rests[whole, shown["first"], shown["second"]].add(package - first - second)
    few = set(range(1, threshold))
    assert rests
    assert not [seen for seen, rest in rests.items() if rest <= few]


@given(st.integers(min_value=0, max_value=200), st.lists(counts, max_size=5), thresholds)
def test_shown_parts_fit_into_the_whole(whole: int, parts: list[int], thresholds: Thresholds) -> None:
    published = {number: figure(part, thresholds) for number, part in enumerate(parts)}
    shown = settled_parts(figure(whole, thresholds), published, thresholds)
    assert all(0 < part <= figure(whole, thresholds) and part % ROUNDING == 0 for part in shown.values())
    assert list(shown) == (
        [number for number in published if published[number]] if whole >= thresholds.machines else []
    )
