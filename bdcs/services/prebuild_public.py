# SPDX-License-Identifier: GPL-2.0-or-later
"""What everybody may know of what is worth building: of targets for everybody, from public figures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select, tuple_

from bdcs.domain.thresholds import Thresholds, rounded
from bdcs.services import prebuild, predictions, public_figures, targets
from bdcs.services.prebuild import Coverage, Pick
from bdcs.services.prebuild_candidates import typical_seconds
from bdcs.services.targets import Target
from bdcs.store.tables import builds

INSTALLED: Final = 300
"""Packages, the most installed, that are looked through for what nobody has built."""
UNBUILT: Final = 15
"""Of them so many are shown, what takes longest for all machines together first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbuilt:
    """A package that many machines have, no target offers, and too few asked for."""

    category: str
    name: str
    machines: int
    seconds: int
    """That it takes on a machine of median speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """A build that is worth making, in rounded figures."""

    pick: Pick
    machines: int
    likely: int

    @property
    def saved(self) -> int:
        """Seconds of compiling that all of them are saved."""
        return self.likely * self.pick.candidate.saved


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospects:
    """All of it."""

    targets: tuple[str, ...]
    next: tuple[Prospect, ...]
    """The best first."""
    coverage: tuple[Coverage, ...]
    unbuilt: tuple[Unbuilt, ...]

    def at(self, target: str) -> Prospects:
        """Return what concerns one target; of the empty name: all."""
        if not target:
            return self
        return Prospects(
            targets=self.targets,
            next=tuple(each for each in self.next if each.pick.candidate.target.name == target),
            coverage=tuple(each for each in self.coverage if each.place.target.name == target),
            unbuilt=self.unbuilt,
        )


def prospects(connection: Connection, thresholds: Thresholds, now: float) -> Prospects:
    """Find out all of it."""
    public = [target for target in targets.listed(connection) if not target.private]
    places = prebuild.public_places(connection, thresholds, public)
    found = prebuild.outlook(connection, places, thresholds, now)
    following = (
        Prospect(pick=pick, machines=rounded(pick.machines), likely=rounded(pick.likely))
        for pick in found.picks
    )
    asked = {(place.key.category, place.key.name) for place in places}
    return Prospects(
        targets=tuple(target.name for target in public),
        next=tuple(following),
        coverage=found.coverage,
        unbuilt=_unbuilt(connection, public, asked),
    )


def _unbuilt(
    connection: Connection, public: Sequence[Target], asked: Collection[tuple[str, str]]
) -> tuple[Unbuilt, ...]:
    if not public:
        return ()
    rows = public_figures.package_list(connection, rows=INSTALLED).rows
    names = {(row.category, row.name) for row in rows} - set(asked)
    query = (
        select(builds.c.category, builds.c.name)
        .where(builds.c.target_id.in_([target.id for target in public]), builds.c.visible)
        .where(tuple_(builds.c.category, builds.c.name).in_(sorted(names)))
    )
    names -= {(category, name) for category, name in connection.execute(query)} if names else set()
    table = predictions.table_of(connection, names)
    found = [
        Unbuilt(category=row.category, name=row.name, machines=row.machines, seconds=seconds)
        for row in rows
        if (row.category, row.name) in names
        and (seconds := typical_seconds(table, f"{row.category}/{row.name}", ""))
    ]
    found.sort(key=lambda each: (-each.machines * each.seconds, each.category, each.name))
    return tuple(found[:UNBUILT])
