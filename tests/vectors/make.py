# SPDX-License-Identifier: GPL-2.0-or-later
"""The golden vectors: `python -m tests.vectors.make` writes them, tests/unit/test_wire_vectors.py compares.

They pin the protocol. A change here is a change of the protocol: say so in CHANGELOG.md.
"""

import json
from pathlib import Path

from gentwoo_client.wire import base64url
from gentwoo_client.wire.json_text import dump
from gentwoo_client.wire.segments import digest, sign_segment
from gentwoo_client.wire.tokens import body_digest, make_token
from tests.wire_samples import (
    AUDIENCE,
    NOW,
    header,
    machine,
    private_key,
    public_key,
    record,
    segment,
    signed,
)

HERE = Path(__file__).parent
Json = dict[str, object]


def identity() -> Json:
    """Seeds, the public keys that follow from them, and the UUIDs that follow from those."""
    return {
        "machines": [
            {
                "seed": (bytes([number]) * 32).hex(),
                "public_key": base64url.encode(public_key(number)),
                "machine": str(machine(number)),
            }
            for number in (1, 2, 255)
        ],
        "refused_public_keys": [
            {"why": "31 bytes", "public_key": base64url.encode(bytes(31) + b"")},
            {"why": "padding", "public_key": base64url.encode(public_key()) + "="},
            {"why": "bits left over", "public_key": base64url.encode(public_key())[:-1] + "-"},
            {"why": "neutral point", "public_key": base64url.encode(b"\1" + bytes(31))},
            {"why": "order 2", "public_key": base64url.encode(b"\xec" + b"\xff" * 30 + b"\x7f")},
        ],
    }


def records() -> Json:
    """Records that must be accepted, and records that must be refused, with the field to blame."""
    upgrade = record().to_json()
    removal = record(
        event="uninstall",
        version="1.0",
        cause="replaced",
        install_type=None,
        replaces=None,
        time_delta=1,
        concurrency=2.0,
    ).to_json()
    failure = record(
        event="failure",
        name="9base",
        version="6_alpha3_p2-r10",
        cause="build",
        install_type=None,
        replaces=None,
        repository=None,
        observed="backfill",
        clock="unknown",
        concurrency=None,
        time_delta=None,
    ).to_json()
    future = {**upgrade, "use": ["ssl", "-doc"], "note": {"de": "für später"}}
    return {
        "accepted": [
            upgrade,
            removal,
            failure,
            future,
            {**upgrade, "version": "1.8-r00.1", "concurrency": 1},
        ],
        "refused": [{"field": field, "record": {**upgrade, **changes}} for field, changes in _WRONG_RECORDS],
    }


_WRONG_RECORDS: tuple[tuple[str, Json], ...] = (
    ("seq", {"seq": 0}),
    ("seq", {"seq": True}),
    ("seq", {"seq": 1.0}),
    ("seq", {"seq": 2**53}),
    ("event", {"event": "upgrade"}),
    ("event", {"event": ["install"]}),
    ("category", {"category": "-misc"}),
    ("category", {"category": "app/misc"}),
    ("category", {"category": "a" * 129}),
    ("name", {"name": "gcc-config-9x"}),
    ("name", {"name": "alpha\n"}),
    ("name", {"name": "älpha"}),
    ("version", {"version": "1.0b2"}),
    ("version", {"version": "1." + "0" * 127}),
    ("version", {"version": "١"}),
    ("repository", {"repository": ""}),
    ("repository", {"repository": "../gentoo"}),
    ("install_type", {"install_type": "Source"}),
    ("install_type", {"event": "uninstall", "cause": "manual", "replaces": None}),
    ("cause", {"cause": "manual"}),
    ("cause", {"event": "uninstall", "install_type": None, "replaces": None}),
    ("replaces", {"replaces": "none"}),
    ("replaces", {"event": "failure"}),
    ("recorded_at", {"recorded_at": "2026-11-22T00:33:45Z"}),
    ("recorded_at", {"recorded_at": "2026-11-22T00:33:60+00:00"}),
    ("recorded_at", {"recorded_at": "2026-02-29T00:33:45+00:00"}),
    ("recorded_at", {"recorded_at": "1969-12-31T23:59:59+00:00"}),
    ("recorded_at", {"recorded_at": "2026-11-22T01:33:45+01:00"}),
    ("recorded_at", {"recorded_at": NOW}),
    ("time_delta", {"time_delta": -1}),
    ("time_delta", {"time_delta": 1.5}),
    ("concurrency", {"concurrency": 1.234}),
    ("concurrency", {"concurrency": -1.0}),
    ("concurrency", {"concurrency": False}),
    ("observed", {"observed": None}),
    ("clock", {"clock": "good"}),
    ("clock", {"observed": "backfill"}),
    ("x", {"x": 2**53}),
    ("x", {"x": [[[[[[[[[1]]]]]]]]]}),
    ("x", {"x": "x" * 2048}),
)


