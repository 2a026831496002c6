# SPDX-License-Identifier: GPL-2.0-or-later
"""What the binhost serves: targets, their indexes, and the files of the published set.

A request names a target and a path; both are looked up, as texts, among what is published. No text of a
request ever becomes part of a file's name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from sqlalchemy import Connection, and_, or_, select

from bdcs.blobs.blobs import Address, Blobs, RemoteFile
from bdcs.domain import packages_index
from bdcs.errors import BlobMissing
from bdcs.services import targets, tokens
from bdcs.services.finishing import in_common
from bdcs.services.following import Follower
from bdcs.services.targets import Target
from bdcs.store import tables
from bdcs.store.store import Store

REMEMBERED: Final = 0.5  # seconds for which targets are believed to be what they were
DAY: Final = 86_400

Credentials = tuple[str, str]
"""Name and token, as HTTP basic has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFile:
    """A file that clients may fetch."""

    target: str
    path: str
    """Below its target."""
    is_immutable: bool
    """Whether no other file will ever have this path, since its BUILD_ID is never given out twice."""


class Serving:
    """Finds what is served. Everything is looked up anew but targets, which are `REMEMBERED`."""

    def __init__(
        self, store: Store, blobs: Blobs, indexes: Path, *, grace: int, now: Callable[[], float] = time.time
    ) -> None:
        """`indexes`: where each target has a directory with its index; `grace` in days."""
        self._store = store
        self._blobs = blobs
        self._indexes = indexes
        self._grace = grace * DAY
        self._now = now
        self._follower = Follower(store, indexes) if store.is_shared else None
        self._targets: Mapping[str, Target] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def find(self, name: str) -> Target | None:
        """Return the target of that name. Raises `StoreUnavailable`."""
        if time.monotonic() - self._read_at > REMEMBERED:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read())
            await in_common(self._reading)
        return self._targets.get(name)

    async def admits(self, target: Target, credentials: Credentials | None) -> bool:
        """Return whether who has these credentials may read it. Raises `StoreUnavailable`."""
        if not target.private or credentials is None:
            return not target.private
        return await self._store.read(lambda connection: tokens.accepts(connection, target, *credentials))

    async def follow(self, target: Target) -> bool:
        """See that the index may be served: no other collector has served a newer one. Else return False.

        Raises `StoreUnavailable`.
        """
        return self._follower is None or await self._follower.follow(target.name)

    def index_path(self, target: Target, name: str) -> Path:
        """Return where the index file called `name` (`Packages` or `Packages.gz`) is, once there is one."""
        return self._indexes / target.name / name

    async def reach(
        self, target: Target, file: ServedFile, *, elsewhere: bool
    ) -> Address | BinaryIO | RemoteFile | None:
        """Return a file of the published set, open, or (`elsewhere`) where readers fetch it themselves.

        None if it has gone. Raises `StoreUnavailable`.
        """

        def work() -> Address | BinaryIO | RemoteFile | None:
            address = None
            if elsewhere:
                address = self._blobs.address(file.target, file.path, is_private=target.private)
            try:
                return address or self._blobs.open(file.target, file.path)
            except BlobMissing:
                return None

        return await asyncio.to_thread(work)

    async def find_file(self, target: Target, path: str) -> ServedFile | None:
        """Return a file of the published set, without a look at where it lies. Raises `StoreUnavailable`."""
        return await self._store.read(lambda connection: self._find(connection, target, path))

    def _find(self, connection: Connection, target: Target, path: str) -> ServedFile | None:
        builds = tables.builds
        is_in_grace = and_(
            builds.c.deleted_at.is_(None), builds.c.withdrawn_at > int(self._now()) - self._grace
        )
        row = connection.execute(
            select(builds.c.path, builds.c.build_id)
            .where(builds.c.target_id == target.id, builds.c.path == path)
            .where(or_(builds.c.visible, is_in_grace))
        ).first()
        if row is None:
            return None
        return ServedFile(target=target.name, path=row.path, is_immutable=row.build_id is not None)

    async def _read(self) -> None:
        started = time.monotonic()
        found = await self._store.read(targets.listed)
        self._targets = {target.name: target for target in found}
        self._read_at = started


def empty_index(target: Target) -> tuple[str, int]:
    """Return the index of a target where nothing was ever published, and its TIMESTAMP.

    That is so long before the target was made that no client misses the first publication for it.
    """
    timestamp = max(0, target.created_at - DAY)
    fields = {"CHOST": target.chost, "PROFILE": target.profile, **target.header}
    return packages_index.header(fields, 0, timestamp), timestamp
