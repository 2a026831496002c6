# SPDX-License-Identifier: GPL-2.0-or-later
"""Publishing figures: what pages and the API may say of the fleet, renewed by a periodic job.

`renew` does it, in small transactions, so that no push waits for it. Which packages need a look is known
from the changes that arrived since the last time, and from `machine_changes` and `machine_leaves`, which
whoever changes a machine's state or erases it calls in the same transaction. The rules are in
`bdcs.domain.thresholds`.

Nothing is counted twice. A figure remembers how many machines it counts, and the store has an index of the
installations that are not settled, as `bdcs.domain.membership` says: so a look costs what changed since the
figure was published, and not what there is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)

from bdcs.domain.installations import AWAY, COUNTED, COUNTED_PACKAGE, COUNTED_VERSION, PRESENT, SETTLED
from bdcs.domain.machines import State
from bdcs.domain.membership import CellKey, Memberships, Moves, Unsettled
from bdcs.domain.thresholds import Cell, Thresholds, figure, may_publish, rounded
from bdcs.errors import StoreUnavailable
from bdcs.services import rollups
from bdcs.services.reader_process import ReaderProcess
from bdcs.services.regular_work import regularly
from bdcs.store.bulk import execute_rows
from bdcs.store.installed import IS_IT, KEY
from bdcs.store.places import Place
from bdcs.store.store import Store
from bdcs.store.tables import (
    away_machines,
    figures,
    fleet_figures,
    fleet_members,
    installations,
    machines,
    package_state_changes,
    segments,
    sequences,
    touched_packages,
)

log = logging.getLogger(__name__)

FLEET = "machines"
"""The fleet's figure that counts all machines."""

DAY = 86400

CURSOR = "figures"
"""The sequence that says up to which change packages were marked as touched."""

INTERVAL = 60.0
"""Seconds from one renewal to the next."""

DAY_CURSOR = "figures-day"
"""The sequence that says up to which segment the days that were counted reach."""

CHANGES_AT_ONCE = 20_000
PACKAGES_AT_ONCE = 20
UNSETTLED_AT_ONCE = 2_000
"""Pushes wait while so many installations are looked at, or those of one package where these are more."""
MACHINES_AT_ONCE = 20
"""Pushes wait while what so many machines have is marked."""


class Renewal:
    """The periodic job of a server, and what may be known of it."""

    def __init__(self, store: Store, thresholds: Thresholds, place: Place) -> None:
        """`place` is where the store is."""
        self._store = store
        self._thresholds = thresholds
        self._place = place
        self.started_at = int(time.time())
        self.renewed_at: int | None = None
        """When figures were last looked at, in Unix seconds; None before the first time."""
        self.working = True
        """Whether the last time went well."""

    async def run(self) -> None:
        """Renew figures every `INTERVAL` seconds until cancelled; a store that is down is tried again."""
        await regularly(
            self.once, name="figures", seconds=INTERVAL, passing=StoreUnavailable, tell=self._note_failure
        )

    async def once(self) -> None:
        """Renew figures now. Raises `StoreUnavailable`."""
        if self.renewed_at is None:
            await self._store.write(lambda connection: hide_small(connection, self._thresholds))
        now = int(time.time())
        await renew(self._store, self._thresholds)
        async with ReaderProcess(self._place) as process:
            await rollups.renew(self._store, self._thresholds, now, process.read)
        if not await self._store.read(lambda connection: has_day(connection, now)):
            await self._store.write(lambda connection: publish_day(connection, self._thresholds, now))
        self.renewed_at = int(time.time())
        self.working = True

    def _note_failure(self, error: Exception) -> None:
        self.working = False
        log.warning("figures were not renewed: %s", error)


async def renew(store: Store, thresholds: Thresholds) -> None:
    """Publish whatever may be published now. Cheap when nothing changed: four small reads."""
    while await store.read(_wrongly_marked):
        await store.write(mark_machines)
    while await store.read(_next_changes) is not None:
        await store.write(mark_changed)
    while await store.read(_touched):
        await store.write(lambda connection: publish_touched(connection, thresholds))
    if may_publish(await store.read(fleet_cell), thresholds):
        await store.write(lambda connection: publish_fleet(connection, thresholds))


def mark_changed(connection: Connection) -> None:
    """Mark the packages of the next few changes as touched."""
    step = _next_changes(connection)
    if step is None:
        return
    first, last = step
    changes = package_state_changes.c
    _touch(connection, select(changes.package_id).where(changes.id.between(first, last)))
    connection.execute(delete(sequences).where(sequences.c.name == CURSOR))
    connection.execute(insert(sequences).values(name=CURSOR, value=last))


