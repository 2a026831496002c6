# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pages show of builders: who is there, what they do, how that went, and where nobody is.

Builders are shown by the names that they give themselves, never by their machines. Of private targets nothing
is told, save that there is work for one.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from bdcs.domain.jobs import AttemptState
from bdcs.services.builders import BUILDER_SEEN, is_served
from bdcs.services.targets import Target
from bdcs.store import tables
from bdcs.store.tables import attempts, builders, jobs

DAYS: Final = 30
"""How far back the attempts of a builder are counted."""
ABSENCE: Final = 7 * 86_400
"""Seconds after which a builder that was not heard of is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a builder has at hand."""

    attempt: int
    job: int
    target: str
    category: str
    name: str
    version: str
    started_at: int
    expected_seconds: int | None

    def late(self, now: int) -> int:
        """By how many seconds it takes longer than was expected."""
        return 0 if self.expected_seconds is None else max(0, now - self.started_at - self.expected_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderRow:
    """One builder."""

    name: str
    targets: tuple[str, ...]
    """What it serves, of the targets that its reader may know of."""
    seen_at: int
    is_here: bool
    """Whether it was heard of lately."""
    is_draining: bool
    work: tuple[Work, ...]
    hidden_work: int
    """Jobs at hand for targets that its reader may not know of."""
    ends: Mapping[AttemptState, int]
    """How its attempts of the last days ended, at these targets."""

    def is_late(self, now: int) -> bool:
        """Whether something takes longer than was expected."""
        return any(one.late(now) for one in self.work)


@dataclass(frozen=True, slots=True, kw_only=True)
class Builders:
    """All of them."""

    rows: tuple[BuilderRow, ...]
    """Those at work first, then those that wait for some, then those that leave or are away."""
    unserved: tuple[str, ...]
    """Targets that nobody builds for."""

    @property
    def here(self) -> int:
        """How many were heard of lately."""
        return sum(row.is_here for row in self.rows)

    @property
    def at_work(self) -> int:
        """How many build something."""
        return sum(bool(row.work or row.hidden_work) for row in self.rows)

    @property
    def draining(self) -> int:
        """How many take no more work."""
        return sum(row.is_here and row.is_draining for row in self.rows)


def listed(connection: Connection, targets: Sequence[Target], now: int) -> Builders:
    """Return the builders, and which of `targets`, all that may be told of, nobody builds for."""
    names = {target.id: target.name for target in targets}
    at_hand = _at_hand(connection)
    ends = _ends(connection, names, now)
    served = _served(connection, names)
    found = connection.execute(
        select(builders).where(builders.c.seen_at > now - ABSENCE).order_by(builders.c.name)
    )
    rows = []
    for row in found:
        key = (row.machine_id, row.name)
        work = [one for one in at_hand[key] if one.target_id in names]
        claimed = set(json.loads(row.targets)) & served[row.machine_id]
        is_here = row.seen_at > now - BUILDER_SEEN
        if not (claimed or work) and not at_hand[key]:
            continue
        rows.append(
            BuilderRow(
                name=row.name,
                targets=tuple(sorted(claimed)),
                seen_at=row.seen_at,
                is_here=is_here or bool(at_hand[key]),
                is_draining=row.draining or row.drained_by is not None,
                work=tuple(_work(one, names) for one in work),
                hidden_work=len(at_hand[key]) - len(work),
                ends=ends[key],
            )
        )
    unserved = tuple(target.name for target in targets if not is_served(connection, target, now))
    return Builders(rows=tuple(sorted(rows, key=_place)), unserved=unserved)


def _place(row: BuilderRow) -> tuple[bool, bool, bool, str]:
    return not (row.work or row.hidden_work), row.is_draining, not row.is_here, row.name


def _at_hand(connection: Connection) -> defaultdict[tuple[int | None, str], list[Row[*tuple[Any, ...]]]]:
    found = defaultdict(list)
    query = (
        select(
            attempts.c.id,
            attempts.c.machine_id,
            attempts.c.builder,
            attempts.c.started_at,
            jobs.c.id.label("job"),
            jobs.c.target_id,
            jobs.c.category,
            jobs.c.name,
            jobs.c.version,
            jobs.c.expected_seconds,
        )
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.state == str(AttemptState.LEASED))
        .order_by(attempts.c.id)
    )
    for row in connection.execute(query):
        found[row.machine_id, row.builder].append(row)
    return found


def _work(row: Row[*tuple[Any, ...]], names: Mapping[int, str]) -> Work:
    return Work(
        attempt=row.id,
        job=row.job,
        target=names[row.target_id],
        category=row.category,
        name=row.name,
        version=row.version,
        started_at=row.started_at,
        expected_seconds=row.expected_seconds,
    )


def _ends(
    connection: Connection, names: Mapping[int, str], now: int
) -> defaultdict[tuple[int | None, str], Counter[AttemptState]]:
    found: defaultdict[tuple[int | None, str], Counter[AttemptState]] = defaultdict(Counter)
    query = (
        select(attempts.c.machine_id, attempts.c.builder, attempts.c.state, func.count())
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(jobs.c.target_id.in_(names), attempts.c.finished_at > now - DAYS * 86_400)
        .group_by(attempts.c.machine_id, attempts.c.builder, attempts.c.state)
    )
    for machine, name, state, count in connection.execute(query):
        found[machine, name][AttemptState(state)] = count
    return found


def _served(connection: Connection, names: Mapping[int, str]) -> defaultdict[int, set[str]]:
    """Return which targets each machine may build for."""
    allowed = tables.builder_targets
    found: defaultdict[int, set[str]] = defaultdict(set)
    query = select(allowed.c.machine_id, allowed.c.target_id).where(allowed.c.target_id.in_(names))
    for machine, target in connection.execute(query):
        found[machine].add(names[target])
    return found
