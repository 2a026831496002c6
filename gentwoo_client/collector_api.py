# SPDX-License-Identifier: GPL-2.0-or-later
"""Speaking HTTP with the collector: one connection, signed requests, answers that are not trusted.

    async with CollectorAPI("https://bdcs.example.org", key) as collector:
        state = await collector.register()
        answer = await collector.send_segment(compact)

Every method raises `TryLater` (`CollectorUnreachable`, `CollectorBusy`, `CollectorBroken`) or
`CollectorRefused`, never anything of aiohttp. Every request may be repeated: a segment is the same segment,
and a token's `jti` makes the second one get the first one's answer. What anybody may ask is `PublicAPI`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID

import aiohttp
from yarl import URL

from gentwoo_client.errors import (
    CollectorBroken,
    CollectorBusy,
    CollectorRefused,
    CollectorUnreachable,
    TryLater,
    printable,
)
from gentwoo_client.machine_key import MachineKey
from gentwoo_client.settings import is_loopback
from gentwoo_client.version import VERSION
from gentwoo_client.wire import base64url, limits
from gentwoo_client.wire.errors import (
    Conflict,
    Delayed,
    Gap,
    InvalidTarget,
    Malformed,
    ProtocolError,
    RequestTimeout,
    TooManyRequests,
    WrongTime,
    from_document,
)
from gentwoo_client.wire.search import SearchAnswer
from gentwoo_client.wire.targets import Target, TargetKey, targets_from_json
from gentwoo_client.wire.tokens import make_token

T = TypeVar("T")

SEGMENT_TYPE = "application/jose"
JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long is waited for the collector, in seconds."""

    connect: float = 15.0
    read: float = 60.0
    """Between two pieces of an answer; a collector under load commits before it answers."""
    total: float = 180.0
    keep_alive: float = 120.0
    """How long an idle connection is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last record and segment of a machine's chain that the collector has."""

    seq: int
    segment: str | None
    """Digest of the segment; None before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """What the collector says about a machine."""

    machine: UUID
    state: str
    """`approved`, `awaiting-approval`, or a word of a newer collector."""
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentAnswer:
    """What became of a segment: it is durable, or it does not continue what the collector has."""

    outcome: Literal["accepted", "gap", "fork"]
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLink:
    """An address that shows the machine's own page to whoever has it, for a short while."""

    url: str
    expires_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A successful answer: its document is None where there is no body."""

    status: int
    document: object


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAnswer:
    """A successful answer that is no JSON."""

    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Response:
    """What came over the wire, before it is judged."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState:
    """What the binhost answers whoever asks for an index."""

    status: int
    """The HTTP status: 200, or why it is not to be had."""
    modified_at: int | None
    """Last-Modified in Unix seconds, which Portage takes for the index's TIMESTAMP."""