def mark_machines(connection: Connection) -> None:
    """Mark what a few machines have, of which somebody did not: the version before this one."""
    for machine in _wrongly_marked(connection):
        _touch_packages_of(connection, machine)
        _mark_installations(connection, machine)


def publish_touched(connection: Connection, thresholds: Thresholds) -> None:
    """Publish what may be published of the next few touched packages, and unmark them."""
    packages = _touched(connection)
    _publish(connection, packages, thresholds)
    connection.execute(delete(touched_packages).where(touched_packages.c.package_id.in_(packages)))


def hide_small(connection: Connection, thresholds: Thresholds) -> None:
    """Hide at once what was published under a lower threshold than the one now set."""
    for table in (figures, fleet_figures):
        too_small = table.c.published < rounded(thresholds.machines)
        connection.execute(update(table).where(too_small).values(published=0))
    rollups.hide_small(connection, thresholds)


def fleet_cell(connection: Connection) -> Cell:
    """The fleet as it stands: approved machines that sent at least one record."""
    counted = fleet_members.c.machine_id.is_not(None)
    query = select(_sum(_in_fleet()), _sum(_in_fleet() & ~counted), _sum(~_in_fleet() & counted)).select_from(
        machines.outerjoin(fleet_members, fleet_members.c.machine_id == machines.c.id)
    )
    present, joined, left = connection.execute(query).one()
    shown = connection.execute(select(fleet_figures).where(fleet_figures.c.name == FLEET)).one_or_none()
    return Cell(
        present=present,
        joined=joined,
        left=left,
        gone=shown.gone if shown else 0,
        published=shown.published if shown else None,
    )


def publish_fleet(connection: Connection, thresholds: Thresholds) -> None:
    """Publish the number of machines, if it may move."""
    cell = fleet_cell(connection)
    if not may_publish(cell, thresholds):
        return
    connection.execute(delete(fleet_figures).where(fleet_figures.c.name == FLEET))
    connection.execute(
        insert(fleet_figures).values(name=FLEET, published=figure(cell.present, thresholds), gone=0)
    )
    connection.execute(delete(fleet_members))
    members = select(machines.c.id).where(_in_fleet())
    connection.execute(insert(fleet_members).from_select(["machine_id"], members))


def has_day(connection: Connection, now: int) -> bool:
    """Whether the day before `now` was counted."""
    return (
        connection.scalar(select(fleet_figures.c.name).where(fleet_figures.c.name == _day(now))) is not None
    )


def publish_day(connection: Connection, thresholds: Thresholds, now: int) -> None:
    """Count, once and for all, the machines that sent records on the day (of UTC) before `now`."""
    midnight = now // DAY * DAY
    cursor = connection.scalar(select(sequences.c.value).where(sequences.c.name == DAY_CURSOR)) or 0
    earlier = and_(segments.c.id > cursor, segments.c.created_at < midnight)
    reported = (
        select(func.count(segments.c.machine_id.distinct()))
        .join(machines, machines.c.id == segments.c.machine_id)
        .where(earlier, segments.c.created_at >= midnight - DAY, machines.c.state == State.APPROVED)
    )
    shown = figure(connection.scalar(reported) or 0, thresholds)
    connection.execute(insert(fleet_figures).values(name=_day(now), published=shown, gone=0))
    last = connection.scalar(select(func.max(segments.c.id)).where(earlier)) or cursor
    connection.execute(delete(sequences).where(sequences.c.name == DAY_CURSOR))
    connection.execute(insert(sequences).values(name=DAY_CURSOR, value=last))


def machine_changes(connection: Connection, machine_id: int) -> None:
    """Have the figures of all packages of a machine looked at, since its state is changed."""
    _touch_packages_of(connection, machine_id)
    _mark_installations(connection, machine_id)
    rollups.machine_changes(connection, machine_id)


