# SPDX-License-Identifier: GPL-2.0-or-later
"""The geometry of lines, histograms and intervals; `components/lines.html` and its neighbours draw them.

As in `charts`: positions are percentages, text is never scaled, and no colour or style stands here. The lines
themselves lie in a picture of 1000 by 1000 that is stretched to the plot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bdcs.web.charts import LABELS, Tick, per_cent, scale

LABEL_GAP: Final = 6.0  # per cent of the height between the middles of two labels
END_LENGTH: Final = 11  # characters of a label at a line's end
COLOURS: Final = 5
STRIPS: Final = 26  # at most so many strips that react to the pointer


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One place on the horizontal axis."""

    label: str
    """What stands below it."""
    title: str
    """What names it in full."""
    place: float
    """From 0, the left edge, to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series as the caller knows it, a value for each point; None where it is not shown."""

    name: str
    values: tuple[float | None, ...]
    texts: tuple[str, ...]
    """The values as people read them."""
    colour: int | None = None
    """Which of the five; 0: the dashed one. None: that of its place among the lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One value at a strip."""

    colour: int
    y: str
    label_y: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """What reacts to the pointer at one point."""

    x: str
    width: str
    centre: str
    anchor: str
    shift: int
    title: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The label at the right end of a line."""

    colour: int
    y: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisLabel:
    """A label below the plot."""

    x: str
    text: str
    wide_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """Lines from zero, with their names at their ends, and the same as a table."""

    ticks: tuple[Tick, ...]
    labels: tuple[AxisLabel, ...]
    paths: tuple[tuple[int, str], ...]
    """A colour's number and the path."""
    ends: tuple[End, ...]
    strips: tuple[Strip, ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """The newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar of a histogram."""

    x: str
    width: str
    y: str
    height: str
    title: str
    text: str
    is_outside: bool
    """Whether it lies outside the middle 80 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Bars on a logarithmic axis, the median marked."""

    ticks: tuple[Tick, ...]
    labels: tuple[AxisLabel, ...]
    bars: tuple[Bar, ...]
    median: str
    median_anchor: str


def line_chart(
    points: Sequence[Point], lines: Sequence[Line], *, top: float | None = None, unit: str = ""
) -> LineChart:
    """Lay out `lines` over `points`; `top` is the end of the scale, by default what the largest value needs.

    Raises `ValueError` without points.
    """
    if not points:
        raise ValueError("a chart needs at least one point")
    values = [value for line in lines for value in line.values if value is not None]
    step, fitting = scale(max(values, default=0.0)) if top is None else (top / 4, top)
    named = [
        (line.colour if line.colour is not None else number if number <= COLOURS else 0, line)
        for number, line in enumerate(lines, 1)
    ]
    return LineChart(
        ticks=tuple(
            Tick(y=per_cent(100 - 100 * number * step / fitting), text=f"{number * step:,g}{unit}")
            for number in range(round(fitting / step) + 1)
        ),
        labels=_labels(points),
        paths=tuple((number, _path(points, line.values, fitting)) for number, line in named),
        ends=_ends(named, fitting),
        strips=_strips(points, named, fitting),
        heads=tuple(line.name for line in lines),
        rows=tuple(
            (point.title, tuple(line.texts[place] for line in lines))
            for place, point in reversed(list(enumerate(points)))
        ),
    )


def histogram(
    bars: Sequence[tuple[float, float, int, str]],
    typical: tuple[int, int, int],
    marks: Sequence[tuple[float, str]],
) -> Histogram:
    """Lay out `bars`, each from where to where, how many and what it is called, with gaps where none is.

    `typical` are the values that 10, 50 and 90 % lie below, `marks` what may stand on the axis.
    Raises `ValueError` without bars.
    """
    if not bars:
        raise ValueError("a chart needs at least one bar")
    first, last = math.log(bars[0][0]), math.log(bars[-1][1])

    def place(value: float) -> float:
        return 100 * (math.log(value) - first) / (last - first)

    step, top = scale(max(count for _, _, count, _ in bars))
    low, middle, high = typical
    shown = [(place(value), text) for value, text in marks if first <= math.log(value) <= last]
    at = min(100.0, max(0.0, place(middle)))
    return Histogram(
        ticks=tuple(
            Tick(y=per_cent(100 - 100 * number * step / top), text=f"{number * step:,g}")
            for number in range(round(top / step) + 1)
        ),
        labels=tuple(
            AxisLabel(x=per_cent(x), text=text, wide_only=number % 2 == 1)
            for number, (x, text) in enumerate(shown)
        ),
        bars=tuple(
            Bar(
                x=per_cent(place(start) + 0.15),
                width=per_cent(place(end) - place(start) - 0.3),
                y=per_cent(100 - 100 * count / top),
                height=per_cent(100 * count / top),
                title=title,
                text=f"{count:,}",
                is_outside=end <= low or start >= high,
            )
            for start, end, count, title in bars
        ),
        median=per_cent(at),
        median_anchor="start" if at < 20 else "end" if at > 80 else "middle",
    )


def _labels(points: Sequence[Point]) -> tuple[AxisLabel, ...]:
    every = math.ceil(len(points) / LABELS)
    last = len(points) - 1 - every // 2  # a label in the corner would not have room
    chosen = [place for place in range(last + 1) if (last - place) % every == 0]
    few = 2 if len(chosen) < LABELS - 1 else 3
    return tuple(
        AxisLabel(
            x=per_cent(100 * points[place].place),
            text=points[place].label,
            wide_only=(last - place) % (few * every) != 0,
        )
        for place in chosen
    )


def _path(points: Sequence[Point], values: Sequence[float | None], top: float) -> str:
    drawn, parts = False, []
    for point, value in zip(points, values, strict=True):
        if value is None:
            drawn = False
            continue
        letter = "L" if drawn else "M"
        parts.append(f"{letter}{round(1000 * point.place)} {round(1000 - 1000 * value / top)}")
        drawn = True
    return "".join(parts)


def _ends(named: Sequence[tuple[int, Line]], top: float) -> tuple[End, ...]:
    shown = [
        (number, line.name, [value for value in line.values if value is not None]) for number, line in named
    ]
    heights = [(number, name, 100 - 100 * values[-1] / top) for number, name, values in shown if values]
    heights.sort(key=lambda each: each[2])
    apart = pushed_apart([height for _, _, height in heights])
    return tuple(
        End(colour=number, y=per_cent(y), name=_short(name))
        for (number, name, _), y in zip(heights, apart, strict=True)
    )


def _short(name: str) -> str:
    """A name that fits beside the plot; the table has the whole one."""
    return name if len(name) <= END_LENGTH else name[: END_LENGTH - 1] + "…"


def pushed_apart(heights: Sequence[float]) -> list[float]:
    """Ascending positions moved as little as makes each `LABEL_GAP` from the next, within 0 and 100."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + LABEL_GAP) if placed else height)
    limit = 100.0
    for number in reversed(range(len(placed))):
        placed[number] = min(placed[number], limit)
        limit = placed[number] - LABEL_GAP
    return placed


def _strips(points: Sequence[Point], named: Sequence[tuple[int, Line]], top: float) -> tuple[Strip, ...]:
    every = math.ceil(len(points) / STRIPS)
    chosen = [place for place in range(len(points)) if (len(points) - 1 - place) % every == 0]
    strips = []
    for number, place in enumerate(chosen):
        here = points[place].place
        left = (points[chosen[number - 1]].place + here) / 2 if number else 0.0
        right = (points[chosen[number + 1]].place + here) / 2 if number + 1 < len(chosen) else 1.0
        is_late = here > 0.6
        strips.append(
            Strip(
                x=per_cent(100 * left),
                width=per_cent(100 * (right - left)),
                centre=per_cent(100 * here),
                anchor="end" if is_late else "start",
                shift=-10 if is_late else 10,
                title=points[place].title,
                dots=_dots(named, place, top),
            )
        )
    return tuple(strips)


def _dots(named: Sequence[tuple[int, Line]], place: int, top: float) -> tuple[Dot, ...]:
    shown = [
        (100 - 100 * value / top, number, line)
        for number, line in named
        if (value := line.values[place]) is not None
    ]
    shown.sort(key=lambda each: each[0])
    apart = pushed_apart([height for height, _, _ in shown])
    return tuple(
        Dot(
            colour=number,
            y=per_cent(height),
            label_y=per_cent(label),
            text=f"{line.name} {line.texts[place]}",
        )
        for (height, number, line), label in zip(shown, apart, strict=True)
    )
