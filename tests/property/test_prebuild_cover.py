# SPDX-License-Identifier: GPL-2.0-or-later
"""Which builds serve the most machines: against trying all choices, and in whatever order they are given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from bdcs.domain.prebuild import Option, cover

WANTS = [f"w{number}" for number in range(7)]
weights = st.fixed_dictionaries({want: st.integers(0, 40) for want in WANTS})


@st.composite
def options(draw: st.DrawFn, cost: st.SearchStrategy[int]) -> list[Option]:
    served = draw(st.lists(st.frozensets(st.sampled_from(WANTS)), max_size=6))
    return [Option(key=f"o{number}", serves=each, cost=draw(cost)) for number, each in enumerate(served)]


def met(some: Iterable[Option], weight: Mapping[str, int]) -> int:
    """What these serve together."""
    return sum(weight[want] for want in frozenset().union(*(each.serves for each in some)))


def best(some: Sequence[Option], weight: Mapping[str, int], budget: int) -> int:
    """What the best choice within the budget serves."""
    choices = (choice for size in range(len(some) + 1) for choice in combinations(some, size))
    return max(met(choice, weight) for choice in choices if sum(each.cost for each in choice) <= budget)


@given(options(st.just(1)), weights, st.integers(1, 4))
def test_k_options_serve_nearly_as_much_as_the_best_k(
    some: list[Option], weight: dict[str, int], k: int
) -> None:
    steps = cover(some, weight)[:k]
    assert sum(step.gain for step in steps) >= (1 - 1 / math.e) * best(some, weight, k)


@given(options(st.integers(1, 9)), weights, st.integers(0, 25))
def test_a_budget_is_kept_and_well_spent(some: list[Option], weight: dict[str, int], budget: int) -> None:
    steps = cover(some, weight, budget=budget)
    assert sum(step.option.cost for step in steps) <= budget
    assert sum(step.gain for step in steps) >= (1 - 1 / math.e) / 2 * best(some, weight, budget)


@given(options(st.integers(1, 9)), weights, st.none() | st.integers(0, 25), st.randoms())
def test_no_order_matters_and_nothing_is_counted_twice(
    some: list[Option], weight: dict[str, int], budget: int | None, random: object
) -> None:
    steps = cover(some, weight, budget=budget)
    mixed = list(some)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert cover(mixed, dict(reversed(weight.items())), budget=budget) == steps
    taken = [step.option for step in steps]
    assert len({each.key for each in taken}) == len(taken)
    assert sum(step.gain for step in steps) == met(taken, weight)
    assert all(step.gain > 0 for step in steps)


@given(options(st.integers(1, 9)), weights)
def test_without_a_budget_all_is_served_that_can_be_and_each_step_gains_less_for_its_cost(
    some: list[Option], weight: dict[str, int]
) -> None:
    steps = cover(some, weight)
    assert sum(step.gain for step in steps) == met(some, weight)
    ratios = [step.gain / step.option.cost for step in steps]
    assert ratios == sorted(ratios, reverse=True)
