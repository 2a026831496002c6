# SPDX-License-Identifier: GPL-2.0-or-later
"""Nobody but a machine itself can add to its history, at the wire of a real collector.

Whatever is refused is refused with a problem document of 4xx, and leaves no record.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from gentwoo_client.wire import base64url, limits
from gentwoo_client.wire.jws import SIGNATURE_SIZE, assemble
from gentwoo_client.wire.segments import digest, split_segment
from gentwoo_client.wire.tokens import TOKEN_TYPE
from tests.peer import JSON, Answer, Peer, record, request
from tests.processes import Collector

BOMB = 256 << 20  # bytes of zeros in a few kilobytes


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    home = tmp_path_factory.mktemp("collector")
    (home / "bdcs.toml").write_text("registrations_per_network = 1000\n")
    with Collector(home, options=("--config", str(home / "bdcs.toml"))) as collector:
        yield collector
        collector.bdcs("check")


@pytest.fixture
def peer(collector: Collector) -> Iterator[Peer]:
    """A registered machine with three records; whatever the test did, at its end they are all there is."""
    peer = Peer(collector.url)
    assert peer.register().status == 201
    peer.push(3)
    yield peer
    head = peer.authorized("GET", peer.path).document["head"]
    assert head == {"seq": peer.seq, "segment": peer.prev}
    sent = [record["seq"] for record in collector.export() if record["machine"] == str(peer.machine)]
    assert sent == list(range(1, peer.seq + 1))


def refused(answer: Answer, *slugs: str) -> None:
    assert answer.slug in slugs, (answer.status, answer.body)


# Signatures -------------------------------------------------------------------------------------------------


def test_a_segment_needs_the_key_of_its_machine(peer: Peer) -> None:
    parts = split_segment(peer.signed(peer.payload()))
    stranger = Peer(peer.collector)
    signature = stranger.key.sign(parts.signing_input)
    refused(peer.send(assemble(parts.header, parts.payload, signature)), "bad-signature")


def test_a_stranger_cannot_sign_with_another_uuid(peer: Peer) -> None:
    """Its own key, the victim's address and payload: the header says who it is."""
    stranger = Peer(peer.collector)
    stranger.register()
    refused(stranger.send(stranger.signed(peer.payload()), path=peer.path), "wrong-machine")
    refused(stranger.send(stranger.signed(peer.payload())), "wrong-machine")


def test_an_unregistered_machine_is_told_to_register(collector: Collector) -> None:
    stranger = Peer(collector.url)
    answer = stranger.send(stranger.signed(stranger.payload()))
    refused(answer, "unregistered")
    assert answer.status == 404
    assert "gentwoo register" in answer.document["advice"]


def test_a_signature_of_nothing_but_zeros_is_worth_nothing(peer: Peer) -> None:
    parts = split_segment(peer.signed(peer.payload()))
    refused(peer.send(assemble(parts.header, parts.payload, bytes(SIGNATURE_SIZE))), "bad-signature")


def positions(compact: bytes, place: str) -> range:
    """Where in a compact form each kind of byte stands."""
    header = compact.index(b".")
    signature = compact.rindex(b".")
    return {
        "header": range(header),
        "payload": range(header + 1, signature),
        "signature": range(signature + 1, len(compact) - 1),
        "last": range(len(compact) - 1, len(compact)),
        "dots": range(header, signature + 1, signature - header),
    }[place]


@pytest.mark.parametrize("place", ["header", "payload", "signature", "last", "dots"])
def test_no_byte_can_be_altered(peer: Peer, place: str) -> None:
    compact = peer.signed(peer.payload(2))
    choice = random.Random(place)
    for _ in range(25):
        position = choice.choice(positions(compact, place))
        other = choice.choice([byte for byte in range(256) if byte != compact[position]])
        altered = compact[:position] + bytes([other]) + compact[position + 1 :]
        refused(peer.send(altered), "malformed", "bad-signature", "wrong-machine")


