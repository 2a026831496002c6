# SPDX-License-Identifier: GPL-2.0-or-later
"""Who a machine is: its UUID follows from its public key, so nobody can claim another's."""

import hashlib
import re
import uuid
from functools import lru_cache
from typing import Final

from gentwoo_client.wire import base64url
from gentwoo_client.wire.errors import InvalidKey

KEY_SIZE: Final = 32  # bytes of a raw Ed25519 public key

_CONTEXT = b"gentwoo-machine-v1\0"
UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
"""Of version 8 and the RFC's variant, in lower case: the only form that is accepted."""

UUID_LENGTH: Final = 36  # characters

_UUID = re.compile(UUID)

# Points whose order divides 8, with the sign bit cleared. As a key such a point belongs to everybody: anyone
# can sign for it, and many signatures fit one message (RFC 8032 §5.1.7 leaves this to the application).
_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)


@lru_cache(maxsize=4096)
def machine_uuid(public_key: bytes) -> uuid.UUID:
    """The UUID of the machine that holds the private half of `public_key` (32 raw bytes).

    RFC 9562 version 8 over the first 16 bytes of SHA-256("gentwoo-machine-v1\\0" + public_key).
    """
    octets = bytearray(hashlib.sha256(_CONTEXT + public_key).digest()[:16])
    octets[6] = octets[6] & 0x0F | 0x80
    octets[8] = octets[8] & 0x3F | 0x80
    return uuid.UUID(bytes=bytes(octets))


def parse_machine(text: str) -> uuid.UUID | None:
    """The machine's UUID that `text` writes in its only accepted form, lower case with hyphens; else None."""
    return _parsed(text) if len(text) == UUID_LENGTH else None


@lru_cache(maxsize=4096)
def _parsed(text: str) -> uuid.UUID | None:
    return uuid.UUID(text) if _UUID.fullmatch(text) else None


def parse_public_key(text: str) -> bytes:
    """The raw public key that `text` writes in base64url. Raises `InvalidBase64`, `InvalidKey`."""
    public_key = base64url.decode(text)
    if len(public_key) != KEY_SIZE:
        raise InvalidKey(f"a public key has {KEY_SIZE} bytes, not {len(public_key)}")
    if public_key[:-1] + bytes([public_key[-1] & 0x7F]) in _SMALL_ORDER:
        raise InvalidKey("a key that belongs to everybody: its point has small order")
    return public_key
