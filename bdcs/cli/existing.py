# SPDX-License-Identifier: GPL-2.0-or-later
"""The store of a collector that may be running."""

from __future__ import annotations

from sqlalchemy import Engine

from bdcs.privileges import become_owner
from bdcs.services.copying import require_whole
from bdcs.settings import Settings
from bdcs.store import schema
from bdcs.store.engine import create_reader, create_writer, directory_of, place_of
from bdcs.store.store import transaction


def existing_store(settings: Settings, *, writing: bool = False) -> Engine:
    """Return an engine for the store that is there; root becomes the owner of the collector's directory.

    Else what is written there would be root's, and a server of another user could not use it. Raises
    `NoStore`, `SchemaMismatch`, `CopyUnfinished`, `StoreUnavailable`.
    """
    place = place_of(settings.store, settings.data)
    become_owner(settings.data if settings.data.exists() else directory_of(place, settings.data))
    reader = create_reader(place)
    with transaction(reader) as connection:
        schema.require(connection)
        require_whole(connection)
    if not writing:
        return reader
    reader.dispose()
    return create_writer(place)
