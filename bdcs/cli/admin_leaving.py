# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs admin leaving …`: the public list of packages that are about to leave their repository."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bdcs.errors import EXIT_DONE, NotLeaving, WatchRefused
from bdcs.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

HELP = "packages that are about to leave, of which machines warn their users"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with the list."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="put an atom on the list, which all can read", allow_abbrev=False)
    add.add_argument("atom", metavar="ATOM", help="what leaves, such as app-misc/old or <dev-lang/php-8.2")
    add.add_argument("--on", metavar="DATE", help="the day on which it leaves, such as 2026-12-24")
    add.add_argument("--reason", metavar="TEXT", default="", help="why, in one line")
    listing = actions.add_parser("list", help="what is on the list", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="print a JSON object for each")
    remove = actions.add_parser("remove", help="take an atom off the list", allow_abbrev=False)
    remove.add_argument("atom", metavar="ATOM", help="as `list` shows it")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    from bdcs.cli.existing import existing_store
    from bdcs.store.store import transaction
    from gentwoo_client.wire.errors import ProtocolError

    with transaction(existing_store(settings, writing=arguments.action != "list")) as connection:
        try:
            text = _ACTIONS[arguments.action](connection, arguments)
        except ProtocolError as error:
            raise WatchRefused(error.detail) from None
    if text:
        print(text)
    return EXIT_DONE


def _add(connection: Connection, arguments: argparse.Namespace) -> str:
    from bdcs.services import leaving_packages

    atom = leaving_packages.add(
        connection, arguments.atom, reason=arguments.reason, leaves_on=arguments.on, now=time.time()
    )
    return f"{atom} is listed as leaving"


def _list(connection: Connection, arguments: argparse.Namespace) -> str:
    from bdcs.services import leaving_packages

    found = leaving_packages.listed(connection)
    if arguments.json:
        documents = [
            {"atom": str(each.atom), "leaves_on": each.leaves_on, "reason": each.reason} for each in found
        ]
        return "\n".join(map(json.dumps, documents))
    return "\n".join(f"{each.atom}  {each.leaves_on or '–'}  {each.reason}".rstrip() for each in found)


def _remove(connection: Connection, arguments: argparse.Namespace) -> str:
    from bdcs.services import leaving_packages

    if not leaving_packages.remove(connection, arguments.atom):
        raise NotLeaving(arguments.atom)
    return f"{arguments.atom} is no longer listed as leaving"


_ACTIONS: dict[str, Callable[[Connection, argparse.Namespace], str]] = {
    "add": _add,
    "list": _list,
    "remove": _remove,
}
