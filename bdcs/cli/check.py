# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs check`."""

from __future__ import annotations

import argparse
import sys

from bdcs.errors import EXIT_DONE, EXIT_REFUSED
from bdcs.settings import Settings

HELP = "replay the evidence and compare it with the tables"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This command has no options of its own."""


def run(_arguments: argparse.Namespace, settings: Settings) -> int:
    """Compare, and print what was found."""
    from bdcs.cli.existing import existing_store
    from bdcs.services.checking import check

    report = check(existing_store(settings), _show if sys.stderr.isatty() else _ignore)
    print(
        f"{report.machines} machines, {report.segments} segments, {report.records} records,"
        f" {report.installations} installations: {report.differences or 'no'} differences"
    )
    for difference in report.first:
        print(difference)
    if report.differences > len(report.first):
        print(f"… and {report.differences - len(report.first)} more")
    return EXIT_REFUSED if report.differences else EXIT_DONE


def _show(done: int, machines: int) -> None:
    end = "\n" if done == machines else ""
    print(f"\r{done} of {machines} machines", end=end, file=sys.stderr, flush=True)


def _ignore(_done: int, _machines: int) -> None:
    """Nobody looks."""
