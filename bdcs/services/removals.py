# SPDX-License-Identifier: GPL-2.0-or-later
"""Removing package files while somebody else may come to have the target's lock.

Blobs take no token: who lost the lock and does not know it yet might remove a file that the next one has just
put under the same name, and listed. So names are announced in the store first, in a transaction that requires
the lock, and whoever lists files requires that nobody else is removing one of that name (`require_none`).
Announcements of who died end by themselves, when no request of his can be under way any more.

Where the lock cannot be lost nothing is announced.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from bdcs.blobs.blobs import Blobs, is_place
from bdcs.domain.batches import batches
from bdcs.errors import StoreUnavailable
from bdcs.services.target_locks import Lock
from bdcs.store.clock import store_time
from bdcs.store.tables import removals

AT_ONCE: Final = 1000  # names of one request
WITHIN: Final = 30.0  # seconds after the announcement in which the request has to begin
LIFE: Final = 300.0
"""Seconds for which an announcement counts: by then the request has ended, with all its repetitions."""

Writing = Callable[[], AbstractContextManager[Connection]]
"""Gives a transaction that writes."""


def remove(blobs: Blobs, writing: Writing, lock: Lock, target: str, paths: Sequence[str]) -> list[str]:
    """Remove files of a target that no row names; return those that somebody else is about to remove.

    The lock is held. Raises `StoreUnavailable`, also where it was lost: then no more is removed.
    """
    if lock.token is None:
        blobs.delete(target, paths)
        return []
    left: list[str] = []
    for some in batches(paths, AT_ONCE):
        began = time.monotonic()
        with writing() as connection:
            lock.require(connection)
            others = _announced(connection, lock.token, target, some)
            ours = [path for path in some if path not in others]
            _announce(connection, lock.token, target, ours)
        if time.monotonic() > began + WITHIN:
            raise StoreUnavailable(f"files of {target} stay: it took too long to say that they go")
        blobs.delete(target, ours)
        with writing() as connection:
            connection.execute(delete(removals).where(_is(target, ours), removals.c.token == lock.token))
        left += others
    return left


def clear(blobs: Blobs, writing: Writing, lock: Lock, target: str) -> None:
    """Remove all files of a target that is gone; the lock is held.

    What others put there goes as well, where the lock cannot be lost. Raises as `remove` does.
    """
    if lock.token is None:
        blobs.clear(target)
        return
    remove(blobs, writing, lock, target, [blob.path for blob in blobs.listed(target) if is_place(blob.path)])


def require_none(connection: Connection, lock: Lock, target: str, paths: Collection[str]) -> None:
    """Raise `StoreUnavailable` where somebody who had the lock before may be removing one of these yet."""
    if lock.token is None:
        return
    for path in sorted(_announced(connection, lock.token, target, paths)):
        raise StoreUnavailable(
            f"somebody was about to remove {target}/{path}; it can be published after {LIFE:.0f} seconds"
        )


def _announced(connection: Connection, token: int, target: str, paths: Collection[str]) -> set[str]:
    """Return which of the paths others have announced, and may be at yet."""
    counts = removals.c.until > _milliseconds(connection)
    query = select(removals.c.path).where(_is(target, paths), removals.c.token != token, counts)
    return set(connection.scalars(query))


def _announce(connection: Connection, token: int, target: str, paths: Collection[str]) -> None:
    """Say that these go; what was said long ago is forgotten."""
    now = _milliseconds(connection)
    connection.execute(delete(removals).where((removals.c.until <= now) | _is(target, paths)))
    until = now + int(LIFE * 1000)
    if paths:
        rows = [{"target": target, "path": path, "token": token, "until": until} for path in paths]
        connection.execute(insert(removals), rows)


def _is(target: str, paths: Collection[str]) -> Any:
    return (removals.c.target == target) & removals.c.path.in_(list(paths))


def _milliseconds(connection: Connection) -> int:
    return int(store_time(connection) * 1000)
