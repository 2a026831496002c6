# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo forget`: have the collector erase everything of this machine."""

from __future__ import annotations

import argparse
import asyncio
import sys

from gentwoo_client.errors import DONE, FAILED, UsageError
from gentwoo_client.settings import Settings

NAME = "forget"
HELP = "have the collector erase everything of this machine, and stop pushing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `forget`."""
    parser.description = (
        "Have the collector erase all records of this machine, and send nothing more until `gentwoo "
        "register` is run again, which begins as a new machine. The collector keeps a keyed hash of "
        "the UUID, so that the old identity cannot come back, and nothing else; published figures "
        "follow under their own rule. The journal here stays: it is this machine's own history."
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Forget; return 0, or 1 where the person said no."""
    from gentwoo_client.privileges import enter_state_directory

    enter_state_directory(settings.state_dir)
    return asyncio.run(_forget(settings, is_sure=arguments.yes))


async def _forget(settings: Settings, *, is_sure: bool) -> int:
    from gentwoo_client.outbox import Outbox
    from gentwoo_client.registration import forget, former_identities, open_registration, read_state

    async with Outbox.open(settings.state_dir) as outbox:
        registration, key = await open_registration(outbox, settings.state_dir, settings)
        if not is_sure and not _confirm(registration.machine, registration.collector):
            print("Nothing was done.")
            return FAILED
        await forget(outbox, settings.state_dir, registration, key)
        print(f"{registration.collector} has erased everything of {registration.machine}.")
        print("Nothing is sent any more; a daemon that runs ends at the next merge. The journal here stays.")
        if former_identities(await read_state(outbox)):
            print(
                "Identities that were given up earlier are not erased: `gentwoo register --forget-old` would."
            )
    return DONE


def _confirm(machine: str, collector: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on", advice="give --yes if you are sure")
    print(f"Have {collector} erase everything of {machine}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
