# SPDX-License-Identifier: GPL-2.0-or-later
"""Proposing a target to the collector, where none fits this machine: what it is told, and what it answers."""

from __future__ import annotations

import asyncio
from typing import TypedDict

from pydantic import ValidationError

from gentwoo_client.collector_api import CollectorAPI
from gentwoo_client.errors import BinhostRefused, CollectorBroken, NotConfigured
from gentwoo_client.machine_key import MachineKey
from gentwoo_client.portage.parameters import read_parameters
from gentwoo_client.registration import open_registration
from gentwoo_client.settings import Settings
from gentwoo_client.wire.build_messages import ProposalState
from gentwoo_client.wire.errors import InvalidParameter
from gentwoo_client.wire.proposals import Proposal, cpu_of

PATH = "/v1/targets/proposals"


class Told(TypedDict):
    """What the collector answered; JSON, for a process that may be root (`privileges.do_as_owner`)."""

    state: str
    """`accepted`, `waiting` or `refused`."""
    target: str | None
    reason: str | None


def proposal_here(settings: Settings) -> Proposal:
    """Return the target that would fit this machine.

    Raises `BinhostRefused` where no collector may make it, and what `read_parameters` raises.
    """
    document = read_parameters(settings).document
    cflags = str(document["cflags"])
    if document["profile"] is None:
        raise BinhostRefused(
            "no target can be made for this machine: its profile is one of its own, of several parents",
            advice="choose one of a repository with `eselect profile`",
        )
    parameters = {name: document[name] for name in ("chost", "arch", "profile")}
    try:
        return Proposal.from_json({**parameters, "cflags": cflags, "cpu": cpu_of(cflags)})
    except InvalidParameter as error:
        raise BinhostRefused(
            f"no target can be made for this machine: {error.detail}",
            advice="`gentwoo parameters` shows what packages are built with here",
        ) from None


def propose(settings: Settings, collector: str, proposal: Proposal) -> Told:
    """Propose it to `collector`, as the state directory's owner; return what becomes of it.

    Raises `NotRegistered`, `NotConfigured` where this machine is registered elsewhere, and what
    `CollectorAPI` raises.
    """
    registration, key = open_registration(settings)
    if registration.collector != collector:
        raise NotConfigured(
            f"this machine is registered with {registration.collector}, not with {collector}",
            advice="only the collector that knows this machine takes its proposals",
        )
    return asyncio.run(_send(collector, key, proposal))


async def _send(collector: str, key: MachineKey, proposal: Proposal) -> Told:
    from json import dumps

    async with CollectorAPI(collector, key) as api:
        answer = await api.request("POST", PATH, body=dumps(proposal.to_json()).encode())
    try:
        state = ProposalState.model_validate(answer.document)
    except ValidationError:
        raise CollectorBroken(f"{collector}: the answer to a proposal is not understood") from None
    return Told(state=state.state, target=state.target, reason=state.reason)
