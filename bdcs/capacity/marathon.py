# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders that are tasks of a Marathon application.

Only the number of instances is changed. Which tasks go is Marathon's choice; each gets SIGTERM, and its
builder ends what it builds within taskKillGracePeriodSeconds. A deployment that is under way is waited for:
`force` would abandon it half done.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from bdcs.capacity.drivers import Fleet
from bdcs.capacity.http import Server, whole_number
from bdcs.errors import CapacityRefused, CapacityUnavailable


class Application:
    """One application."""

    def __init__(self, place: str, *, authorization: str | None = None) -> None:
        """`place`: the URL of Marathon, and behind it the application's id."""
        parts = urlsplit(place)
        if parts.scheme not in ("http", "https") or not parts.netloc or not parts.path.strip("/"):
            raise CapacityRefused(f"marathon: {place!r} is not http://MARATHON:PORT/APP")
        if "@" in parts.netloc:
            raise CapacityRefused(
                "marathon: a password does not belong into the URL; write authorization=FILE"
            )
        self._path = f"/v2/apps/{quote(parts.path.strip('/'))}"
        self._server = Server(
            url=f"{parts.scheme}://{parts.netloc}",
            credentials=None if authorization is None else Path(authorization),
        )

    async def look(self) -> Fleet:
        """Return the number of instances that it was told to have."""
        _, document = await self._server.ask("GET", self._path)
        return Fleet(wanted=whole_number(document, "app", "instances"))

    async def resize(self, wanted: int, _spare: Sequence[str] = ()) -> None:
        """Tell it to have so many. Raises `CapacityUnavailable` while a deployment is under way."""
        _, document = await self._server.ask("GET", self._path)
        if document["app"].get("deployments"):
            raise CapacityUnavailable(f"{self._server.url}{self._path}: a deployment is under way")
        await self._server.ask("PUT", self._path, {"instances": wanted})

    async def tend(self) -> None:
        """Nothing is to be done."""

    async def close(self) -> None:
        """End connections."""
        await self._server.close()
