# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds at the collector, as the machine that asks for them sees them.

    async with CollectorAPI(collector, key) as api:
        builds = Builds(api)
        plan = await builds.ask(wish)                       # BuildWish(commit=False)
        async for state in builds.changes(request, trouble=print):
            …                                               # until it ended, whatever happens in between

Everything raises what `CollectorAPI` raises.
"""

from __future__ import annotations

import asyncio
import random
import re
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from gentwoo_client.collector_api import CollectorAPI
from gentwoo_client.errors import CollectorBroken, GentwooError, TryLater
from gentwoo_client.wire import limits
from gentwoo_client.wire.build_messages import BuildList, BuildState, BuildSummary, BuildWish, JobState
from gentwoo_client.wire.messages import Message

M = TypeVar("M", bound=Message)

WAIT: Final = 25
"""Seconds that the collector is asked to wait for a change: less than anything on the way gives up after."""
_FIRST_PAUSE = 0.5  # seconds after a failure; it doubles
_LONGEST_PAUSE = 10.0
_LONGEST_PATIENCE = 30.0  # seconds that somebody is let wait at a time because the collector says so
_LONGEST_DEMAND = 300.0  # seconds: Retry-After is heeded up to here
_TRIES = 8  # for what somebody decided to ask for: about a minute
_REQUEST = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRead:
    """A piece of the log of a job."""

    text: str
    attempt: int | None
    """Whose log it is; None before the first attempt."""
    offset: int
    """Where the next piece begins, in bytes."""
    is_over: bool
    """Whether the attempt has ended, and all of its log was read."""


class Builds:
    """What the machine of `api` asked for, or may ask for."""

    def __init__(self, api: CollectorAPI) -> None:
        self._api = api

    async def ask(self, wish: BuildWish) -> BuildState:
        """Ask for packages; with `commit` false, only what would be.

        A wish with a key is sent again for about a minute where the collector does not answer: it is the same
        request. Where the collector says that it will take longer, it is not.
        """
        body = wish.model_dump_json().encode()
        for pause in _Pauses(_TRIES if wish.key else 1):
            try:
                return await self._get("POST", "/v1/builds", BuildState, body)
            except TryLater as error:
                if pause is None or (error.retry_after or 0) > _LONGEST_PATIENCE:
                    raise
                await asyncio.sleep(_demanded(error, pause))
        raise AssertionError

    async def mine(self) -> list[BuildSummary]:
        """The machine's requests, the newest first."""
        return (await self._get("GET", "/v1/builds", BuildList)).builds

    async def state(self, request: str, *, since: str | None = None, wait: int = 0) -> BuildState:
        """How a request stands; with `since` a version, as soon as it is another one or `wait` is over."""
        query = "" if since is None else f"?wait={wait}&since={quote(since, safe='')}"
        return await self._get("GET", f"{_path(request)}{query}", BuildState)

    async def changes(
        self, request: str, *, trouble: Callable[[TryLater], None]
    ) -> AsyncIterator[BuildState]:
        """How a request stands, now and whenever that changes, until it has ended.

        Goes on while the collector cannot be reached or restarts, and tells `trouble`.
        """
        since: str | None = None
        pauses = _Pauses()
        while True:
            try:
                state = await self.state(request, since=since, wait=WAIT)
            except TryLater as error:
                trouble(error)
                since = None  # so that it is answered, and told, at once when it can be
                await asyncio.sleep(_demanded(error, next(pauses) or _LONGEST_PAUSE))
                continue
            yield state
            if state.state != "open":
                return
            since, pauses = state.version, _Pauses()

    async def cancel(self, request: str) -> BuildState:
        """Give up a request; what nobody else wants is not built."""
        return await self._get("DELETE", _path(request), BuildState)

    async def retry(self, request: str) -> BuildState:
        """Try again what failed of a request."""
        return await self._get("POST", f"{_path(request)}/retry", BuildState, b"")

    async def job(self, job: int) -> JobState:
        """A job and its attempts."""
        return await self._get("GET", f"/v1/jobs/{job}", JobState)

    async def log(self, job: int, *, offset: int = 0, wait: int = 0, attempt: int | None = None) -> LogRead:
        """The log of a job's attempt (the last one) from `offset` on; `wait` seconds for more of it."""
        which = "" if attempt is None else f"&attempt={attempt}"
        answer = await self._api.text(
            f"/v1/jobs/{job}/log?offset={offset}&wait={wait}{which}", limit=limits.BUILD_ANSWER_SIZE
        )
        try:
            number = answer.headers.get("Log-Attempt")
            return LogRead(
                text=answer.content.decode(errors="replace"),
                attempt=int(number) if number else None,
                offset=int(answer.headers.get("Log-Offset", offset + len(answer.content))),
                is_over=answer.headers.get("Log-State") == "over",
            )
        except ValueError:
            raise CollectorBroken("the collector's answer about a log is not understood") from None

    async def _get(self, method: str, path: str, kind: type[M], body: bytes | None = None) -> M:
        answer = await self._api.request(method, path, body=body, limit=limits.BUILD_ANSWER_SIZE)
        try:
            return kind.model_validate(answer.document)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise CollectorBroken(
                f"the collector's answer about a build is not understood: {where or 'all of it'}",
                advice="this client may be older than the collector: update it",
            ) from None


async def until_listed(state: BuildState) -> None:
    """Wait until the binhost's index lists what is published of a request that has ended, or of a plan."""
    await asyncio.sleep(min(state.listed_in, _LONGEST_PATIENCE))


def new_key() -> str:
    """A key that makes a request the same one, however often it is sent."""
    return secrets.token_urlsafe(24)


def _path(request: str) -> str:
    if not _REQUEST.fullmatch(request):
        raise GentwooError(
            f"{request[:100]!r} is not the id of a request", advice="`gentwoo builds` lists them"
        )
    return f"/v1/builds/{request}"


class _Pauses:
    """Seconds to wait after each failure, with jitter; None after the last of `count` tries."""

    def __init__(self, count: int | None = None) -> None:
        self._left = count
        self._ceiling = _FIRST_PAUSE

    def __iter__(self) -> _Pauses:
        return self

    def __next__(self) -> float | None:
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                return None
        pause = self._ceiling * random.uniform(0.5, 1)
        self._ceiling = min(self._ceiling * 2, _LONGEST_PAUSE)
        return pause


def _demanded(error: TryLater, pause: float) -> float:
    return max(pause, min(error.retry_after or 0, _LONGEST_DEMAND))
