# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the parts of a chart stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdcs.web.charts import LABELS, Value, column_chart, per_cent, scale


def value(amount: float, label: str = "") -> Value:
    return Value(label=label, title=f"day {label}", amount=amount, text=f"{amount:g}")


def test_columns_share_the_width_and_stand_on_the_base() -> None:
    chart = column_chart([value(5, "a"), value(10, "b")])
    first, second = chart.columns
    assert (first.strip_x, first.strip_width) == ("0%", "50%")
    assert (first.bar_x, first.bar_width, first.bar_y, first.bar_height) == ("7.5%", "35%", "50%", "50%")
    assert (second.strip_x, second.bar_y, second.bar_height, second.centre) == ("50%", "0%", "100%", "75%")
    assert [(tick.y, tick.text) for tick in chart.ticks] == [
        ("100%", "0"), ("80%", "2"), ("60%", "4"), ("40%", "6"), ("20%", "8"), ("0%", "10")
    ]  # fmt: skip


def test_the_unit_follows_the_numbers_of_the_scale() -> None:
    assert [tick.text for tick in column_chart([value(0.9)], unit=" h").ticks][:2] == ["0 h", "0.2 h"]


def test_what_is_all_nothing_has_a_scale_nevertheless() -> None:
    chart = column_chart([value(0)])
    assert chart.columns[0].bar_height == "0%"
    assert [tick.text for tick in chart.ticks] == ["0", "1"]


def test_the_last_column_has_a_label_and_there_are_not_too_many() -> None:
    columns = column_chart([value(1, str(number)) for number in range(30)]).columns
    labelled = [column for column in columns if column.labelled]
    assert len(labelled) <= LABELS
    assert labelled[-1] is columns[-1]
    assert not columns[-1].wide_only
    assert sum(not column.wide_only for column in labelled) <= LABELS // 2 + 1


def test_texts_at_the_edges_stay_inside() -> None:
    columns = column_chart([value(1) for _ in range(10)]).columns
    assert [column.anchor for column in columns] == ["start"] * 2 + ["middle"] * 6 + ["end"] * 2


def test_a_chart_of_nothing_is_a_bug() -> None:
    with pytest.raises(ValueError, match="at least one"):
        column_chart([])


@given(st.floats(min_value=1e-3, max_value=1e9))
def test_a_scale_holds_the_largest_in_few_round_steps(largest: float) -> None:
    step, top = scale(largest)
    assert largest <= top * (1 + 1e-9)
    assert 1 <= round(top / step) <= 5
    assert f"{step:.0e}"[0] in "125"


def test_positions_have_two_decimals_at_most() -> None:
    assert [per_cent(number) for number in (0, 50, 100 / 3, 12.5)] == ["0%", "50%", "33.33%", "12.5%"]
