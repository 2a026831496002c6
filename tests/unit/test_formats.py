# SPDX-License-Identifier: GPL-2.0-or-later
"""How figures are written."""

from __future__ import annotations

from datetime import date

import pytest

from bdcs.web import formats


def test_counts_have_their_thousands_apart() -> None:
    assert formats.number(8412) == "8,412"


@pytest.mark.parametrize(
    ("part", "whole", "text"), [(15, 30, "50 %"), (20, 30, "67 %"), (8410, 9200, "91.4 %")]
)
def test_shares_are_as_exact_as_what_they_are_made_of(part: int, whole: int, text: str) -> None:
    assert formats.share(part, whole) == text


def test_bars_are_never_longer_than_the_whole() -> None:
    assert (formats.width(20, 30), formats.width(40, 30)) == ("66.7%", "100.0%")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (400, "6 min 40 s"), (7500, "2 h 5 min"), (273_600, "3 d 4 h")],
)
def test_durations_have_two_units_at_most(seconds: int, text: str) -> None:
    assert formats.duration(seconds) == text


def test_hours_have_two_digits_at_least() -> None:
    assert [formats.hours(seconds) for seconds in (1440, 11520, 4_334_400)] == ["0.4", "3.2", "1,204"]


def test_times_are_utc_for_people_and_machines() -> None:
    assert formats.moment(1_763_771_625) == (
        '<time datetime="2025-11-22T00:33:45+00:00" class="nowrap">22 Nov 2025, 00:33</time>'
    )


def test_days_and_months() -> None:
    november, january = date(2026, 11, 22), date(2026, 1, 1)
    assert (formats.day(november), formats.day_of("2026-11-22")) == ("22 Nov 2026", "22 Nov 2026")
    assert (formats.day_and_month(november), formats.month(november)) == ("22 Nov", "Nov 2026")
    assert (formats.month_or_year(november), formats.month_or_year(january)) == ("Nov", "2026")
