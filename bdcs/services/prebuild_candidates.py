# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds that could be made for what machines asked for, how each stands, and what it takes and saves.

What was asked for is brought up to date: the newest version that these machines would take, specified as they
asked for it, and bound to what the target has published since.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, select

from bdcs.domain.admission import RESTRICTED
from bdcs.domain.jobs import IN_FLIGHT, Failure, JobState, Origin
from bdcs.domain.new_versions import Choice, NewVersion, is_keyworded
from bdcs.domain.prebuild import Option, serves
from bdcs.domain.thresholds import Thresholds
from bdcs.errors import CollectorError
from bdcs.services import catalogue, estimates, predictions
from bdcs.services.catalogue import CataloguePackage, CatalogueVersion
from bdcs.services.new_versions import published_slot, specify
from bdcs.services.prebuild_demand import Key
from bdcs.services.targets import Target
from bdcs.services.variants import Variant, described
from bdcs.store.slices import slices
from bdcs.store.tables import builds, jobs
from gentwoo_client.prediction.fleet import FleetTable
from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.errors import ProtocolError
from gentwoo_client.wire.version import Version

log = logging.getLogger(__name__)

OVERHEAD: Final = 20
"""Seconds that a build takes beside compiling: a root is made, dependencies come in, it is published."""
UNKNOWN: Final = 60
"""Seconds of compiling that are assumed where nothing is known."""

LASTING: Final = frozenset((Failure.BUILD, Failure.LIMIT, Failure.REFUSED, Failure.MISMATCH))
"""Failures that another attempt, unasked, would only repeat."""


class Standing(StrEnum):
    """How far a build is."""

    THERE = "there"
    COMING = "coming"
    """A job is on its way."""
    OPEN = "open"
    """It could be built."""
    FAILED = "failed"
    """It failed, and is not tried again now without somebody asking for it."""
    IMPOSSIBLE = "impossible"
    """It must not be passed on, or the repository does not have it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A variant that machines asked for."""

    key: Key
    asked: BuildSpecification
    """What most of them asked for."""
    machines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A package in one slot, at a target."""

    key: Key
    target: Target
    machines: int
    """That asked for it in any variant."""
    users: int
    """Machines that asked the target for anything; 0: not known."""
    wants: tuple[Want, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A build that would serve machines."""

    specification: BuildSpecification
    digest: str
    target: Target
    variant: Variant
    standing: Standing
    seconds: int
    """Of a builder of the target."""
    saved: int
    """Seconds of compiling that each machine is saved."""
    is_known: bool
    """Whether these seconds are more than an assumption."""