def segments() -> Json:
    """Two segments of machine 1, the second chained to the first."""
    first = sign_segment(segment(), private_key())
    second = sign_segment(segment(first_seq=3, count=1, prev=digest(first)), private_key())
    return {
        "public_key": base64url.encode(public_key()),
        "machine": str(machine()),
        "segments": [
            {
                "payload": (segment() if compact is first else segment(3, 1, digest(first))).to_json(),
                "compact": compact.decode(),
                "digest": digest(compact),
            }
            for compact in (first, second)
        ],
    }


def tokens() -> Json:
    """Requests and the tokens that permit them, to be verified at `now`."""
    body = dump({"public_key": base64url.encode(public_key())})
    requests: tuple[tuple[str, str, bytes | None], ...] = (
        ("POST", f"{AUDIENCE}/v1/machines", body),
        ("GET", f"{AUDIENCE}/v1/machines/{machine()}", b""),
        ("GET", f"{AUDIENCE}/v1/search?q=alpha%20beta", b""),
        ("PUT", f"{AUDIENCE}/v1/targets/amd64/packages?sha256=00", None),
    )
    return {
        "public_key": base64url.encode(public_key()),
        "machine": str(machine()),
        "audience": AUDIENCE,
        "now": NOW,
        "tokens": [
            {
                "method": method,
                "url": url,
                "body": None if body is None else body.decode(),
                "bd": None if body is None else body_digest(body),
                "jti": f"golden-token-000{number}",
                "token": make_token(
                    private_key(),
                    machine=machine(),
                    audience=AUDIENCE,
                    method=method,
                    url=url,
                    body=body,
                    now=NOW,
                    jti=f"golden-token-000{number}",
                ),
            }
            for number, (method, url, body) in enumerate(requests, 1)
        ],
    }


def invalid_segments() -> Json:
    """Segments that must be refused with the key of machine 1, each with the slug of its problem."""
    good = sign_segment(segment(), private_key())
    payload = segment().to_json()
    head, body, signature = good.split(b".")
    other = sign_segment(segment(count=1), private_key()).split(b".")[2]
    without_records = {name: value for name, value in payload.items() if name != "records"}
    deep = b"[" * 10_000 + b"]" * 10_000
    right = dump(header())
    text = dump(payload)
    one = record().to_json()

    def with_payload(**changes: object) -> bytes:
        return signed(right, dump({**payload, **changes}))

    def with_header(**members: str) -> bytes:
        return signed(dump(header(**members)), text)

    cases: tuple[tuple[str, str, bytes], ...] = (
        ("bad-signature", "another machine's signature", signed(right, text, number=2)),
        ("bad-signature", "another machine altogether", sign_segment(segment(number=2), private_key(2))),
        ("bad-signature", "altered payload", _altered(good)),
        ("bad-signature", "two signatures swapped", head + b"." + body + b"." + other),
        ("malformed", "empty", b""),
        ("malformed", "two parts", head + b"." + body),
        ("malformed", "four parts", good + b".e30"),
        ("malformed", "padding", head + b"." + body + b"=." + signature),
        ("malformed", "line break", good + b"\n"),
        ("malformed", "bits left over", good[:-1] + _next(good[-1:])),
        ("malformed", "standard base64 alphabet", good.replace(b"_", b"/").replace(b"-", b"+")),
        ("malformed", "algorithm none", with_header(alg="none")),
        ("malformed", "algorithm HS256", with_header(alg="HS256")),
        ("malformed", "critical extension", signed(right[:-1] + b',"crit":["b64"],"b64":false}', text)),
        ("malformed", "key in the header", with_header(jwk="{}")),
        ("malformed", "a token's type", with_header(typ="gentwoo-request+jwt")),
        ("malformed", "upper-case UUID", with_header(kid=str(machine()).upper())),
        ("malformed", "UUID of version 4", with_header(kid="6ba7b810-9dad-41d1-80b4-00c04fd430c8")),
        ("malformed", "member twice in the header", signed(right[:-1] + b',"alg":"EdDSA"}', text)),
        ("malformed", "header is an array", signed(b"[]", text)),
        ("malformed", "payload is not JSON", signed(right, b"records")),
        ("malformed", "payload is not UTF-8", signed(right, text.replace(b"alpha", b"alph\xe9"))),
        ("malformed", "member twice in the payload", signed(right, text[:-1] + b',"first_seq":1}')),
        (
            "malformed",
            "member twice in a record",
            signed(right, text.replace(b'"seq":1,', b'"seq":1,"seq":1,')),
        ),
        ("malformed", "NaN", signed(right, text.replace(b"1.25", b"NaN"))),
        ("malformed", "infinity", signed(right, text.replace(b"1.25", b"1e999"))),
        ("malformed", "5,000 digits", signed(right, text.replace(b":42", b":" + b"4" * 5000))),
        ("malformed", "lone surrogate", signed(right, text[:-1] + b',"x":"\\ud800"}')),
        ("malformed", "nested 10,000 deep", signed(right, text[:-1] + b',"x":' + deep + b"}")),
        ("malformed", "no records", with_payload(records=[])),
        ("malformed", "records missing", signed(right, dump(without_records))),
        ("malformed", "seq with a gap inside", with_payload(records=[one, {**one, "seq": 3}])),
        ("malformed", "seq begins elsewhere", with_payload(first_seq=2, prev=digest(good))),
        ("malformed", "prev at the first", with_payload(prev=digest(good))),
        ("malformed", "no prev after the first", with_payload(first_seq=2, records=[{**one, "seq": 2}])),
        (
            "malformed",
            "prev is no digest",
            with_payload(first_seq=2, prev="A" * 42 + "B", records=[{**one, "seq": 2}]),
        ),
        ("malformed", "created_at with another zone", with_payload(created_at="2026-11-22T00:33:46+01:00")),
        ("malformed", "audience with trailing slash", with_payload(audience=AUDIENCE + "/")),
        ("malformed", "bool for an integer", with_payload(first_seq=True)),
        ("wrong-machine", "speaks of another machine", with_payload(machine=str(machine(2)))),
    )
    return {
        "public_key": base64url.encode(public_key()),
        "refused": [
            {"problem": problem, "why": why, "compact": compact.decode()} for problem, why, compact in cases
        ],
    }


