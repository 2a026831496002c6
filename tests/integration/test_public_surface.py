# SPDX-License-Identifier: GPL-2.0-or-later
"""An attacker who sees every public answer before and after each event, and brings nine machines.

Nothing here knows which statistics there are: `tests.public_surface` asks whatever has a route.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from bdcs.domain.statistics import week_of
from bdcs.domain.thresholds import ROUNDING, Thresholds, proves_few
from bdcs.server.application import OPERATIONS
from tests.fleet import Member, join
from tests.public_surface import OF_BUILDS, Answers, Surface, differences

TEN = Thresholds()
HONEST = 13
OWN = 9
"""With the honest ones they are 22: one machine more or fewer would be rounded to something else."""
WEEK = 7 * 86_400
COUNTS = frozenset(
    {"machines", "fleet", "tried", "failed", "holders", "peak", "installations", "least", "most"}
)
"""Members of documents that count machines."""


class Attack:
    """A fleet on the pages, and nine machines of the attacker in it."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface
        self.week = week_of(int(time.time()))
        self.honest = self.join(HONEST)
        self.own = self.join(OWN)
        for member in (*self.honest, *self.own):
            live(member)
        for member in self.own[:7]:
            member.merge("app-misc/few-1.0")
        surface.watch("app-misc/alpha")
        surface.publish()
        self.before = surface.answers()

    def join(self, count: int) -> list[Member]:
        members = join(self.surface.url, count)
        for member in members:
            member.now = int(time.time()) - 3 * WEEK
        return members

    def forget(self, member: Member) -> None:
        assert member.peer.authorized("DELETE", member.peer.path).status == 204

    def unmoved(self, event: str) -> None:
        """Publish, and see that every answer is what it was."""
        self.surface.publish()
        after = self.surface.answers()
        if week_of(int(time.time())) != self.week:
            pytest.skip("a week has ended meanwhile, which shows on pages")
        assert differences(self.before, after) == [], event


def live(member: Member) -> None:
    """What every machine did: it built a version, then another, failed, and took a binary."""
    member.merge("app-misc/alpha-1.0", seconds=60)
    member.now += WEEK
    member.merge("app-misc/alpha-1.1", seconds=100)
    member.fail("app-misc/alpha-1.2")
    member.merge("app-misc/alpha-1.1", install_type="binary")


@pytest.fixture
def attack(tmp_path: Path) -> Iterator[Attack]:
    with Surface(tmp_path) as surface:
        yield Attack(surface)


def events(victim: Member) -> Mapping[str, Callable[[], None]]:
    """Everything that a machine can do to a figure, in this order."""
    return {
        "installs": lambda: victim.merge("app-misc/alpha-1.0"),
        "upgrades, faster than all others": lambda: victim.merge("app-misc/alpha-1.1", seconds=3),
        "takes a binary": lambda: victim.merge("app-misc/alpha-1.1", install_type="binary"),
        "fails": lambda: victim.fail("app-misc/alpha-1.2"),
        "is the first to have a version": lambda: victim.merge("app-misc/alpha-3.0", seconds=10_000),
        "downgrades": lambda: victim.merge("app-misc/alpha-1.0"),
        "is the ninth": lambda: victim.merge("app-misc/few-1.0"),
        "has what nobody has": lambda: victim.merge("solo-category/solo-1.0", repository="solo-overlay"),
        "builds all day": lambda: victim.merge(*["app-misc/alpha-1.1"] * 60, seconds=400),
        "removes it all": lambda: victim.unmerge(*victim.installed),
    }


def test_every_address_is_asked_and_says_something(attack: Attack) -> None:
    """What is added is asked as well; where nothing answers, `tests.public_surface` wants to know more."""
    answered = {path.partition("?")[0] for path, answer in attack.before.items() if answer[0] == 200}
    silent = {
        template
        for template in attack.surface.templates()
        if not any(path in answered for path in attack.surface._filled(template))
        and not any(f"{{{name}}}" in template for name in (*OF_BUILDS, "uuid"))
    }
    assert silent == {each.path for each in OPERATIONS if each.token} & silent
    shown = attack.before["/v1/packages/app-misc/alpha"][2]
    assert json.loads(shown)["machines"] == 20, "there is something to move"
    assert json.loads(attack.before["/v1/predictions"][2])["packages"]
    assert len(attack.before) > 90


