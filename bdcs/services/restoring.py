# SPDX-License-Identifier: GPL-2.0-or-later
"""A store that comes from a backup knows less than machines, builders and clients have seen of it since.

    settle(connection, now)          # before anything is served from it
    drop_indexes(data)

What was given out after the backup must not be given out again for something else: BUILD_IDs, since caches
keep a package under its name for good; ids of changes, after which exports go on; and the numbers of jobs
and attempts, which builders still hold. So all of them go on behind a gap. Indexes are written anew with a
TIMESTAMP that is later than any that clients hold.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, case, delete, select, update

from bdcs.blobs.index_files import LAYOUT, PACKED, PLAIN
from bdcs.domain.packages_index import STEP
from bdcs.services.build_rows import BUILDS
from bdcs.store import numbering
from bdcs.store.store import Store
from bdcs.store.tables import build_numbers, metadata, sequences, targets
from bdcs.store.upserts import upsert

log = logging.getLogger(__name__)

MARK: Final = "backup"
"""Name, among the sequences, of when a copy was made that nobody has served from."""
CHANGES: Final = "change"
"""… of the last id of a change (`services.ingest`)."""
PACKAGES: Final = "packages"
"""The directory, below that of all data, in which package files are."""
BUILD_GAP: Final = 1000  # builds of one version, between backup and loss
GAP: Final = 1_000_000  # of anything else


def mark(connection: Connection, now: float) -> None:
    """Note that this store is a backup."""
    row = upsert(sequences).values(name=MARK, value=int(now))
    connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": int(now)}))


def made_at(connection: Connection) -> int | None:
    """Return when the backup was made that this store is; None where it is none, or settled."""
    return connection.scalar(select(sequences.c.value).where(sequences.c.name == MARK))


def settle(connection: Connection, now: float) -> None:
    """Have everything go on behind what may have been given out since the backup."""
    connection.execute(delete(sequences).where(sequences.c.name == MARK))
    for name, gap in ((CHANGES, GAP), (BUILDS, BUILD_GAP)):
        row = upsert(sequences).values(name=name, value=gap)
        behind = {"value": sequences.c.value + gap}
        connection.execute(row.on_conflict_do_update(index_elements=["name"], set_=behind))
    connection.execute(update(build_numbers).values(last=build_numbers.c.last + BUILD_GAP))
    dated = targets.c.timestamp + STEP
    connection.execute(
        update(targets)
        .where(targets.c.timestamp > 0)
        .values(timestamp=case((dated > int(now), dated), else_=int(now)))
    )
    for table in metadata.sorted_tables:
        if numbering.is_numbered(table) and (last := numbering.last_number(connection, table)):
            numbering.continue_after(connection, table, last + GAP)


def drop_indexes(data: Path) -> None:
    """Remove the files of all indexes: they are of another time than the store."""
    for directory in sorted((data / "binhost").glob("*/")):
        for name in (LAYOUT, PACKED, PLAIN):
            (directory / name).unlink(missing_ok=True)


async def settle_if_marked(store: Store, data: Path, now: float) -> None:
    """Do both where the store is a backup that nobody has served from. Raises `StoreError`, `OSError`."""
    if await store.read(made_at) is not None:
        drop_indexes(data)
        await store.write(lambda connection: settle(connection, now))
        log.info("this store comes from a backup; numbers go on behind a gap, indexes are dated anew")


def put_back(backup: Path, data: Path) -> None:
    """Copy a backup to where a collector keeps its files, and nothing is yet. Raises `OSError`."""
    shutil.copytree(backup, data, dirs_exist_ok=True)
    drop_indexes(data)
