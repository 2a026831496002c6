# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs backup`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from bdcs.domain.amounts import size_text
from bdcs.settings import FILES, Settings

HELP = "copy everything that is kept, while the server runs, and see that the copy is sound"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.description = (
        "Make DEST a copy of the store in one state, with the package files, uploads and logs that its rows"
        " name; then check it as `bdcs check` does. DEST must not be there, and appears when it is whole."
        " Indexes are not in it: they follow from the store. Packages in S3 stay there. The signer's home is"
        " another user's, and not in it either. `bdcs restore` puts it back."
    )
    parser.add_argument("destination", metavar="DEST", type=Path, help="the directory to make")
    parser.add_argument(
        "--link",
        metavar="PREVIOUS",
        type=Path,
        help="an earlier backup on the same file system: packages and logs that are in it are linked",
    )
    parser.add_argument(
        "--no-packages",
        dest="packages",
        action="store_false",
        help="leave package files and uploads out: something else copies them, after this",
    )
    parser.add_argument(
        "--no-check", dest="check", action="store_false", help="do not check the copy, which takes long"
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Copy, check, and say what there is."""
    from bdcs.cli.check import differences, progress
    from bdcs.cli.existing import existing_store
    from bdcs.errors import EXIT_DONE, EXIT_REFUSED, NotOfThisEngine
    from bdcs.services.backing_up import back_up
    from bdcs.store.engine import place_of

    place = place_of(settings.store, settings.data)
    if not isinstance(place, Path):
        raise NotOfThisEngine
    destination, link = arguments.destination.absolute(), arguments.link and arguments.link.absolute()
    existing_store(settings).dispose()
    has_packages = arguments.packages and settings.blobs == FILES
    made = back_up(
        place,
        settings.data,
        destination,
        link=link,
        packages=has_packages,
        progress=progress("{} of {} copied", written_as=size_text),
    )
    if arguments.json:
        document = {
            "place": str(made.place),
            "packages": made.packages,
            "size": made.size,
            "linked": made.linked,
            "logs": made.logs,
            "database": made.database,
        }
        print(json.dumps(document))
    else:
        print(
            f"{made.place}: {size_text(made.database)} of database, {made.packages} packages of"
            f" {size_text(made.size)}, {made.logs} logs; {made.linked} files linked"
        )
    if not arguments.check:
        return EXIT_DONE
    copy = replace(settings, data=destination, store="sqlite:", blobs=FILES)
    parts = ("records", "binhost", "builds") if has_packages else ("records", "builds")
    return EXIT_REFUSED if differences(copy, parts, quiet=arguments.json) else EXIT_DONE
