# SPDX-License-Identifier: GPL-2.0-or-later
"""Where several collectors serve one target, none serves an index that is older than another's.

    follower = Follower(store, data / "binhost")
    if await follower.follow("amd64"):
        ...  # the files may be served

What one collector has served, every other sees in the rows: a client that got an index here does not get the
one before it there. That costs a look at the store for each request, which requests that come meanwhile
share; the rows of the newest generation are read, and the index files written, only where these are behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from bdcs.blobs.index_files import IndexFiles
from bdcs.errors import IndexNotWritten, InvalidHeader, NoSuchTarget
from bdcs.services import targets
from bdcs.services.finishing import in_common
from bdcs.services.indexing import State, bring_up, may_be_served, state_of
from bdcs.services.targets import Target
from bdcs.store.store import Store

log = logging.getLogger(__name__)


class Follower:
    """Keeps the index files of this collector as new as they have to be; for one event loop."""

    def __init__(self, store: Store, indexes: Path) -> None:
        """`indexes`: where each target has a directory with its index."""
        self._store = store
        self._indexes = indexes
        self._next: dict[str, asyncio.Task[bool]] = {}
        """Looks at targets that have not begun yet."""
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._settled: dict[str, tuple[Target, object]] = {}
        """Targets whose index was current when row and files looked so."""

    async def follow(self, target: str) -> bool:
        """See that the index of the target may be served. Return False where it cannot be made just now.

        Raises `StoreUnavailable`.
        """
        look = self._next.get(target)
        if look is None:
            look = self._next[target] = asyncio.create_task(self._look(target))
        return await in_common(look)

    async def _look(self, target: str) -> bool:
        async with self._turns[target]:
            del self._next[target]  # who comes from now on may know of more than we are going to see
            try:
                if await self._store.read(partial(self._is_served, name=target)):
                    return True
                return await self._store.read(partial(bring_up, name=target, files=self._files(target)))
            except NoSuchTarget:
                return False
            except (IndexNotWritten, InvalidHeader, OSError) as error:
                log.error("the index of %s cannot be written, and is not served: %s", target, error)
                return False

    def _is_served(self, connection: Connection, name: str) -> bool:
        target, files = targets.require(connection, name), self._files(name)
        seen = (target, files.marks())
        if self._settled.get(name) == seen:
            return True
        state = state_of(connection, target, files)
        if state is State.CURRENT:
            self._settled[name] = seen
        return may_be_served(target, files, state)

    def _files(self, target: str) -> IndexFiles:
        return IndexFiles(self._indexes / target)
