# SPDX-License-Identifier: GPL-2.0-or-later
"""Which builds of a target stay when it is pruned. Reads no clock, no file and no store.

A build stays if any rule holds it: it belongs to a generation that is kept; it is what a machine of the fleet
would install again; it is young; it is among the newest. What nothing holds goes, or, where a size is to be
reached, only as much of it as is needed, the least useful first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bdcs.domain.builds import Build, age_key
from gentwoo_client.wire.version import Version

DAY: Final = 86400  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds a build."""

    versions: int
    """Of each package, slot and repository so many of the newest versions stay, in each choice of USE."""
    age: int = 0
    """What was published less than so many seconds ago stays."""
    size: int | None = None
    """Bytes that the target may have; nothing goes while it has no more. None: it is no matter of size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of one build, and why."""

    build: Build
    stays: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What of the world outside the target's index the rules look at."""

    now: float
    """Unix seconds."""
    kept: Mapping[int, int]
    """Builds in generations that are kept, by id, and the number of such a generation."""
    installed: Container[str]
    """CPVs that some machine has."""


def judge(builds: Collection[Build], rules: Rules, surroundings: Surroundings) -> list[Verdict]:
    """Return what becomes of each build, those that go first and in the order in which they do."""
    superseded = _superseded(builds)
    rank = _ranks(builds)
    stay: list[Verdict] = []
    loose: list[Verdict] = []
    for build in builds:
        newer = superseded.get(build.id)
        held = _held(build, newer, rank[build.id], rules, surroundings)
        if held is not None:
            stay.append(Verdict(build=build, stays=True, reason=held))
        else:
            loose.append(Verdict(build=build, stays=False, reason=_why(newer, rank[build.id], rules)))
    loose.sort(key=lambda verdict: (verdict.build.id not in superseded, _age(verdict.build)))
    if rules.size is None:
        return [*loose, *stay]
    going, staying = _until_small(loose, sum(build.size for build in builds), rules.size)
    return [*going, *staying, *stay]


def remaining(verdicts: Iterable[Verdict]) -> int:
    """Return the bytes of what stays."""
    return sum(verdict.build.size for verdict in verdicts if verdict.stays)


def _held(
    build: Build, newer: Build | None, rank: int, rules: Rules, surroundings: Surroundings
) -> str | None:
    """Return what holds the build, in words, or None. `rank`: versions of its slot that are newer."""
    if build.id in surroundings.kept:
        return f"in generation {surroundings.kept[build.id]}, which is kept"
    days = (surroundings.now - build.published_at) / DAY
    if surroundings.now - build.published_at < rules.age:
        return f"published {max(0, int(days))} days ago"
    if newer is not None:
        return None
    if rank < rules.versions:
        return f"among the newest {rules.versions} of its slot"
    if build.cpv in surroundings.installed:
        return "installed somewhere"
    return None


def _why(newer: Build | None, rank: int, rules: Rules) -> str:
    if newer is not None:
        return f"{newer} is newer and has the same USE"
    return f"its slot has {rank} newer {'version' if rank == 1 else 'versions'}"


def _superseded(builds: Collection[Build]) -> dict[int, Build]:
    """Return those builds that no client takes any more, with the one that is taken instead.

    Portage takes the newest BUILD_TIME of what has the wanted version and USE.
    """
    found: dict[int, Build] = {}
    for group in _grouped(builds, lambda build: (_slot(build), build.version, build.use)):
        *older, newest = sorted(group, key=age_key)
        found.update((build.id, newest) for build in older)
    return found


def _ranks(builds: Collection[Build]) -> dict[int, int]:
    """Return for each build how many versions of its package and slot are newer."""
    ranks: dict[int, int] = {}
    for group in _grouped(builds, _slot):
        versions = sorted({Version.parse(build.version) for build in group}, reverse=True)
        place = {version: number for number, version in enumerate(versions)}
        ranks.update((build.id, place[Version.parse(build.version)]) for build in group)
    return ranks


def _until_small(loose: list[Verdict], total: int, size: int) -> tuple[list[Verdict], list[Verdict]]:
    """Return those of `loose` that go so that `total` bytes become `size`, and those that may stay."""
    for number, verdict in enumerate(loose):
        if total <= size:
            fitting = [
                Verdict(build=each.build, stays=True, reason="there is room for it")
                for each in loose[number:]
            ]
            return loose[:number], fitting
        total -= verdict.build.size
    return loose, []


def _slot(build: Build) -> Hashable:
    return build.category, build.name, build.slot, build.repository


def _age(build: Build) -> tuple[int, tuple[int, int, int]]:
    return build.published_at, age_key(build)


def _grouped(builds: Iterable[Build], key: Callable[[Build], Hashable]) -> Iterable[list[Build]]:
    groups: defaultdict[Hashable, list[Build]] = defaultdict(list)
    for build in builds:
        groups[key(build)].append(build)
    return groups.values()
