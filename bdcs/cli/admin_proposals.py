# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs admin proposals …`: targets that machines propose because none fits them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bdcs.errors import EXIT_DONE, TargetRefused
from bdcs.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from bdcs.services.proposals import Proposed

HELP = "targets that machines propose because none fits them"

REASON_LENGTH = 300  # characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with proposals."""
    parser.description = (
        "Targets that machines propose because none fits them. The same proposal of several machines is one,"
        " with their number. The setting `proposals` says what becomes of them: `accept` makes the target at"
        " once, `ask` leaves it to these commands, `refuse` takes none."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="those that wait", allow_abbrev=False)
    listing.add_argument("--all", action="store_true", help="also those that were decided")
    listing.add_argument("--json", action="store_true", help="print it as JSON")
    accepting = actions.add_parser("accept", help="make the target", allow_abbrev=False)
    accepting.add_argument("--name", help="what to call it (default: after architecture, CPU and profile)")
    refusing = actions.add_parser("refuse", help="make no target, now or later", allow_abbrev=False)
    refusing.add_argument("--reason", metavar="TEXT", default="", help="what machines are told")
    for action in (accepting, refusing):
        action.add_argument("number", metavar="ID", type=int, help="the proposal, as `list` names it")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do it."""
    from bdcs.cli.existing import existing_store
    from bdcs.store.store import transaction

    with transaction(existing_store(settings, writing=arguments.action != "list")) as connection:
        _ACTIONS[arguments.action](connection, arguments)
    return EXIT_DONE


def _list(connection: Connection, arguments: argparse.Namespace) -> None:
    from bdcs.services import proposals
    from gentwoo_client.wire.records import format_time

    found = proposals.listed(connection, decided=arguments.all)
    if arguments.json:
        print(json.dumps({"proposals": [_document(proposed) for proposed in found]}, indent=2))
        return
    if not found:
        print("no proposal waits")
    for proposed in found:
        proposal = proposed.proposal
        many = f"{proposed.machines} machine{'' if proposed.machines == 1 else 's'}"
        since = format_time(proposed.created_at)
        print(f"{proposed.id:>4}  {_told(proposed)}, proposed by {many} since {since}")
        print(
            f"      {proposal.chost}, {proposal.profile}, ARCH {proposal.arch}, CPU {proposal.cpu or 'any'}"
        )
        print(f"      {proposal.cflags}")


def _told(proposed: Proposed) -> str:
    if proposed.target is not None:
        return f"{proposed.state}: target {proposed.target}"
    return f"{proposed.state}: {proposed.reason}" if proposed.reason else str(proposed.state)


def _document(proposed: Proposed) -> dict[str, object]:
    from gentwoo_client.wire.records import format_time

    return {
        "id": proposed.id,
        **proposed.proposal.to_json(),
        "state": str(proposed.state),
        "target": proposed.target,
        "reason": proposed.reason or None,
        "machines": proposed.machines,
        "created_at": format_time(proposed.created_at),
        "decided_at": None if proposed.decided_at is None else format_time(proposed.decided_at),
    }


def _accept(connection: Connection, arguments: argparse.Namespace) -> None:
    from bdcs.services import proposals

    target = proposals.accept(connection, arguments.number, now=time.time(), name=arguments.name)
    print(f"target {target.name}: {target.chost}, {target.profile}, {target.cflags}")
    print(f"nobody builds for it before `bdcs admin builders approve UUID --target {target.name}`")


def _refuse(connection: Connection, arguments: argparse.Namespace) -> None:
    from bdcs.services import proposals

    reason = " ".join(arguments.reason.split())
    if not reason.isprintable() or len(reason) > REASON_LENGTH:
        raise TargetRefused(f"a reason is one printable line of at most {REASON_LENGTH} characters")
    proposals.refuse(connection, arguments.number, now=time.time(), reason=reason)
    print(f"proposal {arguments.number} is refused")


_ACTIONS: dict[str, Callable[[Connection, argparse.Namespace], None]] = {
    "list": _list,
    "accept": _accept,
    "refuse": _refuse,
}
