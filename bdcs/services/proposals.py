# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets that machines propose, since none fits them: the same by many is one proposal.

The operator's policy (`domain.proposals.Policy`) says whether the target is made at once, or an administrator
is asked. How many machines propose it is for administrators only: one machine's parameters are nobody else's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, desc, func, select, update

from bdcs.domain.proposals import Policy, State, name_for
from bdcs.errors import NoSuchProposal, ProposalDecided
from bdcs.services import answers, targets
from bdcs.services.answers import Answer, SignedRequest
from bdcs.services.authentication import Authenticator, approved
from bdcs.services.machines import Machine
from bdcs.services.targets import Target
from bdcs.store import tables
from bdcs.store.store import Store
from bdcs.store.tables import target_proposals, target_proposers
from bdcs.store.upserts import upsert
from gentwoo_client.wire.errors import TooManyRequests
from gentwoo_client.wire.proposals import Proposal

log = logging.getLogger(__name__)

PERIOD: Final = 7 * 86400  # seconds
PER_MACHINE: Final = 4  # different proposals of one machine in that time
WAITING: Final = 1000  # proposals that wait for an administrator
ACCEPTED: Final = 32  # targets that are made in that time without asking anybody
TARGETS: Final = 200  # … and as long as there are fewer than these
RETRY_AFTER: Final = 86400  # seconds
NONE_TAKEN: Final = "this collector takes no proposals"
DESCRIPTION: Final = "proposed by machines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a machine is told of its proposal."""

    state: State
    target: str | None = None
    reason: str | None = None
    is_new: bool = False

    def to_answer(self) -> Answer:
        """The answer (`wire.build_messages.ProposalState`)."""
        document = {"state": str(self.state), "target": self.target, "reason": self.reason}
        return Answer(status=201 if self.is_new else 200, body=json.dumps(document))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A proposal, as administrators see it."""

    id: int
    proposal: Proposal
    state: State
    target: str | None
    reason: str
    created_at: int
    """Unix seconds."""
    decided_at: int | None
    machines: int
    """How many propose it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposing:
    """Answers machines that propose targets."""

    store: Store
    authenticator: Authenticator
    policy: Policy
    now: Callable[[], float]

    async def propose(self, signed: SignedRequest, proposal: Proposal) -> Answer:
        """Take a proposal: 201 where there was none of that kind, else 200.

        Raises `Unauthorized`, `TokenReused`, `TooManyRequests`, and what `approved` raises.
        """
        token = await self.authenticator.verified(signed)

        def work(connection: Connection) -> Answer:
            def do(connection: Connection) -> Answer:
                machine = approved(connection, token)
                return propose(connection, machine, proposal, self.policy, now=int(self.now())).to_answer()

            return answers.once(connection, signed, token, self.now(), do)

        return await self.store.write(work)


def propose(
    connection: Connection, machine: Machine, proposal: Proposal, policy: Policy, *, now: int
) -> Outcome:
    """Take the machine's proposal. Raises `TooManyRequests`."""
    target = _like(connection, proposal)
    if target is not None:
        return Outcome(state=State.ACCEPTED, target=target.name)
    known = _known(connection, proposal)
    if policy is Policy.REFUSE and known is None:
        return Outcome(state=State.REFUSED, reason=NONE_TAKEN)
    _check_limits(connection, machine, None if known is None else known.id, now)
    number = _add(connection, proposal, now) if known is None else known.id
    _sign(connection, number, machine, now)
    if known is not None and known.state is State.ACCEPTED:  # a private target, or changed since
        return Outcome(state=State.ACCEPTED, target=known.target)
    if known is not None and known.state is State.REFUSED:
        return Outcome(state=State.REFUSED, reason=known.reason or None)
    if policy is Policy.ACCEPT and _may_accept(connection, now):
        made = accept(connection, number, now=now)
        log.info("target %s was made: a machine proposed it", made.name)
        return Outcome(state=State.ACCEPTED, target=made.name, is_new=known is None)
    if policy is Policy.REFUSE:
        return Outcome(state=State.REFUSED, reason=NONE_TAKEN)
    if known is None:
        log.info("a machine proposes a target: `bdcs admin proposals list` shows it")
    return Outcome(state=State.WAITING, is_new=known is None)


def listed(connection: Connection, *, decided: bool = False) -> list[Proposed]:
    """Return the proposals that wait, or all: what most machines propose comes first."""
    query = _ALL if decided else _ALL.where(target_proposals.c.state == State.WAITING)
    return [_proposed(row) for row in connection.execute(query)]


def require(connection: Connection, number: int) -> Proposed:
    """Return the proposal of that number. Raises `NoSuchProposal`."""
    row = connection.execute(_ALL.where(target_proposals.c.id == number)).first()
    if row is None:
        raise NoSuchProposal(number)
    return _proposed(row)


def accept(connection: Connection, number: int, *, now: float, name: str | None = None) -> Target:
    """Make the target, by that name or one that says what it is for, and return it; or the one that is there.

    Raises `NoSuchProposal`, `ProposalDecided` where it was accepted, `TargetExists`, `TargetRefused`.
    """
    proposed = require(connection, number)
    if proposed.state is State.ACCEPTED:
        raise ProposalDecided(number, f"accepted: its target is {proposed.target}")
    proposal = proposed.proposal
    target = _like(connection, proposal) if name is None else None
    if target is None:
        others = targets.listed(connection)
        target = targets.add(
            connection,
            name or name_for(proposal, {other.name for other in others}),
            now=now,
            chost=proposal.chost,
            profile=proposal.profile,
            cflags=proposal.cflags,
            cpu=proposal.cpu,
            description=DESCRIPTION,
            header=_header(others, proposal),
        )
    _decide(connection, number, State.ACCEPTED, target_id=target.id, reason="", now=now)
    return target


