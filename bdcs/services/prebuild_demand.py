# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines asked for, and what of it may be said in public.

A machine counts once for each package and slot at a target, with what it asked for last: in the cell of that
package, and in that of its variant (the flags that it enables, and whether it takes testing versions). What
is published of a cell follows the rules for all figures (`bdcs.domain.thresholds`); which machines a
published cell counts is kept beside it until it may move. In which cell a machine is depends on nothing but
its own requests, so nobody's request moves another machine.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, func, or_, select, update

from bdcs.domain.builds import effective_use, main_slot
from bdcs.domain.machines import State
from bdcs.domain.thresholds import Cell, Thresholds, figure, may_publish, rounded
from bdcs.errors import StoreError
from bdcs.services import build_digests
from bdcs.services.regular_work import regularly
from bdcs.services.rollups import DEPARTURES
from bdcs.store.bulk import insert_rows
from bdcs.store.slices import slices
from bdcs.store.store import Store
from bdcs.store.tables import (
    builds,
    jobs,
    machines,
    members,
    packages,
    prebuild_cells,
    prebuild_counted,
    quarantines,
    requests,
    sequences,
    targets,
)
from bdcs.store.upserts import upsert
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.errors import ProtocolError
from gentwoo_client.wire.version import Version

log = logging.getLogger(__name__)

INTERVAL: Final = 300.0  # seconds between two looks at whether there is anything new
OFTEN: Final = 6 * 3600  # seconds after which requests may have become too old to count
COUNTED_FOR: Final = 90 * 86_400
"""Seconds for which what a machine asked for counts."""
ANY: Final = "*"
"""Stands for all variants where flags could."""
CELLS_AT_ONCE: Final = 50
"""Cells that are published in one transaction, …"""
MACHINES_AT_ONCE: Final = 5000
"""… or fewer, where so many machines are in them."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Key:
    """What a cell counts: machines that asked for this."""

    target_id: int
    category: str = ""
    """Empty: for anything at the target."""
    name: str = ""
    slot: str = ""
    """Without sub-slot."""
    repository: str = ""
    keywords: str = ""
    """Of the target's ARCH, with spaces between."""
    use: str = ANY
    """Flags that are enabled, with spaces between."""

    @property
    def place(self) -> Key:
        """The same in any variant."""
        return replace(self, keywords="", use=ANY)

    @property
    def everything(self) -> Key:
        """All of the target."""
        return Key(target_id=self.target_id)


class Asked(NamedTuple):
    """What one machine asked for last of a package and slot."""

    digest: str
    at: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fact:
    """What a digest stands for."""

    key: Key
    place: int
    """A number of its place: there are many machines in each."""
    version: Version


