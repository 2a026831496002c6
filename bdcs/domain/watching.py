# SPDX-License-Identifier: GPL-2.0-or-later
"""What is worth telling to whoever watches a package: the difference of two looks at what is public of it.

Nothing but published figures is looked at, so a feed tells nobody more than the pages do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

SHARES: Final = (50, 90)
"""Per cent of a package's machines whose crossing is told of a version."""


class Topic(StrEnum):
    """What somebody wants to hear of; the words also stand in the table and on the wire."""

    FAILURES = "failures"
    """A version begins to fail on a crowd of machines."""
    ADOPTION = "adoption"
    """A version arrives, leads, or reaches a share of the package's machines."""
    REMOVAL = "removal"
    """The package is about to leave its repository, and how many machines that concerns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was public of a package at one time."""

    machines: int = 0
    """0: not shown."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """Machines of each version that is shown."""
    failing: Mapping[str, str] = field(default_factory=dict)
    """Versions that fail on a crowd, and since which day."""
    leaving: Mapping[str, str] = field(default_factory=dict)
    """Atoms that are about to leave, and the day, or an empty text."""

    def to_text(self) -> str:
        """JSON, for the table."""
        return json.dumps(
            {
                "machines": self.machines,
                "versions": dict(self.versions),
                "failing": dict(self.failing),
                "leaving": dict(self.leaving),
            },
            sort_keys=True,
        )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What `to_text` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something to tell."""

    topic: Topic
    text: str
    facts: Mapping[str, object]


def events(package: str, before: Sight, now: Sight) -> Iterator[Event]:
    """Yield what is to be told of `package` (`category/name`) after a look that saw `before`."""
    yield from _failures(package, before, now)
    yield from _adoption(package, before, now)
    yield from _removal(package, before, now)


def _failures(package: str, before: Sight, now: Sight) -> Iterator[Event]:
    for version, since in now.failing.items():
        if version not in before.failing:
            yield Event(
                topic=Topic.FAILURES,
                text=f"{package}-{version} fails to build, since {since}",
                facts={"version": version, "since": since},
            )


def _adoption(package: str, before: Sight, now: Sight) -> Iterator[Event]:
    for version, machines in now.versions.items():
        facts = {"version": version, "machines": machines, "of": now.machines}
        if version not in before.versions:
            text = f"{package}-{version} is on {machines:,} of {now.machines:,} machines"
            yield Event(topic=Topic.ADOPTION, text=text, facts=facts)
            continue
        share, earlier = _share(now, version), _share(before, version)
        crossed = [each for each in SHARES if earlier < each <= share]
        if crossed:
            text = f"{package}-{version} has reached {crossed[-1]} % of the machines with the package"
            yield Event(topic=Topic.ADOPTION, text=text, facts={**facts, "share": crossed[-1]})
    leader = _leader(now)
    if leader is not None and _leader(before) not in (None, leader):
        text = f"{package}-{leader} is now the most common version"
        facts = {"version": leader, "machines": now.versions[leader], "of": now.machines, "leads": True}
        yield Event(topic=Topic.ADOPTION, text=text, facts=facts)


def _removal(package: str, before: Sight, now: Sight) -> Iterator[Event]:
    on = f"on {now.machines:,} machines" if now.machines else "on too few machines to be shown"
    for atom, day in now.leaving.items():
        facts = {"atom": atom, "leaves_on": day or None, "machines": now.machines or None}
        when = f" on {day}" if day else ""
        if atom not in before.leaving:
            yield Event(
                topic=Topic.REMOVAL, text=f"{atom} is leaving{when}; the package is {on}", facts=facts
            )
        elif now.machines != before.machines:
            text = f"{atom} is leaving{when}; the package is now {on}"
            yield Event(topic=Topic.REMOVAL, text=text, facts=facts)
    for atom in before.leaving:
        if atom not in now.leaving:
            facts = {"atom": atom, "stays": True}
            yield Event(topic=Topic.REMOVAL, text=f"{atom} is no longer listed as leaving", facts=facts)


def _share(sight: Sight, version: str) -> float:
    return 100 * sight.versions.get(version, 0) / sight.machines if sight.machines else 0.0


def _leader(sight: Sight) -> str | None:
    """The version on most machines; None where two share that place."""
    most = max(sight.versions.values(), default=0)
    leaders = [version for version, machines in sight.versions.items() if machines == most]
    return leaders[0] if len(leaders) == 1 else None
