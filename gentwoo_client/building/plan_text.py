# SPDX-License-Identifier: GPL-2.0-or-later
"""In words: what comes as a binary, what is to be built and how long, what is not, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gentwoo_client.errors import printable
from gentwoo_client.wire.build_messages import BuildState, BuildSummary, NearMiss, PackageStatus

IN_FLIGHT: Final = ("waiting", "queued", "building")
"""States of packages that somebody waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A package that the collector is not asked for."""

    cpv: str
    reason: str


def plan_lines(plan: BuildState, kept: Sequence[Kept]) -> list[str]:
    """What `plan` says, and what is not in it."""
    published = [package for package in plan.packages if package.state == "published"]
    wanted = [package for package in plan.packages if package.answer in ("joined", "queued")]
    refused = [package for package in plan.packages if package.state == "refused"]
    lines: list[str] = []
    if published:
        lines.append(f"There as binaries, {len(published):,}:")
        lines += [f"  {_name(package)}" for package in published]
    if wanted:
        lines.append(f"To be built for {plan.target}, {len(wanted):,}; {_how_long(wanted)}:")
        for package in wanted:
            lines.append(f"  {_name(package)}  {_expected(package)}")
            lines += [f"      {line}" for line in near_lines(package.near[:1])]
    if refused or kept:
        lines.append(f"Not built there, {len(refused) + len(kept):,}:")
        for package in refused:
            lines.append(f"  {_name(package)}  {printable(package.reason or 'refused')}")
            lines += [f"      {line}" for line in near_lines(package.near[:1])]
        lines += [f"  {package.cpv}  {package.reason}" for package in kept]
    return lines


def kept_lines(kept: Sequence[Kept]) -> list[str]:
    """What the collector is not asked for, where it is asked for nothing at all."""
    return [f"Not built there, {len(kept):,}:", *(f"  {package.cpv}  {package.reason}" for package in kept)]


def near_lines(near: Sequence[NearMiss]) -> list[str]:
    """How published builds of that version differ from the one that is wished for."""
    lines = []
    for miss in near:
        head = f"build{'' if miss.build_id is None else f' {miss.build_id}'} is not it: "
        differences = [printable(text) for text in miss.difference] or ["it differs in what is not told"]
        lines.append(head + differences[0])
        lines += [" " * len(head) + text for text in differences[1:]]
    return lines


def outcome_lines(state: BuildState) -> list[str]:
    """What became of a request that has ended."""
    lines = []
    for package in state.packages:
        if package.state == "published":
            continue
        lines.append(f"{_name(package)}: {state_words(package)}")
    lines += left_out_lines(sorted({cpv for package in state.packages for cpv in package.left_out}))
    there = sum(package.state == "published" for package in state.packages)
    lines.append(f"{there:,} of {len(state.packages):,} packages are there.")
    return lines


def state_words(package: PackageStatus) -> str:
    """How one package stands: `queued, 2nd in the queue, about 3 min`."""
    reason = f": {printable(package.reason)}" if package.reason else ""
    match package.state:
        case "published":
            return "is there"
        case "waiting":
            return "waits for what it needs"
        case "queued":
            place = "" if package.position is None else f", {ordinal(package.position)} in the queue"
            return f"queued{place}{_about(package.expected_seconds)}"
        case "building":
            return f"is being built{_about(package.expected_seconds)}"
        case "mismatch":
            return f"what was built is another build{reason}"
        case "failed":
            return f"failed{reason}"
        case "refused":
            return f"is not built{reason}"
        case _:
            return f"cancelled{reason}"


def left_out_lines(cpvs: Sequence[str]) -> list[str]:
    """What was built for a package besides, and why it does not come as a binary."""
    names = ", ".join(printable(cpv) for cpv in cpvs)
    return [f"left out, since it must not be redistributed: {names}; emerge builds it here"] if cpvs else []


def news_line(state: BuildState) -> str:
    """What the next command tells of a request that ended."""
    what = " ".join(printable(atom) for atom in state.atoms) or f"request {state.id}"
    if state.state == "published":
        return f"{what}: built; `gentwoo install` takes it"
    if state.state == "cancelled":
        return f"{what}: cancelled"
    failed = [package for package in state.packages if package.state in ("failed", "mismatch", "refused")]
    first = f"{_name(failed[0])} {state_words(failed[0])}" if failed else "not all of it is there"
    more = f"; {len(failed) - 1:,} more" if len(failed) > 1 else ""
    return f"{what}: {first}{more}; `gentwoo builds log {state.id}` tells more"


def summary_rows(builds: Sequence[BuildSummary]) -> Iterator[tuple[str, ...]]:
    """Requests as rows of a table: id, when, how far, what."""
    for build in builds:
        atoms = " ".join(printable(atom) for atom in build.atoms)
        yield build.id, build.created_at, build.state, f"{build.ended}/{build.packages}", build.target, atoms


def duration(seconds: float) -> str:
    """A duration as people say it: `45 s`, `3 min`, `2 h 10 min`."""
    whole = max(round(seconds), 0)
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, …"""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def _name(package: PackageStatus) -> str:
    return printable(package.cpv)


def _expected(package: PackageStatus) -> str:
    joined = "on its way already, " if package.answer == "joined" else ""
    known = package.expected_seconds
    return joined + ("time not known" if known is None else f"about {duration(known)}")


def _how_long(packages: Sequence[PackageStatus]) -> str:
    known = [package.expected_seconds for package in packages if package.expected_seconds is not None]
    unknown = len(packages) - len(known)
    if not known:
        return "how long is not known"
    words = f"about {duration(sum(known))} of building"
    return words if not unknown else f"{words}, and {unknown:,} of which it is not known"


def _about(seconds: int | None) -> str:
    return "" if seconds is None else f", about {duration(seconds)}"
