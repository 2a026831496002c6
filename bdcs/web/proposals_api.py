# SPDX-License-Identifier: GPL-2.0-or-later
"""The API of proposals: a machine that fits no target says which one would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from bdcs.services.proposals import Proposing
from bdcs.web.bodies import require_type, signed_request
from bdcs.web.builds_api import TOKEN_PROBLEMS
from bdcs.web.openapi import Operation
from bdcs.web.operations import JSON, response_of, route
from gentwoo_client.wire import limits
from gentwoo_client.wire.build_messages import ProposalState, TargetProposal
from gentwoo_client.wire.messages import parse_message
from gentwoo_client.wire.proposals import Proposal

OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/v1/targets/proposals",
        name="propose",
        summary="Propose a target, since none fits",
        token=True,
        request=(JSON, TargetProposal),
        answers={201: ProposalState, 200: ProposalState},
        problems=(*TOKEN_PROBLEMS, 408, 409, 413, 415, 429),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalsAPI:
    """Proposing targets."""

    proposing: Proposing
    public_url: str

    def add_to(self, app: web.Application) -> None:
        """Route every operation to the method of its name."""
        route(app, OPERATIONS, self)

    async def propose(self, request: web.Request) -> web.Response:
        """POST a proposal."""
        require_type(request, JSON)
        signed = await signed_request(request, self.public_url, limits.PROPOSAL_SIZE)
        message = parse_message(TargetProposal, signed.body, size=limits.PROPOSAL_SIZE)
        proposal = Proposal.from_json(message.model_dump())
        return response_of(await self.proposing.propose(signed, proposal))
