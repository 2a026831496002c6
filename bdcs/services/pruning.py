# SPDX-License-Identifier: GPL-2.0-or-later
"""Pruning: builds that no rule of retention holds leave the index, all in one generation.

Their files stay for the grace time, since clients hold older indexes; then upkeep deletes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from bdcs.domain.installations import PRESENT
from bdcs.domain.retention import Rules, Surroundings, Verdict, judge
from bdcs.domain.targets import Cause
from bdcs.services import generations
from bdcs.services.generations import Generation
from bdcs.services.targets import Target
from bdcs.store import tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What became, or would become, of a target's builds."""

    target: Target
    gone: tuple[Verdict, ...]
    """In the order in which they go."""
    stayed: tuple[Verdict, ...]
    generation: Generation | None = None
    """The one that it made; None where nothing went, or nothing was to go yet."""


def plan(
    connection: Connection, target: Target, rules: Rules, *, keep_installed: bool, now: float
) -> Pruning:
    """Return what pruning would do."""
    verdicts = judge(
        generations.visible(connection, target),
        rules,
        Surroundings(
            now=now,
            kept=generations.kept_builds(connection, target),
            installed=installed_somewhere(connection, target) if keep_installed else frozenset(),
        ),
    )
    return Pruning(
        target=target,
        gone=tuple(verdict for verdict in verdicts if not verdict.stays),
        stayed=tuple(verdict for verdict in verdicts if verdict.stays),
    )


def prune(
    connection: Connection,
    target: Target,
    rules: Rules,
    *,
    keep_installed: bool,
    actor: str,
    note: str = "",
    now: float,
) -> Pruning:
    """Withdraw what no rule holds; the caller holds the target's lock and writes its index."""
    planned = plan(connection, target, rules, keep_installed=keep_installed, now=now)
    if not planned.gone:
        return planned
    made = generations.advance(
        connection,
        target,
        [],
        [verdict.build.id for verdict in planned.gone],
        cause=Cause.PRUNE,
        actor=actor,
        note=note,
        now=now,
    )
    return Pruning(target=target, gone=planned.gone, stayed=planned.stayed, generation=made)


def installed_somewhere(connection: Connection, target: Target) -> frozenset[str]:
    """Return the CPVs that the target lists and that some machine of the fleet has installed."""
    builds, installations = tables.builds, tables.installations
    rows = connection.scalars(
        select(builds.c.cpv)
        .distinct()
        .join(
            tables.packages,
            (tables.packages.c.category == builds.c.category) & (tables.packages.c.name == builds.c.name),
        )
        .join(tables.versions, tables.versions.c.text == builds.c.version)
        .join(
            installations,
            (installations.c.package_id == tables.packages.c.id)
            & (installations.c.version_id == tables.versions.c.id)
            & (installations.c.flags.bitwise_and(PRESENT) != 0),
        )
        .where(builds.c.target_id == target.id, builds.c.visible)
    )
    return frozenset(rows)
