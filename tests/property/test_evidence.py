# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence gives back the exact bytes, whatever they are."""

from importlib import resources

from hypothesis import given
from hypothesis import strategies as st

from bdcs.domain.evidence import Envelope, Form, pack, unpack
from bdcs.store.evidence import EvidenceCodec
from gentwoo_client.wire import base64url, limits
from gentwoo_client.wire.segments import Segment, assemble, sign_segment, split_segment
from tests.wire_samples import machine, private_key, segments

DICTIONARY = resources.files("bdcs.store") / "dictionaries" / "segments.zdict"
CODEC = EvidenceCodec({7: DICTIONARY.read_bytes()})


def envelope(segment: Segment) -> Envelope:
    return Envelope(
        machine=str(segment.machine),
        audience=segment.audience,
        first_seq=segment.first_seq,
        prev=None if segment.prev is None else base64url.decode(segment.prev),
    )


@given(segment=segments())
def test_a_segment_is_rebuilt_byte_for_byte(segment: Segment) -> None:
    compact = sign_segment(segment, private_key())
    parts = split_segment(compact)
    form, kept = pack(envelope(segment), parts.header, parts.payload)
    assert form == Form.HEADER | Form.ENVELOPE
    stored = CODEC.compress(kept)
    header, payload = unpack(envelope(segment), form, CODEC.decompress(7, stored))
    assert assemble(header, payload, parts.signature) == compact


@given(
    header=st.binary(max_size=limits.HEADER_SIZE),
    payload=st.binary(max_size=4096),
    prev=st.none() | st.binary(),
)
def test_whatever_another_client_writes_is_kept_whole(
    header: bytes, payload: bytes, prev: bytes | None
) -> None:
    known = Envelope(machine=str(machine()), audience="https://c.example", first_seq=3, prev=prev)
    form, kept = pack(known, header, payload)
    assert unpack(known, form, CODEC.decompress(7, CODEC.compress(kept))) == (header, payload)
