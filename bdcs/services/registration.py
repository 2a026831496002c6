# SPDX-License-Identifier: GPL-2.0-or-later
"""Registration, a machine's state, and being forgotten: requests that carry a token of the machine's key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from bdcs.domain.machines import State
from bdcs.domain.networks import Address, NetworkLimit
from bdcs.services import answers, forgetting, machines
from bdcs.services.answers import Answer, SignedRequest
from bdcs.services.machines import Keys
from bdcs.services.report_links import ReportLinks
from bdcs.store.store import Store
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import (
    Forgotten,
    RegistrationClosed,
    TooManyRequests,
    Unauthorized,
    Unregistered,
)
from gentwoo_client.wire.identity import machine_uuid
from gentwoo_client.wire.messages import Registration, parse_message
from gentwoo_client.wire.tokens import Token, verify_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrar:
    """Answers the requests of machines other than segments."""

    store: Store
    keys: Keys
    links: ReportLinks
    network_limit: NetworkLimit
    audience: str
    first_state: State | None
    """What a new machine begins as; None: no machine may register."""
    now: Callable[[], float]

    async def register(self, request: SignedRequest, address: Address | None) -> Answer:
        """Make the machine known: 201 new, 200 known, 202 awaiting approval.

        Raises `Malformed`, `Unauthorized`, `Forgotten`, `RegistrationClosed`, `TooManyRequests`,
        `TokenReused`.
        """
        public_key = parse_message(Registration, request.body, size=limits.REGISTRATION_SIZE).key
        machine = machine_uuid(public_key)
        token = self._verify(request, machine, public_key)
        if not await self.store.read(lambda connection: self._is_known(connection, machine)):
            if self.first_state is None:
                raise RegistrationClosed()
            wait = self.network_limit.take(address, self.now())
            if wait:
                most = self.network_limit.per_day
                raise TooManyRequests(
                    f"{most} machines of this network were registered today, as many as may be in a day",
                    retry_after=wait,
                    limit="registrations_per_network",
                    allowed=most,
                )

        def enrol(connection: Connection) -> Answer:
            return self._enrol(connection, machine, public_key)

        return await self.store.write(
            lambda connection: answers.once(connection, request, token, self.now(), enrol)
        )

    async def state(self, machine: UUID, request: SignedRequest) -> Answer:
        """Return what is known of the machine. Raises `Unregistered`, `Forgotten`, `Unauthorized`."""
        self._verify(request, machine, await self.keys.of(machine))
        found = await self.store.read(lambda connection: machines.require(connection, machine))
        return Answer(status=200, body=json.dumps(found.to_document()))

    async def forget(self, machine: UUID, request: SignedRequest) -> Answer:
        """Erase everything of the machine; 204.

        Raises `Unregistered`, `Forgotten`, `Unauthorized`, `TokenReused`.
        """

        def erase(connection: Connection) -> Answer:
            forgetting.forget(connection, machines.require(connection, machine))
            return Answer(status=204, body="")

        answer = await self._once(machine, request, erase)
        self.keys.drop(machine)
        return answer

    async def report_link(self, machine: UUID, request: SignedRequest) -> Answer:
        """Return a link to the machine's own page; 201.

        Raises `Unregistered`, `Forgotten`, `Unauthorized`, `TokenReused`.
        """

        def make(connection: Connection) -> Answer:
            machines.require(connection, machine)
            return Answer(status=201, body=json.dumps(self.links.make(machine, self.now())))

        return await self._once(machine, request, make)

    async def _once(
        self, machine: UUID, request: SignedRequest, do: Callable[[Connection], Answer]
    ) -> Answer:
        # A machine that was just erased has no key any more to verify a repeated token with; its answer is.
        now = self.now()
        before = await self.store.read(lambda connection: answers.earlier(connection, request, now))
        if before is not None:
            return before
        token = self._verify(request, machine, await self.keys.of(machine))
        return await self.store.write(
            lambda connection: answers.once(connection, request, token, self.now(), do)
        )

    def _verify(self, request: SignedRequest, machine: UUID, public_key: bytes) -> Token:
        def key_of(subject: UUID) -> bytes:
            if subject != machine:
                raise Unauthorized("the token is another machine's")
            return public_key

        return verify_token(
            request.token,
            public_key_of=key_of,
            audience=self.audience,
            method=request.method,
            url=request.url,
            body=request.body,
            now=self.now(),
        )

    def _is_known(self, connection: Connection, machine: UUID) -> bool:
        """Return whether it is registered. Raises `Forgotten` where it was erased."""
        if machines.find(connection, machine) is not None:
            return True
        absence = machines.absent(connection, machine)
        if isinstance(absence, Forgotten):
            raise absence
        assert isinstance(absence, Unregistered)
        return False

    def _enrol(self, connection: Connection, machine: UUID, public_key: bytes) -> Answer:
        status = 200
        if not self._is_known(connection, machine):
            if self.first_state is None:
                raise RegistrationClosed()
            status = 201
            machines.enrol(connection, machine, public_key, self.first_state, now=self.now())
        enrolled = machines.require(connection, machine)
        if enrolled.state == State.AWAITING_APPROVAL:
            status = 202
        return Answer(status=status, body=json.dumps(enrolled.to_document()))