def test_what_one_machine_does_shows_nowhere(attack: Attack) -> None:
    """One that is new, and one that published figures count."""
    victims = [*attack.join(1), attack.honest[0]]
    attack.unmoved("registers")
    for event in events(victims[0]):
        for victim in victims:
            events(victim)[event]()
        attack.unmoved(event)
    for victim in victims:
        attack.forget(victim)
        attack.unmoved("is forgotten")


def test_nine_machines_that_come_and_go_move_nothing(attack: Attack) -> None:
    for kinds in (["installs", "fails", "is the ninth"], list(events(attack.own[0]))):
        for member in attack.own:
            attack.forget(member)
        attack.unmoved("all nine are forgotten")
        attack.own = attack.join(OWN)
        for member in attack.own:
            for event in kinds:
                events(member)[event]()
        attack.unmoved(f"they are back under new keys, and each {', '.join(kinds)}")


def test_a_machine_among_eight_that_are_forgotten_one_by_one(attack: Attack) -> None:
    """While fewer than ten changed anything, no order of events tells which of them it was."""
    (victim,) = attack.join(1)
    for member, (event, happens) in zip(attack.own[:8], events(victim).items(), strict=False):
        attack.forget(member)
        happens()
        attack.unmoved(f"one more is forgotten, and the other one {event}")


def test_what_a_crowd_moved_is_still_a_crowd_in_every_answer(attack: Attack) -> None:
    """All moves: figures are rounded crowds, and no two of them prove that there are a few machines."""
    crowd = attack.join(12)
    for first in range(0, len(crowd), 3):
        for member in crowd[first : first + 3]:
            member.merge("app-misc/alpha-1.0", "app-misc/few-1.0")
            if member is not crowd[first]:
                member.merge("app-misc/alpha-2.0", install_type="binary")
        attack.surface.publish()
        answers = attack.surface.answers()
        assert no_crowds(answers) == []
        assert related(answers) == []
    assert differences(attack.before, answers), "by now a crowd has come"


def no_crowds(answers: Answers) -> list[object]:
    """Counts of machines in documents that are no rounded crowd."""
    found: list[object] = []
    for path, (status, headers, body) in answers.items():
        if status == 200 and dict(headers)["Content-Type"].startswith("application/json"):
            counts = list(counted(json.loads(body)))
            found += [(path, count) for count in counts if count % ROUNDING or 0 < count < TEN.machines]
    return found


def counted(document: object) -> Iterator[int]:
    """Yield all counts of machines in a document that are shown."""
    if isinstance(document, list):
        for each in document:
            yield from counted(each)
    elif isinstance(document, dict):
        for name, value in document.items():
            if name in COUNTS and isinstance(value, int):
                yield value
            yield from counted(value)


def related(answers: Answers) -> list[object]:
    """Wholes and their parts, from different answers, that prove a few machines between them."""
    found: list[object] = []
    for package in ("app-misc/alpha", "app-misc/few"):
        figures = json.loads(answers[f"/v1/packages/{package}"][2])
        more = json.loads(answers[f"/v1/packages/{package}/statistics"][2])
        whole = figures["machines"]
        if whole is None:
            continue
        wholes = {
            "versions": [each["machines"] for each in figures["versions"]],
            "origins": [each["machines"] for each in more["origins"] if each["machines"]],
            "repositories": [each["machines"] for each in more["repositories"]],
        }
        for name, parts in wholes.items():
            if parts and (proves_few(whole, parts, TEN) or max(parts) > whole):
                found.append((package, name, whole, parts))
        for row in more["failures"]:
            if row["failed"] and proves_few(row["tried"], [row["failed"]], TEN):
                found.append((package, "failures", row))
    return found
