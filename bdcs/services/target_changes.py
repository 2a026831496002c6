# SPDX-License-Identifier: GPL-2.0-or-later
"""Changing a target beside a server that runs, or without one: lock, transaction, index."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Engine

from bdcs.blobs.blobs import Blobs
from bdcs.blobs.index_files import IndexFiles
from bdcs.services import removals, targets
from bdcs.services.indexing import write_index
from bdcs.services.target_locks import holding, undisturbed
from bdcs.services.targets import Target
from bdcs.store.store import transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetChange:
    """A target that is being changed: its lock is held, and `connection` is in the one transaction for it."""

    connection: Connection
    target: Target


@contextlib.contextmanager
def changing(engine: Engine, data: Path, name: str) -> Iterator[TargetChange]:
    """Give the target to be changed; when that is done and durable, write its index.

    An exception undoes the change. Raises `NoSuchTarget`; `IndexNotWritten` when the change is made and its
    index could not be written, which a server then does.
    """
    with transaction(engine) as connection:
        targets.require(connection, name)  # before a directory is made for it
    files = IndexFiles.of(data, name)
    with holding(engine, files) as lock:
        with transaction(engine) as connection:
            lock.require(connection)
            yield TargetChange(connection=connection, target=targets.require(connection, name))
        with undisturbed(engine, files), transaction(engine) as connection:
            write_index(connection, targets.require(connection, name), files, None)


def remove(engine: Engine, data: Path, blobs: Blobs, name: str, *, force: bool) -> None:
    """Remove a target, its index and its package files.

    Raises `NoSuchTarget`, `TargetNotEmpty` unless it has no files, or with `force`; `StoreUnavailable`, which
    `BlobsUnavailable` is, also when it is removed and its files are not: `services.upkeep` does that later.
    """
    with transaction(engine) as connection:
        targets.require(connection, name)
    files = IndexFiles.of(data, name)
    with holding(engine, files) as lock:
        with transaction(engine) as connection:
            lock.require(connection)
            targets.remove(connection, targets.require(connection, name), force=force)
        removals.clear(blobs, partial(transaction, engine), lock, name)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(files.directory)
