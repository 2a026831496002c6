# SPDX-License-Identifier: GPL-2.0-or-later
"""Looking at watched packages, noting what is to be told, and putting it on its way to webhooks.

What is told and what is sent are written in one transaction: a message is neither lost nor sent for nothing.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from bdcs.domain import watching
from bdcs.domain.statistics import NO_BUCKET
from bdcs.domain.statistics import Topic as Statistic
from bdcs.domain.thresholds import Thresholds
from bdcs.domain.watching import Event, Sight
from bdcs.errors import StoreUnavailable
from bdcs.services import leaving_packages, watches
from bdcs.services.public_figures import package_figures
from bdcs.services.quarantine import is_shown
from bdcs.services.regular_work import regularly
from bdcs.store.store import Store
from bdcs.store.tables import (
    deliveries,
    packages,
    statistic_cells,
    version_dates,
    versions,
    watch_events,
    watched_packages,
)
from bdcs.store.tables import watches as watch_rows

log = logging.getLogger(__name__)

INTERVAL: Final = 60.0
"""Seconds from one look to the next: figures are renewed as often."""
AT_ONCE: Final = 200
"""Packages of one look at the store."""

Look = tuple[str, str, Sight | None, Sight]
"""A package, what was seen of it before, and what is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """The periodic job of a server."""

    store: Store
    thresholds: Thresholds
    wake: Callable[[], None]
    """Called when there is something to send."""
    now: Callable[[], float] = time.time

    async def run(self) -> None:
        """Look every `INTERVAL` seconds until cancelled; a store that is down is tried again."""
        await regularly(
            self.once,
            name="watches",
            seconds=INTERVAL,
            passing=StoreUnavailable,
            tell=partial(log.warning, "watched packages were not looked at: %s"),
        )

    async def once(self) -> None:
        """Look at all watched packages now; where nothing changed, nothing is written."""
        after = ("", "")
        while names := await self.store.read(partial(_watched, after=after)):
            after = names[-1]
            changed = await self.store.read(partial(_changed, names=names, thresholds=self.thresholds))
            if changed:
                await self.store.write(partial(self._note, changed=changed))
                self.wake()
        if await self.store.read(partial(watches.has_old, now=self.now())):
            await self.store.write(partial(watches.drop_old, now=self.now()))

    def _note(self, connection: Connection, changed: list[Look]) -> None:
        at = int(self.now())
        for category, name, before, sight in changed:
            row = (watched_packages.c.category == category) & (watched_packages.c.name == name)
            connection.execute(delete(watched_packages).where(row))
            connection.execute(
                insert(watched_packages).values(category=category, name=name, seen=sight.to_text())
            )
            if before is None:
                continue  # somebody has only begun to watch it
            for event in watching.events(f"{category}/{name}", before, sight):
                _tell(connection, category, name, event, at)


def _watched(connection: Connection, after: tuple[str, str]) -> list[tuple[str, str]]:
    """The packages that follow `after` and that somebody watches."""
    category, name = after
    later = (watch_rows.c.category > category) | (
        (watch_rows.c.category == category) & (watch_rows.c.name > name)
    )
    rows = connection.execute(
        select(watch_rows.c.category, watch_rows.c.name)
        .where(later)
        .distinct()
        .order_by(watch_rows.c.category, watch_rows.c.name)
        .limit(AT_ONCE)
    )
    return [(row.category, row.name) for row in rows]


def _changed(connection: Connection, names: list[tuple[str, str]], thresholds: Thresholds) -> list[Look]:
    """The packages of which something else is public than when they were last looked at."""
    changed: list[Look] = []
    for category, name in names:
        seen = connection.scalar(
            select(watched_packages.c.seen).where(
                watched_packages.c.category == category, watched_packages.c.name == name
            )
        )
        before = None if seen is None else Sight.from_text(seen)
        now = look(connection, category, name, thresholds)
        if now != before:
            changed.append((category, name, before, now))
    return changed


def look(connection: Connection, category: str, name: str, thresholds: Thresholds) -> Sight:
    """Return what is public of a package now."""
    figures = package_figures(connection, category, name, thresholds)
    return Sight(
        machines=figures.machines,
        versions={each.version: each.machines for each in figures.versions},
        failing=_failing(connection, category, name),
        leaving=leaving_packages.of_package(connection, category, name),
    )


def _failing(connection: Connection, category: str, name: str) -> dict[str, str]:
    """Versions whose failures are shown, and since which day a crowd had them."""
    cells, dates = statistic_cells.c, version_dates.c
    rows = connection.execute(
        select(versions.c.text, dates.failing_since)
        .join(packages, packages.c.id == dates.package_id)
        .join(versions, versions.c.id == dates.version_id)
        .join(
            statistic_cells,
            (cells.package_id == dates.package_id) & (cells.version_id == dates.version_id),
        )
        .where(
            packages.c.category == category,
            packages.c.name == name,
            is_shown(packages.c.id),
            dates.failing_since.is_not(None),
            cells.topic == int(Statistic.FAILED),
            cells.bucket == NO_BUCKET,
            cells.published > 0,
        )
    )
    return {row.text: datetime.fromtimestamp(row.failing_since, UTC).date().isoformat() for row in rows}


def _tell(connection: Connection, category: str, name: str, event: Event, at: int) -> None:
    """Write the event, and a message to each webhook that wants it."""
    number = connection.execute(
        insert(watch_events)
        .values(
            category=category,
            name=name,
            topic=str(event.topic),
            text=event.text,
            facts=json.dumps(dict(event.facts)),
            created_at=at,
        )
        .returning(watch_events.c.id)
    ).scalar_one()
    wanting = connection.execute(
        select(watch_rows.c.id, watch_rows.c.topics).where(
            watch_rows.c.category == category,
            watch_rows.c.name == name,
            watch_rows.c.webhook.is_not(None),
        )
    )
    rows = [
        {"watch_id": row.id, "event_id": number, "attempts": 0, "next_at": at}
        for row in wanting
        if str(event.topic) in row.topics.split()
    ]
    if rows:
        connection.execute(insert(deliveries), rows)
