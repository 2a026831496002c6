# SPDX-License-Identifier: GPL-2.0-or-later
"""Request tokens: a JWT by the machine's key that permits one request and nothing else."""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gentwoo_client.wire import base64url, json_text, jws, limits
from gentwoo_client.wire.errors import BadSignature, Malformed, TooLarge, Unauthorized, WrongTime

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TOKEN_TYPE: Final = "gentwoo-request+jwt"
"""Explicit typing (RFC 8725 §3.11): no segment passes for a token and no token for a segment."""

_JTI = re.compile(rf"[A-Za-z0-9_-]{{{limits.TOKEN_ID_MIN},{limits.TOKEN_ID_MAX}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token that was verified."""

    sub: uuid.UUID
    """The machine that asks."""
    jti: str
    """Names this request: the same one again must get the same answer and do nothing twice."""
    issued_at: int
    """Unix seconds."""
    expires_at: int
    """Unix seconds."""


def make_token(
    private_key: Ed25519PrivateKey,
    *,
    machine: uuid.UUID,
    audience: str,
    method: str,
    url: str,
    body: bytes | None,
    now: float,
    jti: str | None = None,
) -> str:
    """A token for one request: `method` (upper case) to `url` (all of it, with query) with exactly `body`.

    `b""` is a request without body; None leaves the body open, which only uploads of packages may (their
    query says the hashes). `now` is Unix seconds by the collector's clock as far as known.
    """
    import jwt

    claims: dict[str, object] = {
        "sub": str(machine),
        "aud": audience,
        "htm": method,
        "htu": url,
        "jti": jti or secrets.token_urlsafe(16),
        "iat": int(now),
        "exp": int(now) + limits.TOKEN_LIFETIME,
    }
    if body is not None:
        claims["bd"] = body_digest(body)
    return jwt.encode(
        claims, private_key, algorithm=jws.ALGORITHM, headers={"typ": TOKEN_TYPE, "kid": str(machine)}
    )


def verify_token(
    token: str,
    *,
    public_key_of: Callable[[uuid.UUID], bytes],
    audience: str,
    method: str,
    url: str,
    body: bytes | None,
    now: float,
    leeway: float = limits.TOKEN_LEEWAY,
) -> Token:
    """What `token` proves: that this machine wants this very request, now.

    `public_key_of` gives the raw key of a machine, or raises (`Unregistered`, say), which goes through.
    `body` None means that the token must not bind a body either.
    Raises `Unauthorized`; `WrongTime` where nothing but the time is wrong.
    """
    # (1) The form: three parts, and a header of exactly alg, typ and kid.
    try:
        parts = jws.split(token.encode("ascii"), kind=TOKEN_TYPE, size=limits.TOKEN_SIZE)
    except (Malformed, TooLarge, UnicodeEncodeError) as error:
        raise Unauthorized(f"not a token: {error}") from None
    # (2) The machine's key signed it. `BadSignature` would be a 400; of a token it is a 401.
    public_key = public_key_of(parts.kid)
    try:
        jws.verify(parts, public_key)
    except BadSignature as error:
        raise Unauthorized(f"the token: {error}") from None
    # (3) Only now do the claims become data.
    try:
        claims = json_text.load_object(parts.payload)
    except Malformed as error:
        raise Unauthorized(f"the token's claims: {error}") from None
    # (4) It is for this request: machine, collector, method, URL, body.
    _expect(claims, "sub", str(parts.kid))
    _expect(claims, "aud", audience)
    _expect(claims, "htm", method)
    _expect(claims, "htu", url)
    _expect(claims, "bd", None if body is None else body_digest(body))
    jti = claims.get("jti")
    if not isinstance(jti, str) or not _JTI.fullmatch(jti):
        raise Unauthorized("the token's jti is not 16 to 64 characters of base64url")
    # (5) It is for now.
    issued_at, expires_at = _seconds(claims, "iat"), _seconds(claims, "exp")
    if not 0 < expires_at - issued_at <= limits.TOKEN_LIFETIME:
        raise Unauthorized(f"the token lives longer than {limits.TOKEN_LIFETIME} seconds, or not at all")
    if not issued_at - leeway <= now < expires_at + leeway:
        raise WrongTime(f"the token is for {issued_at} to {expires_at}, and it is {int(now)} here")
    return Token(sub=parts.kid, jti=jti, issued_at=issued_at, expires_at=expires_at)


def body_digest(body: bytes) -> str:
    """base64url SHA-256 of a request's body as sent: the claim `bd`."""
    return base64url.encode(hashlib.sha256(body).digest())


def _expect(claims: Mapping[str, object], name: str, expected: str | None) -> None:
    found = claims.get(name)
    if found is None and expected is None and name not in claims:
        return
    if not isinstance(found, str) or expected is None or found != expected:
        raise Unauthorized(f"the token's {name} is not that of this request")


def _seconds(claims: Mapping[str, object], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 <= value <= limits.TIME_MAX:
        raise Unauthorized(f"the token's {name} is not a whole number of seconds")
    return value
