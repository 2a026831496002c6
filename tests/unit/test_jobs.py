# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of what happens to jobs: every pair of state and event, one by one."""

import itertools

import pytest

from bdcs.domain.build_policy import GONE, BuildPolicy
from bdcs.domain.jobs import (
    ENDS,
    IN_FLIGHT,
    TRANSITIONS,
    Event,
    Failure,
    JobState,
    after,
    before,
)

POSSIBLE: dict[str, dict[str, str]] = {
    "waiting": {"ready": "queued", "publish": "published", "fail": "failed", "cancel": "cancelled"},
    "queued": {"claim": "building", "publish": "published", "cancel": "cancelled"},
    "building": {
        "publish": "published",
        "differ": "mismatch",
        "fail": "failed",
        "lose": "queued",
        "cancel": "cancelled",
    },
    "published": {},
    "failed": {"retry": "waiting"},
    "mismatch": {"retry": "waiting"},
    "cancelled": {"retry": "waiting"},
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(JobState, Event)))
def test_what_becomes_of(state: JobState, event: Event) -> None:
    expected = POSSIBLE[state].get(event)
    assert after(state, event) == expected
    assert (state in before(event)) == (expected is not None)


def test_every_job_can_end_and_every_end_has_its_word() -> None:
    assert set(ENDS) == set(JobState) - set(IN_FLIGHT)
    reached = set(IN_FLIGHT[:1])
    while more := {TRANSITIONS[key] for key in TRANSITIONS if key[0] in reached} - reached:
        reached |= more
    assert reached == set(JobState)
    for state in IN_FLIGHT:
        assert {after(state, event) for event in Event} & set(ENDS)


def test_every_failure_is_remembered_for_a_while() -> None:
    assert all(BuildPolicy().remembered(failure) > 0 for failure in Failure)


def test_for_how_long_the_operator_says() -> None:
    policy = BuildPolicy(lasting=7_200, passing=1_800)
    assert policy.remembered(Failure.BUILD) == policy.remembered(Failure.MISMATCH) == 7_200
    assert policy.remembered(Failure.FETCH) == policy.remembered(Failure.DEPENDENCIES) == 1_800
    assert policy.remembered(Failure.LOST) == GONE
    assert BuildPolicy(passing=60).remembered(Failure.BUILDER) == 60
