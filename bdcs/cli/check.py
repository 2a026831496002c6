# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs check`."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bdcs.domain.amounts import size_text
from bdcs.errors import EXIT_DONE, EXIT_REFUSED
from bdcs.settings import Settings

HELP = "replay the evidence and compare it with the tables; compare binhost and builds with their files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.add_argument(
        "--only",
        choices=("records", "binhost", "builds"),
        help="compare only what machines sent; or only targets, indexes and package files; or only requests,"
        " jobs and their logs",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="first have figures that do not add up counted anew; the server does it within minutes, and"
        " whatever else differs is only told",
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Compare, and print what was found."""
    if arguments.repair:
        _mend_figures(settings)
    parts = tuple(_PARTS) if arguments.only is None else (arguments.only,)
    return EXIT_REFUSED if differences(settings, parts) else EXIT_DONE


def differences(settings: Settings, parts: Sequence[str], *, quiet: bool = False) -> int:
    """Compare these parts, print what was found (`quiet`: only differences), and return how many differ."""
    found = 0
    for part in parts:
        lines = io.StringIO()
        with contextlib.redirect_stdout(lines):
            count = _PARTS[part](settings)
        if count or not quiet:
            print(lines.getvalue(), end="", file=sys.stderr if quiet else sys.stdout)
        found += count
    return found


def _check_records(settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.services.checking import check

    report = check(existing_store(settings), progress("{} of {} machines"))
    print(
        f"{report.machines} machines, {report.segments} segments, {report.records} records,"
        f" {report.installations} installations: {report.differences or 'no'} differences"
    )
    _print_first(report.first, report.differences)
    return report.differences


def _mend_figures(settings: Settings) -> None:
    from bdcs.cli.existing import existing_store
    from bdcs.services.checking_figures import differing, mend
    from bdcs.store.store import transaction

    with transaction(existing_store(settings)) as connection:
        found = differing(connection)
    with transaction(existing_store(settings, writing=True)) as connection:
        mend(connection, found)
    print(f"{len(found)} figures and machines will be counted anew")


def _check_binhost(settings: Settings) -> int:
    from bdcs.blobs.configured import blobs_of
    from bdcs.cli.existing import existing_store
    from bdcs.services.checking_binhost import check_binhost

    report = check_binhost(
        existing_store(settings),
        settings.data,
        progress("{} of {} read", written_as=size_text),
        blobs_of(settings),
    )
    print(
        f"{report.targets} targets, {report.builds} packages, {report.files} files,"
        f" {size_text(report.size)}: {report.differences or 'no'} differences"
    )
    _print_first(report.first, report.differences)
    return report.differences


def _check_builds(settings: Settings) -> int:
    from bdcs.cli.existing import existing_store
    from bdcs.server.shared import logs_of
    from bdcs.services.checking_builds import check_builds

    report = check_builds(existing_store(settings), settings.data, logs_of(settings))
    print(
        f"{report.requests} requests, {report.jobs} jobs, {report.attempts} attempts, {report.logs} logs,"
        f" {size_text(report.size)}: {report.differences or 'no'} differences"
    )
    _print_first(report.first, report.differences)
    if report.events:
        print(f"{report.events} events are set aside, since the broker refuses them; the log says why")
    return report.differences


def _print_first(first: Sequence[str], differences: int) -> None:
    for difference in first:
        print(difference)
    if differences > len(first):
        print(f"… and {differences - len(first)} more")


def progress(text: str, *, written_as: Callable[[int], str] = str) -> Callable[[int, int], None]:
    """Return what shows `text` with how much is done and how much there is; nothing where nobody looks."""

    shown = ""

    def show(done: int, total: int) -> None:
        nonlocal shown
        line = text.format(written_as(done), written_as(total))
        if line != shown or done == total:
            print(f"\r{line:<40}", end="\n" if done == total else "", file=sys.stderr, flush=True)
            shown = line

    return show if sys.stderr.isatty() else _ignore


def _ignore(_done: int, _total: int) -> None:
    """Nobody looks."""


_PARTS: Final[Mapping[str, Callable[[Settings], int]]] = {
    "records": _check_records,
    "binhost": _check_binhost,
    "builds": _check_builds,
}
"""What can be compared, and how."""
