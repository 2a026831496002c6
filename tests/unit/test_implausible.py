# SPDX-License-Identifier: GPL-2.0-or-later
"""When something is implausible."""

from __future__ import annotations

from bdcs.domain.anomalies import DAY, HOUR, SHARED_AT_LEAST, Holder, Kind, alike, copies, pushed


def test_a_copy_is_the_later_machine_and_names_the_nearest_earlier_one() -> None:
    shared = [(1, 2, SHARED_AT_LEAST), (1, 3, 40), (2, 3, 60), (1, 4, SHARED_AT_LEAST - 1), (1, 5, 30)]
    found = list(copies(shared, {2: 30, 3: 100, 4: 20, 5: 61}))
    assert [(each.subject, each.facts["machine"]) for each in found] == [(2, 1), (3, 2)]
    assert {each.kind for each in found} == {Kind.COPY}


def test_machines_are_alike_that_registered_together() -> None:
    together = [(Holder(number, 100 * number), 7, 42) for number in range(5)]
    apart = [(Holder(10 + number, number * (HOUR + 1)), 7, 43) for number in range(9)]
    others = [(Holder(20 + number, 0), number, 44) for number in range(9)]
    found = list(alike([*together, *apart, *others]))
    assert [each.subject for each in found] == [0, 1, 2, 3, 4]


def test_a_package_is_pushed_where_its_machines_came_together_unlike_the_rest() -> None:
    month = [day * DAY * 2 for day in range(40)]
    crowd = [30 * DAY + minute for minute in range(10)]
    fleet = sorted(month + crowd)
    assert pushed(7, crowd, fleet, crowd=10)
    assert not pushed(7, crowd[:9], fleet, crowd=10), "too few to say anything"
    assert not pushed(7, sorted(month[:10] + crowd), fleet, crowd=10), "others have it, too"
    assert not pushed(7, crowd, crowd, crowd=10), "so did the whole fleet"