def refuse(connection: Connection, number: int, *, now: float, reason: str = "") -> None:
    """Make no target; who proposes it is told, with `reason`. Raises `NoSuchProposal`, `ProposalDecided`."""
    proposed = require(connection, number)
    if proposed.state is State.ACCEPTED:
        raise ProposalDecided(number, f"accepted: remove its target {proposed.target} instead")
    _decide(connection, number, State.REFUSED, target_id=None, reason=reason, now=now)


def machine_leaves(connection: Connection, machine: Machine) -> None:
    """Take back what the machine proposes; what nobody else does is gone, unless it is a target."""
    connection.execute(delete(target_proposers).where(target_proposers.c.machine_id == machine.id))
    others = select(target_proposers.c.proposal_id)
    connection.execute(
        delete(target_proposals).where(
            target_proposals.c.id.not_in(others), target_proposals.c.state != State.ACCEPTED
        )
    )


_ALL: Final = (
    select(
        target_proposals,
        tables.targets.c.name.label("target"),
        select(func.count())
        .where(target_proposers.c.proposal_id == target_proposals.c.id)
        .scalar_subquery()
        .label("machines"),
    )
    .join(tables.targets, tables.targets.c.id == target_proposals.c.target_id, isouter=True)
    .order_by(func.coalesce(target_proposals.c.decided_at, 0), desc("machines"), target_proposals.c.id)
)


def _proposed(row: Row[*tuple[Any, ...]]) -> Proposed:
    values = row._mapping
    return Proposed(
        id=values["id"],
        proposal=Proposal(
            chost=values["chost"],
            arch=values["arch"],
            profile=values["profile"],
            cflags=values["cflags"],
            cpu=values["cpu"],
        ),
        state=State(values["state"]),
        target=values["target"],
        reason=values["reason"],
        created_at=values["created_at"],
        decided_at=values["decided_at"],
        machines=values["machines"],
    )


def _known(connection: Connection, proposal: Proposal) -> Proposed | None:
    row = connection.execute(_ALL.where(target_proposals.c.digest == proposal.digest())).first()
    return None if row is None else _proposed(row)


def _like(connection: Connection, proposal: Proposal) -> Target | None:
    """Return a target for everybody that is just what is proposed."""
    for target in targets.listed(connection):
        there = Proposal(
            chost=target.chost, arch=proposal.arch, profile=target.profile, cflags=target.cflags, cpu=""
        )
        if not target.private and there.digest() == proposal.digest():
            return target
    return None


def _check_limits(connection: Connection, machine: Machine, number: int | None, now: int) -> None:
    """Raise `TooManyRequests` where the machine proposes more than one may, or too much waits."""
    mine = target_proposers.c.machine_id == machine.id
    recent = target_proposers.c.proposed_at > now - PERIOD
    others = select(func.count()).where(mine, recent, target_proposers.c.proposal_id != (number or 0))
    if connection.execute(others).scalar_one() >= PER_MACHINE:
        raise TooManyRequests(
            f"this machine proposed {PER_MACHINE} different targets within a week, as many as one may",
            retry_after=RETRY_AFTER,
        )
    waiting = select(func.count()).where(target_proposals.c.state == State.WAITING)
    if number is None and connection.execute(waiting).scalar_one() >= WAITING:
        raise TooManyRequests("too many proposals wait for an administrator", retry_after=RETRY_AFTER)


def _may_accept(connection: Connection, now: int) -> bool:
    """Whether one more target may be made without asking anybody."""
    recent = (target_proposals.c.state == State.ACCEPTED) & (target_proposals.c.decided_at > now - PERIOD)
    made = connection.execute(select(func.count()).where(recent)).scalar_one()
    there = connection.execute(select(func.count()).select_from(tables.targets)).scalar_one()
    return made < ACCEPTED and there < TARGETS


def _add(connection: Connection, proposal: Proposal, now: int) -> int:
    values = {"digest": proposal.digest(), "state": State.WAITING, "reason": "", "created_at": now}
    done = connection.execute(target_proposals.insert().values(**proposal.to_json(), **values))
    assert done.inserted_primary_key is not None
    number: int = done.inserted_primary_key[0]
    return number


def _sign(connection: Connection, number: int, machine: Machine, now: int) -> None:
    """Note that the machine proposes it."""
    row = upsert(target_proposers).values(proposal_id=number, machine_id=machine.id, proposed_at=now)
    connection.execute(
        row.on_conflict_do_update(
            index_elements=["proposal_id", "machine_id"], set_={"proposed_at": row.excluded.proposed_at}
        )
    )


def _decide(
    connection: Connection, number: int, state: State, *, target_id: int | None, reason: str, now: float
) -> None:
    connection.execute(
        update(target_proposals)
        .where(target_proposals.c.id == number)
        .values(state=str(state), target_id=target_id, reason=reason, decided_at=int(now))
    )


def _header(others: list[Target], proposal: Proposal) -> dict[str, str]:
    """What the index says of how packages are built: as another target with that profile has it."""
    for other in others:
        if (other.chost, other.profile) == (proposal.chost, proposal.profile) and other.header:
            return dict(other.header)
    return {"ARCH": proposal.arch}
