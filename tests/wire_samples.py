# SPDX-License-Identifier: GPL-2.0-or-later
"""Ready-made keys, records and segments for tests, and hypothesis strategies of everything on the wire."""

from __future__ import annotations

import uuid
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from gentwoo_client.wire import base64url, limits
from gentwoo_client.wire.cpv import CPV, split_cpv
from gentwoo_client.wire.identity import machine_uuid
from gentwoo_client.wire.records import BACKFILL, CAUSES_OF, INSTALL, UNINSTALL, PackageStateChange
from gentwoo_client.wire.segments import Segment

AUDIENCE = "https://collector.example.org"
NOW = 1_795_307_625  # 2026-11-22T00:33:45+00:00


def private_key(number: int = 1) -> Ed25519PrivateKey:
    """The key whose seed is 32 times the byte `number`."""
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def public_key(number: int = 1) -> bytes:
    """The raw public key that belongs to `private_key(number)`."""
    return private_key(number).public_key().public_bytes_raw()


def machine(number: int = 1) -> uuid.UUID:
    """The UUID of the machine with `private_key(number)`."""
    return machine_uuid(public_key(number))


def record(**changes: object) -> PackageStateChange:
    """An upgrade of app-misc/alpha, with `changes`."""
    sample = PackageStateChange(
        seq=1,
        event="install",
        category="app-misc",
        name="alpha",
        version="1.1-r1",
        repository="gentoo",
        install_type="source",
        cause=None,
        replaces="1.0",
        recorded_at=NOW,
        time_delta=42,
        concurrency=1.25,
        observed="live",
        clock="synchronized",
    )
    return replace(sample, **changes)  # type: ignore[arg-type]  # wrong values are what some tests want


def segment(first_seq: int = 1, count: int = 2, prev: str | None = None, number: int = 1) -> Segment:
    """A segment of `count` records by machine `number`."""
    return Segment(
        machine=machine(number),
        audience=AUDIENCE,
        first_seq=first_seq,
        prev=prev,
        created_at=NOW + 1,
        records=tuple(record(seq=first_seq + index) for index in range(count)),
    )


def signed(header: bytes, payload: bytes, number: int = 1) -> bytes:
    """A compact JWS of any header and payload whatever, with a valid signature of machine `number`."""
    signing_input = base64url.encode_ascii(header) + b"." + base64url.encode_ascii(payload)
    return signing_input + b"." + base64url.encode_ascii(private_key(number).sign(signing_input))


def header(**members: str) -> dict[str, str]:
    """The right header of a segment of machine 1, with `members` in addition or instead."""
    return {"alg": "EdDSA", "typ": "gentwoo-segment+jws", "kid": str(machine()), **members}


_digits = st.text("0123456789", min_size=1, max_size=14)
categories = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9+_.-]{0,20}", fullmatch=True)
versions = st.builds(
    lambda numbers, letter, suffixes, revision: (
        ".".join(numbers) + letter + "".join(f"_{kind}{number}" for kind, number in suffixes) + revision
    ),
    st.lists(_digits | st.sampled_from(["0", "00", "01", "010", "1", "10", "9999"]), min_size=1, max_size=4),
    st.sampled_from(["", "", "a", "b", "z"]),
    st.lists(
        st.tuples(
            st.sampled_from(["alpha", "beta", "pre", "rc", "p"]),
            st.sampled_from(["", "0", "1", "01", "20240102"]),
        ),
        max_size=2,
    ),
    st.sampled_from(["", "", "-r0", "-r1", "-r01", "-r12"]),
)
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9+_-]{0,20}", fullmatch=True).filter(
    lambda text: split_cpv(f"a/{text}-1") == ("a", text, "1")
)
cpvs = st.builds(CPV, categories, names, versions)
repositories = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,20}", fullmatch=True)
times = st.integers(0, limits.TIME_MAX) | st.integers(NOW - 10**7, NOW + 10**7)

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-limits.INTEGER_MAX, limits.INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
)
extras = st.dictionaries(
    st.from_regex(r"x_[a-z\" :\\]{0,8}", fullmatch=True),
    st.recursive(
        _scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\"' :"), inner, max_size=3),
        max_leaves=4,
    ),
    max_size=3,
)


@st.composite
def records(draw: st.DrawFn, seq: int | None = None) -> PackageStateChange:
    """Any valid record."""
    event = draw(st.sampled_from(sorted(CAUSES_OF)))
    observed = draw(st.sampled_from(["live", "backfill"]))
    cpv = draw(cpvs)
    return PackageStateChange(
        seq=draw(st.integers(1, limits.INTEGER_MAX)) if seq is None else seq,
        event=event,
        category=cpv.category,
        name=cpv.name,
        version=cpv.version,
        repository=draw(repositories),
        install_type=None if event == UNINSTALL else draw(st.sampled_from([None, "source", "binary"])),
        cause=draw(st.sampled_from(sorted(CAUSES_OF[event], key=str))),
        replaces=draw(st.none() | versions) if event == INSTALL else None,
        recorded_at=draw(times),
        time_delta=draw(st.none() | st.integers(0, limits.TIME_DELTA_MAX)),
        concurrency=draw(st.none() | st.integers(0, 1_000_000).map(lambda hundredths: hundredths / 100)),
        observed=observed,
        clock="unknown"
        if observed == BACKFILL
        else draw(st.sampled_from(["synchronized", "unsynchronized", "unknown"])),
        extra=draw(extras),
    )


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    """Any valid segment of machine 1."""
    first_seq = draw(st.just(1) | st.integers(2, limits.INTEGER_MAX - 10))
    count = draw(st.integers(1, 4))
    return Segment(
        machine=machine(),
        audience=draw(st.sampled_from([AUDIENCE, "http://127.0.0.1:8642", "https://example.org/gentwoo"])),
        first_seq=first_seq,
        prev=None if first_seq == 1 else base64url.encode(draw(st.binary(min_size=32, max_size=32))),
        created_at=draw(times),
        records=tuple(draw(records(seq=first_seq + index)) for index in range(count)),
        extra=draw(extras),
    )
