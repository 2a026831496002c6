# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs export`."""

from __future__ import annotations

import argparse
import json
import sys

from bdcs.errors import EXIT_DONE
from bdcs.settings import Settings
from gentwoo_client.wire import limits

HELP = "print all records, one JSON object a line, in order of arrival"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.add_argument(
        "--since", metavar="N", type=_number, default=0, help="only those after the record whose `id` is N"
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > limits.INTEGER_MAX:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no `id` of a record")
    return int(text)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print them."""
    from bdcs.cli.existing import existing_store
    from bdcs.services.exporting import export

    encode = json.JSONEncoder(separators=(",", ":")).encode  # ASCII, whatever the locale
    for document in export(existing_store(settings), arguments.since):
        sys.stdout.write(encode(document) + "\n")
    return EXIT_DONE
