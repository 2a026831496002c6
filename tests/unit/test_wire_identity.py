# SPDX-License-Identifier: GPL-2.0-or-later
"""UUIDs are of version 8, and no public key of small order is let in."""

import uuid

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gentwoo_client.wire import base64url
from gentwoo_client.wire.errors import InvalidKey
from gentwoo_client.wire.identity import _SMALL_ORDER, machine_uuid, parse_machine, parse_public_key
from tests.wire_samples import machine, public_key

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def test_uuid_is_version_8() -> None:
    """RFC 9562: version 8 and the RFC's variant, whatever the key."""
    for number in range(50):
        made = machine_uuid(bytes([number]) * 32)
        assert (made.version, made.variant) == (8, uuid.RFC_4122)
        assert parse_machine(str(made)) == made


@pytest.mark.parametrize(
    "text",
    [
        "",
        str(machine()).upper(),
        machine().hex,
        "{" + str(machine()) + "}",
        "b0790477-e62f-4468-ad95-70e55b0659f3",
        f"{machine()}\n",
    ],
)
def test_other_forms_of_uuid_are_refused(text: str) -> None:
    """One machine, one text."""
    assert parse_machine(text) is None


def test_good_key_is_let_in() -> None:
    """An ordinary key is read back."""
    assert parse_public_key(base64url.encode(public_key())) == public_key()


def add(a: Point, b: Point) -> Point:
    """The sum of two points of the curve of RFC 8032 §5.1."""
    product = D * a[0] * b[0] * a[1] * b[1]
    return (
        (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P) % P,
        (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P,
    )


def decompress(encoded: bytes) -> Point:
    """The point whose y is `encoded`, with either x."""
    y = int.from_bytes(encoded, "little") % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square
    return (x, y)


@pytest.mark.parametrize("encoded", sorted(_SMALL_ORDER), ids=bytes.hex)
def test_listed_points_have_small_order(encoded: bytes) -> None:
    """Eight times each listed point is the neutral one; with either sign it is refused as a key."""
    point = decompress(encoded)
    for _ in range(3):
        point = add(point, point)
    assert point == (0, 1)
    for sign in (0, 0x80):
        with pytest.raises(InvalidKey):
            parse_public_key(base64url.encode(encoded[:-1] + bytes([encoded[-1] | sign])))


def test_list_of_small_orders_is_complete() -> None:
    """The eight points of the subgroup have five different y, and two of these have a second encoding."""
    generator = decompress(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"))
    ys, point = set(), (0, 1)
    for _ in range(8):
        ys.add(point[1])
        point = add(point, generator)
    encodings = {(y + k * P).to_bytes(32, "little") for y in ys for k in (0, 1) if y + k * P < 2**255}
    assert encodings == _SMALL_ORDER


def test_small_order_is_worth_refusing() -> None:
    """With the neutral point as key, one signature fits any message: OpenSSL itself does not mind."""
    key = Ed25519PublicKey.from_public_bytes(b"\1" + bytes(31))
    forged = b"\1" + bytes(31) + bytes(32)
    try:
        key.verify(forged, b"anything")
    except InvalidSignature:
        pytest.fail("OpenSSL began to refuse keys of small order; our own check remains right")
