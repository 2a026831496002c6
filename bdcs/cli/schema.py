# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs schema upgrade`."""

from __future__ import annotations

import argparse

from bdcs.errors import EXIT_DONE
from bdcs.privileges import become_owner
from bdcs.settings import Settings

HELP = "bring the store to the schema of this version"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.add_argument("action", choices=["upgrade"], help="apply the migrations that are missing")


def run(_arguments: argparse.Namespace, settings: Settings) -> int:
    """Upgrade, and say from what to what."""
    from bdcs.store import schema
    from bdcs.store.engine import create_writer, directory_of, place_of
    from bdcs.store.store import transaction

    place = place_of(settings.store, settings.data)
    become_owner(directory_of(place, settings.data))
    with transaction(create_writer(place)) as connection:
        before = schema.upgrade(connection)
    is_there = before is not None and before >= schema.HEAD
    print(f"schema {before}: nothing to do" if is_there else f"schema {before} → {schema.HEAD}")
    return EXIT_DONE