class PublicAPI:
    """The collector at `audience`, as anybody sees it. Use as an async context manager.

    `address` is where it is reached, where that is not its public_url: another way to the same collector.
    """

    def __init__(
        self, audience: str, *, patience: Patience | None = None, address: str | None = None
    ) -> None:
        self.audience = audience
        self._address = address or audience
        self._patience = patience or Patience()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=self._patience.keep_alive),
            timeout=aiohttp.ClientTimeout(
                total=self._patience.total, sock_connect=self._patience.connect, sock_read=self._patience.read
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"gentwoo/{VERSION}", "Accept-Encoding": "identity"},
            trust_env=not is_loopback(self._address),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def targets(self, credentials: tuple[str, str] | None = None) -> tuple[Target, ...]:
        """Return the targets of the binhost: those for everybody, and those that `credentials` open.

        `credentials` are name and token, as HTTP basic has them.
        """
        headers = {} if credentials is None else {"Authorization": aiohttp.BasicAuth(*credentials).encode()}
        response = await self._get("/v1/targets", limits.TARGETS_SIZE, headers)
        try:
            return targets_from_json(_parse(response.body))
        except InvalidTarget as error:
            raise CollectorBroken(f"{self.audience}: a target that cannot be: {error}") from None

    async def public_key(self, key: TargetKey) -> bytes:
        """Return the file that holds a target's key."""
        if not key.url.startswith(f"{self.audience}/"):
            raise CollectorBroken(
                f"{self.audience} names a key elsewhere, at {key.url}",
                advice="set `collector` to exactly the collector's `public_url`",
            )
        path = key.url.removeprefix(self.audience)
        return (await self._get(path, limits.PUBLIC_KEY_SIZE, {})).body

    async def search(self, query: str, *, after: str = "", limit: int) -> SearchAnswer:
        """Return packages of the catalogue that `query` may mean; `after` is what the page before said."""
        words = {"q": query, "limit": str(limit), **({"after": after} if after else {})}
        response = await self._get(f"/v1/search?{urlencode(words)}", limits.SEARCH_SIZE, {})
        try:
            return SearchAnswer.from_json(_parse(response.body))
        except Malformed as error:
            raise CollectorBroken(f"{self.audience}: {error.detail}") from None

    async def predictions(self, etag: str | None, *, limit: int) -> tuple[str, bytes | None]:
        """Return ETag and document of the fleet's predictions; no document where `etag` is still theirs."""
        return await self._get_changed("/v1/predictions", etag, limit)

    async def leaving(self, etag: str | None) -> tuple[str, bytes | None]:
        """Return ETag and document of what leaves (`wire.leaving`); no document where `etag` is its own."""
        return await self._get_changed("/v1/leaving", etag, limits.LEAVING_SIZE)

    async def index_state(self, url: str, credentials: tuple[str, str] | None = None) -> IndexState:
        """Return what `url`, a target's, answers to Portage; `credentials` are name and token."""
        assert self._session is not None, "use as an async context manager"
        authorization = None if credentials is None else aiohttp.BasicAuth(*credentials)
        index = URL(f"{url}/Packages.gz", encoded=True)
        try:
            async with self._session.head(index, auth=authorization, allow_redirects=True) as response:
                return IndexState(status=response.status, modified_at=_http_date(response.headers))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def _get_changed(self, path: str, etag: str | None, limit: int) -> tuple[str, bytes | None]:
        conditions = {"If-None-Match": etag} if etag and etag.isprintable() else {}
        response = await self._send("GET", path, conditions, None, limit)
        if response.status == 304 and etag is not None:
            return etag, None
        try:
            self._check(response)
        except _Refusal as refusal:
            raise refusal.as_error(self.audience) from None
        return printable(response.headers.get("ETag", "")), response.body

    async def _get(self, path: str, limit: int, headers: Mapping[str, str]) -> _Response:
        response = await self._send("GET", path, headers, None, limit)
        try:
            self._check(response)
        except _Refusal as refusal:
            raise refusal.as_error(self.audience) from None
        return response

    async def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        limit: int = limits.ANSWER_SIZE,
    ) -> _Response:
        """Send once; and once more where the connection turns out to have been closed while it was idle."""
        try:
            return await self._send_once(method, path, headers, body, limit)
        except aiohttp.ServerDisconnectedError:
            pass
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error
        try:
            return await self._send_once(method, path, headers, body, limit)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def _send_once(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | BinaryIO | None, limit: int
    ) -> _Response:
        assert self._session is not None, "use as an async context manager"
        url = URL(self._address + path, encoded=True)
        async with self._session.request(
            method, url, headers=headers, data=body, allow_redirects=False
        ) as response:
            content = bytearray()
            async for piece in response.content.iter_any():
                content += piece
                if len(content) > limit:
                    # The rest stays unread: the connection cannot be used again.
                    response.close()
                    raise CollectorBroken(f"{self.audience}: the answer is larger than any of the protocol")
            return _Response(response.status, response.headers, bytes(content))

    def _judge(self, response: _Response) -> Answer:
        """Return a good answer; raise `_Refusal` for a problem, `TryLater` for what may pass."""
        self._check(response)
        return Answer(status=response.status, document=_parse(response.body) if response.body else None)

    def _check(self, response: _Response) -> None:
        """See that the answer is a good one; raises as `_judge` does."""
        status = response.status
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            location = printable(response.headers.get("Location", "nowhere"))
            raise CollectorRefused(
                f"{self.audience} redirects to {location}",
                reason="redirected",
                advice="set `collector` to exactly the collector's `public_url`; its operator knows it",
            )
        is_problem = response.headers.get("Content-Type", "").partition(";")[0].strip() == PROBLEM_TYPE
        wait = _retry_after(response.headers)
        if not is_problem:
            if status in (429, 503):
                raise CollectorBusy(f"{self.audience} answers {status}", retry_after=wait)
            # A proxy, or another server altogether: its 404 says nothing about this machine.
            raise CollectorBroken(
                f"{self.audience} answers {status}, and not as a collector does",
                retry_after=wait,
                advice="check that `collector` is the collector's `public_url`",
            )
        problem = from_document(_parse(response.body), status=status)
        detail = f"{self.audience}: {printable(problem.detail)}"
        if isinstance(problem, Delayed):
            seconds = problem.retry_after if wait is None else wait
            advice = _when(seconds) if isinstance(problem, TooManyRequests) else None
            raise CollectorBusy(detail, retry_after=seconds, advice=advice)
        if status >= 500 or isinstance(problem, RequestTimeout):
            raise CollectorBroken(detail, retry_after=wait)
        raise _Refusal(problem, response.headers.get("Date"))

    def _unreachable(self, error: Exception) -> TryLater:
        advice = None
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            advice = "check the collector's name in `collector`, its certificate, and this machine's clock"
        reason = printable(str(error)) or type(error).__name__
        return CollectorUnreachable(f"{self.audience} cannot be reached: {reason}", advice=advice)


