# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeping the catalogue up to date, in the server: each repository as often as its kind permits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sqlalchemy import Connection

from bdcs.errors import CollectorError, NoSuchRepository
from bdcs.services import repositories
from bdcs.services.refreshing import Refreshed, Refresher
from bdcs.services.regular_work import regularly
from bdcs.store.store import Store

log = logging.getLogger(__name__)

INTERVAL: Final = 10.0  # seconds between two looks for repositories that are due


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryKeeper:
    """Refreshes repositories, one after another."""

    store: Store
    refresher: Refresher
    now: Callable[[], float]
    _problems: dict[str, str] = field(default_factory=dict)
    """What was said of repositories that are in trouble, so that it is said once."""

    async def run(self) -> None:
        """Refresh what is due until cancelled; what is under way then is ended first."""
        await regularly(
            self.look,
            name="catalogue",
            seconds=INTERVAL,
            passing=CollectorError,
            tell=partial(log.warning, "the catalogue was not looked after: %s"),
        )

    async def look(self) -> None:
        """Refresh what is due now. Raises `StoreUnavailable`."""
        for name in await self.store.read(self._due):
            try:
                refreshed = await self._refresh(name)
            except NoSuchRepository:
                continue  # removed a moment ago
            except CollectorError as error:
                if self._problems.get(name) != str(error):
                    log.warning("repository %s: %s", name, error)
                self._problems[name] = str(error)
                continue
            self._problems.pop(name, None)
            if refreshed != Refreshed():
                log.info("repository %s: %s", name, refreshed)

    async def _refresh(self, name: str) -> Refreshed:
        work = asyncio.create_task(asyncio.to_thread(self.refresher.refresh, name))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self.refresher.stopping.set()
            with contextlib.suppress(CollectorError):
                await work
            raise

    def _due(self, connection: Connection) -> list[str]:
        now = self.now()
        return [each.name for each in repositories.listed(connection) if each.due_at <= now]
