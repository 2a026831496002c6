# SPDX-License-Identifier: GPL-2.0-or-later
"""What is worth telling of a package."""

from __future__ import annotations

from bdcs.domain.watching import Event, Sight, Topic, events

P = "app-misc/alpha"


def told(before: Sight, now: Sight) -> list[Event]:
    return list(events(P, before, now))


def test_the_same_sight_tells_nothing() -> None:
    sight = Sight(machines=20, versions={"1": 20}, failing={"1": "2026-11-01"}, leaving={P: ""})
    assert told(sight, sight) == []
    assert told(Sight.from_text(sight.to_text()), sight) == []


def test_a_version_that_begins_to_fail() -> None:
    (event,) = told(Sight(), Sight(failing={"2": "2026-11-01"}))
    assert event.topic is Topic.FAILURES
    assert event.text == "app-misc/alpha-2 fails to build, since 2026-11-01"
    assert told(Sight(failing={"2": "2026-11-01"}), Sight()) == []


def test_a_version_arrives_leads_and_reaches_shares() -> None:
    first = Sight(machines=100, versions={"1": 90})
    second = Sight(machines=100, versions={"1": 80, "2": 20})
    third = Sight(machines=100, versions={"1": 40, "2": 60})
    assert [event.text for event in told(first, second)] == ["app-misc/alpha-2 is on 20 of 100 machines"]
    assert [event.text for event in told(second, third)] == [
        "app-misc/alpha-2 has reached 50 % of the machines with the package",
        "app-misc/alpha-2 is now the most common version",
    ]
    assert told(third, Sight(machines=100, versions={"2": 60})) == [], "that a version goes is no news"


def test_a_package_that_leaves() -> None:
    here = Sight(machines=30)
    leaving = Sight(machines=30, leaving={P: "2026-12-24"})
    fewer = Sight(machines=10, leaving={P: "2026-12-24"})
    none = Sight(machines=0, leaving={P: "2026-12-24"})
    assert [event.text for event in told(here, leaving)] == [
        "app-misc/alpha is leaving on 2026-12-24; the package is on 30 machines"
    ]
    assert "now on 10 machines" in told(leaving, fewer)[0].text
    (hidden,) = told(fewer, none)
    assert "too few machines to be shown" in hidden.text
    assert hidden.facts["machines"] is None
    assert told(leaving, here)[0].text == "app-misc/alpha is no longer listed as leaving"
