# SPDX-License-Identifier: GPL-2.0-or-later
"""What is written can be read back, and nothing that arrives makes a parser fail otherwise than it should."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gentwoo_client.wire import base64url, errors, json_text, segments
from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.cpv import CPV, split_cpv
from gentwoo_client.wire.errors import InvalidBase64, InvalidRecord, ProtocolError
from gentwoo_client.wire.identity import parse_machine, parse_public_key
from gentwoo_client.wire.messages import MachineState, Record, Registration, parse_message, parse_payload
from gentwoo_client.wire.records import FIELDS, PackageStateChange, format_time, make_record, parse_time
from gentwoo_client.wire.tokens import make_token, verify_token
from gentwoo_client.wire.version import Version
from tests import wire_samples as samples


@given(samples.cpvs)
def test_cpv_survives(cpv: CPV) -> None:
    """A CPV is read back as it was."""
    assert CPV.parse(str(cpv)) == cpv


@given(samples.times)
def test_time_survives(seconds: int) -> None:
    """A time is read back as it was."""
    assert parse_time(format_time(seconds)) == seconds


@given(samples.records())
def test_record_survives(record: PackageStateChange) -> None:
    """A record survives JSON, pickle and the quick constructor."""
    assert PackageStateChange.from_json(json.loads(json_text.dump(record.to_json()))) == record
    assert pickle.loads(pickle.dumps(record)) == record
    values: list[Any] = [getattr(record, name) for name in (*FIELDS, "extra")]
    assert make_record(*values) == record


@given(samples.segments())
def test_segment_survives(segment: segments.Segment) -> None:
    """A signed segment opens to what was signed, by both readers; its exact bytes can be assembled."""
    compact = segments.sign_segment(segment, samples.private_key())
    opened = segments.open_segment(compact, samples.public_key())
    assert opened.segment == segment == _collected(opened.payload)
    assert segments.assemble(opened.header, opened.payload, opened.signature) == compact
    assert segments.peek_machine(compact) == segment.machine == opened.kid
    assert segments.sign_segment(opened.segment, samples.private_key()) == compact


@given(st.binary())
def test_base64url_survives(data: bytes) -> None:
    """Bytes are read back as they were."""
    assert base64url.decode(base64url.encode(data)) == data


@given(st.text() | st.text("ABCZabcz019-_=+/ \n") | st.binary().map(lambda data: data.decode("latin-1")))
def test_base64url_is_unique(text: str) -> None:
    """Whatever is accepted is the only way to write its bytes."""
    try:
        data = base64url.decode(text)
    except InvalidBase64:
        return
    assert base64url.encode(data) == text


methods = st.sampled_from(["GET", "POST", "PUT", "DELETE"])
urls = st.text("abc/?&=%20", max_size=20).map(lambda path: f"{samples.AUDIENCE}/v1/{path}")


@given(method=methods, url=urls, body=st.none() | st.binary(max_size=64), now=st.floats(1, 4e9))
def test_token_survives(method: str, url: str, body: bytes | None, now: float) -> None:
    """A token permits the request that it was made for."""
    token = make_token(
        samples.private_key(),
        machine=samples.machine(),
        audience=samples.AUDIENCE,
        method=method,
        url=url,
        body=body,
        now=now,
    )
    verified = verify_token(
        token,
        public_key_of=lambda _machine: samples.public_key(),
        audience=samples.AUDIENCE,
        method=method,
        url=url,
        body=body,
        now=now,
    )
    assert verified.sub == samples.machine()


TEXT_PARSERS: tuple[Callable[[str], object], ...] = (
    CPV.parse,
    split_cpv,
    Version.parse,
    Atom.parse,
    lambda text: Atom.parse(text, allow_bare=True),
    parse_time,
    parse_machine,
    parse_public_key,
    lambda text: verify_token(
        text,
        public_key_of=lambda _machine: samples.public_key(),
        audience=samples.AUDIENCE,
        method="GET",
        url=samples.AUDIENCE,
        body=b"",
        now=0,
    ),
)
BYTE_PARSERS: tuple[Callable[[bytes], object], ...] = (
    json_text.load,
    segments.open_segment,
    segments.peek_machine,
    segments.parse_payload,
    parse_payload,
    lambda body: parse_message(Registration, body),
    lambda body: parse_message(MachineState, body),
    lambda payload: segments.open_segment(
        samples.signed(json_text.dump(samples.header()), payload), samples.public_key()
    ),
    lambda header: segments.open_segment(samples.signed(header, b"{}"), samples.public_key()),
)

member_names = st.sampled_from([*FIELDS, *segments.FIELDS])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["install", "1.0", "2026-11-22T00:33:45+00:00"]),
    lambda inner: st.lists(inner) | st.dictionaries(member_names | st.text(), inner),
    max_leaves=10,
)


def understood_or_refused(parse: Callable[[], object]) -> None:
    """Let `parse` return, or raise an error of the protocol that blames the sender, and nothing else."""
    status = 400
    try:
        parse()
    except ProtocolError as error:
        status = error.status
    assert status in range(400, 500)


@pytest.mark.parametrize("parse", TEXT_PARSERS)
@given(
    text=st.text()
    | st.text("a1.-_/:=<>!*[]r", max_size=40)
    | st.text("0123456789", min_size=4000, max_size=5000)
)
def test_no_text_crashes(parse: Callable[[str], object], text: str) -> None:
    """Every text is either understood or refused with an error of the protocol."""
    understood_or_refused(lambda: parse(text))


@pytest.mark.parametrize("parse", BYTE_PARSERS)
@given(data=st.binary() | values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_crash(parse: Callable[[bytes], object], data: bytes) -> None:
    """Every byte string is either understood or refused with an error of the protocol."""
    understood_or_refused(lambda: parse(data))


@pytest.mark.parametrize("parse", BYTE_PARSERS)
@pytest.mark.parametrize("depth", [10, 150, 900, 5_000, 100_000])
@pytest.mark.parametrize("brackets", [b"[]", b"{}"])
def test_no_depth_crashes(parse: Callable[[bytes], object], depth: int, brackets: bytes) -> None:
    """Nesting of any depth is understood or refused; the stack never overflows."""
    opening, closing = (b"[", b"]") if brackets == b"[]" else (b'{"a":', b"}")
    understood_or_refused(lambda: parse(b'{"x":' + opening * depth + b"1" + closing * depth + b"}"))


def mutations(record: PackageStateChange) -> st.SearchStrategy[dict[str, object]]:
    """The JSON of `record` with one field changed, left out or added."""
    whole = record.to_json()
    plausible = st.sampled_from(
        ["install", "uninstall", "failure", "source", "manual", "build", "live", "backfill", "unknown", "1.0",
         "a", "", None, True, 0, 1, 1.5, 1.234, -1, 2**53, "\ud800"]
    )  # fmt: skip
    return st.one_of(
        st.sampled_from(FIELDS).flatmap(
            lambda name: (plausible | values).map(lambda value: {**whole, name: value})
        ),
        st.sampled_from(FIELDS).map(lambda left_out: {n: v for n, v in whole.items() if n != left_out}),
        values.map(lambda value: {**whole, "x": value}),
    )


@given(samples.records().flatmap(mutations))
def test_model_and_dataclass_give_the_same_verdict(mapping: dict[str, object]) -> None:
    """The pydantic model, from which OpenAPI is made, accepts exactly what `from_json` accepts."""
    try:
        text = json.dumps(mapping)
        mapping = json.loads(text)
    except ValueError:  # pragma: no cover
        return
    accepted = modelled = True
    try:
        PackageStateChange.from_json(mapping)
    except InvalidRecord:
        accepted = False
    try:
        Record.model_validate_json(text)
    except (ValidationError, errors.Malformed):
        modelled = False
    assert accepted == modelled


@given(samples.segments(), st.data())
def test_both_parsers_give_the_same_verdict(segment: segments.Segment, data: st.DataObject) -> None:
    """A payload with a piece doubled, cut or moved is read equally, or refused equally, by both parsers."""
    payload = json_text.dump(segment.to_json())
    start = data.draw(st.integers(0, len(payload)))
    end = data.draw(st.integers(start, min(len(payload), start + 40)))
    piece = data.draw(st.sampled_from([payload[start:end], b"", b" ", b"\\", b",", b'"seq":1,', b"NaN"]))
    changed = payload[:start] + piece + payload[end if data.draw(st.booleans()) else start :]
    assert _verdict(segments.parse_payload, changed) == _verdict(_collected, changed)


@given(samples.segments(), st.data())
def test_both_parsers_give_the_same_verdict_on_values(segment: segments.Segment, data: st.DataObject) -> None:
    """A payload with one record changed is read equally, or refused equally, by both parsers."""
    known = [replace(record, extra={}) for record in segment.records]  # with others both go the same way
    listed = [record.to_json() for record in known]
    place = data.draw(st.integers(0, len(listed) - 1))
    listed[place] = data.draw(st.just(listed[place]) | mutations(known[place]))
    try:
        payload = json_text.dump({**replace(segment, extra={}).to_json(), "records": listed})
    except errors.InvalidJSON:  # a lone surrogate
        return
    assert _verdict(segments.parse_payload, payload) == _verdict(_collected, payload)


def _collected(payload: bytes) -> segments.Segment:
    """What the collector's parser reads, as a segment with records."""
    parsed = parse_payload(payload)
    return segments.Segment(
        machine=parsed.machine,
        audience=parsed.audience,
        first_seq=parsed.first_seq,
        prev=parsed.prev,
        created_at=parsed.created_at,
        extra=parsed.extra,
        records=tuple(parsed.columns.records()),
    )


def _verdict(parse: Callable[[bytes], segments.Segment], payload: bytes) -> segments.Segment | None:
    try:
        return parse(payload)
    except ProtocolError:
        return None
