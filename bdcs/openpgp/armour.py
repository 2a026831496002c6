# SPDX-License-Identifier: GPL-2.0-or-later
"""ASCII armour of public keys (RFC 9580, section 6)."""

from __future__ import annotations

import base64
import textwrap
from typing import Final

_CRC24_INITIAL: Final = 0xB704CE
_CRC24_GENERATOR: Final = 0x864CFB


def armour(public_key: bytes) -> str:
    """Return the binary `public_key` as text that every OpenPGP program imports."""
    body = "\n".join(textwrap.wrap(base64.b64encode(public_key).decode("ascii"), 64))
    checksum = base64.b64encode(_crc24(public_key).to_bytes(3, "big")).decode("ascii")
    return (
        f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{body}\n={checksum}\n-----END PGP PUBLIC KEY BLOCK-----\n"
    )


def _crc24(data: bytes) -> int:
    # Optional since RFC 9580, but older programs miss it.
    value = _CRC24_INITIAL
    for byte in data:
        value ^= byte << 16
        for _ in range(8):
            value <<= 1
            if value & 0x1000000:
                value ^= _CRC24_GENERATOR | 0x1000000
    return value & 0xFFFFFF
