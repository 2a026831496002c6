# SPDX-License-Identifier: GPL-2.0-or-later
"""What more than one part of the server opens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bdcs.blobs.attempt_logs import AttemptLogs
from bdcs.blobs.configured import blobs_of
from bdcs.blobs.server_lock import only_server
from bdcs.errors import ConfigurationError, OthersServing
from bdcs.services.publishing import Publisher
from bdcs.services.stored_logs import StoredLogs
from bdcs.settings import FILES, Settings
from bdcs.store.engine import Place, create_reader, place_of
from bdcs.store.session_locks import holders, session_lock_if_free

SERVING: Final = "package files"
"""The lock that collectors hold while they serve from a database."""


def store_place(settings: Settings) -> Place:
    """Return where the store is. Raises `ConfigurationError`."""
    return place_of(settings.store, settings.data)


def logs_of(settings: Settings) -> AttemptLogs | StoredLogs:
    """Return the logs of attempts, for any number of threads."""
    place = store_place(settings)
    if isinstance(place, Path):
        return AttemptLogs(settings.data, settings.log_size)
    return StoredLogs.of(place, blobs_of(settings), settings.log_size)


@contextlib.contextmanager
def beside_others(settings: Settings) -> Iterator[None]:
    """Be one of the collectors of a store. Raises `ConfigurationError` where others could not see our files.

    They are told apart by a lock: who keeps package files on a disk of his own has to be alone.
    """
    place = store_place(settings)
    if isinstance(place, Path):
        yield
        return
    with contextlib.ExitStack() as leaving:
        engine = create_reader(place)
        leaving.callback(engine.dispose)
        can_share = settings.blobs != FILES
        if not leaving.enter_context(session_lock_if_free(engine, SERVING, is_shared=can_share)):
            raise ConfigurationError(
                f"blobs: another collector uses this store, and with {FILES} not both have all package files;"
                " write s3://BUCKET/PREFIX for each of them"
            )
        yield


@contextlib.contextmanager
def without_others(place: Place) -> Iterator[None]:
    """Have nobody serve from a store meanwhile.

    Raises `AlreadyServing`, `OthersServing` where somebody does, `NoStore`, `StoreUnavailable`.
    """
    with contextlib.ExitStack() as held:
        if isinstance(place, Path):
            held.enter_context(only_server(place.parent))
        else:
            engine = create_reader(place)
            held.callback(engine.dispose)
            if not held.enter_context(session_lock_if_free(engine, SERVING, is_shared=False)):
                raise OthersServing(place, holders(engine, SERVING))
        yield


def publisher_of(settings: Settings) -> Publisher:
    """Return a publisher, with a connection of its own to what keeps package files."""
    return Publisher.of(
        store=store_place(settings), data=settings.data, signer=settings.signer, blobs=blobs_of(settings)
    )
