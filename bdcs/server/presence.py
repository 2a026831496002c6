# SPDX-License-Identifier: GPL-2.0-or-later
"""Who serves from a store: nobody restores or leaves it meanwhile, nor serves with files that others lack.

A data directory has the lock of its server. In a database each collector holds a lock of its own session,
which goes with the connection: when the database died, or another server took its place, it is taken again.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from bdcs.blobs.server_lock import only_server
from bdcs.errors import ConfigurationError, OthersServing, StoreUnavailable
from bdcs.server.shared import store_place
from bdcs.services.finishing import to_its_end
from bdcs.services.regular_work import regularly
from bdcs.settings import FILES, Settings
from bdcs.store.engine import Place, create_reader
from bdcs.store.session_locks import holders, session_lock_if_free

log = logging.getLogger(__name__)

SERVING: Final = "package files"
"""The lock that collectors hold while they serve from a database."""
LOOK: Final = 5.0  # seconds between two looks whether it is held yet
PATIENCE: Final = 30.0
"""Seconds for which somebody may be in the way: the server may take our old connection for alive so long."""


class Presence:
    """A collector's share of the lock, or, where nobody else may serve from there, all of it."""

    def __init__(self, engine: Engine, *, is_shared: bool) -> None:
        self._engine = engine
        self._is_shared = is_shared
        self._holding = contextlib.ExitStack()
        self._is_held: Callable[[], bool] | None = None
        self._refused_at: float | None = None

    def take(self) -> bool:
        """Return whether it is held now. Raises `StoreUnavailable`."""
        self.close()
        lock = session_lock_if_free(self._engine, SERVING, is_shared=self._is_shared)
        self._is_held = self._holding.enter_context(lock)
        return self._is_held is not None

    async def keep(self) -> None:
        """Take it again whenever it was lost, until cancelled.

        Raises `ConfigurationError` where somebody has been in the way for `PATIENCE`.
        """
        await regularly(
            lambda: to_its_end(None, self._look),
            name="presence",
            seconds=LOOK,
            passing=StoreUnavailable,
            tell=partial(log.debug, "nobody can see that this collector serves: %s"),
        )

    def close(self) -> None:
        """Let go of it."""
        self._holding.close()

    def _look(self) -> None:
        is_held = self._is_held is not None and self._is_held()
        if is_held or self.take():
            self._refused_at = None
        elif self._refused_at is None:
            self._refused_at = time.monotonic()
        elif time.monotonic() > self._refused_at + PATIENCE:
            raise _in_the_way()


@contextlib.contextmanager
def beside_others(settings: Settings) -> Iterator[Presence | None]:
    """Be one of the collectors of a store. Raises `ConfigurationError` where others could not see our files.

    They are told apart by a lock: who keeps package files on a disk of his own has to be alone. Gives what
    has to `keep` it; None with a store that is a file, since it cannot be lost there.
    """
    place = store_place(settings)
    if isinstance(place, Path):
        yield None
        return
    with contextlib.ExitStack() as leaving:
        engine = create_reader(place)
        leaving.callback(engine.dispose)
        presence = leaving.enter_context(
            contextlib.closing(Presence(engine, is_shared=settings.blobs != FILES))
        )
        if not presence.take():
            raise _in_the_way()
        yield presence


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
            if held.enter_context(session_lock_if_free(engine, SERVING, is_shared=False)) is None:
                raise OthersServing(place, holders(engine, SERVING))
        yield


def _in_the_way() -> ConfigurationError:
    return ConfigurationError(
        f"blobs: another collector uses this store, and with {FILES} not both have all package files;"
        " write s3://BUCKET/PREFIX for each of them"
    )
