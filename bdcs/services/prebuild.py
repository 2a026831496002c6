# SPDX-License-Identifier: GPL-2.0-or-later
"""What is worth building before anyone asks, and how few builds of a package serve how many machines.

    places = public_places(connection, thresholds, some_targets)       # or exact_places, for the operator
    found = outlook(connection, places, thresholds, now)
    found.coverage            # of each package: what k variants of it serve
    found.picks               # what to build next, the best first
    within(found, seconds)    # … of it what fits into so much work of builders

What machines asked for (`prebuild_demand`) is brought up to date first: the newest version that they would
take, bound to what the target has published. Which builds then serve the most machines is
`bdcs.domain.prebuild`; machines count for the seconds of compiling that each is saved, builds cost the
seconds that the target's builders take for them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from sqlalchemy import Connection, select, tuple_

from bdcs.domain.prebuild import Option, Step, cover
from bdcs.domain.thresholds import Thresholds, settled_parts
from bdcs.services import public_figures
from bdcs.services.prebuild_candidates import Candidate, Place, Standing, Want, Workshop
from bdcs.services.prebuild_demand import ANY, Demand, Key, models, published
from bdcs.services.targets import Target
from bdcs.store.slices import slices
from bdcs.store.tables import figures, packages
from gentwoo_client.wire.builds import BuildSpecification

PLACES: Final = 300
"""Packages, those that most machines asked for, that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A candidate that is worth building."""

    candidate: Candidate
    wants: tuple[Want, ...]
    """That it serves, and nothing before it."""
    likely: int
    """Machines that are likely to want it: also those that have the package and did not ask yet."""

    @property
    def machines(self) -> int:
        """Machines that asked for these."""
        return sum(want.machines for want in self.wants)

    @property
    def saved(self) -> int:
        """Seconds of compiling that all of them are saved."""
        return self.likely * self.candidate.saved


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How many builds of a package serve how many machines."""

    place: Place
    variants: int
    """That are known, each wanted by a crowd where figures are public."""
    served: int
    """Machines that the builds serve that are there."""
    curve: tuple[int, ...]
    """Machines that the best build serves, the best two, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """All that was found."""

    coverage: tuple[Coverage, ...]
    """Packages that most machines asked for first."""
    picks: tuple[Pick, ...]
    candidates: Mapping[str, Candidate]
    """By digest."""
    options: tuple[Option, ...]
    """Those of them that could be built now."""
    wants: Mapping[str, Want]
    """Those that nothing serves, or is about to."""
    likely: Mapping[str, int]
    """Machines that are likely to have each of these wants."""
    weights: Mapping[str, int]
    """What meeting each of them saves: seconds of compiling."""


def public_places(connection: Connection, thresholds: Thresholds, targets: Collection[Target]) -> list[Place]:
    """Return what may be said in public of what machines asked these targets for."""
    cells = published(connection)
    parts: defaultdict[Key, dict[Key, int]] = defaultdict(dict)
    wholes: dict[Key, int] = {}
    asked = {}
    for cell in cells:
        if cell.key.use == ANY:
            wholes[cell.key] = cell.machines
        elif cell.model is not None:
            parts[cell.key.place][cell.key] = cell.machines
            asked[cell.key] = cell.model
    shown = {place: settled_parts(wholes.get(place, 0), parts[place], thresholds) for place in parts}
    return _places(targets, wholes, shown, asked)


def exact_places(connection: Connection, wanted: Demand, targets: Collection[Target]) -> list[Place]:
    """Return the same as it is: for the operator alone."""
    wholes = {key: len(machines) for key, machines in wanted.cells.items() if key.use == ANY}
    parts: defaultdict[Key, dict[Key, int]] = defaultdict(dict)
    for key, machines in wanted.variants():
        parts[key.place][key] = len(machines)
    asked = models(
        connection,
        {key: [each.digest for each in machines.values()] for key, machines in wanted.variants()},
    )
    return _places(targets, wholes, parts, asked)


def _places(
    targets: Collection[Target],
    wholes: Mapping[Key, int],
    parts: Mapping[Key, Mapping[Key, int]],
    asked: Mapping[Key, BuildSpecification],
) -> list[Place]:
    known = {target.id: target for target in targets}
    places = []
    for place, variants in parts.items():
        target = known.get(place.target_id)
        wants = tuple(
            Want(key=key, asked=asked[key], machines=machines)
            for key, machines in sorted(variants.items())
            if key in asked
        )
        if target is not None and wants and (machines := wholes.get(place, 0)):
            users = wholes.get(place.everything, 0)
            places.append(Place(key=place, target=target, machines=machines, users=users, wants=wants))
    places.sort(key=lambda place: (-place.machines, place.key))
    return places[:PLACES]


def outlook(connection: Connection, places: Sequence[Place], thresholds: Thresholds, now: float) -> Outlook:
    """Find out what serves the machines of `places`, what of it is there, and what is worth building next."""
    workshop = Workshop(connection, places, thresholds, now)
    names: dict[str, Want] = {}
    by_place: list[tuple[Place, dict[str, Want], list[Option]]] = []
    for place in places:
        wants = {f"{len(names) + number}": want for number, want in enumerate(place.wants)}
        names.update(wants)
        by_place.append((place, wants, workshop.options(place, wants)))
    candidates = workshop.candidates()
    there = {digest for digest, one in candidates.items() if one.standing is Standing.THERE}
    ahead = {digest for digest, one in candidates.items() if one.standing is Standing.COMING} | there
    met: set[str] = set()
    coverage = []
    for place, wants, options in by_place:
        met |= _met(options, ahead)
        machines = {name: want.machines for name, want in wants.items()}
        possible = [each for each in options if candidates[each.key].standing is not Standing.IMPOSSIBLE]
        coverage.append(
            Coverage(
                place=place,
                variants=len(wants),
                served=min(place.machines, sum(machines[name] for name in _met(options, there))),
                curve=_cumulated((step.gain for step in cover(possible, machines)), place.machines),
            )
        )
    return _ranked(tuple(coverage), by_place, candidates, met, _factors(connection, places))


def within(found: Outlook, budget: int) -> list[Pick]:
    """Return what to build next in at most `budget` seconds of builders."""
    return [_pick(found, step) for step in cover(found.options, found.weights, budget=budget)]


def _ranked(
    coverage: tuple[Coverage, ...],
    by_place: Sequence[tuple[Place, Mapping[str, Want], Sequence[Option]]],
    candidates: Mapping[str, Candidate],
    met: Collection[str],
    factors: Mapping[Key, float],
) -> Outlook:
    options: list[Option] = []
    open_wants: dict[str, Want] = {}
    likely: dict[str, int] = {}
    weights: dict[str, int] = {}
    for place, wants, offered in by_place:
        saved = {name: candidates[each.key].saved for each in offered for name in each.serves}
        for name in saved.keys() - met:
            open_wants[name] = wants[name]
            likely[name] = round(wants[name].machines * factors[place.key])
            weights[name] = likely[name] * saved[name]
        options += [
            replace(each, cost=candidates[each.key].seconds)
            for each in offered
            if candidates[each.key].standing is Standing.OPEN
        ]
    found = Outlook(
        coverage=coverage,
        picks=(),
        candidates=candidates,
        options=tuple(options),
        wants=open_wants,
        likely=likely,
        weights=weights,
    )
    return replace(found, picks=tuple(_pick(found, step) for step in cover(options, weights)))


def _pick(found: Outlook, step: Step) -> Pick:
    met = sorted(step.met & found.wants.keys())
    return Pick(
        candidate=found.candidates[step.option.key],
        wants=tuple(sorted((found.wants[name] for name in met), key=lambda want: want.key)),
        likely=sum(found.likely[name] for name in met),
    )


def _met(options: Iterable[Option], digests: Collection[str]) -> set[str]:
    return {name for option in options if option.key in digests for name in option.serves}


def _cumulated(gains: Iterable[int], most: int) -> tuple[int, ...]:
    """Return the sums up to each gain; figures that were published at different times may add up to more."""
    return tuple(min(most, total) for total in accumulate(gains))


def _factors(connection: Connection, places: Sequence[Place]) -> dict[Key, float]:
    """Return by how much more machines are likely to want what a place has than asked for it.

    The machines that use the target are taken to have a package as often as all of the fleet do, and those
    that have it and did not ask yet to choose as those did that asked. All of this is public.
    """
    fleet = public_figures.fleet_figure(connection)
    installed = dict(_installed(connection, {(place.key.category, place.key.name) for place in places}))
    asked: defaultdict[tuple[int, str, str], int] = defaultdict(int)
    for place in places:
        asked[place.key.target_id, place.key.category, place.key.name] += place.machines
    factors = {}
    for place in places:
        key = place.key
        have = place.users * installed.get((key.category, key.name), 0) / fleet if fleet else 0.0
        factors[key] = max(1.0, have / asked[key.target_id, key.category, key.name])
    return factors


def _installed(
    connection: Connection, names: Collection[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], int]]:
    for some in slices(names):
        query = (
            select(packages.c.category, packages.c.name, figures.c.published)
            .join(figures, figures.c.package_id == packages.c.id)
            .where(figures.c.version_id.is_(None))
            .where(tuple_(packages.c.category, packages.c.name).in_(some))
        )
        for category, name, machines in connection.execute(query):
            yield (category, name), machines