class Workshop:
    """Makes candidates of wants, and knows what the store says of them."""

    def __init__(
        self, connection: Connection, places: Sequence[Place], thresholds: Thresholds, now: float
    ) -> None:
        self._connection = connection
        self._thresholds = thresholds
        self._time = int(now)
        self._names: defaultdict[int, set[tuple[str, str]]] = defaultdict(set)
        for place in places:
            self._names[place.target.id].add((place.key.category, place.key.name))
        self._packages: dict[tuple[str, str], CataloguePackage | None] = {}
        self._implicit: dict[int, frozenset[str]] = {}
        self._slots: dict[tuple[str, str], str | None] = {}
        self._made: dict[str, tuple[Target, BuildSpecification]] = {}

    def options(self, place: Place, wants: Mapping[str, Want]) -> list[Option]:
        """Return what could be built for the wants of a place."""
        offered: dict[str, BuildSpecification] = {}
        least: dict[str, str] = {}
        for name, want in wants.items():
            now = self._now(place.target, want.asked)
            if now is not None:
                offered[now.digest()] = now
                least[name] = now.cpv.version
        self._made.update((digest, (place.target, one)) for digest, one in offered.items())
        return [
            Option(
                key=digest,
                serves=frozenset(name for name in least if serves(one, wants[name].asked, least=least[name])),
            )
            for digest, one in sorted(offered.items())
        ]

    def candidates(self) -> dict[str, Candidate]:
        """Return all that could be built, with how it stands and what it takes."""
        standings = self._standings()
        found = {}
        for target_id, names in self._names.items():
            expected = estimates.expected_seconds(
                self._connection, target_id, names, machines=self._thresholds.machines
            )
            table = predictions.table_of(self._connection, names)
            for digest, (target, one) in self._made.items():
                if target.id == target_id:
                    spent = expected.get((one.cpv.category, one.cpv.name))
                    saved = typical_seconds(table, one.cpv.cp, one.cpv.version) or spent
                    found[digest] = Candidate(
                        specification=one,
                        digest=digest,
                        target=target,
                        variant=described(one.iuse, one.use, self._default(one)),
                        standing=standings[digest],
                        seconds=OVERHEAD + (saved or UNKNOWN if spent is None else spent),
                        saved=saved or UNKNOWN,
                        is_known=saved is not None,
                    )
        return found

    # What machines would ask for now.

    def _now(self, target: Target, asked: BuildSpecification) -> BuildSpecification | None:
        """Return what machines that asked for `asked` would ask for now; None where that cannot be told."""
        newest = self._newest(asked)
        try:
            if newest is None or Version.parse(newest.cpv.version) <= Version.parse(asked.cpv.version):
                return self._rebound(asked)
            version = NewVersion(
                cpv=newest.cpv,
                repository=newest.repository,
                slot=newest.slot.partition("/")[0],
                keywords=newest.keywords,
                is_live=False,
            )
            enabled = sorted({*asked.use, *self._outside_iuse(target, asked)})
            return specify(self._connection, Choice(version=version, model=asked), enabled)
        except (CollectorError, ProtocolError, OSError) as error:
            log.debug("what comes after %s cannot be told: %s", asked.cpv, error)
            return None

    def _newest(self, asked: BuildSpecification) -> CatalogueVersion | None:
        """Return the newest version that they would take."""
        package = self._package(asked)
        for version in () if package is None else package.versions:
            if (
                version.repository == asked.repository
                and version.slot.partition("/")[0] == asked.slot.partition("/")[0]
                and not version.is_live
                and is_keyworded(asked.keywords, version.keywords)
            ):
                return version
        return None

    def _package(self, one: BuildSpecification) -> CataloguePackage | None:
        name = (one.cpv.category, one.cpv.name)
        if name not in self._packages:
            self._packages[name] = catalogue.package(self._connection, *name)
        return self._packages[name]

    def _rebound(self, asked: BuildSpecification) -> BuildSpecification:
        """Return the same, bound to the sub-slots that the target has published since."""
        bound = {}
        for package, slot in asked.built_against.items():
            spot = (asked.target, package)
            if spot not in self._slots:
                self._slots[spot] = published_slot(self._connection, asked.target, Atom.parse(package))
            bound[package] = self._slots[spot] or slot
        return replace(asked, built_against=bound)

    def _outside_iuse(self, target: Target, asked: BuildSpecification) -> frozenset[str]:
        """Return flags that are on for all packages of a target, ARCH among them, by what it has built."""
        if target.id not in self._implicit:
            row = self._connection.execute(
                select(builds.c.use, builds.c.iuse)
                .where(builds.c.target_id == target.id, builds.c.visible)
                .order_by(builds.c.id.desc())
                .limit(1)
            ).first()
            flags = () if row is None else set(row.use.split()) - _flags(row.iuse.split())
            self._implicit[target.id] = frozenset(flags)
        arches = {word.lstrip("~-") for word in asked.keywords if not word.endswith("*")}
        return self._implicit[target.id] | arches

    def _default(self, one: BuildSpecification) -> frozenset[str] | None:
        package = self._package(one)
        for version in () if package is None else package.versions:
            if version.cpv == one.cpv and version.repository == one.repository:
                return frozenset(flag[1:] for flag in version.iuse if flag.startswith("+"))
        return None

    # How it stands.

    def _standings(self) -> dict[str, Standing]:
        made = list(self._made.items())
        objections = catalogue.objections(self._connection, [one for _, (_, one) in made])
        standings = {}
        for (digest, (target, one)), objection in zip(made, objections, strict=True):
            is_restricted = not target.bindist and any(word in one.restrict.split() for word in RESTRICTED)
            is_possible = objection is None and not is_restricted
            standings[digest] = Standing.OPEN if is_possible else Standing.IMPOSSIBLE
        for digest, standing in self._from_jobs():
            if standings[digest] is Standing.OPEN:
                standings[digest] = standing
        for digest in self._published():
            standings[digest] = Standing.THERE
        return standings

    def _from_jobs(self) -> Iterator[tuple[str, Standing]]:
        for some in slices(self._made):
            query = select(jobs).where(jobs.c.digest.in_(some)).order_by(jobs.c.id)
            for row in self._connection.execute(query):
                if self._made[row.digest][0].id != row.target_id:
                    continue
                if row.state in IN_FLIGHT:
                    yield row.digest, Standing.COMING
                elif row.state != JobState.CANCELLED and not _may_try_again(row, self._time):
                    yield row.digest, Standing.FAILED

    def _published(self) -> Iterator[str]:
        for some in slices(self._made):
            query = select(builds.c.digest, builds.c.target_id).where(
                builds.c.digest.in_(some), builds.c.visible
            )
            for digest, target_id in self._connection.execute(query):
                if self._made[digest][0].id == target_id:
                    yield digest


def _may_try_again(row: Any, now: int) -> bool:
    """Whether a job that ended may begin anew without anybody asking for it."""
    if row.origin == Origin.PREBUILD and (row.failure is None or row.failure in LASTING):
        return False  # it was there once, and went; or it would fail again
    return row.failed_until is None or row.failed_until <= now


def typical_seconds(table: FleetTable, package: str, version: str) -> int | None:
    """Return what CATEGORY/NAME takes on a machine of median speed, where that is known."""
    effects = table.packages.get(package)
    return None if effects is None else max(1, round(math.exp(effects.of(version).log)))


def _flags(iuse: Iterable[str]) -> set[str]:
    return {flag.lstrip("+-") for flag in iuse}
