# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo show`: exactly what would be sent next."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from gentwoo_client.errors import DONE, AlreadyRunning
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.machine_key import MachineKey
    from gentwoo_client.registration import Registration
    from gentwoo_client.wire.records import PackageStateChange
    from gentwoo_client.wire.segments import Segment

NAME = "show"
HELP = "print exactly what would be sent next"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `show`."""
    parser.description = (
        "Print what would be sent next: the records that the collector has not acknowledged, as they would "
        "be signed. Where no daemon does it, the log is first read to its end. Nothing is sent."
    )
    parser.add_argument("--all", action="store_true", help="everything that waits, not only the next segment")
    parser.add_argument(
        "--json",
        action="store_true",
        help="the payload itself, one segment a line (RFC 7515, before encoding)",
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print it; return 0."""
    from gentwoo_client.privileges import enter_state_directory
    from gentwoo_client.registration import open_registration

    enter_state_directory(settings.state_dir)
    registration, key = open_registration(settings)
    _read_log(registration.settings)
    asyncio.run(_show(registration, key, everything=arguments.all, as_json=arguments.json))
    return DONE


async def _show(registration: Registration, key: MachineKey, *, everything: bool, as_json: bool) -> None:
    from gentwoo_client.outbox import Outbox
    from gentwoo_client.wire import json_text

    async with Outbox.open(registration.settings.state_dir) as outbox:
        shown = 0
        async for segment in outbox.preview(key, audience=registration.collector):
            if as_json:
                print(json_text.dump(segment.to_json()).decode())
            else:
                _print_segment(segment)
            shown += len(segment.records)
            if not everything:
                break
        if not as_json:
            waiting = (await outbox.tally()).unsent - shown
            if not shown:
                print("Nothing waits to be sent.")
            elif waiting > 0:
                print(f"{waiting} more wait after these; --all prints them too.")


def _read_log(settings: Settings) -> None:
    """Bring the journal up to date, unless the daemon does."""
    from gentwoo_client.follow import read_to_end
    from gentwoo_client.locks import READER, exclusive_lock

    try:
        with exclusive_lock(settings.state_dir, READER):
            read_to_end(settings)
    except AlreadyRunning:
        return


def _print_segment(segment: Segment) -> None:
    count = len(segment.records)
    print(f"To {segment.audience} as {segment.machine}: {count} record{'s' if count > 1 else ''}")
    for record in segment.records:
        print(_line(record))


def _line(record: PackageStateChange) -> str:
    from datetime import UTC, datetime

    when = datetime.fromtimestamp(record.recorded_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    duration = "" if record.time_delta is None else f"{record.time_delta} s"
    words = (
        record.install_type,
        record.cause,
        f"replaces {record.replaces}" if record.replaces else None,
        duration,
        f"{record.concurrency:g} at once" if record.concurrency is not None else None,
        record.observed,
        f"clock {record.clock}",
    )
    package = f"{record.cpv}::{record.repository}" if record.repository else str(record.cpv)
    return f"{record.seq:>7}  {when}Z  {record.event:<9}  {package}  ({', '.join(filter(None, words))})"
