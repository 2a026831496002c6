# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs admin builders …`: machines that may upload packages to a target."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from bdcs.errors import EXIT_DONE
from bdcs.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

HELP = "machines that may upload packages to a target"

_UPLOADING = (
    "What it uploads is checked, and lies in quarantine until `bdcs publish --upload` publishes it. Its"
    " packages run as root on every machine that installs them: approve only machines that you trust so far."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with builders."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    approve = actions.add_parser(
        "approve", help="let a machine upload to a target", description=_UPLOADING, allow_abbrev=False
    )
    revoke = actions.add_parser(
        "revoke", help="let it upload no longer; what it built stays", allow_abbrev=False
    )
    for action in (approve, revoke):
        action.add_argument("uuid", metavar="UUID", type=UUID, help="the machine's UUID")
        action.add_argument("--target", metavar="NAME", required=True, help="the target")
    for name, text in (
        ("drain", "give a builder no more work; what it builds ends as it does"),
        ("undrain", "give it work again"),
    ):
        draining = actions.add_parser(name, help=text, allow_abbrev=False)
        draining.add_argument("name", metavar="NAME", help="what the builder is called")
    listing = actions.add_parser("list", help="who may upload where", allow_abbrev=False)
    listing.add_argument("--target", metavar="NAME", help="only those of this target")
    listing.add_argument("--json", action="store_true", help="print it as JSON")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    from bdcs.cli.existing import existing_store
    from bdcs.store.store import transaction

    with transaction(existing_store(settings, writing=arguments.action != "list")) as connection:
        _ACTIONS[arguments.action](connection, arguments)
    return EXIT_DONE


def _approve(connection: Connection, arguments: argparse.Namespace) -> None:
    from bdcs.services import builders, targets

    target = targets.require(connection, arguments.target)
    is_new = builders.approve(connection, target, arguments.uuid, now=time.time())
    print(f"{arguments.uuid} {'may' if is_new else 'may already'} upload to {target.name}")


def _revoke(connection: Connection, arguments: argparse.Namespace) -> None:
    from bdcs.services import builders, targets

    target = targets.require(connection, arguments.target)
    builders.revoke(connection, target, arguments.uuid)
    print(f"{arguments.uuid} may no longer upload to {target.name}")


def _drain(connection: Connection, arguments: argparse.Namespace) -> None:
    from bdcs.services import builders

    builders.drain(connection, arguments.name, builders.OPERATOR)
    print(f"{arguments.name} gets no more work")


def _undrain(connection: Connection, arguments: argparse.Namespace) -> None:
    from bdcs.services import builders

    builders.drain(connection, arguments.name, None)
    print(f"{arguments.name} gets work")


def _list(connection: Connection, arguments: argparse.Namespace) -> None:
    from bdcs.services import builders, targets
    from gentwoo_client.wire.records import format_time

    target = None if arguments.target is None else targets.require(connection, arguments.target)
    found = builders.listed(connection, target)
    if arguments.json:
        documents = [
            {
                "machine": str(builder.machine),
                "target": builder.target,
                "approved_at": format_time(builder.approved_at),
            }
            for builder in found
        ]
        print(json.dumps({"builders": documents}, indent=2))
        return
    for builder in found:
        print(f"{builder.machine}  {format_time(builder.approved_at)}  {builder.target}")


_ACTIONS: dict[str, Callable[[Connection, argparse.Namespace], None]] = {
    "approve": _approve,
    "revoke": _revoke,
    "drain": _drain,
    "undrain": _undrain,
    "list": _list,
}
