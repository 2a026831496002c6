# SPDX-License-Identifier: GPL-2.0-or-later
"""What more than one part of the server opens."""

from __future__ import annotations

from pathlib import Path

from bdcs.blobs.attempt_logs import AttemptLogs
from bdcs.blobs.configured import blobs_of
from bdcs.services.publishing import Publisher
from bdcs.services.stored_logs import StoredLogs
from bdcs.settings import Settings
from bdcs.store.engine import Place, place_of


def store_place(settings: Settings) -> Place:
    """Return where the store is. Raises `ConfigurationError`."""
    return place_of(settings.store, settings.data)


def logs_of(settings: Settings) -> AttemptLogs | StoredLogs:
    """Return the logs of attempts, for any number of threads."""
    place = store_place(settings)
    if isinstance(place, Path):
        return AttemptLogs(settings.data, settings.log_size)
    return StoredLogs.of(place, blobs_of(settings), settings.log_size)


def publisher_of(settings: Settings) -> Publisher:
    """Return a publisher, with a connection of its own to what keeps package files."""
    return Publisher.of(
        store=store_place(settings), data=settings.data, signer=settings.signer, blobs=blobs_of(settings)
    )