@pytest.mark.parametrize(
    "alter",
    [
        lambda compact: compact[:-1],
        lambda compact: compact + b"=",
        lambda compact: compact + b"\n",
        lambda compact: b" " + compact,
        lambda compact: compact + b"." + compact,
        lambda compact: compact.replace(b".", b"..", 1),
        lambda compact: b"",
        lambda compact: b"..",
        lambda compact: compact[: len(compact) // 2],
    ],
)
def test_no_byte_can_be_added_or_left_out(peer: Peer, alter: Callable[[bytes], bytes]) -> None:
    refused(peer.send(alter(peer.signed(peer.payload()))), "malformed", "bad-signature")


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "ES256"},
        {"typ": TOKEN_TYPE},
        {"typ": "JWT"},
        {"kid": "00000000-0000-8000-8000-000000000000"},
        {"kid": None},
        {"crit": ["b64"], "b64": False},
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}},
    ],
)
def test_a_header_says_what_it_has_to_and_nothing_else(peer: Peer, header: dict[str, object]) -> None:
    parts = split_segment(peer.signed(peer.payload()))
    forged = json.dumps({**json.loads(parts.header), **header}, separators=(",", ":")).encode()
    signing_input = base64url.encode_ascii(forged) + b"." + base64url.encode_ascii(parts.payload)
    compact = signing_input + b"." + base64url.encode_ascii(peer.key.sign(signing_input))
    refused(peer.send(compact), "malformed", "wrong-machine")


def test_a_key_that_belongs_to_everybody_cannot_be_registered(collector: Collector) -> None:
    peer = Peer(collector.url)
    body = json.dumps({"public_key": base64url.encode(bytes([1]) + bytes(31))}).encode()
    refused(peer.authorized("POST", "/v1/machines", body), "malformed", "unauthorized")


# Chains -----------------------------------------------------------------------------------------------------


def test_a_gap_is_answered_with_the_head(peer: Peer) -> None:
    records = [record(6)]
    answer = peer.send(peer.signed(peer.payload(first_seq=6, records=records)))
    refused(answer, "gap")
    assert answer.document["head"] == {"seq": 3, "segment": peer.prev}


def test_a_fork_is_answered_with_the_head(peer: Peer) -> None:
    """Another history from the beginning, or from the head with another past."""
    beginning = peer.payload(first_seq=1, prev=None, records=[record(1, name="beta")])
    answer = peer.send(peer.signed(beginning))
    refused(answer, "fork")
    assert answer.document["head"] == {"seq": 3, "segment": peer.prev}
    refused(peer.send(peer.signed(peer.payload(prev=digest(b"another past")))), "fork")


def test_a_replay_gets_the_same_answer_and_does_nothing(peer: Peer) -> None:
    compact = peer.signed(peer.payload(2))
    first = peer.send(compact)
    peer.seq, peer.prev = 5, digest(compact)
    again = [peer.send(compact) for _ in range(3)]
    assert all((answer.status, answer.document) == (200, first.document) for answer in again)


def test_a_segment_for_another_collector_is_refused(peer: Peer) -> None:
    elsewhere = peer.payload(audience="https://bdcs.example.org")
    refused(peer.send(peer.signed(elsewhere)), "wrong-audience")


def test_a_token_is_no_segment_and_a_segment_no_token(peer: Peer) -> None:
    refused(peer.send(peer.token("POST", f"{peer.path}/segments").encode()), "malformed")
    segment = peer.signed(peer.payload()).decode()
    refused(peer.authorized("GET", peer.path, token=segment), "unauthorized")


# Sizes and forms --------------------------------------------------------------------------------------------


def test_too_many_records_are_refused(peer: Peer) -> None:
    refused(peer.send(peer.signed(peer.payload(limits.RECORDS_PER_SEGMENT + 1))), "too-large")


@pytest.mark.parametrize("size", [limits.SEGMENT_SIZE + 1, 8 * limits.SEGMENT_SIZE])
def test_too_large_a_body_is_refused(peer: Peer, size: int) -> None:
    refused(peer.send(b"x" * size), "too-large")


