# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a segment has to be kept so that its exact bytes can be had again.

A segment says much that the row around it says too: who sent it, to whom, where it belongs in the chain.
Where header and payload begin exactly as our own client writes them, that beginning is left out; where not,
everything is kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache
from typing import Final

from gentwoo_client.wire import base64url

_HEADER_LENGTH: Final = 2  # bytes that hold the length of a header that is kept


class Form(IntFlag):
    """What was left out, to be put back from the row."""

    NOTHING = 0
    HEADER = 1
    ENVELOPE = 2


_BOTH: Final = Form.HEADER | Form.ENVELOPE


@dataclass(slots=True, kw_only=True)
class Envelope:
    """What the row knows of its segment."""

    machine: str
    """UUID."""
    audience: str
    first_seq: int
    prev: bytes | None
    """SHA-256 of the segment before; None for a machine's first."""

    def header(self) -> bytes:
        """Return the header as our own client writes it."""
        return b'{"alg":"EdDSA","typ":"gentwoo-segment+jws","kid":"%b"}' % self.machine.encode()

    def beginning(self) -> bytes:
        """Return the payload's beginning, up to the quote before the time, as our own client writes it."""
        prev = "null" if self.prev is None else f'"{base64url.encode(self.prev)}"'
        return (
            f'{{"machine":"{self.machine}","audience":{_quoted(self.audience)},"first_seq":{self.first_seq},'
            f'"prev":{prev},"created_at":"'
        ).encode()


_quoted = lru_cache(maxsize=8)(json.dumps)


def pack(envelope: Envelope, header: bytes, payload: bytes) -> tuple[Form, bytes]:
    """Return the bytes to keep and what was left out of them."""
    beginning = envelope.beginning()
    begins_as_usual = payload.startswith(beginning)
    kept = payload[len(beginning) :] if begins_as_usual else payload
    if header == envelope.header():
        return (_BOTH if begins_as_usual else Form.HEADER), kept
    kept = len(header).to_bytes(_HEADER_LENGTH, "big") + header + kept
    return (Form.ENVELOPE if begins_as_usual else Form.NOTHING), kept


def unpack(envelope: Envelope, form: Form, kept: bytes) -> tuple[bytes, bytes]:
    """Return header and payload as they were given to `pack`."""
    if Form.HEADER in form:
        header = envelope.header()
    else:
        end = _HEADER_LENGTH + int.from_bytes(kept[:_HEADER_LENGTH], "big")
        header, kept = kept[_HEADER_LENGTH:end], kept[end:]
    return header, (envelope.beginning() + kept if Form.ENVELOPE in form else kept)
