# SPDX-License-Identifier: GPL-2.0-or-later
"""Names that only erased machines used go as well: packages, versions and repositories that no record has.

A periodic job of the server looks for them whenever machines were erased since the last time, by whatever
process. A reader goes through all changes once, in small steps beside the writer: some fifteen seconds for
ten million. The writer then deletes a few names at a time, and looks itself at what came meanwhile.
A name that was published in a figure stays, since the figure does; `Thresholds.machines` machines had it.

Audiences need no such look: no other is accepted than the collector's own `public_url`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, case, delete, func, insert, select

from bdcs.domain.batches import batches
from bdcs.domain.statistics import Topic
from bdcs.errors import StoreUnavailable
from bdcs.services.regular_work import regularly
from bdcs.store import names
from bdcs.store.store import Store
from bdcs.store.tables import (
    figures,
    package_state_changes,
    package_statistics,
    packages,
    repositories,
    sequences,
    statistic_cells,
    tombstones,
    touched_packages,
    versions,
)

log = logging.getLogger(__name__)

INTERVAL: Final = 60.0  # seconds from one look to the next
CHANGES_AT_ONCE: Final = 50_000  # in one step of a reader
NAMES_AT_ONCE: Final = 500  # in one transaction of the writer

LOOKED: Final = "tombstones-looked-at"
"""The sequence that says how many machines had been erased when unused names were last looked for."""

_CHANGES: Final = package_state_changes.c
_IN_CHANGES: Final[Sequence[tuple[Table, ColumnElement[int | None]]]] = (
    (versions, _CHANGES.version_id),
    (versions, _CHANGES.replaces_id),
    (repositories, _CHANGES.repository_id),
)
"""Where changes refer to names, but for packages, which an index finds. What is installed came by a change of
a machine that is still there, so it need not be looked at."""
_WITHOUT_CHANGE: Final = ~select(_CHANGES.id).where(_CHANGES.package_id == packages.c.id).exists()
_REPOSITORY_CELL: Final = case(
    (statistic_cells.c.topic == Topic.REPOSITORY, statistic_cells.c.bucket), else_=None
)
_IN_FIGURES: Final[Sequence[tuple[Table, ColumnElement[int | None]]]] = (
    (packages, figures.c.package_id),
    (versions, figures.c.version_id),
    (packages, statistic_cells.c.package_id),
    (versions, statistic_cells.c.version_id),
    (repositories, _REPOSITORY_CELL),
)


async def drop_regularly(store: Store) -> None:
    """Drop unused names now and every `INTERVAL` seconds until cancelled."""
    await regularly(
        partial(drop, store),
        name="unused-names",
        seconds=INTERVAL,
        passing=StoreUnavailable,
        tell=partial(log.warning, "unused names were not dropped: %s"),
    )


async def drop(store: Store) -> None:
    """Drop unused names, if machines were erased since the last time. Raises `StoreUnavailable`.

    Broken off anywhere, it begins anew the next time; until all is done nothing says that it was.
    """
    erased, looked = await store.read(_progress)
    if erased == looked:
        return
    search = Search()
    await store.read(search.begin)
    while await store.read(search.go_on):
        pass
    for table, unused in search.unused.items():
        for few in batches(sorted(unused), NAMES_AT_ONCE):
            await store.write(partial(search.drop, table=table, few=few))
    # The log of the engine still has what was deleted, of the machines as well.
    if await store.empty_log():
        await store.write(lambda connection: _save_progress(connection, erased))


class Search:
    """Which names no change has, as far as they have been looked at.

    Changes are numbered in the order of their commits, never altered, and never numbered anew: what was
    looked at once need not be looked at again, and what comes later has a higher number.
    """

    def __init__(self) -> None:
        self.unused: dict[Table, set[int]] = {}
        """Ids, by the table of names."""
        self._last = 0

    def begin(self, connection: Connection) -> None:
        """Suspect all names, but packages that a change has."""
        self.unused[packages] = set(connection.scalars(select(packages.c.id).where(_WITHOUT_CHANGE)))
        for table in (versions, repositories):
            self.unused[table] = set(connection.scalars(select(table.c.id)))

    def go_on(self, connection: Connection) -> bool:
        """Look at the next changes; return whether there may be more to see."""
        step = select(_CHANGES.id).where(_CHANGES.id > self._last).order_by(_CHANGES.id)
        last = connection.scalar(select(func.max(step.limit(CHANGES_AT_ONCE).subquery().c.id)))
        if last is None:
            return False
        looked_at = _CHANGES.id.between(self._last + 1, last)
        for table, column in _IN_CHANGES:
            if self.unused[table]:
                found = connection.scalars(select(column).where(looked_at).distinct())
                self.unused[table].difference_update(found)
        self._last = last
        return any(self.unused[table] for table, _ in _IN_CHANGES)

    def drop(self, connection: Connection, table: Table, few: Sequence[int]) -> None:
        """Delete those of `few` names that still nothing refers to."""
        used = [
            *(select(column).where(_CHANGES.id > self._last) for of, column in _IN_CHANGES if of is table),
            *(select(column) for of, column in _IN_FIGURES if of is table),
        ]
        unused: list[ColumnElement[bool]]
        unused = [table.c.id.not_in(each.where(each.selected_columns[0].is_not(None))) for each in used]
        if table is packages:
            unused.append(_WITHOUT_CHANGE)
        if not connection.execute(delete(table).where(table.c.id.in_(few), *unused)).rowcount:
            return
        names.others_are_outdated(connection)
        if table is packages:
            touched = touched_packages.c.package_id
            gone = touched.not_in(select(packages.c.id).where(packages.c.id.in_(few)))
            connection.execute(delete(touched_packages).where(touched.in_(few), gone))
            counted = package_statistics.c.package_id
            gone = counted.not_in(select(packages.c.id).where(packages.c.id.in_(few)))
            connection.execute(delete(package_statistics).where(counted.in_(few), gone))


def _progress(connection: Connection) -> tuple[int, int]:
    """How many machines were erased ever, and how many of them unused names were looked for after."""
    erased = connection.scalar(select(func.count()).select_from(tombstones)) or 0
    looked = connection.scalar(select(sequences.c.value).where(sequences.c.name == LOOKED)) or 0
    return erased, looked


def _save_progress(connection: Connection, erased: int) -> None:
    connection.execute(delete(sequences).where(sequences.c.name == LOOKED))
    connection.execute(insert(sequences).values(name=LOOKED, value=erased))
