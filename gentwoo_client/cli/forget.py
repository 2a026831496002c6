# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo forget`: have the collector erase everything of this machine."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from gentwoo_client.errors import DONE, FAILED, UsageError
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.machine_key import MachineKey
    from gentwoo_client.registration import Registration

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
    from gentwoo_client.registration import open_registration

    enter_state_directory(settings.state_dir)
    registration, key = open_registration(settings)
    if not arguments.yes and not _confirm(registration.machine, registration.collector):
        print("Nothing was done.")
        return FAILED
    has_former = asyncio.run(_forget(registration, key))
    print(f"{registration.collector} has erased everything of {registration.machine}.")
    print("Nothing is sent any more; a daemon that runs ends at the next merge. The journal here stays.")
    if has_former:
        print("Identities that were given up earlier are not erased: `gentwoo register --forget-old` would.")
    return DONE


async def _forget(registration: Registration, key: MachineKey) -> bool:
    """Forget; return whether there are identities that were given up earlier."""
    from gentwoo_client.outbox import Outbox
    from gentwoo_client.registration import forget

    state_dir = registration.settings.state_dir
    async with Outbox.open(state_dir) as outbox:
        await forget(outbox, state_dir, registration, key)
        return await outbox.get("former") is not None


def _confirm(machine: str, collector: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on", advice="give --yes if you are sure")
    print(f"Have {collector} erase everything of {machine}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
