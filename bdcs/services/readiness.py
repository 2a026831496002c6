# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether requests should come here: the store can be read and written, and the process is to stay."""

from __future__ import annotations

import asyncio
from typing import Final

from sqlalchemy import Connection, select

from bdcs.errors import StoreDamaged, StoreUnavailable
from bdcs.store.store import Store
from bdcs.store.tables import secrets

PATIENCE: Final = 5.0  # seconds in which the store has to answer
RECENT: Final = 10.0  # seconds for which something that was written proves that more can be
_SILENT: Final = "the store does not answer"
_PROBE: Final = "UPDATE alembic_version SET version_num = version_num"
"""Writes what is there already: only that shows a full disk, a lock that stays, a primary that has gone."""


class Readiness:
    """Knows it, or asks the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_stopping = False
        """Set at the beginning of the end, so that proxies send nothing more."""

    async def problem(self) -> str | None:
        """Return why requests should go elsewhere; None where this collector takes them."""
        if self.is_stopping:
            return "the collector stops"
        try:
            async with asyncio.timeout(PATIENCE):
                await self._store.read(_look)
        except TimeoutError:
            return _SILENT
        except (StoreUnavailable, StoreDamaged) as error:
            return _trouble(error)
        return await self._problem_with_writing()

    async def _problem_with_writing(self) -> str | None:
        """Return why nothing can be written. To wait for another collector's long transaction is no reason:

        all of them would wait, a proxy would have nobody left, and what only reads needs no turn.
        """
        if self._store.since_commit <= RECENT:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                await self._store.write(_probe)
        except TimeoutError:
            return None if self._store.is_shared else _SILENT
        except (StoreUnavailable, StoreDamaged) as error:
            return _trouble(error)
        return None


def _trouble(error: Exception) -> str:
    return f"the store does not work: {type(error).__name__}"


def _look(connection: Connection) -> None:
    connection.execute(select(secrets.c.name).limit(1)).first()


def _probe(connection: Connection) -> None:
    connection.exec_driver_sql(_PROBE)
