# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs schema upgrade`."""

from __future__ import annotations

import argparse

from bdcs.errors import EXIT_DONE
from bdcs.settings import Settings

NAME = "schema"
HELP = "bring the store to the schema of this version"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.add_argument("action", choices=["upgrade"], help="apply the migrations that are missing")


def run(_arguments: argparse.Namespace, settings: Settings) -> int:
    """Upgrade, and say from what to what."""
    from bdcs.store import schema
    from bdcs.store.engine import create_writer, sqlite_path
    from bdcs.store.store import exclusive

    before = exclusive(create_writer(sqlite_path(settings.store, settings.data)), schema.upgrade)
    if before == schema.HEAD:
        print(f"schema {before}: nothing to do")
    else:
        print(f"schema {before or 'none'} → {schema.HEAD}")
    return EXIT_DONE
