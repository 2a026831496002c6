# SPDX-License-Identifier: GPL-2.0-or-later
"""What to build before anyone asks: the few builds that serve the most machines. Pure.

    steps = cover(options, weights, budget=3600)

Which options to take is maximum coverage under a budget. Taking again and again what serves most for its cost
is the best that is known to be quick: without costs it serves at least 1 - 1/e (63 %) of what the best choice
would, with costs at least half of that (Khuller, Moss, Naor: The budgeted maximum coverage problem, 1999).
The same options in any order give the same steps.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from bdcs.domain.new_versions import is_keyworded
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """Something that could be built."""

    key: str
    """Its digest: of equals the lower one is taken first."""
    serves: frozenset[str]
    """Names of the wants that it meets."""
    cost: int = 1
    """At least 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An option that is taken."""

    option: Option
    gain: int
    """What it meets beyond those before it."""
    met: frozenset[str]
    """Wants that are met with it first."""


def cover(options: Iterable[Option], weights: Mapping[str, int], *, budget: int | None = None) -> list[Step]:
    """Return the options to take, in this order; those that add nothing are not among them.

    `weights` says how much each want counts; what it does not name counts nothing. Options together cost no
    more than `budget`, where there is one.
    """
    affordable = [each for each in options if budget is None or each.cost <= budget]
    steps = _greedy(affordable, weights, budget)
    if budget is None or not affordable:
        return steps
    single = max((_step(each, weights, frozenset()) for each in affordable), key=_preferred)
    return [single] if single.gain > sum(step.gain for step in steps) else steps


def _greedy(options: Iterable[Option], weights: Mapping[str, int], budget: int | None) -> list[Step]:
    """Take what gains most for its cost. A gain only shrinks, so only the first need be looked at anew."""
    heap = [(-Fraction(_gain(each.serves, weights), each.cost), each.key, each) for each in options]
    heapq.heapify(heap)
    steps: list[Step] = []
    met: frozenset[str] = frozenset()
    spent = 0
    while heap:
        promised, key, option = heapq.heappop(heap)
        step = _step(option, weights, met)
        ratio = -Fraction(step.gain, option.cost)
        if step.gain <= 0 or (budget is not None and spent + option.cost > budget):
            continue
        if ratio > promised:
            heapq.heappush(heap, (ratio, key, option))
            continue
        steps.append(step)
        met |= step.met
        spent += option.cost
    return steps


def _step(option: Option, weights: Mapping[str, int], met: frozenset[str]) -> Step:
    new = option.serves - met
    return Step(option=option, gain=_gain(new, weights), met=new)


def _gain(wants: Iterable[str], weights: Mapping[str, int]) -> int:
    return sum(weights.get(want, 0) for want in wants)


def _preferred(step: Step) -> tuple[int, int]:
    return step.gain, -step.option.cost


def serves(offered: BuildSpecification, asked: BuildSpecification, *, least: str) -> bool:
    """Whether machines that asked for `asked`, and would now take `least` or a later version, take `offered`.

    They do where it is the same package in the same slot from the same repository, no less stable, and built
    with the flags that they chose. What they could not choose yet, since the version that they asked for did
    not have the flag, they are taken to choose as others do.
    """
    if _place(offered) != _place(asked) or offered.user_patches or asked.user_patches:
        return False
    if Version.parse(offered.cpv.version) < Version.parse(least):
        return False
    both = set(offered.iuse) & set(asked.iuse)
    return both & set(offered.use) == both & set(asked.use) and is_keyworded(asked.keywords, offered.keywords)


def _place(specification: BuildSpecification) -> tuple[str, ...]:
    main_slot = specification.slot.partition("/")[0]
    return (specification.target, specification.repository, specification.cpv.cp, main_slot)
