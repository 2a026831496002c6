# SPDX-License-Identifier: GPL-2.0-or-later
"""What figures carry on from one time to the next, against all machines counted anew.

Carried on are how many machines a published figure counts, and the marks on what is on machines that count
nowhere; `bdcs.services.figures` relies on both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, Table, and_, delete, func, or_, select, update

from bdcs.domain.installations import AWAY, COUNTED_PACKAGE, COUNTED_VERSION
from bdcs.domain.machines import State
from bdcs.store.slices import slices
from bdcs.store.tables import away_machines, figures, installations, machines, packages, touched_packages

_COUNTED: Final = figures.c.counted - figures.c.gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """What does not add up."""

    figures: Sequence[Row[Any]]
    machines: Sequence[Row[Any]]

    def __len__(self) -> int:
        return len(self.figures) + len(self.machines)

    def told(self) -> Iterator[str]:
        """Yield what is to be said of it."""
        for row in self.figures:
            what = "a version of it" if row.version_id else "the package"
            yield (
                f"{row.category}/{row.name}: the figure of {what} is said to count {row.carried} machines,"
                f" and {row.anew} are"
            )
        for row in self.machines:
            yield f"machine {row.uuid}: {row.marked} of its installations are marked wrongly"


def differing(connection: Connection) -> Differing:
    """Count all machines anew and compare. That reads all installations."""
    return Differing(
        figures=[
            *connection.execute(_differing_figures(is_version=True)),
            *connection.execute(_differing_figures(is_version=False)),
        ],
        machines=connection.execute(_WRONG_MACHINES).all(),
    )


def mend(connection: Connection, found: Differing) -> None:
    """Have what did not add up looked at, and counted anew, when figures are renewed next.

    What was found may be some time ago: to count once more than needed does no harm.
    """
    for few in slices(row.id for row in found.figures):
        connection.execute(update(figures).where(figures.c.id.in_(few)).values(counted=None))
    wrong = {row.id: row.is_away for row in found.machines}
    for few in slices(wrong):
        away = [number for number in few if wrong[number]]
        connection.execute(delete(away_machines).where(away_machines.c.machine_id.in_(away)))
        here = [number for number in few if not wrong[number]]
        _add(connection, away_machines, select(machines.c.id).where(machines.c.id.in_(here)))
    for few in slices(row.package_id for row in found.figures):
        _add(connection, touched_packages, select(packages.c.id).where(packages.c.id.in_(few)))


def _add(connection: Connection, table: Table, keys: Select[tuple[int]]) -> None:
    """Insert those of the keys that are not there."""
    (column,) = table.primary_key.columns
    new = keys.where(keys.selected_columns[0].not_in(select(column)))
    connection.execute(table.insert().from_select([column.name], new))


def _differing_figures(*, is_version: bool) -> Select[Any]:
    bit = COUNTED_VERSION if is_version else COUNTED_PACKAGE
    counted = select(func.count(installations.c.machine_id.distinct())).where(
        installations.c.package_id == figures.c.package_id, installations.c.flags.bitwise_and(bit) != 0
    )
    cells = figures.c.version_id.is_(None)
    if is_version:
        counted = counted.where(installations.c.version_id == figures.c.version_id)
        cells = figures.c.version_id.is_not(None)
    anew = counted.scalar_subquery()
    return (
        select(
            figures.c.id,
            figures.c.package_id,
            figures.c.version_id,
            packages.c.category,
            packages.c.name,
            _COUNTED.label("carried"),
            anew.label("anew"),
        )
        .join(packages, packages.c.id == figures.c.package_id)
        .where(cells, figures.c.counted.is_not(None), anew != _COUNTED)
    )


_IS_AWAY: Final = away_machines.c.machine_id.is_not(None)
_IS_MARKED: Final = installations.c.flags.bitwise_and(AWAY) != 0
_IS_APPROVED: Final = machines.c.state == State.APPROVED
_WRONG_MACHINES: Final = (
    select(
        machines.c.id,
        machines.c.uuid,
        _IS_AWAY.label("is_away"),
        func.count().label("marked"),
    )
    .select_from(
        installations.join(machines, machines.c.id == installations.c.machine_id).outerjoin(
            away_machines, away_machines.c.machine_id == machines.c.id
        )
    )
    .where(
        or_(and_(_IS_AWAY, ~_IS_MARKED), and_(~_IS_AWAY, _IS_MARKED)),
        # Of the others it will be noted with the next look that their state has changed.
        or_(and_(_IS_AWAY, ~_IS_APPROVED), and_(~_IS_AWAY, _IS_APPROVED)),
    )
    .group_by(machines.c.id, machines.c.uuid, away_machines.c.machine_id)
)
