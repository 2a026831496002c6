# SPDX-License-Identifier: GPL-2.0-or-later
"""The golden vectors hold, and no part of the protocol drifted away from them."""

import json
from typing import Any

import jwt
import pytest

from gentwoo_client.wire import base64url
from gentwoo_client.wire.errors import InvalidRecord, Malformed, ProtocolError
from gentwoo_client.wire.identity import machine_uuid, parse_public_key
from gentwoo_client.wire.messages import ParsedPayload, parse_payload
from gentwoo_client.wire.records import PackageStateChange
from gentwoo_client.wire.segments import assemble, digest, open_segment, split_segment, verify_parts
from gentwoo_client.wire.tokens import verify_token
from tests.vectors.make import FILES, HERE, text_of
from tests.wire_samples import private_key


def vectors(name: str) -> Any:
    """The content of one file."""
    return json.loads((HERE / name).read_text())


@pytest.mark.parametrize("name", FILES)
def test_files_are_what_the_code_makes(name: str) -> None:
    """A change of the protocol shows as a change of these files."""
    assert (HERE / name).read_text() == text_of(name)


@pytest.mark.parametrize("case", vectors("identity.json")["machines"])
def test_uuid_follows_from_the_key(case: dict[str, str]) -> None:
    """Seed, public key and UUID belong together."""
    seed = bytes.fromhex(case["seed"])
    public_key = private_key(seed[0]).public_key().public_bytes_raw()
    assert base64url.encode(public_key) == case["public_key"]
    assert str(machine_uuid(public_key)) == case["machine"]


@pytest.mark.parametrize(
    "case", vectors("identity.json")["refused_public_keys"], ids=lambda case: case["why"]
)
def test_unfit_public_keys_are_refused(case: dict[str, str]) -> None:
    """A key is 32 canonical bytes, and a point of full order."""
    with pytest.raises(Malformed):
        parse_public_key(case["public_key"])


@pytest.mark.parametrize("case", vectors("records.json")["accepted"])
def test_records_are_kept_as_they_came(case: dict[str, object]) -> None:
    """Reading and writing a record changes nothing, unknown fields included."""
    assert PackageStateChange.from_json(case).to_json() == case


@pytest.mark.parametrize("case", vectors("records.json")["refused"])
def test_wrong_records_are_refused_by_field(case: dict[str, Any]) -> None:
    """The error names the field that is wrong."""
    with pytest.raises(InvalidRecord) as caught:
        PackageStateChange.from_json(case["record"])
    assert caught.value.field == case["field"]


def test_segments_open_and_continue_each_other() -> None:
    """Signature, digest and chain of the golden segments hold, and their bytes can be assembled again."""
    given = vectors("segments.json")
    public_key, prev = base64url.decode(given["public_key"]), None
    for case in given["segments"]:
        compact = case["compact"].encode()
        opened = open_segment(compact, public_key)
        assert opened.segment.to_json() == case["payload"]
        assert (opened.digest, opened.segment.prev) == (case["digest"], prev)
        assert assemble(opened.header, opened.payload, opened.signature) == compact
        prev = digest(compact)


def test_another_library_accepts_the_segments() -> None:
    """PyJWT, an independent implementation of JWS, verifies the golden segments."""
    given = vectors("segments.json")
    for case in given["segments"]:
        payload = jwt.PyJWS().decode(case["compact"], private_key().public_key(), algorithms=["EdDSA"])
        assert json.loads(payload) == case["payload"]


@pytest.mark.parametrize("case", vectors("invalid-segments.json")["refused"], ids=lambda case: case["why"])
def test_wrong_segments_are_refused(case: dict[str, str]) -> None:
    """Each wrong segment is refused with its problem, by the client's reader and by the collector's."""
    public_key = base64url.decode(vectors("invalid-segments.json")["public_key"])
    with pytest.raises(ProtocolError) as caught:
        open_segment(case["compact"].encode(), public_key)
    assert caught.value.slug == case["problem"]
    if case["problem"] == "malformed":
        with pytest.raises(Malformed):
            open_as_collector(case["compact"].encode(), public_key)


def open_as_collector(compact: bytes, public_key: bytes) -> ParsedPayload:
    """The steps of `open_segment`, one by one and with the faster parser."""
    parts = split_segment(compact)
    verify_parts(parts, public_key)
    return parse_payload(parts.payload)


@pytest.mark.parametrize("case", vectors("tokens.json")["tokens"], ids=lambda case: case["url"])
def test_tokens_permit_their_request(case: dict[str, Any]) -> None:
    """Each golden token permits the request beside it."""
    given = vectors("tokens.json")
    token = verify_token(
        case["token"],
        public_key_of=lambda _machine: base64url.decode(given["public_key"]),
        audience=given["audience"],
        method=case["method"],
        url=case["url"],
        body=None if case["body"] is None else case["body"].encode(),
        now=given["now"],
    )
    assert (str(token.sub), token.jti) == (given["machine"], case["jti"])


@pytest.mark.parametrize("case", vectors("invalid-tokens.json")["refused"], ids=lambda case: case["why"])
def test_wrong_tokens_are_refused(case: dict[str, str]) -> None:
    """Each wrong token is refused with its problem."""
    given = vectors("invalid-tokens.json")
    with pytest.raises(ProtocolError) as caught:
        verify_token(
            case["token"],
            public_key_of=lambda _machine: base64url.decode(given["public_key"]),
            audience=given["audience"],
            method=given["method"],
            url=given["url"],
            body=b"",
            now=given["now"],
            leeway=given["leeway"],
        )
    assert caught.value.slug == case["problem"]
