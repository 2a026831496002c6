# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo notifications`: what became of builds that nobody stood waiting for."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict

from gentwoo_client.errors import DONE, TryLater
from gentwoo_client.settings import Settings

NAME = "notifications"
HELP = "tell what became of builds that you did not wait for"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Tell what became of the builds that were asked for with --no-wait, or left with Ctrl-C, and which"
        " are still awaited. What is new is told once by any other gentwoo command, too."
    )
    parser.add_argument("--json", action="store_true", help="tell it as one JSON object on stdout")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--clear", action="store_true", help="forget what was told")
    how.add_argument(
        "--watch",
        action="store_true",
        help="wait until nothing is awaited any more; one such process runs by itself",
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Tell it."""
    from gentwoo_client.building import notifications, watching
    from gentwoo_client.privileges import enter_state_directory
    from gentwoo_client.registration import open_registration

    enter_state_directory(settings.state_dir)
    if arguments.watch:
        registration, key = open_registration(settings)
        asyncio.run(watching.watch_all(settings, registration, key))
        return DONE
    if arguments.clear:
        with notifications.changing(settings.state_dir) as memory:
            memory.notifications.clear()
        notifications.take_news(settings.state_dir)
        return DONE
    if notifications.read(settings.state_dir).awaited:
        _refresh(arguments, settings)
    notifications.take_news(settings.state_dir)
    memory = notifications.read(settings.state_dir)
    if arguments.json:
        document = {
            "notifications": [asdict(entry) for entry in memory.notifications],
            "awaited": [asdict(entry) for entry in memory.awaited.values()],
        }
        print(json.dumps(document))
        return DONE
    _print(memory)
    return DONE


def _refresh(arguments: argparse.Namespace, settings: Settings) -> None:
    from gentwoo_client.building import watching
    from gentwoo_client.registration import open_registration

    registration, key = open_registration(settings)
    try:
        asyncio.run(watching.refresh(settings, registration, key))
    except TryLater as error:
        print(f"gentwoo: {error}; what follows may be old", file=sys.stderr)
    from gentwoo_client.building import notifications

    if notifications.read(settings.state_dir).awaited:
        watching.start_watcher(settings, arguments.config)


def _print(memory: object) -> None:
    from gentwoo_client.building.notifications import Memory
    from gentwoo_client.wire.records import format_time

    assert isinstance(memory, Memory)
    for entry in memory.notifications:
        print(f"{format_time(entry.at)}  {entry.text}")
    for awaited in memory.awaited.values():
        print(f"{'still awaited':<25}  {' '.join(awaited.atoms)} (request {awaited.id})")
    if not memory.notifications and not memory.awaited:
        print("Nothing is awaited, and nothing came.")
