# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs: the states of what is to be built, and the one table of how they change. No I/O.

    waiting ──▶ queued ──▶ building ──▶ published
       │          │  ▲        │ │  └──▶ mismatch
       │          │  └────────┘ └─────▶ failed
       └──────────┴───────────────────▶ cancelled

A job waits until the jobs that it needs have ended; then it is queued until a builder takes it. A builder
that is lost, or that leaves, gives it back. What failed, became something else, or was cancelled begins anew
when somebody asks for it again: as the same job, so that its earlier logs stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class JobState(StrEnum):
    """Where a job is; the words also stand in the table and on the wire."""

    WAITING = "waiting"
    """Others must end before it."""
    QUEUED = "queued"
    """The next free builder may take it."""
    BUILDING = "building"
    """A builder has it."""
    PUBLISHED = "published"
    FAILED = "failed"
    MISMATCH = "mismatch"
    """What came of it is another build than the one wished for."""
    CANCELLED = "cancelled"
    """Nobody wants it any more."""


IN_FLIGHT: Final = (JobState.WAITING, JobState.QUEUED, JobState.BUILDING)
"""States of jobs that requests may join; of each wish at most one job is in one of them."""


class Event(StrEnum):
    """What happens to a job."""

    READY = "ready"
    """What it waited for has ended."""
    CLAIM = "claim"
    """A builder takes it."""
    PUBLISH = "publish"
    """What was wished for is published: by its attempt, or by whomever."""
    DIFFER = "differ"
    """Its attempt is published, and is not what was wished for."""
    FAIL = "fail"
    """Its attempt failed, or something that it needs did."""
    LOSE = "lose"
    """Its builder is lost, or gives it back."""
    CANCEL = "cancel"
    """Nobody wants it any more."""
    RETRY = "retry"
    """Somebody wants it again."""


TRANSITIONS: Final[Mapping[tuple[JobState, Event], JobState]] = MappingProxyType(
    {
        (JobState.WAITING, Event.READY): JobState.QUEUED,
        (JobState.WAITING, Event.PUBLISH): JobState.PUBLISHED,
        (JobState.WAITING, Event.FAIL): JobState.FAILED,
        (JobState.WAITING, Event.CANCEL): JobState.CANCELLED,
        (JobState.QUEUED, Event.CLAIM): JobState.BUILDING,
        (JobState.QUEUED, Event.PUBLISH): JobState.PUBLISHED,
        (JobState.QUEUED, Event.CANCEL): JobState.CANCELLED,
        (JobState.BUILDING, Event.PUBLISH): JobState.PUBLISHED,
        (JobState.BUILDING, Event.DIFFER): JobState.MISMATCH,
        (JobState.BUILDING, Event.FAIL): JobState.FAILED,
        (JobState.BUILDING, Event.LOSE): JobState.QUEUED,
        (JobState.BUILDING, Event.CANCEL): JobState.CANCELLED,
        (JobState.FAILED, Event.RETRY): JobState.WAITING,
        (JobState.MISMATCH, Event.RETRY): JobState.WAITING,
        (JobState.CANCELLED, Event.RETRY): JobState.WAITING,
    }
)
"""All that can happen, and what becomes of it; everything else is refused."""


def after(state: JobState, event: Event) -> JobState | None:
    """Return the state that `event` leads to from `state`; None where that cannot happen."""
    return TRANSITIONS.get((state, event))


def before(event: Event) -> tuple[JobState, ...]:
    """Return the states in which `event` can happen."""
    return tuple(state for state, possible in TRANSITIONS if possible is event)


class AttemptState(StrEnum):
    """What became of one builder's attempt at a job."""

    LEASED = "leased"
    """The builder is at work, and says so before its lease is over."""
    PUBLISHED = "published"
    FAILED = "failed"
    LOST = "lost"
    """Its lease ran out, or its builder gave it back."""
    CANCELLED = "cancelled"


class Answer(StrEnum):
    """What is told of a package when it is asked for."""

    PUBLISHED = "published"
    """That very build is there."""
    JOINED = "joined"
    """It is wanted by others already, and on its way."""
    QUEUED = "queued"
    """It will be built."""
    REFUSED = "refused"


class MemberState(StrEnum):
    """How a package of a request stands."""

    WAITING = "waiting"
    """Its job is in flight."""
    PUBLISHED = "published"
    REFUSED = "refused"
    FAILED = "failed"
    MISMATCH = "mismatch"
    CANCELLED = "cancelled"


ENDS: Final[Mapping[JobState, MemberState]] = MappingProxyType(
    {
        JobState.PUBLISHED: MemberState.PUBLISHED,
        JobState.FAILED: MemberState.FAILED,
        JobState.MISMATCH: MemberState.MISMATCH,
        JobState.CANCELLED: MemberState.CANCELLED,
    }
)
"""How a package of a request ends when its job does."""


class RequestState(StrEnum):
    """How a request stands."""

    OPEN = "open"
    """Something of it waits."""
    PUBLISHED = "published"
    """All of it is there."""
    INCOMPLETE = "incomplete"
    """It ended, and something of it is not there."""
    CANCELLED = "cancelled"


class Refusal(StrEnum):
    """Why a package is not built."""

    NO_TARGET = "no-target"
    """There is no such target, or it is not for this machine."""
    NO_BUILDER = "no-builder"
    """Nobody builds for the target now."""
    PARAMETER = "parameter"
    """A parameter that no build may have, or that does not fit the target."""
    UNKNOWN = "unknown"
    """The catalogue has no such package, or not with these flags."""
    BINDIST = "bindist"
    """It must not be redistributed."""
    FAILED = "failed"
    """It failed not long ago."""
    DEPENDENCIES = "dependencies"
    """It needs another package of the request that is refused."""
    QUOTA = "quota"
    """The machine wants too much at a time."""


class Origin(StrEnum):
    """Why there is a job."""

    REQUEST = "request"
    """A machine asked for it."""
    NEW_VERSION = "new-version"
    """A new version of something that was asked for."""
    PREBUILD = "prebuild"
    """It is likely to be asked for."""


PRIORITIES: Final[Mapping[Origin, int]] = MappingProxyType(
    {Origin.REQUEST: 100, Origin.NEW_VERSION: 50, Origin.PREBUILD: 10}
)
"""Who waits goes before what nobody waits for."""


class Failure(StrEnum):
    """Why a job ended without what was wished for."""

    BUILD = "build"
    """emerge failed."""
    FETCH = "fetch"
    """A source could not be had."""
    DEPENDENCIES = "dependencies"
    """What it needs cannot be had: Portage says so, or a job that it needs failed."""
    LIMIT = "limit"
    """It took too long, or too much memory or disk."""
    REFUSED = "refused"
    """What was built cannot be published, or the builder will not build it."""
    LOST = "lost"
    """Its builders were lost, one after another."""
    BUILDER = "builder"
    """Something is wrong with the builder."""
    MISMATCH = "mismatch"
    """What was built is not what was wished for."""


LOSSES: Final = 5
"""Builders in a row that may be lost with a job before it counts as failed."""