def machine_leaves(connection: Connection, machine_id: int) -> None:
    """Prepare figures for the erasure of a machine, whose `installations` must still be there.

    Its rows may be deleted at once; the published figures count on it until they may move.
    """
    _touch_packages_of(connection, machine_id)
    rollups.machine_leaves(connection, machine_id)
    # Ids of deleted segments may be given out again: those that come must not pass for counted.
    others = select(func.max(segments.c.id)).where(segments.c.machine_id != machine_id)
    last = connection.scalar(others) or 0
    ahead = and_(sequences.c.name == DAY_CURSOR, sequences.c.value > last)
    connection.execute(update(sequences).where(ahead).values(value=last))
    own = installations.c.machine_id == machine_id
    for column, bit in ((figures.c.version_id, COUNTED_VERSION), (None, COUNTED_PACKAGE)):
        counted = select(installations.c.machine_id).where(
            own, _has(bit), installations.c.package_id == figures.c.package_id
        )
        cells = figures.c.version_id.is_(None)
        if column is not None:
            counted = counted.where(installations.c.version_id == figures.c.version_id)
            cells = figures.c.version_id.is_not(None)
        connection.execute(update(figures).where(cells, counted.exists()).values(gone=figures.c.gone + 1))
    connection.execute(delete(away_machines).where(away_machines.c.machine_id == machine_id))
    member = fleet_members.c.machine_id == machine_id
    if connection.execute(delete(fleet_members).where(member)).rowcount:
        connection.execute(
            update(fleet_figures).where(fleet_figures.c.name == FLEET).values(gone=fleet_figures.c.gone + 1)
        )


