# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs publish`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bdcs.errors import EXIT_DONE, EXIT_USAGE
from bdcs.settings import Settings

if TYPE_CHECKING:
    from bdcs.services.publishing import Published, PublishedFile
    from bdcs.services.uploads import Upload

HELP = "publish packages at a target, all of them at once or none"

_USAGE = "bdcs publish: name FILE… and --target (with --again too), or --upload ID, or --list-uploads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path, help="a binary package")
    parser.add_argument("--target", metavar="NAME", help="where to publish it")
    parser.add_argument(
        "--upload",
        metavar="ID",
        action="append",
        default=[],
        help="publish what a builder uploaded; may be given more than once",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="number and sign anew what --target has, in place of what it has: after a key was revoked",
    )
    parser.add_argument(
        "--list-uploads",
        action="store_true",
        help="list what builders uploaded lately, to --target or to all",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Publish, and say what became of it."""
    wishes = (bool(arguments.files), bool(arguments.upload), arguments.list_uploads)
    lacks_files = arguments.again and not arguments.files
    if sum(wishes) != 1 or lacks_files or (arguments.files and not arguments.target):
        print(_USAGE, file=sys.stderr)
        return EXIT_USAGE
    if arguments.list_uploads:
        _list(_uploads(arguments, settings), as_json=arguments.json)
    else:
        _tell(_publish(arguments, settings), as_json=arguments.json)
    return EXIT_DONE


def _publish(arguments: argparse.Namespace, settings: Settings) -> Published:
    from bdcs.cli.publisher import publisher
    from bdcs.services import uploads

    with publisher(settings) as publishes:
        if arguments.upload:
            return uploads.publish(publishes, arguments.upload)
        return publishes.publish(arguments.target, arguments.files, again=arguments.again)


def _tell(published: Published, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(published.to_json()))
        return
    for file in published.files:
        print(_line(file))
    if published.is_new:
        print(f"{published.target}: generation {published.generation}")
    else:
        print(f"{published.target}: nothing to do")


def _line(file: PublishedFile) -> str:
    outcome = "published" if file.is_new else "published before"
    signed = f"signed by {file.signed_by}" if file.signed_by else "not signed"
    return f"{file.file}: {outcome} as {file.path}, {signed}"


def _uploads(arguments: argparse.Namespace, settings: Settings) -> list[Upload]:
    from bdcs.cli.existing import existing_store
    from bdcs.services import uploads
    from bdcs.store.store import transaction

    with transaction(existing_store(settings)) as connection:
        return uploads.listed(connection, arguments.target)


def _list(uploads: list[Upload], *, as_json: bool) -> None:
    from gentwoo_client.wire.records import format_time

    if as_json:
        print(json.dumps({"uploads": [upload.to_json() for upload in uploads]}))
        return
    for upload in uploads:
        what = f"{upload.category}/{upload.pf} for {upload.target}, {upload.size} bytes"
        reason = f": {upload.reason}" if upload.reason else ""
        print(
            f"{upload.id}  {format_time(upload.received_at)}  {upload.state:<11}  {what}, from"
            f" {upload.machine}{reason}"
        )
