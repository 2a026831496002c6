# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs copy-store`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdcs.errors import EXIT_DONE, EXIT_REFUSED
from bdcs.privileges import become_owner
from bdcs.settings import FILES, Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from bdcs.services.copying_logs import CopiedLogs

HELP = "copy a store into another one, as from SQLite to PostgreSQL, while its collectors go on"

SHOWING = 0.5  # seconds between two lines of progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.description = (
        "Make the store TO hold what the store FROM holds. Collectors may go on with FROM meanwhile: run this"
        " again, and only what changed since is copied; so it is after an interruption, too. Nothing is"
        " served from TO before the collectors of FROM are stopped and this was run once more with --last,"
        " which compares the evidence with the tables as `bdcs check` does. FROM is only read. Where the"
        " setting blobs names S3, logs of builds go from the data directory there; packages do not."
    )
    parser.add_argument("source", metavar="FROM", help="URL of the store that is copied, such as sqlite:")
    parser.add_argument("target", metavar="TO", help="URL of the copy, such as postgresql://host/bdcs")
    parser.add_argument("--last", action="store_true", help="FROM is served no more: TO becomes the store")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Copy, and with --last check the copy and let it be one no longer."""
    from bdcs.server.presence import without_others
    from bdcs.services import copying
    from bdcs.services.copying_logs import CopiedLogs
    from bdcs.store import schema
    from bdcs.store.engine import create_reader, create_writer
    from bdcs.store.places import directory_of, place_of
    from bdcs.store.store import transaction

    source = place_of(arguments.source, settings.data)
    become_owner(directory_of(source, settings.data))
    with without_others(source) if arguments.last else contextlib.nullcontext():
        reading, writing = create_reader(source), create_writer(place_of(arguments.target, settings.data))
        try:
            with transaction(writing) as connection:
                schema.upgrade(connection)
            copied = copying.copy(reading, writing, _progress())
            logs = CopiedLogs()
            if isinstance(source, Path):
                logs = _copy_logs(reading, settings, arguments.target, is_last=arguments.last)
            differences = _check(writing) if arguments.last else None
            if differences == 0:
                copying.finish(writing)
        finally:
            reading.dispose()
            writing.dispose()
    ends = {"differences": differences, "finished": differences == 0}
    outcome = asdict(copied) | {"logs": logs.logs, "copied_logs": logs.copied} | ends
    print(json.dumps(outcome) if arguments.json else _text(outcome))
    return EXIT_REFUSED if differences else EXIT_DONE


def _copy_logs(store: Engine, settings: Settings, target: str, *, is_last: bool) -> CopiedLogs:
    """Copy them where collectors of the copy look for them, unless that is where they are."""
    from bdcs.blobs.configured import blobs_of
    from bdcs.server.shared import logs_of
    from bdcs.services.copying_logs import CopiedLogs, copy_growing, copy_logs
    from bdcs.services.stored_logs import StoredLogs

    done = CopiedLogs() if settings.blobs == FILES else copy_logs(store, settings.data, blobs_of(settings))
    logs = logs_of(replace(settings, store=target))
    if is_last and isinstance(logs, StoredLogs):
        with contextlib.closing(logs):
            growing = copy_growing(store, settings.data, logs)
        done = CopiedLogs(logs=done.logs + growing.logs, copied=done.copied + growing.copied)
    return done


def _check(copy: Any) -> int:
    from bdcs.services.checking import check

    report = check(copy, lambda _done, _total: None)
    for difference in report.first:
        print(difference, file=sys.stderr)
    return report.differences


def _progress() -> Callable[[str, int, int], None]:
    """Return what shows a line where somebody looks, a few times a second."""
    shown = 0.0

    def show(table: str, done: int, total: int) -> None:
        nonlocal shown
        if sys.stderr.isatty() and (time.monotonic() > shown + SHOWING or done == total > 0):
            shown = time.monotonic()
            end = "\n" if done == total else ""
            print(f"\r{f'{table}: {done} of {total} rows':<60}", end=end, file=sys.stderr, flush=True)

    return show


def _text(outcome: dict[str, Any]) -> str:
    did = (
        "{rows} rows in {tables} tables: {added} added, {changed} changed, {removed} removed;"
        " {copied_logs} logs copied"
    ).format(**outcome)
    if outcome["finished"]:
        return f"{did}\nChecked, no differences: collectors may serve from the copy, and from it alone."
    if outcome["differences"]:
        return (
            f"{did}\n{outcome['differences']} differences between evidence and tables: the copy stays unused."
        )
    return f"{did}\nWhen the collectors of the first store are stopped, run this again with --last."
