# SPDX-License-Identifier: GPL-2.0-or-later
"""All records, in the order of their arrival."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Engine

from bdcs.errors import StoreDamaged
from bdcs.store.records import StoredChange, changes_after
from bdcs.store.store import transaction
from gentwoo_client.wire.errors import InvalidTime
from gentwoo_client.wire.records import format_time

AT_ONCE: Final = 5_000  # records read in one transaction, so that a long export does not hold up the store


def export(engine: Engine, since: int) -> Iterator[dict[str, object]]:
    """Yield each record after the one with id `since`: its fields, then `machine`, `created_at` and `id`.

    Raises `StoreDamaged`.
    """
    while True:
        with transaction(engine) as connection:
            chunk = changes_after(connection, since, AT_ONCE)
        if not chunk:
            return
        yield from map(_document, chunk)
        since = chunk[-1].id


def _document(change: StoredChange) -> dict[str, object]:
    try:
        return {
            **change.record.to_json(),
            "machine": change.machine,
            "created_at": format_time(change.created_at),
            "id": change.id,
        }
    except (InvalidTime, TypeError) as error:
        raise StoreDamaged(f"change {change.id} in the table is no record") from error
