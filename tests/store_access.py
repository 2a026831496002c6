# SPDX-License-Identifier: GPL-2.0-or-later
"""The store of a collector that may be running, past everything that looks at what is written there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection

from bdcs.store.engine import SQLITE_NAME, create_writer
from bdcs.store.store import transaction


@contextlib.contextmanager
def store_of(data: Path) -> Iterator[Connection]:
    """Give a connection, in a transaction, to the store of the collector with this directory."""
    engine = create_writer(data / SQLITE_NAME)
    try:
        with transaction(engine) as connection:
            yield connection
    finally:
        engine.dispose()