@dataclass(slots=True)
class Demand:
    """All that counts, exactly. For the operator, and to see what may be published."""

    cells: Mapping[Key, dict[int, Asked]] = field(default_factory=lambda: defaultdict(dict))
    """Machines in each cell."""

    def variants(self) -> Iterator[tuple[Key, Mapping[int, Asked]]]:
        """Yield the cells of variants, in order."""
        for key in sorted(self.cells):
            if key.use != ANY:
                yield key, self.cells[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCell:
    """A cell as it is public."""

    key: Key
    machines: int
    """0: fewer than the threshold."""
    model: BuildSpecification | None
    """Of a variant: what most of its machines asked for."""


def demand(connection: Connection, now: float) -> Demand:
    """Return what machines asked for lately and did not take back."""
    rows = _asked(connection, int(now) - COUNTED_FOR)
    facts = _facts(connection, rows)
    latest: dict[tuple[int, int], tuple[int, str]] = {}  # by place and machine: when, and the digest
    for target_id, machine, digest, at, *_ in rows:
        fact = facts.get((target_id, digest))
        if fact is None:
            continue
        spot = (fact.place, machine)
        known = latest.get(spot)
        if (
            known is None
            or known[0] < at
            or (known[0] == at and _is_later(facts, target_id, digest, known[1]))
        ):
            latest[spot] = (at, digest)
    found = Demand()
    cells = {
        spot: (found.cells[fact.key], found.cells[fact.key.place], found.cells[fact.key.everything])
        for spot, fact in facts.items()
    }
    target_of = {fact.place: target_id for (target_id, _), fact in facts.items()}
    for (place, machine), (at, digest) in latest.items():
        asked = Asked(digest, at)
        for cell in cells[target_of[place], digest]:
            cell[machine] = asked
    found.cells = {key: machines for key, machines in found.cells.items() if machines}
    return found


def published(connection: Connection) -> list[PublishedCell]:
    """Return what is public, in order; nothing of packages that are set aside."""
    names = select(packages.c.category, packages.c.name)
    aside = {
        (category, name)
        for category, name in connection.execute(
            names.join(quarantines, quarantines.c.package_id == packages.c.id)
        )
    }
    rows = connection.execute(select(prebuild_cells).where(prebuild_cells.c.published > 0))
    cells = [
        PublishedCell(key=_key_of(row), machines=row.published, model=specification_in(row.model))
        for row in rows
        if (row.category, row.name) not in aside
    ]
    return sorted(cells, key=lambda cell: cell.key)


def hide_small(connection: Connection, thresholds: Thresholds) -> None:
    """Hide at once what was published under a lower threshold than the one now set."""
    too_small = prebuild_cells.c.published < rounded(thresholds.machines)
    connection.execute(update(prebuild_cells).where(too_small).values(published=0, model=None))


def machine_leaves(connection: Connection, machine: int) -> None:
    """Prepare the cells for the erasure of a machine: they count on it until they may move."""
    mine = prebuild_counted.c.machine_id == machine
    cells = select(prebuild_counted.c.cell_id).where(mine)
    connection.execute(
        update(prebuild_cells).where(prebuild_cells.c.id.in_(cells)).values(gone=prebuild_cells.c.gone + 1)
    )
    connection.execute(delete(prebuild_counted).where(mine))


def models(connection: Connection, wanted: Mapping[Key, Collection[str]]) -> dict[Key, BuildSpecification]:
    """Return for each cell the specification that most of its digests are; of equals the newest."""
    counts = {key: Counter(digests) for key, digests in wanted.items()}
    digests = {(key.target_id, digest) for key, count in counts.items() for digest in count}
    specifications = _specifications(connection, digests)
    found = {}
    for key, count in counts.items():
        known = [
            (number, Version.parse(one.cpv.version), digest, one)
            for digest, number in count.items()
            if (one := specifications.get((key.target_id, digest))) is not None
        ]
        if known:
            found[key] = max(known, key=lambda each: each[:3])[3]
    return found


class PrebuildKeeper:
    """Publishes what may be published of what machines asked for, in the server."""

    def __init__(self, store: Store, thresholds: Thresholds, now: Callable[[], float]) -> None:
        self._store = store
        self._thresholds = thresholds
        self._now = now
        self._seen: tuple[Any, ...] = ()
        self._looked_at = float("-inf")

    async def run(self) -> None:
        """Look until cancelled."""
        await regularly(
            self.look,
            name="prebuild-demand",
            seconds=INTERVAL,
            passing=StoreError,
            tell=partial(log.warning, "what machines asked for was not looked at: %s"),
        )

    async def look(self) -> None:
        """Publish anew where there is something new. Raises `StoreUnavailable`."""
        stamp = await self._store.read(_stamp)
        if stamp == self._seen and self._now() - self._looked_at < OFTEN:
            return
        if not self._seen:
            await self._store.write(lambda connection: hide_small(connection, self._thresholds))
        plan = await self._store.read(lambda connection: _plan(connection, self._thresholds, self._now()))
        for piece in _pieces(plan.moves):
            if not await self._store.write(partial(_put, departures=plan.departures, moves=piece)):
                return
        self._seen, self._looked_at = stamp, self._now()


# Reading requests -----------------------------------------------------------------------------------------


def _asked(connection: Connection, since: int) -> list[Any]:
    """Return who asked for which digest, and when last; what was refused at once has no job and no build."""
    query = (
        select(
            requests.c.target_id,
            requests.c.machine_id,
            members.c.digest,
            func.max(requests.c.created_at).label("at"),
            func.max(members.c.job_id).label("job"),
            func.max(members.c.build_id).label("build"),
        )
        .join(members, members.c.request_id == requests.c.id)
        .join(machines, machines.c.id == requests.c.machine_id)
        .where(
            requests.c.created_at >= since,
            requests.c.cancelled_at.is_(None),
            machines.c.state == State.APPROVED,
            or_(members.c.job_id.is_not(None), members.c.build_id.is_not(None)),
        )
        .group_by(requests.c.target_id, requests.c.machine_id, members.c.digest)
    )
    return list(connection.execute(query))


def _facts(connection: Connection, rows: Iterable[Any]) -> dict[tuple[int, str], _Fact]:
    """Return what each digest stands for, at its target.

    What has patches of its owner's is nobody else's, and no variant.
    """
    by_job: dict[int, tuple[int, str]] = {}
    by_build: dict[int, tuple[int, str]] = {}
    for target_id, _, digest, _, job, build in rows:
        if job is not None:
            by_job[job] = (target_id, digest)
        else:
            by_build[build] = (target_id, digest)
    known: dict[tuple[int, str], tuple[Key, Version]] = {}
    for some in slices(by_job):
        query = select(jobs.c.id, jobs.c.specification).where(jobs.c.id.in_(some))
        for number, text in connection.execute(query):
            spot = by_job[number]
            specification = specification_in(text)
            if specification is not None and not specification.user_patches:
                version = Version.parse(specification.cpv.version)
                known[spot] = key_of(spot[0], specification), version
    for some in slices(by_build):
        for row in connection.execute(select(builds).where(builds.c.id.in_(some))):
            known[by_build[row.id]] = _key_of_build(row)
    places = {place: number for number, place in enumerate({key.place for key, _ in known.values()})}
    return {
        spot: _Fact(key=key, place=places[key.place], version=version)
        for spot, (key, version) in known.items()
    }


def _is_later(facts: Mapping[tuple[int, str], _Fact], target_id: int, digest: str, than: str) -> bool:
    """Whether of two that were asked for in the same second the first counts; any order will do."""
    one, other = facts[target_id, digest], facts[target_id, than]
    return (other.version, than) < (one.version, digest)


def key_of(target_id: int, specification: BuildSpecification) -> Key:
    """Return the variant that a specification is of."""
    return Key(
        target_id=target_id,
        category=specification.cpv.category,
        name=specification.cpv.name,
        slot=main_slot(specification.slot),
        repository=specification.repository,
        keywords=" ".join(specification.keywords),
        use=" ".join(specification.use),
    )


def _key_of_build(row: Any) -> tuple[Key, Version]:
    enabled = row.use.split()
    keywords = sorted(
        {word for word in row.keywords.split() if word.endswith("*") or word.lstrip("~-") in enabled}
    )
    key = Key(
        target_id=row.target_id,
        category=row.category,
        name=row.name,
        slot=main_slot(row.slot),
        repository=row.repository,
        keywords=" ".join(keywords),
        use=" ".join(sorted(effective_use(row.use, row.iuse))),
    )
    return key, Version.parse(row.version)


def _specifications(
    connection: Connection, digests: Collection[tuple[int, str]]
) -> dict[tuple[int, str], BuildSpecification]:
    """Return what digests at targets stand for, by jobs and builds."""
    found: dict[tuple[int, str], BuildSpecification] = {}
    for some in slices({digest for _, digest in digests}):
        query = select(jobs.c.target_id, jobs.c.digest, jobs.c.specification).where(jobs.c.digest.in_(some))
        for target, digest, text in connection.execute(query):
            if (target, digest) in digests and (one := specification_in(text)) is not None:
                found[target, digest] = one
    for some in slices({digest for target, digest in digests if (target, digest) not in found}):
        query = (
            select(*build_digests.COLUMNS, targets.c.name)
            .join(targets, targets.c.id == builds.c.target_id)
            .where(builds.c.digest.in_(some))
        )
        for row in connection.execute(query):
            if (row.target_id, row.digest) in digests:
                specification = build_digests.specification_of(row.name, row)
                if specification is not None:
                    found[row.target_id, row.digest] = specification
    return found


def specification_in(text: str | None) -> BuildSpecification | None:
    """Return the specification that a row has as JSON; None where there is none that we would still take."""
    try:
        return None if text is None else BuildSpecification.from_json(json.loads(text))
    except ProtocolError:  # written under rules that were other ones
        return None


# Publishing -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    """A cell that is published anew."""

    key: Key
    published: int
    counted: frozenset[int]
    model: BuildSpecification | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    departures: int
    moves: tuple[_Move, ...]


def _plan(connection: Connection, thresholds: Thresholds, now: float) -> _Plan:
    """Return what is to be published, by what stands in the store."""
    departures = _departures(connection)
    wanted = demand(connection, now)
    before = {_key_of(row): row for row in connection.execute(select(prebuild_cells))}
    counted: defaultdict[int, set[int]] = defaultdict(set)
    for cell, machine in connection.execute(select(prebuild_counted)):
        counted[cell].add(machine)
    moving: dict[Key, frozenset[int]] = {}
    for key in sorted(wanted.cells.keys() | before.keys()):
        present, row = frozenset(wanted.cells.get(key, ())), before.get(key)
        then = counted[row.id] if row is not None else set()
        cell = Cell(
            present=len(present),
            joined=len(present - then),
            left=len(then - present),
            gone=0 if row is None else row.gone,
            published=None if row is None else row.published,
        )
        if may_publish(cell, thresholds):
            moving[key] = present
    shown = {
        key: [wanted.cells[key][machine].digest for machine in present]
        for key, present in moving.items()
        if key.use != ANY and figure(len(present), thresholds)
    }
    found = models(connection, shown)
    moves = (
        _Move(key=key, published=figure(len(present), thresholds), counted=present, model=found.get(key))
        for key, present in moving.items()
    )
    return _Plan(departures=departures, moves=tuple(moves))


def _put(connection: Connection, departures: int, moves: Sequence[_Move]) -> bool:
    """Publish. False where a machine left meanwhile: what was read is then no use."""
    if _departures(connection) != departures:
        return False
    for move in moves:
        names = ("target_id", "category", "name", "slot", "repository", "keywords", "use")
        model = None if move.model is None else json.dumps(move.model.to_json())
        values = {"published": move.published, "gone": 0, "model": model}
        cell = connection.scalar(
            upsert(prebuild_cells)
            .values(**{name: getattr(move.key, name) for name in names}, **values)
            .on_conflict_do_update(index_elements=names, set_=values)
            .returning(prebuild_cells.c.id)
        )
        connection.execute(delete(prebuild_counted).where(prebuild_counted.c.cell_id == cell))
        insert_rows(connection, prebuild_counted, [(cell, machine) for machine in sorted(move.counted)])
    return True


def _pieces(moves: Iterable[_Move]) -> Iterator[list[_Move]]:
    """Yield moves in transactions that nobody waits for long."""
    piece: list[_Move] = []
    machines_in_it = 0
    for move in moves:
        piece.append(move)
        machines_in_it += len(move.counted)
        if len(piece) >= CELLS_AT_ONCE or machines_in_it >= MACHINES_AT_ONCE:
            yield piece
            piece, machines_in_it = [], 0
    if piece:
        yield piece


def _key_of(row: Any) -> Key:
    return Key(
        target_id=row.target_id,
        category=row.category,
        name=row.name,
        slot=row.slot,
        repository=row.repository,
        keywords=row.keywords,
        use=row.use,
    )


def _departures(connection: Connection) -> int:
    return connection.scalar(select(sequences.c.value).where(sequences.c.name == DEPARTURES)) or 0


def _stamp(connection: Connection) -> tuple[Any, ...]:
    """Return what differs after a request came, was taken back or went, or a machine's state changed."""
    counts = select(func.count(), func.max(requests.c.created_at), func.count(requests.c.cancelled_at))
    approved = select(func.count()).where(machines.c.state == State.APPROVED)
    return (*connection.execute(counts).one(), connection.scalar(approved), _departures(connection))