class CollectorAPI(PublicAPI):
    """The collector at `audience`, as the machine with `key` sees it. Use as an async context manager."""

    def __init__(
        self,
        audience: str,
        key: MachineKey,
        *,
        patience: Patience | None = None,
        address: str | None = None,
    ) -> None:
        super().__init__(audience, patience=patience, address=address)
        self._key = key
        self._clock_offset = 0.0

    async def register(self) -> MachineState:
        """Make the key known; repeating it changes nothing."""
        body = json.dumps({"public_key": base64url.encode(self._key.public)}).encode()
        answer = await self.request("POST", "/v1/machines", body=body)
        return self._machine_state(answer)

    async def machine_state(self) -> MachineState:
        """Return what the collector has of this machine."""
        return self._machine_state(await self.request("GET", self._machine_path()))

    async def forget(self) -> None:
        """Have everything of this machine erased."""
        await self.request("DELETE", self._machine_path())

    async def add_watch(self, package: str, topics: Sequence[str], webhook: str | None) -> dict[str, object]:
        """Watch a package; return the watch's document, with its feed and secret."""
        wish = {"package": package, "topics": list(topics), "webhook": webhook}
        path = self._machine_path("/watches")
        return _object(await self.request("POST", path, body=json.dumps(wish).encode()))

    async def watches(self) -> dict[str, object]:
        """Return what this machine watches."""
        return _object(await self.request("GET", self._machine_path("/watches"), limit=limits.WATCHES_SIZE))

    async def remove_watch(self, watch: str) -> None:
        """Watch no longer."""
        await self.request("DELETE", self._machine_path(f"/watches/{quote(watch, safe='')}"))

    async def report_link(self) -> ReportLink:
        """Return a short-lived link to the machine's own page."""
        answer = await self.request("POST", self._machine_path("/report-links"), body=b"")
        url, expires_at = _member(answer, "url", str), _member(answer, "expires_at", str)
        return ReportLink(url=printable(url), expires_at=printable(expires_at))

    async def send_segment(self, compact: bytes) -> SegmentAnswer:
        """Send a signed segment as it is. It needs no token, since its signature covers all of it."""
        headers = {"Content-Type": SEGMENT_TYPE}
        body = compact
        if len(compact) > _WORTH_COMPRESSING:
            body = await asyncio.to_thread(_compress, compact)
            headers["Content-Encoding"] = "zstd"
        try:
            response = await self._send("POST", self._machine_path("/segments"), headers, body)
            answer = self._judge(response)
        except _Refusal as refusal:
            if isinstance(refusal.problem, Conflict):
                head = Head(seq=refusal.problem.seq, segment=refusal.problem.segment)
                return SegmentAnswer(outcome="gap" if isinstance(refusal.problem, Gap) else "fork", head=head)
            raise refusal.as_error(self.audience) from None
        return SegmentAnswer(outcome="accepted", head=_head(answer))

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, limit: int = limits.ANSWER_SIZE
    ) -> Answer:
        """Send a request that the machine's key permits, and return its answer, of at most `limit` bytes.

        `path` may hold a query. A refusal because of the time is repeated once, with the collector's clock.
        """
        return await self._repeated(lambda: self._authorized(method, path, body, limit))

    async def text(self, path: str, *, limit: int) -> TextAnswer:
        """GET what is no JSON, of at most `limit` bytes."""
        found: list[_Response] = []

        async def send() -> _Response:
            response = await self._authorized("GET", path, None, limit)
            found[:] = [response]
            return _Response(response.status, response.headers, b"") if response.status == 200 else response

        await self._repeated(send)
        return TextAnswer(content=found[0].body, headers=found[0].headers)

    async def upload(self, path: str, file: Path, media_type: str) -> Answer:
        """PUT the content of `file`, whose size and hash the query in `path` says."""
        return await self._repeated(lambda: self._put(path, file, media_type))

    async def _repeated(self, send: Callable[[], Awaitable[_Response]]) -> Answer:
        try:
            return self._judge(await send())
        except _Refusal as refusal:
            if not isinstance(refusal.problem, WrongTime) or not self._correct_clock(refusal.date):
                raise refusal.as_error(self.audience) from None
        try:
            return self._judge(await send())
        except _Refusal as refusal:
            raise refusal.as_error(self.audience) from None

    async def _authorized(self, method: str, path: str, body: bytes | None, limit: int) -> _Response:
        headers = self._authorization(method, path, body or b"")
        if body:
            headers["Content-Type"] = JSON_TYPE
        return await self._send(method, path, headers, body, limit)

    async def _put(self, path: str, file: Path, media_type: str) -> _Response:
        # The token leaves the body open: the query says its hash.
        headers = {**self._authorization("PUT", path, None), "Content-Type": media_type}
        try:
            with file.open("rb") as content:
                return await self._send_once("PUT", path, headers, content, limits.ANSWER_SIZE)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    def _authorization(self, method: str, path: str, body: bytes | None) -> dict[str, str]:
        token = make_token(
            self._key.private,
            machine=self._key.machine,
            audience=self.audience,
            method=method,
            url=self.audience + path,
            body=body,
            now=time.time() + self._clock_offset,
        )
        return {"Authorization": f"Bearer {token}"}

    def _machine_path(self, rest: str = "") -> str:
        return f"/v1/machines/{self._key.machine}{rest}"

    def _machine_state(self, answer: Answer) -> MachineState:
        if _member(answer, "machine", str) != str(self._key.machine):
            raise CollectorBroken(f"{self.audience} answers for another machine")
        state = printable(_member(answer, "state", str))
        return MachineState(machine=self._key.machine, state=state, head=_head(answer))

    def _correct_clock(self, date: str | None) -> bool:
        """Take over the collector's idea of now; False where it says none."""
        try:
            theirs = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return False
        self._clock_offset = theirs - time.time()
        return True


