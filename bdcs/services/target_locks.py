# SPDX-License-Identifier: GPL-2.0-or-later
"""Who changes a target, or a repository, holds its lock, in whatever process, on whatever host.

    with holding(engine, files) as lock:
        ...                            # number, place
        with transaction(engine) as connection:
            lock.require(connection)   # … and commit, unless somebody has had the lock meanwhile
        ...                            # write the index, with a store that is a file

With a store that is a file that is the lock of its directory (`blobs.target_lock`), and guards index files as
well. Where several collectors share the store, it is one in the store; the lock of the directory then guards
the index files of this one alone, and is held while these are written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine

from bdcs.blobs.index_files import IndexFiles
from bdcs.blobs.target_lock import target_lock
from bdcs.store.clock import is_shared
from bdcs.store.session_locks import session_lock


class Lock(Protocol):
    """A lock that is held, unless it was lost."""

    @property
    def token(self) -> int | None:
        """What tells who has it from all others who had, or will have; None where it cannot be lost."""

    def require(self, connection: Connection) -> None:
        """Let nobody else have it before this transaction has ended, which has to be one that writes.

        Raises `StoreUnavailable` where somebody else has had it since.
        """


class _OfTheHost:
    """A lock of this host, which ends with its process alone."""

    token = None

    def require(self, connection: Connection) -> None:
        """It is held."""


@contextlib.contextmanager
def holding(engine: Engine, files: IndexFiles) -> Iterator[Lock]:
    """Hold the lock of the target whose index `files` are, waiting for whoever has it; never take it twice.

    Raises `StoreUnavailable`.
    """
    with locked(engine, f"target {files.directory.name}", files.directory) as lock:
        yield lock


@contextlib.contextmanager
def locked(engine: Engine, name: str, directory: Path) -> Iterator[Lock]:
    """Hold the lock `name`, or that of the directory where nobody elsewhere can want it."""
    if is_shared(engine):
        with session_lock(engine, name) as lock:
            yield lock
    else:
        with target_lock(directory):
            yield _OfTheHost()


@contextlib.contextmanager
def undisturbed(store: Connection | Engine, files: IndexFiles) -> Iterator[None]:
    """Let nobody write these index files meanwhile; the lock of the target is held.

    Whoever writes to the store as well takes this first, and his turn there then.
    """
    if is_shared(store):
        with target_lock(files.directory):
            yield
    else:
        yield
