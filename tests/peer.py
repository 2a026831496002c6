# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that speaks the wire protocol by hand, rightly or wrongly, to a real collector."""

import http.client
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gentwoo_client.wire import base64url, segments
from gentwoo_client.wire.identity import machine_uuid
from gentwoo_client.wire.jws import sign
from gentwoo_client.wire.records import format_time
from gentwoo_client.wire.segments import SEGMENT_TYPE
from gentwoo_client.wire.tokens import make_token

JOSE = {"Content-Type": "application/jose"}
JSON = {"Content-Type": "application/json"}
PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the collector said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object of the body."""
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document

    @property
    def slug(self) -> str:
        """Which problem it is; raises `AssertionError` unless it is a problem document, whole and sound."""
        return problem_of(self.status, self.headers.get("Content-Type", ""), self.body)


def problem_of(status: int, content_type: str, body: bytes) -> str:
    """The slug of a problem document (RFC 9457) as every refusal has to be. Raises `AssertionError`."""
    assert 400 <= status < 500, (status, body)
    assert content_type.partition(";")[0].strip() == PROBLEM, (status, content_type, body)
    document = json.loads(body)
    assert document["status"] == status, (status, document)
    assert all(document[name] and isinstance(document[name], str) for name in ("title", "detail", "advice"))
    urn: str = document["type"]
    assert urn.startswith("urn:gentwoo:problem:"), document
    return urn.removeprefix("urn:gentwoo:problem:")


def request(
    collector: str,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request over a connection of its own."""
    address = urlsplit(collector)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(status=response.status, headers=dict(response.headers), body=response.read())
    finally:
        connection.close()


def record(seq: int, /, **changes: object) -> dict[str, object]:
    """A record as on the wire."""
    return {
        "seq": seq,
        "event": "install",
        "category": "app-misc",
        "name": "alpha",
        "version": "1.0",
        "repository": "gentoo",
        "install_type": "source",
        "cause": None,
        "replaces": None,
        "recorded_at": "2026-11-22T00:33:45+00:00",
        "time_delta": 10,
        "concurrency": 1.0,
        "observed": "live",
        "clock": "synchronized",
        **changes,
    }


@dataclass(slots=True)
class Peer:
    """One machine: its key, and the chain that it believes to have."""

    collector: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    seq: int = 0
    prev: str | None = None

    @property
    def public(self) -> bytes:
        """The raw public key."""
        return self.key.public_key().public_bytes_raw()

    @property
    def machine(self) -> uuid.UUID:
        """The UUID that follows from the key."""
        return machine_uuid(self.public)

    @property
    def path(self) -> str:
        """The machine's own path."""
        return f"/v1/machines/{self.machine}"

    def token(self, method: str, path: str, body: bytes = b"", /, **changes: Any) -> str:
        """A token for that request; `changes` are arguments of `make_token`."""
        arguments: dict[str, Any] = {
            "machine": self.machine,
            "audience": self.collector,
            "method": method,
            "url": self.collector + path,
            "body": body,
            "now": time.time(),
            **changes,
        }
        return make_token(self.key, **arguments)

    def authorized(self, method: str, path: str, body: bytes = b"", *, token: str | None = None) -> Answer:
        """Send a request with a token for it, or with `token`."""
        headers = {
            "Authorization": f"Bearer {token or self.token(method, path, body)}",
            **(JSON if body else {}),
        }
        return request(self.collector, method, path, body=body or None, headers=headers)

    def register(self) -> Answer:
        """Register, as a client does."""
        return self.authorized("POST", "/v1/machines", self.registration())

    def registration(self) -> bytes:
        """The body of a registration."""
        return json.dumps({"public_key": base64url.encode(self.public)}).encode()

    def payload(self, count: int = 1, /, **changes: object) -> dict[str, Any]:
        """The payload that continues the chain; `changes` are members to put in."""
        first = self.seq + 1
        return {
            "machine": str(self.machine),
            "audience": self.collector,
            "first_seq": first,
            "prev": self.prev,
            "created_at": format_time(int(time.time())),
            "records": [record(seq) for seq in range(first, first + count)],
            **changes,
        }

    def signed(self, payload: object, *, kind: str = SEGMENT_TYPE) -> bytes:
        """Sign anything at all: bytes as they are, everything else as JSON."""
        return sign(
            payload if isinstance(payload, bytes) else json.dumps(payload).encode(), self.key, kind=kind
        )

    def send(self, compact: bytes, *, path: str | None = None, **headers: str) -> Answer:
        """Push `compact`, whatever it is."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(
            self.collector, "POST", f"{path or self.path}/segments", body=compact, headers={**JOSE, **more}
        )

    def push(self, count: int = 1) -> Answer:
        """Push `count` good records and remember that they went."""
        compact = self.signed(self.payload(count))
        answer = self.send(compact)
        assert answer.status == 200, answer
        self.seq += count
        self.prev = segments.digest(compact)
        return answer
