# SPDX-License-Identifier: GPL-2.0-or-later
"""The geometry of lines and histograms."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdcs.web.statistics_charts import (
    END_LENGTH,
    LABEL_GAP,
    STRIPS,
    Line,
    Point,
    histogram,
    line_chart,
    pushed_apart,
)


def points(count: int) -> list[Point]:
    return [
        Point(label=f"{number}", title=f"point {number}", place=number / max(count - 1, 1))
        for number in range(count)
    ]


def line(name: str, *values: float | None) -> Line:
    return Line(
        name=name, values=values, texts=tuple("–" if value is None else f"{value:g}" for value in values)
    )


def test_a_line_goes_from_left_to_right_and_upwards() -> None:
    chart = line_chart(points(3), [line("a", 0, 50, 100)], top=100, unit=" %")
    assert chart.paths == ((1, "M0 1000L500 500L1000 0"),)
    assert [tick.text for tick in chart.ticks] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    assert [tick.y for tick in chart.ticks] == ["100%", "75%", "50%", "25%", "0%"]
    assert chart.rows[0] == ("point 2", ("100",))


def test_what_is_not_shown_is_a_gap() -> None:
    chart = line_chart(points(4), [line("a", 10, None, 10, None)])
    assert chart.paths[0][1].count("M") == 2
    assert [dot.text for dot in chart.strips[2].dots] == ["a 10"]
    assert chart.strips[3].dots == ()
    assert chart.rows[0] == ("point 3", ("–",))
    assert [end.name for end in chart.ends] == ["a"]


def test_the_sixth_line_is_the_dashed_one() -> None:
    chart = line_chart(points(2), [line(f"{number}", number, number) for number in range(1, 7)])
    assert [colour for colour, _ in chart.paths] == [1, 2, 3, 4, 5, 0]
    assert {end.name: end.colour for end in chart.ends}["6"] == 0
    assert next(dot.text for dot in chart.strips[0].dots) == "6 6"


def test_names_at_the_ends_are_apart_and_fit() -> None:
    chart = line_chart(points(2), [line("x" * 40, 1, 50), line("b", 1, 50.5)], top=100)
    heights = sorted(float(end.y.rstrip("%")) for end in chart.ends)
    assert heights[1] - heights[0] >= LABEL_GAP - 0.01
    assert {len(end.name) for end in chart.ends} == {END_LENGTH, 1}
    assert chart.heads == ("x" * 40, "b")


def test_strips_cover_the_plot_and_are_few() -> None:
    chart = line_chart(points(60), [line("a", *range(60))])
    assert len(chart.strips) <= STRIPS
    widths = sum(float(strip.width.rstrip("%")) for strip in chart.strips)
    assert widths == pytest.approx(100, abs=0.5)
    assert chart.strips[-1].dots


@given(st.lists(st.floats(min_value=0, max_value=100), max_size=6).map(sorted))
def test_labels_are_pushed_apart_and_stay_inside(heights: list[float]) -> None:
    placed = pushed_apart(heights)
    assert all(later - earlier >= LABEL_GAP - 1e-9 for earlier, later in itertools.pairwise(placed))
    assert all(-1e-9 <= each <= 100 for each in placed)


def test_a_histogram_is_logarithmic_and_marks_the_middle() -> None:
    bars = [(1.0, 10.0, 5, "1 to 10"), (10.0, 100.0, 10, "10 to 100"), (100.0, 1000.0, 5, "100 to 1000")]
    chart = histogram(bars, (10, 32, 100), [(10, "10 s"), (5000, "far")])
    assert [bar.is_outside for bar in chart.bars] == [True, False, True]
    assert [label.x for label in chart.labels] == ["33.33%"]
    assert chart.median.startswith("50.1")
    assert float(chart.bars[1].width.rstrip("%")) == pytest.approx(33.03, abs=0.01)


def test_nothing_is_no_chart() -> None:
    with pytest.raises(ValueError, match="point"):
        line_chart([], [])
    with pytest.raises(ValueError, match="bar"):
        histogram([], (1, 2, 3), [])
