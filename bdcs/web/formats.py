# SPDX-License-Identifier: GPL-2.0-or-later
"""How numbers, durations and times are written on pages: `8,412`, `91 %`, `6 min 40 s`, `22 Nov 2026,
14:05`.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

from markupsafe import Markup

MINUTE, HOUR, DAY = 60, 3600, 86400

_UNITS: Final = (("d", "h", DAY, HOUR), ("h", "min", HOUR, MINUTE), ("min", "s", MINUTE, 1))
"""A unit, the next smaller one, and how many seconds each has."""

# Month names are ours: those of `strftime` follow the server's locale.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def number(value: int) -> str:
    """A count, with thousands apart: `8,412`."""
    return f"{value:,}"


def share(part: int, whole: int) -> str:
    """`part` of `whole` in per cent, as exactly as rounded figures allow: `91 %`, of thousands `91.4 %`."""
    digits = 1 if whole >= 1000 else 0
    return f"{100 * part / whole:.{digits}f} %"


def width(part: float, whole: float) -> str:
    """The length of a bar, as SVG takes it: `91.4%`, never longer than the whole."""
    return f"{min(100.0, 100 * part / whole):.1f}%"


def duration(seconds: int) -> str:
    """A duration in its two largest units: `40 s`, `6 min 40 s`, `2 h 5 min`, `3 d 4 h`."""
    for unit, smaller, size, smaller_size in _UNITS:
        if seconds >= size:
            rest = seconds % size // smaller_size
            return f"{seconds // size:,} {unit} {rest} {smaller}" if rest else f"{seconds // size:,} {unit}"
    return f"{seconds} s"


def hours(seconds: int) -> str:
    """A long duration in hours, two digits at least: `0.4`, `3.2`, `1,204`."""
    value = seconds / HOUR
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def long_time(hours: float) -> str:
    """Hours that were estimated, to two digits at most: `40 min`, `7 h`, `3.5 d`, `12 d`."""
    for size, unit in ((24.0, "d"), (1.0, "h")):
        if hours >= 2 * size:
            return f"{float(f'{hours / size:.2g}'):g} {unit}"
    return f"{float(f'{60 * hours:.2g}'):g} min"


def percent(rate: float) -> str:
    """A rate between 0 and 1, estimated: `0.5 %`, `31 %`."""
    value = 100 * rate
    return f"{value:.1f} %" if value < 10 else f"{value:.0f} %"


def change(value: int | None) -> str:
    """A difference: `+1,205`, `−15`, `±0`; `–` where none is shown."""
    if value is None:
        return "–"
    return f"{'+' if value > 0 else '−'}{abs(value):,}" if value else "±0"


def date_of(seconds: int) -> str:
    """The day of a time in Unix seconds, in UTC: `22 Nov 2026`."""
    return day(datetime.fromtimestamp(seconds, UTC).date())


def day(value: date) -> str:
    """A day: `22 Nov 2026`."""
    return f"{value.day} {MONTHS[value.month - 1]} {value.year}"


def day_and_month(value: date) -> str:
    """A day on a scale: `22 Nov`."""
    return f"{value.day} {MONTHS[value.month - 1]}"


def month_or_year(value: date) -> str:
    """A month on a scale: `Nov`, and the year for each January."""
    return str(value.year) if value.month == 1 else MONTHS[value.month - 1]


def month(value: date) -> str:
    """A month: `Nov 2026`."""
    return f"{MONTHS[value.month - 1]} {value.year}"


def moment(seconds: int) -> Markup:
    """A time in UTC for people and machines, to the minute."""
    time = datetime.fromtimestamp(seconds, UTC)
    return _time_element(seconds, f"{day(time.date())}, {time:%H:%M}")


def ago(seconds: int, now: int) -> Markup:
    """How long ago something was, on pages that are live: `just now`, `4 min ago`, `2 h ago`."""
    passed = max(0, now - seconds)
    text = "just now"
    for unit, size in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        if passed >= size:
            text = f"{passed // size:,} {unit} ago"
            break
    return _time_element(seconds, text)


def clock(seconds: int, now: int) -> Markup:
    """When something will be, in UTC: `17:06`, and with the day where that is another."""
    time, today = datetime.fromtimestamp(seconds, UTC), datetime.fromtimestamp(now, UTC).date()
    text = f"{time:%H:%M}" if time.date() == today else f"{day_and_month(time.date())}, {time:%H:%M}"
    return _time_element(seconds, text)


def about(seconds: int) -> str:
    """A duration that is not known exactly, without seconds from a minute on: `45 s`, `1 h 40 min`."""
    return duration(seconds if seconds < MINUTE else round(seconds / MINUTE) * MINUTE)


def unix(text: str) -> int:
    """A time that is written as RFC 3339 writes it, in seconds, for the formats above."""
    return int(datetime.fromisoformat(text).timestamp())


def _time_element(seconds: int, text: str) -> Markup:
    time = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}" class="nowrap">{}</time>').format(time.isoformat(), text)


def day_of(text: str) -> str:
    """A day that is written as ISO 8601 writes it, for people."""
    return day(date.fromisoformat(text))


def fingerprint(text: str) -> str:
    """A key's fingerprint in groups of four, as people compare it."""
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))
