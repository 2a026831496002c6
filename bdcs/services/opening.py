# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening pushed segments: everything that is seen to before a lock is held.

Segments that come in the same turn of the loop are opened right after each other, not each in the middle of
its request: code and data of every step are still in the processor's caches then.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from bdcs.domain import evidence
from bdcs.store.evidence import EvidenceCodec
from gentwoo_client.wire import base64url, limits
from gentwoo_client.wire.columns import Columns
from gentwoo_client.wire.errors import Malformed, TooLarge, UnsupportedMedia, WrongAudience, WrongMachine
from gentwoo_client.wire.messages import parse_payload
from gentwoo_client.wire.segments import split_segment, verify_parts

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

LARGE: Final = 32 * 1024  # bytes of a body that is worked on in a thread, so that others are not kept waiting
TOGETHER: Final = 64 * 1024  # bytes of bodies that are opened before the loop does anything else


@dataclass(slots=True)
class Pushed:
    """A segment as it came, and whose it has to be."""

    machine: UUID
    public_key: bytes
    body: bytes
    encoding: str | None


@dataclass(slots=True, kw_only=True)
class Arrived:
    """A segment that has passed checks (1) to (6) of `services.ingest`."""

    machine: UUID
    first_seq: int
    prev: bytes | None
    digest: bytes
    audience: str
    dictionary_id: int
    form: int
    signature: bytes
    evidence: bytes
    records: Columns

    @property
    def last_seq(self) -> int:
        """`seq` of the last record."""
        return self.first_seq + len(self.records) - 1


class Opener:
    """Opens segments for one collector."""

    def __init__(self, codec: EvidenceCodec, audience: str) -> None:
        self._codec = codec
        self._audience = audience
        self._waiting: deque[tuple[Pushed, asyncio.Future[Arrived]]] = deque()

    async def open(self, pushed: Pushed) -> Arrived:
        """Return what arrived.

        Raises `TooLarge`, `UnsupportedMedia`, `Malformed`, `WrongMachine`, `BadSignature`, `WrongAudience`.
        """
        if len(pushed.body) >= LARGE:
            return await asyncio.to_thread(self._opened, pushed)
        loop = asyncio.get_running_loop()
        opening: asyncio.Future[Arrived] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._take_turn)
        self._waiting.append((pushed, opening))
        try:
            return await opening
        finally:
            del opening  # it has the error, which has this frame: both would stay until garbage is looked for

    def _take_turn(self) -> None:
        size = 0
        while self._waiting and size < TOGETHER:
            pushed, opening = self._waiting.popleft()
            size += len(pushed.body)
            if opening.cancelled():
                continue  # whoever pushed has gone
            try:
                opening.set_result(self._opened(pushed))
            except Exception as error:
                opening.set_exception(error)
            del opening  # so here
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _opened(self, pushed: Pushed) -> Arrived:
        # (1) Size.
        compact = decoded(pushed.body, pushed.encoding)
        # (2) Form, and whose it claims to be.
        parts = split_segment(compact)
        if parts.kid != pushed.machine:
            raise WrongMachine("the header names another machine than the address")
        # (4) Signature; `verify_parts` also sees that key and UUID belong together.
        verify_parts(parts, pushed.public_key)
        # (5) Payload.
        segment = parse_payload(parts.payload)
        if segment.machine != pushed.machine:
            raise WrongMachine("the payload names another machine than its signer")
        # (6) Audience.
        if segment.audience != self._audience:
            raise WrongAudience(f"made for {segment.audience}, and this is {self._audience}")
        prev = None if segment.prev is None else base64url.decode(segment.prev)
        envelope = evidence.Envelope(
            machine=str(pushed.machine), audience=segment.audience, first_seq=segment.first_seq, prev=prev
        )
        form, kept = evidence.pack(envelope, parts.header, parts.payload)
        return Arrived(
            machine=pushed.machine,
            first_seq=segment.first_seq,
            prev=prev,
            digest=hashlib.sha256(compact).digest(),
            audience=segment.audience,
            dictionary_id=self._codec.dictionary_id,
            form=int(form),
            signature=parts.signature,
            evidence=self._codec.compress(kept),
            records=segment.columns,
        )


def decoded(body: bytes, encoding: str | None) -> bytes:
    """Undo the Content-Encoding. Raises `TooLarge`, `Malformed`, `UnsupportedMedia`."""
    if len(body) > limits.ENCODED_BODY_SIZE:
        raise TooLarge(f"more than {limits.ENCODED_BODY_SIZE} bytes")
    if encoding in (None, "identity"):
        return body
    if encoding != "zstd":
        raise UnsupportedMedia(f"Content-Encoding {encoding!r:.80}")
    decompressor = zstd.ZstdDecompressor()
    try:
        compact = decompressor.decompress(body, limits.SEGMENT_SIZE + 1)
    except (zstd.ZstdError, MemoryError) as error:
        raise Malformed("the body is not what its Content-Encoding says") from error
    if len(compact) > limits.SEGMENT_SIZE:
        raise TooLarge(f"more than {limits.SEGMENT_SIZE} bytes after Content-Encoding is undone")
    if not decompressor.eof or decompressor.unused_data:
        raise Malformed("the body is not one whole zstd frame")
    return compact
