# SPDX-License-Identifier: GPL-2.0-or-later
"""Who asks: the machine whose key signed a request's token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from bdcs.domain.machines import State
from bdcs.services import machines
from bdcs.services.answers import SignedRequest
from bdcs.services.machines import Keys, Machine
from gentwoo_client.wire.errors import AwaitingApproval, Quarantined, Refused
from gentwoo_client.wire.tokens import Token, verify_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Verifies tokens of whichever machine."""

    keys: Keys
    audience: str
    now: Callable[[], float]

    async def verified(self, request: SignedRequest, *, covers_body: bool = True) -> Token:
        """Return the token of a request. Raises `Unauthorized`, `Unregistered`, `Forgotten`.

        With `covers_body`, the token names the body's hash; an upload declares it in its address instead.
        """
        fetched: dict[UUID, bytes] = {}

        def key_of(machine: UUID) -> bytes:
            key = fetched.get(machine) or self.keys.known(machine)
            if key is None:
                raise _KeyWanted(machine)
            return key

        def verify() -> Token:
            return verify_token(
                request.token,
                public_key_of=key_of,
                audience=self.audience,
                method=request.method,
                url=request.url,
                body=request.body if covers_body else None,
                now=self.now(),
            )

        try:
            return verify()
        except _KeyWanted as wanted:
            fetched[wanted.machine] = await self.keys.of(wanted.machine)
        return verify()


def approved(connection: Connection, token: Token) -> Machine:
    """Return the machine. Raises `Unregistered`, `Forgotten`, or the `Forbidden` that says its state."""
    machine = machines.require(connection, token.sub)
    permit(machine.state)
    return machine


def permit(state: State) -> None:
    """Raise the `Forbidden` that says a machine's state, unless it is approved."""
    if state is State.AWAITING_APPROVAL:
        raise AwaitingApproval()
    if state is State.QUARANTINED:
        raise Quarantined()
    if state is State.REFUSED:
        raise Refused()


class _KeyWanted(Exception):
    """The token says that this machine signed it."""

    def __init__(self, machine: UUID) -> None:
        super().__init__(machine)
        self.machine = machine
