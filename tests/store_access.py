# SPDX-License-Identifier: GPL-2.0-or-later
"""The store of a collector, past everything that looks at what is written there; also in a data directory
that is copied or lost with its store."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection

from bdcs.store.engine import SQLITE_NAME, create_writer
from bdcs.store.store import transaction
from tests import stores


@contextlib.contextmanager
def store_of(data: Path) -> Iterator[Connection]:
    """Give a connection, in a transaction, to the store of the collector with this directory."""
    engine = create_writer(data / SQLITE_NAME)
    try:
        with transaction(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def copy_data(data: Path, target: Path) -> None:
    """Copy a data directory, whose collector is stopped, and its store; `target` must not be there."""
    shutil.copytree(data, target)
    stores.copy(data / SQLITE_NAME, target / SQLITE_NAME)


def remove_data(data: Path) -> None:
    """Have a data directory, whose collector is stopped, be lost, and its store."""
    stores.remove(data / SQLITE_NAME)
    shutil.rmtree(data)
