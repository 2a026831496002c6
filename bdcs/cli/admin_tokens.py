# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs admin tokens …`: what opens a private target."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bdcs.errors import EXIT_DONE
from bdcs.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

HELP = "tokens that open private targets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with tokens."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser(
        "create",
        help="make a token and print it: it cannot be shown again",
        description="Make a token and print it, alone on stdout: only a hash of it is kept.",
        allow_abbrev=False,
    )
    listing = actions.add_parser("list", help="names of the tokens", allow_abbrev=False)
    revoke = actions.add_parser("revoke", help="let a token count no longer", allow_abbrev=False)
    for action in (create, revoke):
        action.add_argument("token", metavar="NAME", help="its name; the user name that goes with it")
    for action in (create, listing, revoke):
        action.add_argument("--target", metavar="NAME", required=True, help="the target")
    listing.add_argument("--json", action="store_true", help="print it as JSON")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    from bdcs.cli.existing import existing_store
    from bdcs.store.store import transaction

    with transaction(existing_store(settings, writing=arguments.action != "list")) as connection:
        text = _ACTIONS[arguments.action](connection, arguments)
    if text:
        print(text)  # a token only when it is durable
    return EXIT_DONE


def _create(connection: Connection, arguments: argparse.Namespace) -> str:
    from bdcs.services import targets, tokens

    target = targets.require(connection, arguments.target)
    token = tokens.create(connection, target, arguments.token, now=time.time())
    if not target.private:
        print(f"bdcs: {target.name} is public: no token is asked for yet", file=sys.stderr)
    return token


def _list(connection: Connection, arguments: argparse.Namespace) -> str:
    from bdcs.services import targets, tokens
    from gentwoo_client.wire.records import format_time

    target = targets.require(connection, arguments.target)
    found = [(token.name, format_time(token.created_at)) for token in tokens.listed(connection, target)]
    if arguments.json:
        documents = [{"name": name, "created_at": created_at} for name, created_at in found]
        return json.dumps({"target": target.name, "tokens": documents}, indent=2)
    return "\n".join(f"{created_at}  {name}" for name, created_at in found)


def _revoke(connection: Connection, arguments: argparse.Namespace) -> str:
    from bdcs.services import targets, tokens

    target = targets.require(connection, arguments.target)
    tokens.revoke(connection, target, arguments.token)
    return f"token {arguments.token} of target {target.name} is revoked"


_ACTIONS: dict[str, Callable[[Connection, argparse.Namespace], str]] = {
    "create": _create,
    "list": _list,
    "revoke": _revoke,
}
