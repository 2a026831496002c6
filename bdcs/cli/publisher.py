# SPDX-License-Identifier: GPL-2.0-or-later
"""The publisher that commands use, beside a server that may be running."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bdcs.settings import Settings

if TYPE_CHECKING:
    from bdcs.services.publishing import Publisher


@contextlib.contextmanager
def publisher(settings: Settings) -> Iterator[Publisher]:
    """Give one for the store that is there. Raises `NoStore`, `SchemaMismatch`, `NoPermission`."""
    from bdcs.blobs.configured import blobs_of
    from bdcs.cli.existing import existing_store
    from bdcs.services.publishing import Publisher
    from bdcs.store.engine import place_of

    existing_store(settings).dispose()
    made = Publisher.of(
        store=place_of(settings.store, settings.data),
        data=settings.data,
        signer=settings.signer,
        blobs=blobs_of(settings),
    )
    with contextlib.closing(made):
        yield made
