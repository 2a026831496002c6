# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers are repeated as long as their token is good, and do not stay beyond that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select

from bdcs.services import answers
from bdcs.services.answers import Answer, SignedRequest
from bdcs.store import schema, tables
from bdcs.store.store import Store
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import TokenReused
from gentwoo_client.wire.tokens import Token

NOW = 1_763_771_625
TOKEN = Token(sub=UUID(int=1), jti="0123456789abcdef", issued_at=NOW, expires_at=NOW + 60)
OVER = NOW + 60 + limits.TOKEN_LEEWAY + 1


def request(body: bytes = b"") -> SignedRequest:
    return SignedRequest(token="a.b.c", method="POST", url="https://collector.example/x", body=body)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "bdcs.sqlite")
    await store.write(schema.upgrade)
    try:
        yield store
    finally:
        await store.close()


async def once(store: Store, body: bytes = b"", text: str = "first") -> Answer:
    return await store.write(
        lambda connection: answers.once(
            connection, request(body), TOKEN, NOW, lambda _: Answer(status=201, body=text)
        )
    )


async def kept(store: Store) -> int:
    query = select(func.count()).select_from(tables.answers)
    return await store.read(lambda connection: connection.scalar(query) or 0)


async def test_a_request_is_obeyed_once(store: Store) -> None:
    assert await once(store) == await once(store, text="second") == Answer(status=201, body="first")
    with pytest.raises(TokenReused):
        await once(store, b"another body")


async def test_an_answer_is_over_with_its_token(store: Store) -> None:
    made = await once(store)
    assert await store.read(lambda connection: answers.earlier(connection, request(), OVER - 1)) == made
    assert await store.read(lambda connection: answers.earlier(connection, request(), OVER)) is None


async def test_nothing_of_it_stays(store: Store) -> None:
    await once(store)
    await answers.drop(store, OVER - 1)
    assert await kept(store) == 1
    await answers.drop(store, OVER)
    assert await kept(store) == 0
