# SPDX-License-Identifier: GPL-2.0-or-later
"""Tokens of private targets: what Portage sends as HTTP basic; the name is the user, the token the password.

Both are of letters, digits and `._~-` only: Portage neither encodes nor decodes them, and a `%` in
binrepos.conf ends it with a traceback (reference/binhost.md §1.1). Only a hash of a token is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, select

from bdcs.errors import NoSuchToken, TargetRefused, TokenExists
from bdcs.services.targets import Target
from bdcs.store.tables import tokens

TOKEN_SIZE: Final = 24  # bytes of randomness
NAME_LENGTH: Final = 64  # characters

_WORD: Final = re.compile(r"[A-Za-z0-9._~-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token that was given out."""

    name: str
    created_at: int
    """Unix seconds."""


def create(connection: Connection, target: Target, name: str, *, now: float) -> str:
    """Give out a token under `name` and return it; it cannot be had again.

    Raises `TokenExists`, `TargetRefused` where `name` is none.
    """
    if not _WORD.fullmatch(name) or len(name) > NAME_LENGTH:
        raise TargetRefused(f"{name!r} is no name for a token: up to {NAME_LENGTH} letters, digits and ._~-")
    if name in (token.name for token in listed(connection, target)):
        raise TokenExists(target.name, name)
    token = secrets.token_urlsafe(TOKEN_SIZE)
    connection.execute(
        tokens.insert().values(target_id=target.id, name=name, hash=hash_of(token), created_at=int(now))
    )
    return token


def listed(connection: Connection, target: Target) -> list[Token]:
    """Return the tokens of a target, the oldest first."""
    rows = connection.execute(
        select(tokens.c.name, tokens.c.created_at)
        .where(tokens.c.target_id == target.id)
        .order_by(tokens.c.id)
    )
    return [Token(name=name, created_at=created_at) for name, created_at in rows]


def revoke(connection: Connection, target: Target, name: str) -> None:
    """Let a token count no longer. Raises `NoSuchToken`."""
    done = connection.execute(delete(tokens).where(tokens.c.target_id == target.id, tokens.c.name == name))
    if not done.rowcount:
        raise NoSuchToken(target.name, name)


def accepts(connection: Connection, target: Target, name: str, token: str) -> bool:
    """Whether `token` is the one of that name; how long this takes does not depend on how much of it is."""
    found = connection.scalar(
        select(tokens.c.hash).where(tokens.c.target_id == target.id, tokens.c.name == name)
    )
    return hmac.compare_digest(found or b"", hash_of(token))


def counts(connection: Connection, target: Target, hashed: bytes) -> bool:
    """Whether a token of that hash (`hash_of`) still counts."""
    same = (tokens.c.target_id == target.id, tokens.c.hash == hashed)
    return connection.scalar(select(tokens.c.id).where(*same)) is not None


def hash_of(token: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).digest()
