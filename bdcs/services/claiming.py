# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders that ask for work at the same time: one transaction for all, and each gets what he would alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bdcs.services import answers, builders, machines
from bdcs.services.answers import Answer, SignedRequest
from bdcs.services.authentication import permit
from bdcs.services.build_documents import BuildDocuments
from bdcs.services.jobs import Claimant, Jobs
from gentwoo_client.wire.build_messages import Claim
from gentwoo_client.wire.errors import Forbidden, Forgotten, Unregistered
from gentwoo_client.wire.tokens import Token


@dataclass(slots=True, kw_only=True, eq=False)
class Asking:
    """A builder that asks for a job."""

    signed: SignedRequest
    token: Token
    claim: Claim
    is_noted: bool = False
    """It was written down before that he is there."""
    is_gone: bool = False
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What became of it."""

    claimant: Claimant
    answer: Answer | None
    """None: there is nothing for him."""


def claim_all(book: Jobs, asking: Sequence[Asking], documents: BuildDocuments) -> list[Claimed | Exception]:
    """Give everybody the job whose turn it is, one after the other; who has gone gets none.

    Where somebody may not ask, the error that says why stands in the place of his answer.
    """
    known, drained = _claimants(book, asking)
    able = [(one, who) for one, who in zip(asking, known, strict=True) if isinstance(who, Claimant)]

    def do(fresh: Sequence[int]) -> Mapping[int, Answer]:
        wanting = {}
        for index in fresh:
            one, claimant = able[index]
            is_drained = (claimant.machine_id, claimant.name) in drained
            if not (one.claim.draining or one.is_gone or is_drained):
                wanting[index] = claimant
        return _leased(book, wanting, documents)

    asked = [(one.signed, one.token) for one, _ in able]
    outcomes = iter(answers.once_each(book.connection, asked, book.now, do))
    return [who if isinstance(who, Exception) else _outcome(who, next(outcomes)) for who in known]


def _leased(book: Jobs, wanting: Mapping[int, Claimant], documents: BuildDocuments) -> dict[int, Answer]:
    """Lease jobs, as far as there are some; return what those are told who got one."""
    if not wanting:
        return {}
    attempts = dict(zip(wanting, book.claim_all(list(wanting.values())), strict=True))
    leased = {index: attempt for index, attempt in attempts.items() if attempt is not None}
    told = documents.leases(book.connection, leased.values(), book.policy.lease)
    return {index: Answer(status=201, body=told[attempt.id]) for index, attempt in leased.items()}


def _claimants(
    book: Jobs, asking: Sequence[Asking]
) -> tuple[list[Claimant | Exception], set[tuple[int, str]]]:
    """Return who asks, or why he may not; and who of them gets nothing since somebody said so.

    Of whom it was not written down before that he is there, it is. Who has waited may have been stopped
    meanwhile, so all are asked for.
    """
    found = builders.known(book.connection, [one.token.sub for one in asking])
    known: list[Claimant | Exception] = []
    noted: list[tuple[int, Claim]] = []
    waited: list[int] = []
    for one in asking:
        try:
            machine = found.get(one.token.sub)
            if machine is None:
                raise machines.absent(book.connection, one.token.sub)
            permit(machine.state)
            may = machine.targets
            ids = tuple(may[name] for name in dict.fromkeys(one.claim.targets) if name in may)
            if not ids:
                raise Forbidden("this machine is no builder of these targets: `bdcs admin builders approve`")
        except (Forbidden, Forgotten, Unregistered) as error:
            known.append(error)
        else:
            known.append(Claimant(machine_id=machine.id, name=one.claim.name, target_ids=ids))
            if one.is_noted:
                waited.append(machine.id)
            else:
                noted.append((machine.id, one.claim))
    return known, builders.seen(book.connection, noted, book.now, waited)


def _outcome(claimant: Claimant, outcome: Answer | Exception | None) -> Claimed | Exception:
    return outcome if isinstance(outcome, Exception) else Claimed(claimant=claimant, answer=outcome)