class _Refusal(Exception):
    """A problem document that says no; `date` is the answer's Date."""

    def __init__(self, problem: ProtocolError, date: str | None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.date = date

    def as_error(self, audience: str) -> CollectorRefused:
        problem = self.problem
        # The advice is ours, never the text of the answer.
        return CollectorRefused(
            f"{audience}: {printable(problem.detail)}", reason=problem.slug, advice=problem.advice
        )


_WORTH_COMPRESSING = 1024  # bytes; below, a frame's own overhead and the thread cost more than they save


def _compress(content: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.compress(content, 3)


def _parse(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise CollectorBroken("the collector's answer is not JSON") from None


def _member(answer: Answer, name: str, kind: type[T]) -> T:
    value = answer.document.get(name) if isinstance(answer.document, dict) else None
    if not isinstance(value, kind):
        raise CollectorBroken(f"the collector's answer lacks `{name}`")
    return value


def _object(answer: Answer) -> dict[str, object]:
    if not isinstance(answer.document, dict):
        raise CollectorBroken("the collector's answer is no object")
    return answer.document


def _head(answer: Answer) -> Head:
    head = _member(answer, "head", dict)
    seq, segment = head.get("seq"), head.get("segment")
    if type(seq) is not int or seq < 0 or not (segment is None or isinstance(segment, str)):
        raise CollectorBroken("the collector's answer holds a head that cannot be")
    return Head(seq=seq, segment=segment)


def _when(seconds: float) -> str:
    """When whoever did too much may try again, in words."""
    minutes = max(1, round(seconds / 60))
    return f"try again in about {minutes} min" if minutes < 90 else f"try again in {round(minutes / 60)} h"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by Retry-After (RFC 9110 §10.2.3), at most `limits.RETRY_AFTER_MAX`."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        wait = int(text) if text.isdecimal() else parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        return None
    return float(min(max(wait, 0), limits.RETRY_AFTER_MAX))


def _http_date(headers: Mapping[str, str]) -> int | None:
    try:
        return int(parsedate_to_datetime(headers.get("Last-Modified", "")).timestamp())
    except ValueError:
        return None