def test_a_decompression_bomb_is_refused_without_being_filled(collector: Collector, peer: Peer) -> None:
    compressor = zstd.ZstdCompressor()
    piece = bytes(1 << 20)
    bomb = b"".join([*(compressor.compress(piece) for _ in range(BOMB >> 20)), compressor.flush()])
    assert len(bomb) < limits.ENCODED_BODY_SIZE
    before = peak_memory(collector)
    for _ in range(5):
        refused(peer.send(bomb, Content_Encoding="zstd"), "too-large")
    assert peak_memory(collector) - before < BOMB // 4


def peak_memory(collector: Collector) -> int:
    """The most memory that the collector ever had, in bytes."""
    assert collector.process is not None
    status = Path(f"/proc/{collector.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("zstd", b"not zstd"),
        ("zstd", zstd.compress(b"x" * 100)[:-3]),
        ("zstd", zstd.compress(b"x") + b"more"),
        ("zstd", b""),
        ("gzip", b"\x1f\x8b"),
        ("br", b"x"),
        ("zstd, zstd", zstd.compress(zstd.compress(b"x"))),
    ],
)
def test_an_encoding_that_is_wrong_or_unknown_is_refused(peer: Peer, encoding: str, body: bytes) -> None:
    refused(peer.send(body, Content_Encoding=encoding), "malformed", "unsupported-media")


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data", ""])
def test_a_segment_has_its_own_type(peer: Peer, kind: str) -> None:
    refused(peer.send(peer.signed(peer.payload()), Content_Type=kind), "unsupported-media")


DEEP = 100_000


@pytest.mark.parametrize(
    "text",
    [
        b"[" * DEEP,
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'{"machine":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b"1" * DEEP,
        b"-",
        b"null",
        b"\xff\xfe",
        b'{"a":1,"a":2}',
        b'{"first_seq":NaN}',
        b'{"first_seq":1e999}',
        b'"\\ud800"',
    ],
)
def test_json_that_is_hostile_or_none_is_refused_though_it_is_signed(peer: Peer, text: bytes) -> None:
    refused(peer.send(peer.signed(text)), "malformed")


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": nested(limits.JSON_DEPTH + 1)},
        {"extra": nested(500)},
        {"extra": "x" * (limits.EXTRA_SIZE + 1)},
        {f"extra{number}": 1 for number in range(limits.EXTRA_FIELDS + 1)},
        {"seq": True},
        {"seq": 4.0},
        {"seq": 5},
        {"seq": -1},
        {"seq": 10**30},
        {"event": "explode"},
        {"category": "../../etc"},
        {"name": "a\0b"},
        {"name": "a-1"},
        {"version": "1.0\n"},
        {"version": "9" * 200},
        {"repository": "<script>"},
        {"recorded_at": "2026-11-22T00:33:45Z"},
        {"recorded_at": "2026-02-30T00:00:00+00:00"},
        {"time_delta": -1},
        {"time_delta": 2**40},
        {"concurrency": 1.234},
        {"concurrency": -1},
        {"observed": "backfill"},
        {"cause": "manual"},
    ],
)
def test_a_record_that_breaks_a_rule_takes_its_segment_along(peer: Peer, changes: dict[str, object]) -> None:
    records = [record(4, **changes), record(5)]
    answer = peer.send(peer.signed(peer.payload(records=records)))
    refused(answer, "malformed")
    assert answer.status == 400


def test_a_member_that_occurs_twice_is_refused(peer: Peer) -> None:
    text = json.dumps(peer.payload())
    refused(peer.send(peer.signed(text.replace('"seq"', '"seq": 1, "seq"', 1).encode())), "malformed")
    refused(peer.send(peer.signed(f'{{"first_seq": 1, {text[1:]}'.encode())), "malformed")


# Tokens -----------------------------------------------------------------------------------------------------


def test_a_token_of_another_machine_opens_nothing(peer: Peer) -> None:
    stranger = Peer(peer.collector)
    stranger.register()
    for method, path in (("GET", peer.path), ("DELETE", peer.path), ("POST", f"{peer.path}/report-links")):
        refused(stranger.authorized(method, path), "unauthorized", "forbidden", "wrong-machine")
        posing = stranger.token(method, path, machine=peer.machine)
        refused(peer.authorized(method, path, token=posing), "unauthorized")


