# SPDX-License-Identifier: GPL-2.0-or-later
"""Segments: some records of one machine, signed together and chained to those before.

segment = Segment(machine=..., audience=..., first_seq=1, prev=None, created_at=..., records=(...))
compact = sign_segment(segment, private_key)
opened = open_segment(compact, public_key)      # the receiver's side; raises a ProtocolError
Segment(..., first_seq=opened.segment.last_seq + 1, prev=opened.digest, ...)
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gentwoo_client.wire import base64url, json_text, jws, limits
from gentwoo_client.wire.errors import (
    InvalidJSON,
    InvalidSegment,
    InvalidTime,
    TooLarge,
    WrongMachine,
)
from gentwoo_client.wire.identity import parse_machine
from gentwoo_client.wire.jws import Parts, assemble
from gentwoo_client.wire.records import PackageStateChange, format_time, parse_time

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "FIELDS",
    "SEGMENT_TYPE",
    "Frame",
    "OpenedSegment",
    "Parts",
    "Segment",
    "assemble",
    "check_audience",
    "digest",
    "frame_members",
    "is_digest",
    "leading_records_that_fit",
    "open_segment",
    "parse_payload",
    "peek_machine",
    "segment_from_members",
    "sign_segment",
    "split_segment",
    "verify_parts",
]

SEGMENT_TYPE: Final = "gentwoo-segment+jws"
FIELDS: Final = ("machine", "audience", "first_seq", "prev", "created_at", "records")
"""The members of a payload, in their order."""

DIGEST: Final = r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"
"""base64url of 32 bytes: the last character carries four bits, so its two low bits are zero."""
AUDIENCE: Final = r"https?://[A-Za-z0-9.:\[\]-]+(?:/[A-Za-z0-9._~%-]+)*"
"""A URL without user, query, fragment and trailing slash."""

_DIGEST = re.compile(DIGEST)
_AUDIENCE = re.compile(AUDIENCE)
_NOTHING: Mapping[str, object] = {}


def _nothing() -> Mapping[str, object]:
    return _NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a payload says besides its records."""

    machine: uuid.UUID
    audience: str
    """The collector's public_url: elsewhere this segment is worth nothing."""
    first_seq: int
    """`seq` of the first record."""
    prev: str | None
    """Digest of the previous segment; None for the first."""
    created_at: int
    """Unix seconds by the machine's clock."""
    extra: Mapping[str, object] = field(default_factory=_nothing, hash=False)
    """Members that this version does not know, kept as they came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment(Frame):
    """The payload. Built directly it is not checked; `sign_segment` and `open_segment` do."""

    records: tuple[PackageStateChange, ...]

    @property
    def last_seq(self) -> int:
        """`seq` of the last record."""
        return self.first_seq + len(self.records) - 1

    def to_json(self) -> dict[str, object]:
        """The payload as on the wire: members in their fixed order, unknown ones last."""
        return {
            "machine": str(self.machine),
            "audience": self.audience,
            "first_seq": self.first_seq,
            "prev": self.prev,
            "created_at": format_time(self.created_at),
            "records": [record.to_json() for record in self.records],
            **self.extra,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSegment:
    """A segment whose signature was checked, with everything its exact bytes are made of."""

    segment: Segment
    payload: bytes
    header: bytes
    signature: bytes
    digest: str
    kid: uuid.UUID


def sign_segment(segment: Segment, private_key: Ed25519PrivateKey) -> bytes:
    """The compact JWS of `segment`, ASCII; the same segment and key always give the same bytes.

    Raises what a receiver would raise: `InvalidSegment`, `InvalidRecord`, `TooLarge`, and `WrongMachine`
    where the key is not the machine's. So nothing that must be refused is ever sent.
    """
    compact = jws.sign(json_text.dump(segment.to_json()), private_key, kind=SEGMENT_TYPE)
    open_segment(compact)
    return compact


def open_segment(compact: bytes, public_key: bytes | None = None) -> OpenedSegment:
    """The segment inside `compact`, proven to come from the machine of `public_key` (32 raw bytes).

    Without a key only the form is checked and *nothing* is proven about the origin.
    Raises `TooLarge`, `Malformed` and below, `BadSignature`, `WrongMachine`.
    """
    # (1) Size, three parts of canonical base64url, a header of exactly alg, typ and kid.
    parts = split_segment(compact)
    # (2) The key is the one from which the UUID in `kid` follows, and it signed the bytes as received.
    if public_key is not None:
        verify_parts(parts, public_key)
    # (3) Only now does the payload become data; each record and the numbers that tie them are checked.
    segment = parse_payload(parts.payload)
    # (4) The signer speaks of itself.
    if segment.machine != parts.kid:
        raise WrongMachine("the segment speaks of another machine than the one that signed it")
    return OpenedSegment(
        segment=segment,
        payload=parts.payload,
        header=parts.header,
        signature=parts.signature,
        digest=digest(compact),
        kid=parts.kid,
    )


def split_segment(compact: bytes) -> Parts:
    """Take a compact segment apart without believing it. Raises `TooLarge`, `Malformed`."""
    return jws.split(compact, kind=SEGMENT_TYPE, size=limits.SEGMENT_SIZE)


def verify_parts(parts: Parts, public_key: bytes) -> None:
    """See that the machine of `public_key` (32 raw bytes) signed `parts`. Raises `BadSignature`."""
    jws.verify(parts, public_key)


def peek_machine(compact: bytes) -> uuid.UUID:
    """Whom the header names as signer, *unproven*: to look up the key. Raises `TooLarge`, `Malformed`."""
    return split_segment(compact).kid


def digest(compact: bytes) -> str:
    """base64url SHA-256 of a segment's compact form: what the next one's `prev` must be."""
    return base64url.encode(hashlib.sha256(compact).digest())


def is_digest(text: str) -> bool:
    """Whether `text` could be a digest: canonical base64url of 32 bytes."""
    return _DIGEST.fullmatch(text) is not None


def parse_payload(payload: bytes) -> Segment:
    """The segment that a decoded payload writes. Raises `InvalidJSON`, `InvalidSegment`, `InvalidRecord`."""
    return segment_from_members(json_text.load_object(payload))


def segment_from_members(members: Mapping[str, object]) -> Segment:
    """The segment that a decoded JSON object writes. Raises `InvalidSegment`, `InvalidRecord`, `TooLarge`."""
    frame = frame_members(members)
    return Segment(**frame, records=_records(members["records"], frame["first_seq"]))


def frame_members(members: Mapping[str, object]) -> dict[str, Any]:
    """The arguments of a `Frame` that a decoded JSON object writes. Raises `InvalidSegment`."""
    for name in FIELDS:
        if name not in members:
            raise InvalidSegment(name, "missing")
    first_seq = members["first_seq"]
    if type(first_seq) is not int or not 1 <= first_seq <= limits.INTEGER_MAX:
        raise InvalidSegment("first_seq", "not an integer from 1")
    return {
        "machine": _machine(members["machine"]),
        "audience": check_audience(members["audience"]),
        "first_seq": first_seq,
        "prev": _prev(members["prev"], first_seq),
        "created_at": _created_at(members["created_at"]),
        "extra": _extra(members),
    }


def leading_records_that_fit(records: Sequence[PackageStateChange], *, audience: str) -> int:
    """How many of `records`, from the first, one segment can hold; at least 1 where there are any."""
    payload_size = 512 + len(audience)  # the other members; their longest form is below 400 bytes
    for count, record in enumerate(records[: limits.RECORDS_PER_SEGMENT]):
        payload_size += len(json_text.dump(record.to_json())) + 1
        if 4 * payload_size // 3 + 512 > limits.SEGMENT_SIZE:  # base64url; header and signature are below 300
            return max(count, 1)
    return min(len(records), limits.RECORDS_PER_SEGMENT)


def check_audience(value: object) -> str:
    """`value`, if it can be a collector's public_url: http or https, no query, no trailing slash.

    Raises `InvalidSegment`.
    """
    if not isinstance(value, str) or len(value) > limits.AUDIENCE_LENGTH or not _AUDIENCE.fullmatch(value):
        raise InvalidSegment("audience", "not an http or https URL without trailing slash")
    return value


def _machine(value: object) -> uuid.UUID:
    machine = parse_machine(value) if isinstance(value, str) else None
    if machine is None:
        raise InvalidSegment("machine", "not a machine's UUID in lower case")
    return machine


def _prev(value: object, first_seq: int) -> str | None:
    if value is None and first_seq == 1:
        return None
    if first_seq == 1:
        raise InvalidSegment("prev", "not null, yet this is the first segment")
    if not isinstance(value, str) or not is_digest(value):
        raise InvalidSegment("prev", "not the digest of a segment")
    return value


def _created_at(value: object) -> int:
    if not isinstance(value, str):
        raise InvalidSegment("created_at", "not a string")
    try:
        return parse_time(value)
    except InvalidTime as error:
        raise InvalidSegment("created_at", error.detail) from None


def _records(value: object, first_seq: int) -> tuple[PackageStateChange, ...]:
    if not isinstance(value, list) or not value:
        raise InvalidSegment("records", "not an array of at least one record")
    if len(value) > limits.RECORDS_PER_SEGMENT:
        raise TooLarge(f"more than {limits.RECORDS_PER_SEGMENT} records")
    records = tuple(map(PackageStateChange.from_json, value))
    for seq, record in enumerate(records, first_seq):
        if record.seq != seq:
            raise InvalidSegment("seq", f"{record.seq} where {seq} is due")
    return records


def _extra(members: Mapping[str, object]) -> Mapping[str, object]:
    if len(members) == len(FIELDS):  # all of which are there
        return _NOTHING
    extra = {name: value for name, value in members.items() if name not in FIELDS}
    try:
        json_text.check_extra(extra)
    except InvalidJSON as error:
        raise InvalidSegment(next(iter(extra)), error.detail) from None
    return extra
