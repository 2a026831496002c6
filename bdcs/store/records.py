# SPDX-License-Identifier: GPL-2.0-or-later
"""Records as the tables hold them, back in the protocol's words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from bdcs.domain import codes
from bdcs.errors import StoreDamaged
from bdcs.store import tables
from gentwoo_client.wire.records import PackageStateChange

_CHANGES = tables.package_state_changes
_REPLACES = tables.versions.alias("replaces")
_QUERY: Final = (
    select(
        _CHANGES,
        tables.packages.c.category,
        tables.packages.c.name,
        tables.versions.c.text.label("version"),
        tables.repositories.c.name.label("repository"),
        _REPLACES.c.text.label("replaces"),
        tables.machines.c.uuid,
    )
    .join(tables.packages, tables.packages.c.id == _CHANGES.c.package_id)
    .join(tables.versions, tables.versions.c.id == _CHANGES.c.version_id)
    .join(tables.machines, tables.machines.c.id == _CHANGES.c.machine_id)
    .outerjoin(tables.repositories, tables.repositories.c.id == _CHANGES.c.repository_id)
    .outerjoin(_REPLACES, _REPLACES.c.id == _CHANGES.c.replaces_id)
    .order_by(_CHANGES.c.id)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChange:
    """A record, and what the collector adds to it."""

    id: int
    """Its place in the order of arrival."""
    machine: str
    """UUID."""
    created_at: int
    """Unix seconds: when it arrived here."""
    record: PackageStateChange


def stored_changes(
    connection: Connection, first: int, last: int
) -> Iterator[tuple[int, StoredChange | None]]:
    """Yield the changes with ids from `first` to `last`, in their order; None for what no record can be."""
    for row in connection.execute(_QUERY.where(_CHANGES.c.id.between(first, last))):
        try:
            yield row.id, _change(row)
        except StoreDamaged:
            yield row.id, None


def changes_after(connection: Connection, since: int, limit: int) -> list[StoredChange]:
    """Return the next `limit` changes after the one with id `since`. Raises `StoreDamaged`."""
    rows = connection.execute(_QUERY.where(_CHANGES.c.id > since).limit(limit))
    return [_change(row) for row in rows]


def numbered_changes(connection: Connection, ids: Sequence[int]) -> list[StoredChange]:
    """Return the changes with `ids`, in the order of these. Raises `StoreDamaged`."""
    found = {row.id: _change(row) for row in connection.execute(_QUERY.where(_CHANGES.c.id.in_(ids)))}
    return [found[number] for number in ids if number in found]


def _change(row: Any) -> StoredChange:
    try:
        return _as_it_is(row)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreDamaged(f"change {row.id} in the table is no record") from error


def _as_it_is(row: Any) -> StoredChange:
    return StoredChange(
        id=row.id,
        machine=row.uuid,
        created_at=row.created_at,
        record=PackageStateChange(
            seq=row.seq,
            event=codes.EVENT_WORD[row.event],
            category=row.category,
            name=row.name,
            version=row.version,
            repository=row.repository,
            install_type=codes.INSTALL_TYPE_WORD[row.install_type],
            cause=codes.CAUSE_WORD[row.cause],
            replaces=row.replaces,
            recorded_at=row.recorded_at,
            time_delta=row.time_delta,
            concurrency=None if row.concurrency is None else row.concurrency / 100,
            observed=codes.OBSERVED_WORD[row.observed],
            clock=codes.CLOCK_WORD[row.clock],
            extra=json.loads(row.extra) if row.extra else {},
        ),
    )
