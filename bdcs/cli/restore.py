# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs restore`."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from bdcs.privileges import become_owner
from bdcs.settings import FILES, Settings

HELP = "put a backup in place; or have a store that other tools restored go on as one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.description = (
        "Copy the backup SOURCE, made by `bdcs backup`, to the data directory, where no store is; without"
        " SOURCE, take the store that is there, since pg_restore or a snapshot brought it. Then have its"
        " numbers go on behind a gap, so that none that was given out after the backup is given out again,"
        " date indexes anew, and check everything. No collector may run meanwhile."
    )
    parser.add_argument("source", metavar="SOURCE", type=Path, nargs="?", help="a directory of `bdcs backup`")
    parser.add_argument(
        "--no-check", dest="check", action="store_false", help="do not check the store, which takes long"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Restore, check, and say what there is."""
    from bdcs.cli.check import differences
    from bdcs.cli.existing import existing_store
    from bdcs.errors import EXIT_DONE, EXIT_REFUSED
    from bdcs.services import restoring
    from bdcs.store.store import transaction

    source = arguments.source and arguments.source.absolute()
    become_owner(settings.data)
    with _nobody_serving(settings):
        parts: tuple[str, ...] = ("records", "builds")
        if source is not None:
            _put_back(source, settings)
            parts = ("records", "binhost", "builds") if settings.blobs == FILES else parts
        found = differences(settings, parts) if arguments.check else 0
        writer = existing_store(settings, writing=True)
        restoring.drop_indexes(settings.data)
        with transaction(writer) as connection:
            restoring.settle(connection, time.time())
        writer.dispose()
    print("restored; numbers go on behind a gap, and indexes are written when the server starts")
    return EXIT_REFUSED if found else EXIT_DONE


@contextlib.contextmanager
def _nobody_serving(settings: Settings) -> Iterator[None]:
    from bdcs.blobs.server_lock import only_server
    from bdcs.server.presence import without_others
    from bdcs.server.shared import store_place

    place = store_place(settings)
    with contextlib.ExitStack() as held:
        if not isinstance(place, Path) or place.parent != settings.data:
            held.enter_context(only_server(settings.data))
        held.enter_context(without_others(place))
        yield


def _put_back(source: Path, settings: Settings) -> None:
    """Copy the files. Raises `NoBackup`, `BackupExists`, `NotOfThisEngine`, `OSError`."""
    from bdcs.errors import BackupExists, NoBackup, NotOfThisEngine
    from bdcs.services import restoring
    from bdcs.store.engine import SQLITE_NAME, place_of

    place = place_of(settings.store, settings.data)
    if not isinstance(place, Path) or place != settings.data / SQLITE_NAME:
        raise NotOfThisEngine
    if not (source / SQLITE_NAME).is_file():
        raise NoBackup(source)
    taken = [place, *(place.with_name(place.name + end) for end in ("-wal", "-shm", "-journal"))]
    if settings.blobs == FILES:
        taken.append(settings.data / restoring.PACKAGES)
    for path in taken:
        if path.exists() and not restoring.is_unfinished(settings.data):
            raise BackupExists(path)
    restoring.put_back(source, settings.data)
