# SPDX-License-Identifier: GPL-2.0-or-later
"""A request token permits one request: repeating it repeats the answer and does nothing twice."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, select

from bdcs.errors import StoreUnavailable
from bdcs.services.regular_work import regularly
from bdcs.store.store import Store
from bdcs.store.tables import answers
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import TokenReused
from gentwoo_client.wire.tokens import Token

log = logging.getLogger(__name__)

INTERVAL: Final = 60.0  # seconds from one look for answers that are over to the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was, or is to be, answered."""

    status: int
    body: str
    """JSON; empty where the answer has no body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """A request as its token must describe it."""

    token: str
    method: str
    url: str
    """All of it, with query, as the client sees it."""
    body: bytes

    def digest(self) -> bytes:
        """Return a hash that only the very same request has."""
        head = "\n".join((self.token, self.method, self.url)).encode("utf-8", "surrogateescape")
        return hashlib.sha256(hashlib.sha256(head).digest() + hashlib.sha256(self.body).digest()).digest()


def earlier(connection: Connection, request: SignedRequest, now: float) -> Answer | None:
    """Return the answer that this very request got before, as long as its token is good."""
    same = answers.c.request == request.digest()
    row = connection.execute(select(answers).where(same, ~_is_over(now))).first()
    return None if row is None else Answer(status=row.status, body=row.body)


def once(
    connection: Connection,
    request: SignedRequest,
    token: Token,
    now: float,
    do: Callable[[Connection], Answer],
) -> Answer:
    """Return the answer of `do`, and keep it; or return the one that was kept before.

    All in the transaction of `connection`. Raises `TokenReused` where the machine used the token's `jti` for
    another request; and whatever `do` raises, in which case nothing is kept.
    """
    # As long as a token is accepted, its answer is kept.
    connection.execute(delete(answers).where(_is_over(now)))
    number = hashlib.sha256(f"{token.sub}:{token.jti}".encode()).digest()
    known = connection.execute(select(answers).where(answers.c.id == number)).first()
    if known is not None:
        if known.request != request.digest():
            raise TokenReused()
        return Answer(status=known.status, body=known.body)
    answer = do(connection)
    connection.execute(
        answers.insert().values(
            id=number,
            request=request.digest(),
            expires_at=token.expires_at,
            status=answer.status,
            body=answer.body,
        )
    )
    return answer


async def drop_those_over(store: Store) -> None:
    """Delete answers that are over, every `INTERVAL` seconds until cancelled: they name machines."""
    await regularly(
        lambda: drop(store, time.time()),
        name="answers",
        seconds=INTERVAL,
        passing=StoreUnavailable,
        tell=partial(log.warning, "old answers were not deleted: %s"),
    )


async def drop(store: Store, now: float) -> None:
    """Delete answers that are over at `now`; without any, nothing is written."""
    over = _is_over(now)
    if await store.read(lambda connection: connection.scalar(select(answers.c.id).where(over).limit(1))):
        await store.write(lambda connection: connection.execute(delete(answers).where(over)))


def _is_over(now: float) -> ColumnElement[bool]:
    return answers.c.expires_at + limits.TOKEN_LEEWAY < int(now)
