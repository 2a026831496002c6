# SPDX-License-Identifier: GPL-2.0-or-later
"""base64url as JOSE uses it (RFC 7515 §2): no padding, and one text only for the same bytes."""

import binascii

from gentwoo_client.wire.errors import InvalidBase64

_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")  # what only other alphabets have is made invalid
_TO_URL = bytes.maketrans(b"+/", b"-_")
_LAST = (None, b"", b"AQgw", b"AEIMQUYcgkosw048")
"""What a text may end in, by its length modulo 4: the bits that stand for nothing are zero."""


def encode(data: bytes) -> str:
    """`data` in base64url without padding."""
    return encode_ascii(data).decode("ascii")


def encode_ascii(data: bytes) -> bytes:
    """`data` in base64url without padding, as ASCII bytes."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


def decode(text: str | bytes) -> bytes:
    """The bytes that `text` stands for.

    Raises `InvalidBase64` on padding, whitespace, characters outside the alphabet, and bits left over that
    are not zero: `encode(decode(text)) == text` holds for everything accepted.
    """
    try:
        encoded = text.encode("ascii") if isinstance(text, str) else text
        padded = encoded.translate(_TO_STANDARD) + b"=" * (-len(encoded) % 4)
        data = binascii.a2b_base64(padded, strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        raise InvalidBase64("not base64url without padding") from None
    last = _LAST[len(encoded) % 4]
    if last is not None and encoded[-1] not in last:
        raise InvalidBase64("not canonical base64url: bits are left over")
    return data
