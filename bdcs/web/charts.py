# SPDX-License-Identifier: GPL-2.0-or-later
"""The geometry of charts: values in, positions in per cent out; the macro in `components/chart.html` draws
them.

Positions are percentages and the height is fixed by the stylesheet, so one markup serves every width, and
text is never scaled. Everything here is pure, and no colour or style stands here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LABELS = 8
"""At most this many columns carry a label on a wide screen, and half of them on a phone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One column as the caller knows it."""

    label: str
    """What stands below it."""
    title: str
    """What names it in full, in the table and when pointed at."""
    amount: float
    text: str
    """The amount as people read it, with its unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One line of the grid; `y` counts down from the top, as SVG does."""

    y: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: the strip that reacts to the pointer, the bar in it, and where its texts stand."""

    value: Value
    strip_x: str
    strip_width: str
    bar_x: str
    bar_width: str
    bar_y: str
    bar_height: str
    centre: str
    anchor: str
    labelled: bool
    wide_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnChart:
    """A column chart: linear, from zero, so that a column twice as high is twice as much."""

    columns: tuple[Column, ...]
    ticks: tuple[Tick, ...]


def column_chart(values: Sequence[Value], unit: str = "") -> ColumnChart:
    """Lay out `values` from left to right.

    `unit` follows the numbers of the scale. Raises `ValueError` without values.
    """
    if not values:
        raise ValueError("a chart needs at least one value")
    step, top = scale(max(value.amount for value in values))
    return ColumnChart(
        columns=tuple(_column(position, values, top) for position in range(len(values))),
        ticks=tuple(_tick(number * step, top, unit) for number in range(round(top / step) + 1)),
    )


def scale(largest: float) -> tuple[float, float]:
    """The step and the top of a scale from zero that `largest` fits on.

    The step is 1, 2 or 5 times a power of ten; there are at most five.
    """
    if largest <= 0:
        return 1.0, 1.0
    power = 10.0 ** math.floor(math.log10(largest / 5))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * 5 >= largest * (1 - 1e-12))
    return step, step * math.ceil(largest / step - 1e-9)


def per_cent(number: float) -> str:
    """A position as SVG takes it, with no more decimals than a screen can show."""
    return f"{number:.2f}".rstrip("0").rstrip(".") + "%"


def _tick(amount: float, top: float, unit: str) -> Tick:
    return Tick(y=per_cent(100 - 100 * amount / top), text=f"{amount:,g}{unit}")


def _column(position: int, values: Sequence[Value], top: float) -> Column:
    width = 100 / len(values)
    left = position * width
    height = 100 * values[position].amount / top
    every = math.ceil(len(values) / LABELS)
    from_last = len(values) - 1 - position
    return Column(
        value=values[position],
        strip_x=per_cent(left),
        strip_width=per_cent(width),
        bar_x=per_cent(left + width * 0.15),
        bar_width=per_cent(width * 0.7),
        bar_y=per_cent(100 - height),
        bar_height=per_cent(height),
        centre=per_cent(left + width / 2),
        anchor=_anchor((position + 0.5) / len(values)),
        labelled=from_last % every == 0,
        wide_only=from_last % (2 * every) != 0,
    )


def _anchor(fraction: float) -> str:
    if fraction < 0.2:
        return "start"
    return "end" if fraction > 0.8 else "middle"
