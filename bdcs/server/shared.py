# SPDX-License-Identifier: GPL-2.0-or-later
"""What more than one part of the server opens."""

from __future__ import annotations

from bdcs.blobs.configured import blobs_of
from bdcs.services.publishing import Publisher
from bdcs.settings import Settings
from bdcs.store.engine import Place, place_of


def store_place(settings: Settings) -> Place:
    """Return where the store is. Raises `ConfigurationError`."""
    return place_of(settings.store, settings.data)


def publisher_of(settings: Settings) -> Publisher:
    """Return a publisher, with a connection of its own to what keeps package files."""
    return Publisher.of(
        store=store_place(settings), data=settings.data, signer=settings.signer, blobs=blobs_of(settings)
    )
