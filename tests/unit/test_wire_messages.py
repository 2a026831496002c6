# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents that arrive, the limits of segments, and what keeps the wire package light."""

import subprocess
import sys
from dataclasses import replace

import pytest

from gentwoo_client.wire import base64url, json_text, limits
from gentwoo_client.wire.errors import InvalidJSON, InvalidSegment, Malformed, TooLarge, WrongMachine
from gentwoo_client.wire.messages import (
    MachineState,
    Registration,
    SegmentAnswer,
    SegmentPayload,
    parse_message,
    parse_payload,
)
from gentwoo_client.wire.records import PackageStateChange
from gentwoo_client.wire.segments import Segment, leading_records_that_fit, open_segment, sign_segment
from tests.wire_samples import AUDIENCE, machine, private_key, public_key, record, segment


def test_registration_gives_the_key() -> None:
    """The body of a registration is read to raw bytes; unknown members are kept."""
    text = base64url.encode(public_key())
    message = parse_message(Registration, json_text.dump({"public_key": text, "note": "hi"}))
    assert message.key == public_key()
    assert message.model_extra == {"note": "hi"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"public_key":null}',
        b'{"public_key":"AAAA"}',
        b'{"public_key":"' + b"A" * 43 + b'"}',
        b'{"public_key":"iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="}',
        b'{"public_key":"iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w","public_key":"x"}',
        b'{"public_key":"iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w","x":"' + b"x" * 3000 + b'"}',
        b'{"public_key":"iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w","x":' + b"[" * 9 + b"]" * 9 + b"}",
        b'\xff{"public_key":"iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w"}',
    ],
)
def test_wrong_registrations_are_refused(body: bytes) -> None:
    """Whatever is wrong, it is our error."""
    with pytest.raises(Malformed):
        parse_message(Registration, body)


def test_too_large_documents_are_not_parsed() -> None:
    """The limit of the caller counts."""
    with pytest.raises(TooLarge):
        parse_message(Registration, b" " * 2000, size=limits.REGISTRATION_SIZE)


def test_answers_are_checked_too() -> None:
    """A client believes a collector no more than the other way round."""
    head = {"seq": 2, "segment": "A" * 43}
    assert parse_message(SegmentAnswer, json_text.dump({"head": head})).head.seq == 2
    state = {"machine": str(machine()), "state": "approved", "head": head}
    assert parse_message(MachineState, json_text.dump(state)).state == "approved"
    for wrong in (
        {"seq": "2", "segment": None},
        {"seq": -1, "segment": None},
        {"seq": 1, "segment": "B" * 43},
    ):
        with pytest.raises(Malformed):
            parse_message(SegmentAnswer, json_text.dump({"head": wrong}))


def test_the_model_of_the_payload_is_what_is_signed() -> None:
    """The documented model accepts a real payload and writes the same members."""
    payload = json_text.dump(segment().to_json())
    assert json_text.dump(SegmentPayload.model_validate_json(payload).model_dump(mode="json")) == payload


def test_full_segments_fit_and_one_more_does_not() -> None:
    """1,000 ordinary records are one segment; long ones end it where its bytes end."""
    records = [record(seq=seq) for seq in range(1, 1501)]
    assert leading_records_that_fit(records, audience=AUDIENCE) == limits.RECORDS_PER_SEGMENT
    full = segment(count=limits.RECORDS_PER_SEGMENT)
    assert open_segment(sign_segment(full, private_key()), public_key()).segment == full
    with pytest.raises(TooLarge):
        sign_segment(segment(count=limits.RECORDS_PER_SEGMENT + 1), private_key())


def test_long_records_end_a_segment_by_size() -> None:
    """What `leading_records_that_fit` says can be signed, and little more could."""
    records = [record(seq=seq, extra={"note": "n" * 1900}) for seq in range(1, 1001)]
    count = leading_records_that_fit(records, audience=AUDIENCE)
    signed = sign_segment(_of(records[:count]), private_key())
    assert limits.SEGMENT_SIZE - 5000 < len(signed) <= limits.SEGMENT_SIZE
    with pytest.raises(TooLarge):
        sign_segment(_of(records[: count + 2]), private_key())


def _of(records: list[PackageStateChange]) -> Segment:
    return replace(segment(), records=tuple(records))


def test_nothing_wrong_is_ever_signed() -> None:
    """A segment of another machine, or with a hole, is refused where it is made."""
    with pytest.raises(WrongMachine):
        sign_segment(segment(number=2), private_key())
    with pytest.raises(InvalidSegment):
        sign_segment(segment(first_seq=5, prev=None), private_key())


def test_whitespace_and_escapes_are_read_as_well() -> None:
    """Another client's JSON may look otherwise: its meaning counts, and a doubled member is still seen."""
    payload = json_text.dump(segment().to_json())
    spaced = payload.replace(b",", b" ,\n").replace(b'":', b'"\t: ').replace(b"alpha", b"\\u0061lpha")
    assert parse_payload(spaced) == parse_payload(payload)
    with pytest.raises(InvalidJSON):
        parse_payload(payload.replace(b'"time_delta":42', b'"time_delta" :1,"time_delta":42'))
    with pytest.raises(InvalidJSON):
        parse_payload(payload.replace(b'"time_delta":42', b'"time_delta":1,"time_delta":42'))


@pytest.mark.parametrize("module", ["records", "segments", "tokens", "atom", "version", "errors"])
def test_the_daemon_gets_no_heavy_import(module: str) -> None:
    """The resident process and `gentwoo history` pay for none of these."""
    heavy = ["pydantic", "cryptography", "jwt", "aiohttp", "asyncio", "typing_extensions"]
    script = (
        f"import sys, gentwoo_client.wire.{module}; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
