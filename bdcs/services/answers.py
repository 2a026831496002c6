# SPDX-License-Identifier: GPL-2.0-or-later
"""A request token permits one request: repeating it repeats the answer and does nothing twice."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import BigInteger, BindParameter, ColumnElement, Connection, bindparam, delete, select

from bdcs.errors import StoreUnavailable
from bdcs.services.regular_work import regularly
from bdcs.store.bulk import insert_rows, matching_rows
from bdcs.store.slices import slices
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

    def do_it(fresh: Sequence[int]) -> dict[int, Answer]:
        return {index: do(connection) for index in fresh}

    (answer,) = once_each(connection, [(request, token)], now, do_it)
    if isinstance(answer, TokenReused):
        raise answer
    assert answer is not None
    return answer


def once_each(
    connection: Connection,
    asked: Sequence[tuple[SignedRequest, Token]],
    now: float,
    do: Callable[[Sequence[int]], Mapping[int, Answer]],
) -> list[Answer | TokenReused | None]:
    """Do for many requests what `once` does for one; what it raises stands in the place of the answer.

    `do` gets the indexes of those that were not answered before, and returns answers of some of them; for
    the others nothing is kept, and None is returned.
    """
    numbers = [_number(token) for _, token in asked]
    digests = [request.digest() for request, _ in asked]
    # As long as a token is accepted, its answer is kept. `drop_those_over` drops the others.
    kept: dict[bytes, tuple[bytes, Answer]] = {}
    for some in slices(numbers):
        found = matching_rows(connection, answers.c.expires_at, (answers.c.id,), some)
        there = [number for _, number in found]
        if there:
            connection.execute(_DROP, {"ids": there, "now": int(now)})
            for number, request, status, body in connection.execute(_KEPT, {"ids": there}).all():
                kept[number] = (request, Answer(status=status, body=body))
    first: dict[bytes, int] = {}
    for index, number in enumerate(numbers):
        if number not in kept:
            first.setdefault(number, index)
    rows = []
    for index, answer in (do(list(first.values())) if first else {}).items():
        kept[numbers[index]] = (digests[index], answer)
        expires_at = asked[index][1].expires_at
        rows.append((numbers[index], digests[index], expires_at, answer.status, answer.body))
    insert_rows(connection, answers, rows)
    return [_kept(kept.get(number), digest) for number, digest in zip(numbers, digests, strict=True)]


def _kept(known: tuple[bytes, Answer] | None, request: bytes) -> Answer | TokenReused | None:
    if known is None:
        return None
    kept, answer = known
    return answer if kept == request else TokenReused()


def _number(token: Token) -> bytes:
    """Return the hash of the machine and the number that it gave its request."""
    return hashlib.sha256(f"{token.sub}:{token.jti}".encode()).digest()


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


def _is_over(now: float | BindParameter[int]) -> ColumnElement[bool]:
    moment = now if isinstance(now, BindParameter) else int(now)
    return answers.c.expires_at + limits.TOKEN_LEEWAY < moment


_THESE: Final = answers.c.id.in_(bindparam("ids", expanding=True))
_DROP: Final = delete(answers).where(_THESE, _is_over(bindparam("now", type_=BigInteger)))
_KEPT: Final = select(answers.c.id, answers.c.request, answers.c.status, answers.c.body).where(_THESE)
