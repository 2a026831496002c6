# SPDX-License-Identifier: GPL-2.0-or-later
"""The one form of signed bytes: a compact JWS (RFC 7515) by a machine's Ed25519 key, strictly read."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from gentwoo_client.wire import base64url, json_text, limits
from gentwoo_client.wire.errors import BadSignature, InvalidSegment, Malformed, TooLarge
from gentwoo_client.wire.identity import KEY_SIZE, machine_uuid, parse_machine

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ALGORITHM: Final = "EdDSA"
SIGNATURE_SIZE: Final = 64  # bytes


@dataclass(slots=True, kw_only=True)
class Parts:
    """A compact JWS taken apart. Nothing is proven until `verify` has returned."""

    header: bytes
    """Decoded; proven to be alg, typ and kid and nothing else."""
    payload: bytes
    """Decoded, not parsed."""
    signature: bytes
    """Decoded, 64 bytes."""
    signing_input: bytes
    """What the signature covers: the first two parts as received."""
    kid: uuid.UUID
    """Whom the header names as the signer."""


def sign(payload: bytes, private_key: Ed25519PrivateKey, *, kind: str) -> bytes:
    """The compact JWS of `payload`, its `typ` being `kind`; the same arguments give the same bytes."""
    machine = machine_uuid(private_key.public_key().public_bytes_raw())
    header = json_text.dump({"alg": ALGORITHM, "typ": kind, "kid": str(machine)})
    signing_input = base64url.encode_ascii(header) + b"." + base64url.encode_ascii(payload)
    return signing_input + b"." + base64url.encode_ascii(private_key.sign(signing_input))


def assemble(header: bytes, payload: bytes, signature: bytes) -> bytes:
    """The exact compact form that `split` took apart."""
    return b".".join(base64url.encode_ascii(part) for part in (header, payload, signature))


def split(compact: bytes, *, kind: str, size: int) -> Parts:
    """Take a compact JWS of at most `size` bytes apart; its `typ` must be `kind`.

    Proves nothing and parses nothing but the header. Raises `TooLarge` and `Malformed`.
    """
    if len(compact) > size:
        raise TooLarge(f"more than {size} bytes")
    encoded = compact.split(b".")
    if len(encoded) != 3:
        raise Malformed("not a compact JWS: three parts with dots between them")
    header, payload, signature = map(base64url.decode, encoded)
    if len(signature) != SIGNATURE_SIZE:
        raise InvalidSegment("signature", f"not {SIGNATURE_SIZE} bytes")
    return Parts(
        header=header,
        payload=payload,
        signature=signature,
        signing_input=compact[: len(encoded[0]) + 1 + len(encoded[1])],
        kid=_kid(header, kind),
    )


def verify(parts: Parts, public_key: bytes) -> None:
    """See that the machine of `public_key` (32 raw bytes) signed `parts`.

    Raises `BadSignature`.
    """
    from cryptography.exceptions import InvalidSignature

    if len(public_key) != KEY_SIZE or machine_uuid(public_key) != parts.kid:
        raise BadSignature("the UUID does not belong to this key")
    try:
        _load(public_key).verify(parts.signature, parts.signing_input)
    except InvalidSignature:
        raise BadSignature("the signature does not fit these bytes") from None


@lru_cache(maxsize=1024)
def _load(public_key: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(public_key)


@lru_cache(maxsize=4096)
def _kid(header: bytes, kind: str) -> uuid.UUID:
    """The UUID in a header that holds alg, typ and kid with the only right values, and nothing else."""
    if len(header) > limits.HEADER_SIZE:
        raise TooLarge(f"a header of more than {limits.HEADER_SIZE} bytes")
    members = json_text.load_object(header)
    for name in members:
        if name not in ("alg", "typ", "kid"):
            raise InvalidSegment(name, "not a member that a header may have")
    if members.get("alg") != ALGORITHM:
        raise InvalidSegment("alg", f"not {ALGORITHM}")
    if members.get("typ") != kind:
        raise InvalidSegment("typ", f"not {kind}")
    kid = members.get("kid")
    machine = parse_machine(kid) if isinstance(kid, str) else None
    if machine is None:
        raise InvalidSegment("kid", "not a machine's UUID in lower case")
    return machine