def _day(now: int) -> str:
    """The name of the figure of the day before `now`, as ISO 8601 writes a day."""
    return datetime.fromtimestamp(now // DAY * DAY - DAY, UTC).date().isoformat()


def _next_changes(connection: Connection) -> tuple[int, int] | None:
    """The first and the last change to be marked next, or None when there are none."""
    cursor = connection.scalar(select(sequences.c.value).where(sequences.c.name == CURSOR)) or 0
    changes = package_state_changes.c.id
    step = select(changes).where(changes > cursor).order_by(changes).limit(CHANGES_AT_ONCE).subquery()
    first, last = connection.execute(select(func.min(step.c.id), func.max(step.c.id))).one()
    return None if first is None else (first, last)


def _touched(connection: Connection) -> list[int]:
    """The next packages to be looked at: as many as have a fair number of unsettled installations."""
    package = touched_packages.c.package_id
    next_ones = connection.scalars(select(package).order_by(package).limit(PACKAGES_AT_ONCE)).all()
    counts: dict[int, int] = dict(
        connection.execute(
            select(installations.c.package_id, func.count())
            .where(installations.c.package_id.in_(next_ones), _IS_UNSETTLED)
            .group_by(installations.c.package_id)
        ).all()
    )
    chosen: list[int] = []
    together = 0
    for each in next_ones:
        together += counts.get(each, 0)
        if chosen and together > UNSETTLED_AT_ONCE:
            break
        chosen.append(each)
    return chosen


def _touch_packages_of(connection: Connection, machine_id: int) -> None:
    _touch(connection, select(installations.c.package_id).where(installations.c.machine_id == machine_id))


def _touch(connection: Connection, packages: Select[tuple[int]]) -> None:
    known = select(touched_packages.c.package_id)
    new = packages.distinct().where(packages.selected_columns[0].not_in(known))
    connection.execute(insert(touched_packages).from_select(["package_id"], new))


def _wrongly_marked(connection: Connection) -> list[int]:
    """A few machines that count nowhere and are not known as such, or the reverse."""
    is_away = away_machines.c.machine_id.is_not(None)
    counts_nowhere = and_(machines.c.state != State.APPROVED, machines.c.head_seq > 0)
    wrong = or_(and_(counts_nowhere, ~is_away), and_(machines.c.state == State.APPROVED, is_away))
    both = machines.outerjoin(away_machines, away_machines.c.machine_id == machines.c.id)
    found = connection.scalars(select(machines.c.id).select_from(both).where(wrong).limit(MACHINES_AT_ONCE))
    return list(found)


def _mark_installations(connection: Connection, machine_id: int) -> None:
    """Note of what is on a machine whether the machine counts."""
    own, flags = installations.c.machine_id == machine_id, installations.c.flags
    state = connection.scalar(select(machines.c.state).where(machines.c.id == machine_id))
    connection.execute(delete(away_machines).where(away_machines.c.machine_id == machine_id))
    if state == State.APPROVED:
        connection.execute(update(installations).where(own, _has(AWAY)).values(flags=flags - AWAY))
    else:
        connection.execute(update(installations).where(own, ~_has(AWAY)).values(flags=flags + AWAY))
        connection.execute(insert(away_machines).values(machine_id=machine_id))


def _publish(connection: Connection, packages: Sequence[int], thresholds: Thresholds) -> None:
    _count_unknown(connection, packages)
    memberships = Memberships(_unsettled(connection, packages))
    moving = [
        (*key, figure(cell.present, thresholds), cell.present)
        for key, cell in _cells(connection, packages, memberships)
        if may_publish(cell, thresholds)
    ]
    for statement in (_DROP, _PUT):
        execute_rows(connection, statement, ("package", "version", "shown", "all"), moving)
    settled = list(memberships.settled({(package, version) for package, version, *_ in moving}))
    kept = [(each.machine, each.package, each.version, flags) for each, flags in settled if flags]
    execute_rows(connection, _SETTLE, (*KEY, "new"), kept)
    unused = [(each.machine, each.package, each.version) for each, flags in settled if not flags]
    execute_rows(connection, _DROP_UNUSED, KEY, unused)


def _unsettled(connection: Connection, packages: Sequence[int]) -> Iterator[Unsettled]:
    other = installations.alias("other")
    counted_by_another = (
        select(other.c.flags)
        .where(
            other.c.machine_id == installations.c.machine_id,
            other.c.package_id == installations.c.package_id,
            other.c.flags == PRESENT | COUNTED,
        )
        .limit(1)
        .scalar_subquery()
    )
    query = select(
        installations.c.machine_id,
        installations.c.package_id,
        installations.c.version_id,
        installations.c.flags,
        counted_by_another,
    ).where(installations.c.package_id.in_(packages), _IS_UNSETTLED)
    for machine, package, version, flags, beside in connection.execute(query):
        yield Unsettled(machine, package, version, flags, beside is not None)


def _cells(
    connection: Connection, packages: Sequence[int], memberships: Memberships
) -> Iterator[tuple[CellKey, Cell]]:
    """Yield the cells of `packages` that changed, and those that were published."""
    moves = memberships.moves()
    published = {
        (row.package_id, row.version_id): row
        for row in connection.execute(select(figures).where(figures.c.package_id.in_(packages)))
    }
    for key in moves.keys() | published.keys():
        move = moves.get(key, _NO_MOVES)
        before = published.get(key)
        if before is None:
            yield key, Cell(present=move.joined, joined=move.joined, left=move.left)
            continue
        yield (
            key,
            Cell(
                present=before.counted - before.gone - move.left + move.joined,
                joined=move.joined,
                left=move.left,
                gone=before.gone,
                published=before.published,
            ),
        )


_NO_MOVES = Moves()


def _count_unknown(connection: Connection, packages: Sequence[int]) -> None:
    """Note how many machines published figures count, where nobody did: the version before this one."""
    unknown = select(figures.c.id, figures.c.package_id, figures.c.version_id).where(
        figures.c.package_id.in_(packages), figures.c.counted.is_(None)
    )
    for number, package, version in connection.execute(unknown).all():
        counted = figures.c.gone + _still_counted(connection, package, version)
        connection.execute(update(figures).where(figures.c.id == number).values(counted=counted))


def _still_counted(connection: Connection, package: int, version: int | None) -> int:
    """Count the machines that a published figure counts and that are known."""
    query = select(func.count(installations.c.machine_id.distinct())).where(
        installations.c.package_id == package
    )
    if version is None:
        query = query.where(_has(COUNTED_PACKAGE))
    else:
        query = query.where(installations.c.version_id == version, _has(COUNTED_VERSION))
    return connection.scalar(query) or 0


def _in_fleet() -> ColumnElement[bool]:
    return and_(machines.c.state == State.APPROVED, machines.c.head_seq > 0)


def _has(bits: int) -> ColumnElement[bool]:
    return installations.c.flags.bitwise_and(bits) != 0


def _sum(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


_CELL = and_(
    figures.c.package_id == bindparam("package"),
    figures.c.version_id.is_not_distinct_from(bindparam("version")),
)
_DROP = delete(figures).where(_CELL)
_PUT = insert(figures).values(
    package_id=bindparam("package"),
    version_id=bindparam("version"),
    published=bindparam("shown"),
    gone=literal_column("0"),
    counted=bindparam("all"),
)
_SETTLE = update(installations).where(IS_IT).values(flags=bindparam("new"))
_DROP_UNUSED = delete(installations).where(IS_IT)
_IS_UNSETTLED = text(f"installations.flags NOT IN {SETTLED}")
"""As the index `ix_installations_unsettled` has it; what is given as a value no engine finds in an index."""
