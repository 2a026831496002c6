# SPDX-License-Identifier: GPL-2.0-or-later
"""Where no target fits: say why, and propose one if somebody agrees. For the commands that need a target."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from gentwoo_client.errors import (
    BinhostRefused,
    GentwooError,
    NotConfigured,
    ProposalWaits,
    TryLater,
    printable,
)
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.wire.proposals import Proposal
    from gentwoo_client.wire.targets import Target

Teller: TypeAlias = "Callable[[str], None]"

COMMAND = "gentwoo binhost propose"


def where_none_fits(arguments: argparse.Namespace, settings: Settings) -> None:
    """Before packages are asked for on a machine without a binhost: propose a target, where none fits.

    Raises `NotConfigured` once there is one, `BinhostRefused` or `ProposalWaits` where there is none. Where
    one fits already, or that cannot be told, nothing happens.
    """
    import asyncio

    from gentwoo_client.binhost import choosing
    from gentwoo_client.binhost.portage_facts import read_portage
    from gentwoo_client.collector_api import PublicAPI

    async def ask() -> tuple[Target, ...]:
        async with PublicAPI(collector) as api:
            return await api.targets()

    collector = choosing.collector_of(settings)
    machine = choosing.this_machine(read_portage(settings), settings.eprefix)
    try:
        fits = choosing.judged(machine, asyncio.run(ask()))
    except TryLater:
        return
    try:
        choosing.candidates(fits)
    except choosing.NoneFits as reason:
        name = offer(arguments, settings, collector, reason, _tell)
        raise NotConfigured(
            f"there is a target for this machine now, {name}, but Portage takes no packages of it yet",
            advice="run `gentwoo binhost setup`, and this again",
        ) from None


def offer(
    arguments: argparse.Namespace,
    settings: Settings,
    collector: str,
    reason: BinhostRefused,
    tell: Teller,
) -> str:
    """Propose a target, if somebody agrees, and return the name of the one that was made.

    Raises `reason`, why there is none so far, where nobody agrees; `ProposalWaits` where an administrator is
    asked; `BinhostRefused` where it is refused.
    """
    if not settings.state_dir.exists():
        raise BinhostRefused(
            str(reason),
            advice="register (`gentwoo register`), and this machine may propose one: run this again",
        ) from None
    from gentwoo_client.binhost.proposing import proposal_here

    try:
        proposal = proposal_here(settings)
    except BinhostRefused as error:
        raise BinhostRefused(f"{reason}; and {error}", advice=error.advice) from None
    tell(f"{str(reason)[:1].upper()}{str(reason)[1:]}.")
    _agree(arguments, collector, proposal, reason, tell)
    return send(settings, collector, proposal)


def send(settings: Settings, collector: str, proposal: Proposal) -> str:
    """Propose it; return the name of the target that was made. Raises `ProposalWaits`, `BinhostRefused`."""
    from gentwoo_client.binhost.proposing import propose
    from gentwoo_client.privileges import do_as_owner

    told = do_as_owner(settings.state_dir, lambda: propose(settings, collector, proposal))
    if told["state"] == "accepted" and told["target"] is not None:
        return told["target"]
    if told["state"] == "waiting":
        raise ProposalWaits(
            f"a target for this machine was proposed to {collector}; an administrator there decides",
            advice="run `gentwoo binhost setup` when it is there; proposing it again tells how it stands",
        )
    why = f": {printable(told['reason'])}" if told["reason"] else ""
    raise BinhostRefused(f"{collector} makes no target for this machine{why}", advice="ask its operator")


def _agree(
    arguments: argparse.Namespace,
    collector: str,
    proposal: Proposal,
    reason: BinhostRefused,
    tell: Teller,
) -> None:
    """Show what would be told; return if that is agreed to, raise `reason` if not."""
    tell(f"One that does can be proposed to {collector}, which would be told, of this machine:")
    tell(json.dumps(proposal.to_json()))
    if arguments.yes:
        return
    if getattr(arguments, "non_interactive", False) or not sys.stdin.isatty():
        raise BinhostRefused(
            "no target fits, and nobody is here to say whether one is to be proposed",
            advice=f"to propose it, run `{COMMAND} --yes`",
        )
    print("Propose it? [Y/n] ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line or line.strip().lower() not in ("", "y", "yes"):
        raise GentwooError("nothing was proposed, and no target fits", advice=reason.advice)


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
