# SPDX-License-Identifier: GPL-2.0-or-later
"""Ten thousand malformed requests: each is refused with a problem document of 4xx, and none leaves a record.

Two fuzzers: schemathesis, which breaks the rules that /openapi.json states, and hypothesis, which knows the
protocol and breaks it deeper inside, in what is properly signed as well. GENTWOO_TEST_SEED repeats a run.
"""

import contextlib
import json
import os
import random
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any, Final, Self
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
from backports import zstd
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.core.result import Ok

from gentwoo_client.wire import base64url
from gentwoo_client.wire.errors import ProtocolError
from gentwoo_client.wire.segments import FIELDS, open_segment
from tests.peer import Peer, problem_of, record, request
from tests.processes import Collector

BY_SCHEMATHESIS: Final = 1_500
BY_HYPOTHESIS: Final = 8_500
SEED: Final = int(os.environ.get("GENTWOO_TEST_SEED") or random.randrange(1 << 32))
FUZZING: Final[dict[str, Any]] = {
    "deadline": None,
    "database": None,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    home = tmp_path_factory.mktemp("collector")
    (home / "bdcs.toml").write_text("registrations_per_network = 1000000\n")
    with Collector(home, options=("--config", str(home / "bdcs.toml"))) as collector:
        yield collector
        collector.bdcs("check")
        assert collector.process is not None
        assert collector.process.is_running()
        assert "internal error" not in collector.process.output


@pytest.fixture
def peer(collector: Collector) -> Iterator[Peer]:
    """A registered machine with three records; at the end these must be all there are."""
    peer = Peer(collector.url)
    assert peer.register().status == 201
    peer.push(3)
    before = collector.export()
    print(f"GENTWOO_TEST_SEED={SEED}")
    yield peer
    assert collector.export() == before
    peer.push()  # and it goes on as if nothing had been


# schemathesis -----------------------------------------------------------------------------------------------


@schemathesis.serializer("application/jose", "application/vnd.gentoo.gpkg")
def as_bytes(_context: object, value: object) -> bytes:
    """Whatever is to be sent as a segment or as a package, as bytes."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@pytest.mark.timeout(600)
def test_what_the_description_forbids_is_refused(collector: Collector, peer: Peer) -> None:
    document = request(collector.url, "GET", "/openapi.json").document
    schema = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert operations
    refused = 0
    with requests.Session() as session:

        def call(case: Any) -> None:
            nonlocal refused
            prepared = prepare(case, session, collector, peer)
            answer = session.send(prepared, timeout=60, allow_redirects=False)
            if answer.status_code >= 400:
                problem_of(answer.status_code, answer.headers.get("Content-Type", ""), answer.content)
                refused += 1

        share = BY_SCHEMATHESIS // len(operations) + 1
        while refused < BY_SCHEMATHESIS:
            for operation in operations:
                strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
                with contextlib.suppress(Unsatisfiable):  # nothing about this operation can be wrong
                    seed(SEED + refused)(settings(max_examples=share, **FUZZING)(given(strategy)(call)))()
    assert refused >= BY_SCHEMATHESIS


def prepare(
    case: Any, session: requests.Session, collector: Collector, peer: Peer
) -> requests.PreparedRequest:
    """The request of `case`; every other one with a token that is right for it, so that it gets further."""
    arguments = case.as_transport_kwargs(base_url=collector.url)
    prepared = session.prepare_request(
        requests.Request(
            **{name: value for name, value in arguments.items() if name not in ("timeout", "verify", "cert")}
        )
    )
    body = prepared.body or b""
    if len(prepared.url or "") % 2 and isinstance(body, str | bytes) and prepared.method != "DELETE":
        path = (prepared.url or "").removeprefix(collector.url)
        raw = body.encode() if isinstance(body, str) else body
        prepared.headers["Authorization"] = f"Bearer {peer.token(prepared.method or '', path, raw)}"
    return prepared


# hypothesis -------------------------------------------------------------------------------------------------


class Wire:
    """One connection that takes any bytes at all; opened anew where the collector closes it."""

    def __init__(self, collector: str) -> None:
        address = urlsplit(collector)
        self._address = (address.hostname or "", address.port or 0)
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def exchange(self, head: bytes, body: bytes) -> tuple[int, str, bytes]:
        """Send one request; return status, Content-Type and body of its answer."""
        try:
            return self._exchange(head + body)
        except (ConnectionError, EmptyAnswer):
            self._close()
            return self._exchange(head + body)

    def _exchange(self, data: bytes) -> tuple[int, str, bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=60)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):  # refused before all of it was read: the answer is there
            self._socket.sendall(data)
        response = HTTPResponse(self._socket)
        try:
            response.begin()
        except ConnectionError:
            raise EmptyAnswer from None
        body = response.read()
        kind = response.getheader("Content-Type", "") or ""
        if response.will_close:
            self._close()
        return response.status, kind, body

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class EmptyAnswer(Exception):
    """The connection was closed before an answer began."""


def head(method: str, path: str, body: bytes, **headers: str) -> bytes:
    """A request's head, of whatever it is given."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
    | st.sampled_from(["install", "live", "", "1.0", "app-misc", "-1", "../..", "9" * 300, "\x00", "𝕏"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
RECORD_FIELDS = tuple(record(1))
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40)
"""What cannot end the line that it stands in: after a second request, answers would be mixed up."""
ENCODINGS = st.sampled_from(["", "zstd", "gzip", "identity", "br, zstd", "zstd;q=1", "\tzstd"])
METHODS = st.sampled_from(
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD2", "OPTIONS", "get", "P\x00ST", "é"]
)


class Malice:
    """Makes requests that are wrong in one way or another. Each is (head, body)."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def requests(self) -> st.SearchStrategy[tuple[bytes, bytes]]:
        """Any of them; those that get far are the more frequent."""
        kinds = (
            self.broken_payloads(),
            self.broken_records(),
            self.broken_records(),
            self.any_signed_json(),
            self.any_signed_bytes(),
            self.broken_compact(),
            self.any_body(),
            self.broken_registrations(),
            self.any_tokens(),
            self.any_addresses(),
            self.any_heads(),
        )
        return st.one_of(*kinds)

    def _push(self, compact: bytes, encoding: str = "") -> tuple[bytes, bytes]:
        body = zstd.compress(compact) if encoding == "zstd" else compact
        more = {"Content_Encoding": encoding} if encoding else {}
        path = f"{self._peer.path}/segments"
        return head("POST", path, body, Content_Type="application/jose", **more), body

    def _signed(self, payload: object) -> tuple[bytes, bytes] | None:
        """A push of `payload`, or None where that happens to be a segment in order."""
        compact = self._peer.signed(payload)
        with contextlib.suppress(ProtocolError):
            open_segment(compact, self._peer.public)
            return None
        return self._push(compact, "zstd" if len(compact) % 2 else "")

    def broken_payloads(self) -> st.SearchStrategy[tuple[bytes, bytes]]:
        """A member of the payload replaced or left out."""

        def build(name: str, value: object, leave_out: bool) -> tuple[bytes, bytes] | None:
            payload = self._peer.payload(**{name: value})
            if leave_out:
                del payload[name]
            return self._signed(payload)

        return wrong(st.builds(build, st.sampled_from(FIELDS), VALUES, st.booleans()))

    def broken_records(self) -> st.SearchStrategy[tuple[bytes, bytes]]:
        """Fields of one record replaced or left out."""

        def build(changes: dict[str, object], missing: set[str]) -> tuple[bytes, bytes] | None:
            broken = {name: value for name, value in record(4, **changes).items() if name not in missing}
            return self._signed(self._peer.payload(records=[broken, record(5)]))

        changes = st.dictionaries(st.sampled_from(RECORD_FIELDS) | st.text(max_size=6), VALUES, max_size=3)
        return wrong(st.builds(build, changes, st.sets(st.sampled_from(RECORD_FIELDS), max_size=1)))

    def any_signed_json(self) -> st.SearchStrategy[tuple[bytes, bytes]]:
        """Whatever is JSON."""
        return wrong(st.builds(self._signed, VALUES))

    def any_signed_bytes(self) -> st.SearchStrategy[tuple[bytes, bytes]]:
        """Whatever is bytes."""
        return wrong(st.builds(self._signed, st.binary(max_size=200)))

    def broken_compact(self) -> st.SearchStrategy[tuple[bytes, bytes]]:
        """A good segment with some of its bytes replaced."""
        compact = self._peer.signed(self._peer.payload())

        def build(position: int, replacement: bytes) -> tuple[bytes, bytes] | None:
            altered = compact[:position] + replacement + compact[position + len(replacement) :]
            return None if altered == compact else self._push(altered)

        return wrong(st.builds(build, st.integers(0, len(compact) - 1), st.binary(min_size=1, max_size=4)))

    def any_body(self) -> st.SearchStrategy[tuple[bytes, bytes]]:
        """Bytes as a segment, under any encoding."""

        def build(body: bytes, encoding: str, kind: str) -> tuple[bytes, bytes]:
            more = {"Content_Encoding": encoding} if encoding else {}
            return head("POST", f"{self._peer.path}/segments", body, Content_Type=kind, **more), body

        kinds = st.sampled_from(["application/jose", "application/json", "text/plain", "", "a/b; c=d", "*"])
        return st.builds(build, st.binary(max_size=300), ENCODINGS, kinds)

    def broken_registrations(self) -> st.SearchStrategy[tuple[bytes, bytes]]:
        """Documents that are no registration, under a token that is right for them."""

        def build(value: object, key: bytes, as_key: bool) -> tuple[bytes, bytes] | None:
            document = {"public_key": base64url.encode(key)} if as_key else value
            body = json.dumps(document).encode()
            if body == self._peer.registration():
                return None
            token = self._peer.token("POST", "/v1/machines", body)
            headers = {"Content_Type": "application/json", "Authorization": f"Bearer {token}"}
            return head("POST", "/v1/machines", body, **headers), body

        return wrong(st.builds(build, VALUES, st.binary(max_size=40), st.booleans()))

    def any_tokens(self) -> st.SearchStrategy[tuple[bytes, bytes]]:
        """The machine's own address, under anything but the right token."""

        def build(method: str, claims: dict[str, Any], text: str, signed: bool) -> tuple[bytes, bytes]:
            token = self._peer.signed(claims, kind="gentwoo-request+jwt").decode() if signed else text
            return head(method, self._peer.path, b"", Authorization=f"Bearer {token}"), b""

        names = st.sampled_from(["sub", "aud", "htm", "htu", "bd", "jti", "iat", "exp"])
        claims = st.dictionaries(names, VALUES)
        return st.builds(build, st.sampled_from(["GET", "DELETE"]), claims, WORDS, st.booleans())

    def any_addresses(self) -> st.SearchStrategy[tuple[bytes, bytes]]:
        """Addresses under /v1 that are none, by any method."""
        tails = WORDS | st.sampled_from(
            [
                "machines/..",
                "machines/%00",
                "machines//segments",
                "packages/%2e%2e/x",
                "%ff",
                "?",
            ]
        )
        return st.builds(
            lambda method, tail: (
                head(method, f"/v1/x{tail}" if tail.isspace() else f"/v1/{tail}", b""),
                b"",
            ),
            METHODS,
            tails,
        )

    def any_heads(self) -> st.SearchStrategy[tuple[bytes, bytes]]:
        """What is hardly HTTP."""
        hostile = (
            "Content-Length: -1",
            "Content-Length: 1\r\nContent-Length: 2",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Transfer-Encoding: gzip, chunked",
            "Content-Length: 99999999999999999999",
            "Content-Type: a\0b",
            ": nameless",
            "X: " + "y" * 20_000,
            "Expect: 1000-never",
        )
        return st.builds(
            lambda method, line, version: (
                f"{method} {self._peer.path}/segments HTTP/{version}\r\nHost: a\r\n{line}\r\n\r\n".encode(),
                b"",
            ),
            METHODS,
            st.sampled_from(hostile),
            st.sampled_from(["1.1", "1.0", "0.9", "2", "1.1.1", "x"]),
        )


def wrong(made: st.SearchStrategy[tuple[bytes, bytes] | None]) -> st.SearchStrategy[tuple[bytes, bytes]]:
    """Without those that came out in order."""
    return made.filter(lambda item: item is not None)  # type: ignore[return-value]  # None is filtered out


@pytest.mark.timeout(600)
def test_what_the_protocol_forbids_is_refused(collector: Collector, peer: Peer) -> None:
    refused = 0
    with Wire(collector.url) as wire:

        @seed(SEED)
        @settings(max_examples=BY_HYPOTHESIS, **FUZZING)
        @given(made=Malice(peer).requests())
        def send(made: tuple[bytes, bytes]) -> None:
            nonlocal refused
            status, kind, body = wire.exchange(*made)
            problem_of(status, kind, body)
            refused += 1

        while refused < BY_HYPOTHESIS:
            send()
    assert refused >= BY_HYPOTHESIS
