# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON over HTTP, as engines want it said and say it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from bdcs.errors import CapacityRefused, CapacityUnavailable

SECONDS: Final = 30.0  # for one request with its answer
BUSY: Final = 409
"""Somebody else's change is under way; it is tried again later."""
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

        Raises `CapacityUnavailable` where there is none, or the engine is busy or broken; `CapacityRefused`.
        """
        body = None if document is None else json.dumps(document)
        headers = {"Accept": JSON, **({"Content-Type": kind} if body else {}), **self._authorization()}
        try:
            async with self._connections().request(
                method, f"{self.url}{path}", data=body, headers=headers, allow_redirects=False
            ) as answer:
                content = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise CapacityUnavailable(f"{self.url} does not answer: {reason}") from error
        if status >= 500 or status in (BUSY, 429):
            raise CapacityUnavailable(f"{method} {self.url}{path}: {status}: {_told(content)}")
        if status >= 300:
            raise CapacityRefused(f"{method} {self.url}{path}: {status}: {_told(content)}")
        return status, _parsed(f"{self.url}{path}", content)

    async def close(self) -> None:
        """End connections."""
        if self._session is not None:
            await self._session.close()

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


def _parsed(place: str, content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        raise CapacityRefused(f"{place} does not answer in JSON: {_told(content)}") from None


def _told(content: bytes) -> str:
    """Return what an engine says of itself, as one short line."""
    text = content[:2000].decode(errors="replace")
    try:
        document = json.loads(content)
        text = str(document.get("message", text)) if isinstance(document, dict) else text
    except ValueError:
        pass
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300] or "no reason given"
