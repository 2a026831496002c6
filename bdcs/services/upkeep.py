# SPDX-License-Identifier: GPL-2.0-or-later
"""Upkeep of package files: what nobody needs any more goes, and what a killed process left behind.

- files that were withdrawn longer than the grace ago, and that no generation which is kept holds;
- files that no row names: somebody died between placing and committing;
- workspaces of dead processes;
- uploads that nobody published in time, and files in quarantine that no row names.

What others put there and no name of ours fits, such as `lost+found`, stays: `bdcs check` names it.
A row says that its file is deleted before the file is, so that at no moment a row promises what is not there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import Connection, select

from bdcs.blobs.blobs import Blobs, is_name, is_place
from bdcs.blobs.index_files import IndexFiles
from bdcs.domain.uploads import LIFE
from bdcs.errors import StoreError
from bdcs.services import generations, targets, uploads
from bdcs.services.finishing import to_its_end
from bdcs.services.publishing import Publisher
from bdcs.services.regular_work import regularly
from bdcs.services.target_locks import holding
from bdcs.store.tables import builds

log = logging.getLogger(__name__)

INTERVAL: Final = 3600.0  # seconds from one look to the next
DAY: Final = 86_400
YOUNG: Final = 3600.0  # seconds in which a file in quarantine may get its row
LOST: Final = DAY  # seconds in which a publication ends, or never does


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidied:
    """What was removed."""

    withdrawn: int = 0
    """Files whose grace was over."""
    orphans: int = 0
    """Files that no row named."""
    uploads: int = 0
    workspaces: int = 0
    lost: int = 0
    """Uploads to S3 that hosts which are gone never finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """Does it, in the server, at its start and every hour; beside others that publish."""

    publisher: Publisher
    grace: int
    """Days that a withdrawn file stays."""
    quarantine: int = LIFE // DAY
    """Days that an upload waits to be published."""
    now: Callable[[], float]

    async def run(self) -> None:
        """Tidy up until cancelled."""
        await regularly(
            self._once,
            name="upkeep",
            seconds=INTERVAL,
            passing=(StoreError, OSError),
            tell=partial(log.warning, "upkeep of package files came to no end: %s"),
        )

    def tidy(self) -> Tidied:
        """Remove all that is to go, and return how much that was. Raises `StoreError`, `OSError`."""
        blobs = self.publisher.blobs
        with self.publisher.reading() as connection:
            names = {target.name for target in targets.listed(connection)}
        places = names.union(filter(is_name, blobs.targets()))
        return Tidied(
            withdrawn=sum(map(self._delete_withdrawn, sorted(names))),
            orphans=sum(map(self._delete_orphans, sorted(places))),
            uploads=self._drop_uploads(),
            workspaces=drop_abandoned(blobs),
            lost=blobs.drop_lost(LOST),
        )

    async def _once(self) -> None:
        tidied = await to_its_end(None, self.tidy)  # whoever cancels us closes its store next
        if tidied != Tidied():
            log.info("upkeep removed %s", tidied)

    def _delete_withdrawn(self, name: str) -> int:
        publisher, now = self.publisher, self.now()
        with holding(publisher.reader, IndexFiles.of(publisher.data, name)) as lock:
            with publisher.writing() as connection:
                lock.require(connection)
                target = targets.find(connection, name)
                expired = (
                    [] if target is None else generations.expired(connection, target, now - self.grace * DAY)
                )
                if expired:
                    generations.set_deleted(connection, [number for number, _ in expired], now)
            publisher.remove(lock, name, [path for _, path in expired])
        return len(expired)

    def _delete_orphans(self, name: str) -> int:
        """Remove files of a target that no row names; only who holds the lock may have such."""
        publisher = self.publisher
        if not self._orphans(name):
            return 0
        with holding(publisher.reader, IndexFiles.of(publisher.data, name)) as lock:
            orphans = self._orphans(name)
            left = publisher.remove(lock, name, orphans)
        orphans = [path for path in orphans if path not in left]
        for path in orphans:
            log.info("removed %s/%s, which no row names", name, path)
        return len(orphans)

    def _orphans(self, name: str) -> list[str]:
        there = {blob.path for blob in self.publisher.blobs.listed(name) if is_place(blob.path)}
        with self.publisher.reading() as connection:
            return sorted(there - _named(connection, name))

    def _drop_uploads(self) -> int:
        blobs, now = self.publisher.blobs, self.now()
        with self.publisher.writing() as connection:
            kept = set(uploads.drop_old(connection, now, self.quarantine * DAY))
        gone = [
            blob.path
            for blob in blobs.uploads()
            if is_name(blob.path) and blob.path not in kept and blob.mtime < now - YOUNG
        ]
        for upload in gone:
            blobs.drop_upload(upload)
        return len(gone)


def drop_abandoned(blobs: Blobs) -> int:
    """Remove the workspaces of processes of this host that died; return how many there were."""
    abandoned = blobs.abandoned()
    for name in abandoned:
        blobs.drop_abandoned(name)
    return len(abandoned)


async def keep_workspaces(blobs: Blobs) -> None:
    """Do that every `INTERVAL` seconds until cancelled: each host for itself, who of them may do all else."""
    while True:
        try:
            await to_its_end(None, partial(drop_abandoned, blobs))
        except (StoreError, OSError) as error:
            log.warning("workspaces of processes that died are left: %s", error)
        await asyncio.sleep(INTERVAL)


def _named(connection: Connection, name: str) -> set[str]:
    """Return the paths of a target that rows promise; none where there is no such target."""
    target = targets.find(connection, name)
    if target is None:
        return set()
    query = select(builds.c.path).where(builds.c.target_id == target.id, builds.c.deleted_at.is_(None))
    return set(connection.scalars(query))
