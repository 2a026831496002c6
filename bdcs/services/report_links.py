# SPDX-License-Identifier: GPL-2.0-or-later
"""Short-lived links to a machine's own page: whoever holds one may see that page until it expires.

A link is base64url of the UUID (16 bytes), the end of its life (5 bytes, Unix seconds) and an HMAC-SHA256 of
both.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final
from uuid import UUID

from gentwoo_client.wire import base64url
from gentwoo_client.wire.errors import Malformed
from gentwoo_client.wire.records import format_time

LIFETIME: Final = 900  # seconds
SECRET: Final = "report-links"
"""Name of the store's secret that signs them."""

_UUID_SIZE: Final = 16  # bytes
_TIME_SIZE: Final = 5  # bytes
_SIZE: Final = _UUID_SIZE + _TIME_SIZE + 32  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLinks:
    """Makes links and reads them."""

    secret: bytes = field(repr=False)
    public_url: str

    def make(self, machine: UUID, now: float) -> dict[str, object]:
        """Return the document that tells the machine its link (`wire.messages.ReportLink`)."""
        expires_at = int(now) + LIFETIME
        body = machine.bytes + expires_at.to_bytes(_TIME_SIZE, "big")
        link = base64url.encode(body + self._mark(body))
        return {"url": f"{self.public_url}/machine?link={link}", "expires_at": format_time(expires_at)}

    def machine_of(self, link: str, now: float) -> UUID | None:
        """Return whose page `link` opens; None where it is expired, or not ours."""
        try:
            raw = base64url.decode(link)
        except Malformed:
            return None
        body, mark = raw[: _SIZE - 32], raw[_SIZE - 32 :]
        if len(raw) != _SIZE or not hmac.compare_digest(mark, self._mark(body)):
            return None
        if now >= int.from_bytes(body[_UUID_SIZE:], "big"):
            return None
        return UUID(bytes=body[:_UUID_SIZE])

    def _mark(self, body: bytes) -> bytes:
        return hmac.digest(self.secret, b"report-link\0" + body, sha256)