def _altered(compact: bytes) -> bytes:
    """One letter of one record changed, under the old signature."""
    head, body, signature = compact.split(b".")
    payload = base64url.decode(body).replace(b"alpha", b"alphb", 1)
    return b".".join((head, base64url.encode_ascii(payload), signature))


def _next(character: bytes) -> bytes:
    """The base64url character after `character`: only bits left over differ."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = alphabet.index(character) + 1
    return alphabet[place : place + 1]


def invalid_tokens() -> Json:
    """Tokens that must be refused for this request, each with the slug of its problem."""
    url = f"{AUDIENCE}/v1/machines/{machine()}"
    right = dump(header(typ="gentwoo-request+jwt"))
    claims: Json = {
        "sub": str(machine()),
        "aud": AUDIENCE,
        "htm": "GET",
        "htu": url,
        "jti": "golden-token-0009",
        "iat": NOW,
        "exp": NOW + 60,
        "bd": body_digest(b""),
    }

    def claiming(**changes: object) -> bytes:
        merged = {**claims, **changes}
        return signed(right, dump({name: value for name, value in merged.items() if value != "absent"}))

    cases: tuple[tuple[str, str, bytes], ...] = (
        ("unauthorized", "empty", b""),
        ("unauthorized", "another machine's signature", signed(right, dump(claims), number=2)),
        ("unauthorized", "algorithm none", signed(right.replace(b"EdDSA", b"none"), dump(claims))),
        ("unauthorized", "type JWT", signed(dump(header(typ="JWT")), dump(claims))),
        ("unauthorized", "a segment", sign_segment(segment(), private_key())),
        ("unauthorized", "another collector", claiming(aud="https://other.example.org")),
        ("unauthorized", "a list of collectors", claiming(aud=[AUDIENCE])),
        ("unauthorized", "another method", claiming(htm="DELETE")),
        ("unauthorized", "another URL", claiming(htu=url + "?a=b")),
        ("unauthorized", "another body", claiming(bd=body_digest(b"{}"))),
        ("unauthorized", "no body digest", claiming(bd="absent")),
        ("unauthorized", "another subject", claiming(sub=str(machine(2)))),
        ("unauthorized", "no jti", claiming(jti="absent")),
        ("unauthorized", "short jti", claiming(jti="short")),
        ("unauthorized", "lives too long", claiming(exp=NOW + 61)),
        ("unauthorized", "fractional time", claiming(iat=NOW + 0.5)),
        ("wrong-time", "over", claiming(iat=NOW - 80, exp=NOW - 20)),
        ("wrong-time", "not yet", claiming(iat=NOW + 20, exp=NOW + 80)),
    )
    return {
        "public_key": base64url.encode(public_key()),
        "machine": str(machine()),
        "audience": AUDIENCE,
        "method": "GET",
        "url": url,
        "now": NOW,
        "leeway": 10,
        "refused": [
            {"problem": problem, "why": why, "token": token.decode()} for problem, why, token in cases
        ],
    }


FILES = {
    "identity.json": identity,
    "records.json": records,
    "segments.json": segments,
    "tokens.json": tokens,
    "invalid-segments.json": invalid_segments,
    "invalid-tokens.json": invalid_tokens,
}


def text_of(name: str) -> str:
    """What the file `name` must hold."""
    return json.dumps(FILES[name](), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in FILES:
        (HERE / name).write_text(text_of(name))
