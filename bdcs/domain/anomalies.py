# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes a machine or a package implausible. A finding is a reason to look, not a proof.

Everything that a finding names is the operator's to see, and nobody else's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

HOUR: Final = 3600
DAY: Final = 86_400
WEEK: Final = 7 * DAY

SHARED_AT_LEAST: Final = 20
"""Merges that two machines must have in common, to the second, before one passes for a copy."""
SHARED_PART: Final = 0.5
"""… and which part of the later machine's merges that must be."""
MERGES_PER_HOUR: Final = 2_000
"""Nobody merges more: Portage takes longer than this leaves it, also for binary packages."""
FUTURE: Final = DAY
"""Seconds by which a record may be later than its arrival: clocks go wrong by hours, seldom by days."""
BUSY_PART: Final = 1.1
"""A week has no more compiling than this part of it: `concurrency` is rounded."""
SLOW_BUILD: Final = 300
"""Seconds from which a typical build counts as slow …"""
TOO_FAST: Final = 50
"""… and how many times faster than that no machine is …"""
FAST_PACKAGES: Final = 5
"""… in so many packages."""
ALIKE_AT_LEAST: Final = 5
"""Machines with the very same packages that registered together."""
TOGETHER: Final = HOUR
NEWCOMERS: Final = 0.8
"""A package is pushed where this part of its machines registered within a day …"""
NEWCOMERS_ELSEWHERE: Final = 0.5
"""… in which no more than this part of all machines did."""


class Kind(StrEnum):
    """What is implausible."""

    COPY = "copy"
    """It merged what another did, in the same seconds."""
    BURST = "burst"
    """It merged more in an hour than anybody can."""
    FUTURE = "future"
    """It did things after they had arrived."""
    DURATION = "duration"
    """It compiled for longer than time passed, or far faster than anybody."""
    ALIKE = "alike"
    """It has the same packages as others that registered with it."""
    PUSHED = "pushed"
    """Of a package: nearly all who have it came together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reason to look at a machine or a package."""

    kind: Kind
    subject: int
    """Its number."""
    is_package: bool = False
    reason: str
    facts: dict[str, int | str] = field(default_factory=dict)


class Holder(NamedTuple):
    """A machine, and when it registered."""

    machine: int
    registered_at: int


def copies(shared: Iterable[tuple[int, int, int]], merges: dict[int, int]) -> Iterator[Finding]:
    """Yield machines whose merges are, for the better part, an earlier machine's.

    `shared`: (earlier machine, later machine, merges that both have to the second); `merges` of each.
    """
    best: dict[int, tuple[int, int]] = {}
    for earlier, later, count in shared:
        if count >= SHARED_AT_LEAST and count >= SHARED_PART * merges[later]:
            best[later] = max(best.get(later, (0, 0)), (count, earlier))
    for later, (count, earlier) in sorted(best.items()):
        yield Finding(
            kind=Kind.COPY,
            subject=later,
            reason=f"{count} of its {merges[later]} merges are those of another machine, to the second",
            facts={"merges": merges[later], "shared": count, "machine": earlier},
        )


def alike(machines: Iterable[tuple[Holder, int, int]]) -> Iterator[Finding]:
    """Yield machines that registered together and have the very same packages.

    `machines`: each with how many packages it has, and a hash of them.
    """
    groups: dict[tuple[int, int], list[Holder]] = {}
    for holder, count, mark in machines:
        groups.setdefault((count, mark), []).append(holder)
    for (count, _), holders in groups.items():
        holders.sort(key=lambda holder: holder.registered_at)
        times = [holder.registered_at for holder in holders]
        for holder in holders:
            together = bisect_right(times, holder.registered_at + TOGETHER) - bisect_right(
                times, holder.registered_at - TOGETHER - 1
            )
            if together >= ALIKE_AT_LEAST:
                yield Finding(
                    kind=Kind.ALIKE,
                    subject=holder.machine,
                    reason=f"{together - 1} others that registered within an hour of it have the same"
                    f" {count} packages",
                    facts={"packages": count, "machines": together},
                )


def pushed(package: int, holders: Sequence[int], fleet: Sequence[int], *, crowd: int) -> Finding | None:
    """Return the finding where nearly all who have a package registered within one day, unlike the rest.

    `holders` and `fleet`: times of registration, sorted; fewer than a `crowd` of holders say nothing.
    """
    if len(holders) < crowd:
        return None
    first, most = 0, 0
    for time in holders:
        count = bisect_right(holders, time + DAY) - bisect_right(holders, time - 1)
        if count > most:
            first, most = time, count
    around = bisect_right(fleet, first + DAY) - bisect_right(fleet, first - 1)
    if most < NEWCOMERS * len(holders) or around > NEWCOMERS_ELSEWHERE * len(fleet):
        return None
    return Finding(
        kind=Kind.PUSHED,
        subject=package,
        is_package=True,
        reason=f"{most} of the {len(holders)} machines with it registered within one day,"
        f" and {around} of all {len(fleet)}",
        facts={"machines": len(holders), "together": most, "fleet": len(fleet), "registered": around},
    )