@pytest.mark.parametrize(
    "changes",
    [
        {"audience": "https://bdcs.example.org"},
        {"method": "DELETE"},
        {"url": "http://127.0.0.1:1/v1/machines"},
        {"body": b"other"},
        {"body": None},
        {"jti": "short"},
        {"jti": "with spaces, and long enough"},
    ],
)
def test_a_token_is_for_one_request(peer: Peer, changes: dict[str, Any]) -> None:
    answer = peer.authorized("GET", peer.path, token=peer.token("GET", peer.path, **changes))
    refused(answer, "unauthorized")
    assert answer.status == 401


def test_a_query_is_part_of_the_request(peer: Peer) -> None:
    refused(peer.authorized("GET", f"{peer.path}?a=1", token=peer.token("GET", peer.path)), "unauthorized")


@pytest.mark.parametrize("offset", [-3600, -(limits.TOKEN_LIFETIME + limits.TOKEN_LEEWAY + 2), 60, 3600])
def test_a_token_of_another_time_is_told_the_time(peer: Peer, offset: int) -> None:
    token = peer.token("GET", peer.path, now=time.time() + offset)
    answer = peer.authorized("GET", peer.path, token=token)
    refused(answer, "wrong-time")
    assert answer.status == 401
    assert abs(parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()) < 30


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "." * 5, "e" * (limits.TOKEN_SIZE + 1), "ÿ"])
def test_what_is_no_token_is_refused(peer: Peer, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    answer = request(peer.collector, "GET", peer.path, headers=headers)
    assert answer.status in (400, 401, 431), answer  # aiohttp itself may refuse such a header
    if answer.status == 401:
        refused(answer, "unauthorized")


def test_without_a_token_nothing_is_told(peer: Peer) -> None:
    for method, path in (("GET", peer.path), ("DELETE", peer.path), ("POST", f"{peer.path}/report-links")):
        refused(request(peer.collector, method, path), "unauthorized")
    refused(
        request(peer.collector, "POST", "/v1/machines", body=peer.registration(), headers=JSON),
        "unauthorized",
    )


def test_a_repeated_token_repeats_the_answer(peer: Peer) -> None:
    """A proxy may send a request twice: the second one does nothing."""
    path = f"{peer.path}/report-links"
    token = peer.token("POST", path)
    first, second = (peer.authorized("POST", path, token=token) for _ in range(2))
    assert first.status == second.status == 201
    assert first.document == second.document


def test_a_jti_that_served_another_request_is_refused(peer: Peer) -> None:
    path = f"{peer.path}/report-links"
    jti = "0123456789abcdef"
    assert peer.authorized("POST", path, token=peer.token("POST", path, jti=jti)).status == 201
    body = peer.registration()
    again = peer.token("POST", "/v1/machines", body, jti=jti)
    refused(peer.authorized("POST", "/v1/machines", body, token=again), "token-reused")


def test_nobody_registers_the_key_of_another(peer: Peer) -> None:
    """The token has to be of the very key that is registered."""
    stranger, other = Peer(peer.collector), Peer(peer.collector)
    body = other.registration()
    refused(stranger.authorized("POST", "/v1/machines", body), "unauthorized")
    posing = stranger.token("POST", "/v1/machines", body, machine=other.machine)
    refused(stranger.authorized("POST", "/v1/machines", body, token=posing), "unauthorized")


def test_who_is_forgotten_stays_so(collector: Collector) -> None:
    peer = Peer(collector.url)
    peer.register()
    peer.push()
    compact = peer.signed(peer.payload())
    assert peer.authorized("DELETE", peer.path).status == 204
    for answer in (peer.send(compact), peer.register()):
        refused(answer, "forgotten")
        assert answer.status == 410
    assert not [record for record in collector.export() if record["machine"] == str(peer.machine)]
