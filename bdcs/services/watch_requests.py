# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches of machines: requests that their key signed, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from bdcs.domain.webhooks import told_secret
from bdcs.services import answers, watches
from bdcs.services.answers import Answer, SignedRequest
from bdcs.services.authentication import Authenticator, approved
from bdcs.services.machines import Machine
from bdcs.services.watches import Watch
from bdcs.store.store import Store
from gentwoo_client.wire.errors import NotFound, Unauthorized
from gentwoo_client.wire.limits import REQUEST_SIZE
from gentwoo_client.wire.messages import WatchRequest, parse_message
from gentwoo_client.wire.records import format_time
from gentwoo_client.wire.tokens import Token


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequests:
    """Answers machines about their watches."""

    store: Store
    authenticator: Authenticator
    public_url: str
    now: Callable[[], float]

    async def add(self, machine: UUID, request: SignedRequest) -> Answer:
        """Have the machine watch a package; 201.

        Raises `Malformed`, `TooManyRequests`, and what the token is refused for.
        """
        token = await self._verified(machine, request)
        wish = parse_message(WatchRequest, request.body, size=REQUEST_SIZE)

        def work(connection: Connection, mine: Machine) -> Answer:
            watch = watches.add(connection, mine.id, wish.package, wish.topics, wish.webhook, self.now())
            secret = None if watch.secret is None else told_secret(watch.secret)
            document = {**document_of(connection, watch), "feed": self.feed(watch), "secret": secret}
            return Answer(status=201, body=json.dumps(document))

        return await self._once(request, token, work)

    async def listed(self, machine: UUID, request: SignedRequest) -> Answer:
        """Return the machine's watches. Raises what the token is refused for."""
        token = await self._verified(machine, request)

        def work(connection: Connection) -> Answer:
            mine = watches.of(connection, approved(connection, token).id)
            document = {
                "feed": self.feed(mine[0]) if mine else None,
                "watches": [document_of(connection, watch) for watch in mine],
            }
            return Answer(status=200, body=json.dumps(document))

        return await self.store.read(work)

    async def remove(self, machine: UUID, watch: str, request: SignedRequest) -> Answer:
        """Have the machine watch no longer; 204. Raises `NotFound`, and what the token is refused for."""
        token = await self._verified(machine, request)

        def work(connection: Connection, mine: Machine) -> Answer:
            if not watches.remove(connection, mine.id, watch):
                raise NotFound("this machine has no such watch")
            return Answer(status=204, body="")

        return await self._once(request, token, work)

    def feed(self, watch: Watch) -> str:
        """Return the address of its owner's feed."""
        return f"{self.public_url}/watch/{watch.feed}.atom"

    async def _verified(self, machine: UUID, request: SignedRequest) -> Token:
        token = await self.authenticator.verified(request)
        if token.sub != machine:
            raise Unauthorized("the token is another machine's")
        return token

    async def _once(
        self, request: SignedRequest, token: Token, do: Callable[[Connection, Machine], Answer]
    ) -> Answer:
        def work(connection: Connection) -> Answer:
            return answers.once(
                connection,
                request,
                token,
                self.now(),
                lambda inner: do(inner, approved(inner, token)),
            )

        return await self.store.write(work)


def document_of(connection: Connection, watch: Watch) -> dict[str, object]:
    """Return what the owner of a watch is told of it."""
    delivered = watches.delivered(connection, watch.id)
    return {
        "id": watch.id,
        "package": watch.package,
        "topics": sorted(watch.topics),
        "webhook": watch.webhook,
        "created_at": format_time(watch.created_at),
        "waiting": delivered.waiting,
        "delivered_at": None if delivered.delivered_at is None else format_time(delivered.delivered_at),
        "problem": delivered.problem,
    }
