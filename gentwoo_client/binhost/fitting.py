# SPDX-License-Identifier: GPL-2.0-or-later
"""Which targets suit a machine, and why the others do not. Pure: reads no file, starts no program.

A target fits *exactly* (CHOST, profile and flags are the machine's own) or is *compatible* (CHOST and profile
are; its `-march` is a subset of this CPU). What cannot be known does not fit: a program with an instruction
that the CPU lacks ends with SIGILL, perhaps weeks later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gentwoo_client.binhost.compiler_flags import Unknown, means_the_same, needed_instructions
from gentwoo_client.binhost.instruction_sets import is_x86, needed_by
from gentwoo_client.wire.targets import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What of a machine decides about targets."""

    chost: str
    profile: str | None
    """Relative to `profiles/` of its repository; None where it is one of the machine's own making."""
    cflags: str
    """With what `native` stands for, where a compiler could say it."""
    instructions: frozenset[str]
    """What all its CPUs have, as /proc/cpuinfo calls it; empty where that is not known."""


class Fitness(Enum):
    """How well a target suits a machine."""

    EXACT = "exact"
    COMPATIBLE = "compatible"
    UNFIT = "unfit"


@dataclass(frozen=True, slots=True)
class Fit:
    """What was found about one target."""

    target: Target
    fitness: Fitness
    reason: str
    """One line, without a full stop; of an unfit target everything that speaks against it."""
    needed: frozenset[str] = frozenset()
    """The instructions that its packages may use; nothing for an unfit target."""


def judge(machine: Machine, target: Target) -> Fit:
    """Say whether `target` suits `machine`, and why or why not."""
    against = []
    if target.chost != machine.chost:
        against.append(f"CHOST differs: {target.chost}")
    if machine.profile is None:
        against.append(f"profile {target.profile}; this machine's is its own, of several parents")
    elif target.profile != machine.profile:
        against.append(f"profile differs: {target.profile}")
    if against:
        return Fit(target, Fitness.UNFIT, "; ".join(against))
    needed = _needed(target)
    if means_the_same(machine.chost, machine.cflags, target.cflags):
        known = frozenset() if isinstance(needed, Unknown) else needed
        return Fit(target, Fitness.EXACT, "CHOST, profile and flags are this machine's", known)
    if isinstance(needed, Unknown):
        return Fit(target, Fitness.UNFIT, f"{needed.reason}, and this machine's flags are others")
    lacking = needed - machine.instructions
    if lacking and not machine.instructions:
        return Fit(target, Fitness.UNFIT, f"needs {_named(lacking)}; what this CPU has is not known")
    if lacking:
        return Fit(target, Fitness.UNFIT, f"needs {_named(lacking)} that this CPU lacks")
    return Fit(
        target,
        Fitness.COMPATIBLE,
        f"CHOST and profile are this machine's, and its CPU runs what {target.cflags or 'no flags'} gives",
        needed,
    )


def best(fits: Sequence[Fit]) -> tuple[Fit, ...]:
    """The fits that none of the others surpasses: several only where nothing tells which is better.

    Exact ones come before compatible ones; of these the one that makes most of the CPU.
    """
    exact = tuple(fit for fit in fits if fit.fitness is Fitness.EXACT)
    compatible = [fit for fit in fits if fit.fitness is Fitness.COMPATIBLE]
    return exact or tuple(
        fit for fit in compatible if not any(fit.needed < other.needed for other in compatible)
    )


def _needed(target: Target) -> frozenset[str] | Unknown:
    """What the flags need, and what the CPU that the operator names has, if that is a `-march`."""
    needed = needed_instructions(target.chost, target.cflags)
    named = needed_by(target.cpu) if is_x86(target.chost) else None
    return needed if isinstance(needed, Unknown) or named is None else needed | named


def _named(instructions: frozenset[str]) -> str:
    return ", ".join(sorted(instructions))
