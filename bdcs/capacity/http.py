# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON over HTTP, as engines want it said and say it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import aiohttp

from bdcs.errors import (
    CapacityForbidden,
    CapacityMissing,
    CapacityRefused,
    CapacityUnavailable,
    CollectorError,
)

SECONDS: Final = 30.0  # for one request with its answer
MOST: Final = 16 << 20  # bytes of one answer
_PASSING: Final = frozenset((HTTPStatus.CONFLICT, HTTPStatus.GONE, HTTPStatus.TOO_MANY_REQUESTS))
"""What passes by itself: others' changes, a list that changed while it was read, too many questions."""
JSON: Final = "application/json"


@dataclass(slots=True, kw_only=True)
class Server:
    """An engine that speaks HTTP, at `url`."""

    url: str
    credentials: Path | None = None
    """File with what stands behind `Authorization:`, or the token alone; read for each request, since it may
    be renewed meanwhile."""
    scheme: str = ""
    """What stands before a token, as `Bearer`."""
    ca: Path | None = None
    """File with the certificates that its own is signed by; None: those of the system."""
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)

    async def ask(
        self, method: str, path: str, document: object | None = None, *, kind: str = JSON
    ) -> tuple[int, Any]:
        """Return status and document of the answer.

        Raises `CapacityUnavailable` where there is none, or the engine is busy or broken;
        `CapacityForbidden`, `CapacityMissing`, and for all else `CapacityRefused`.
        """
        body = None if document is None else json.dumps(document)
        headers = {"Accept": JSON, **({"Content-Type": kind} if body else {}), **self._authorization()}
        try:
            async with self._connections().request(
                method, f"{self.url}{path}", data=body, headers=headers, allow_redirects=False
            ) as answer:
                content = await _content(answer)
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise CapacityUnavailable(f"{self.url} does not answer: {reason}") from error
        if status >= 300:
            raise self._error(status, f"{method} {self.url}{path}: {status}: {_told(content)}")
        return status, _parsed(f"{self.url}{path}", content)

    async def close(self) -> None:
        """End connections."""
        if self._session is not None:
            await self._session.close()

    def _error(self, status: int, told: str) -> CollectorError:
        """Return what that answer means, with what is to be done about it."""
        if status >= 500 or status in _PASSING:
            return CapacityUnavailable(told)
        match status:
            case HTTPStatus.UNAUTHORIZED if self.credentials is None:
                return CapacityRefused(f"{told} (it wants to know who asks: name a file with credentials)")
            case HTTPStatus.UNAUTHORIZED:
                return CapacityRefused(f"{told} (it does not take what is in {self.credentials}: renew that)")
            case HTTPStatus.FORBIDDEN:
                return CapacityForbidden(f"{told} (give the account the rights in docs/autoscaling.md)")
            case HTTPStatus.NOT_FOUND:
                return CapacityMissing(f"{told} (make it, or mend its name in the setting `capacity`)")
            case _:
                return CapacityRefused(told)

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            context: ssl.SSLContext | bool = True
            if self.ca is not None:
                try:
                    context = ssl.create_default_context(cafile=self.ca)
                except OSError as error:
                    raise CapacityRefused(f"{self.ca}: {error}") from error
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context),
                timeout=aiohttp.ClientTimeout(total=SECONDS),
                trust_env=False,
            )
        return self._session

    def _authorization(self) -> Mapping[str, str]:
        if self.credentials is None:
            return {}
        try:
            text = self.credentials.read_text().strip()
        except OSError as error:
            raise CapacityRefused(f"{self.credentials}: {error.strerror}") from error
        return {"Authorization": f"{self.scheme} {text}".strip()}


def whole_number(document: Any, *names: str) -> int:
    """Return the number below these names; 0 where JSON left it out, as it does. Raises `CapacityRefused`."""
    value = document
    for name in names:
        value = value.get(name, {}) if isinstance(value, dict) else None
    if value == {}:
        return 0
    if type(value) is not int or value < 0:
        raise CapacityRefused(f"{'.'.join(names)} of the engine's answer is no number: {value!r}")
    return value


async def _content(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body. Raises `CapacityRefused` where it has no end."""
    content = bytearray()
    async for piece in answer.content.iter_any():
        content += piece
        if len(content) > MOST:
            raise CapacityRefused(
                f"{answer.url} answers with more than {MOST >> 20} MiB: is that the engine?"
            )
    return bytes(content)


def _parsed(place: str, content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except (ValueError, RecursionError):
        raise CapacityRefused(f"{place} does not answer in JSON: {_told(content)}") from None


def _told(content: bytes) -> str:
    """Return what an engine says of itself, as one short line."""
    text = content[:2000].decode(errors="replace")
    try:
        document = json.loads(content)
        text = str(document.get("message", text)) if isinstance(document, dict) else text
    except (ValueError, RecursionError):
        pass
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300] or "no reason given"
