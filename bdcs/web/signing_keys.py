# SPDX-License-Identifier: GPL-2.0-or-later
"""`/binhost/keys/`: the public keys that packages are signed with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from bdcs.openpgp.armour import armour
from bdcs.services.signing import known_keys
from bdcs.services.target_documents import key_url, public_key
from bdcs.store.store import Store
from gentwoo_client.wire.errors import NotFound
from gentwoo_client.wire.records import format_time
from gentwoo_client.wire.targets import is_fingerprint

MEDIA_TYPE: Final = "application/pgp-keys"
SUFFIX: Final = ".asc"
CACHING: Final = "public, max-age=300"
"""A key that was extended or revoked keeps its address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """The handlers of /binhost/keys."""

    store: Store
    public_url: str

    def add_to(self, app: web.Application) -> None:
        """Route the list and the keys; no target can have their name."""
        app.router.add_get("/binhost/keys.json", self.listed)
        app.router.add_get("/binhost/keys/{file}", self.key)

    async def listed(self, _request: web.Request) -> web.Response:
        """All keys that packages were ever signed with here, the oldest first."""
        keys = [
            {
                "fingerprint": key.fingerprint,
                "user_id": key.user_id,
                "state": str(key.state),
                "created_at": format_time(key.created_at),
                "expires_at": None if key.expires_at is None else format_time(key.expires_at),
                "url": key_url(self.public_url, key.fingerprint),
            }
            for key in await self.store.read(known_keys)
        ]
        return web.Response(
            body=json.dumps({"keys": keys}).encode(),
            content_type="application/json",
            headers={hdrs.CACHE_CONTROL: CACHING},
        )

    async def key(self, request: web.Request) -> web.Response:
        """One public key, as text that `gpg --import` reads."""
        fingerprint = request.match_info["file"].removesuffix(SUFFIX).upper()
        if not request.match_info["file"].endswith(SUFFIX) or not is_fingerprint(fingerprint):
            raise NotFound("a key is called FINGERPRINT.asc")
        found = await self.store.read(lambda connection: public_key(connection, fingerprint))
        if found is None:
            raise NotFound("no key has this fingerprint")
        headers = {
            hdrs.CONTENT_TYPE: MEDIA_TYPE,
            hdrs.CACHE_CONTROL: CACHING,
            hdrs.CONTENT_DISPOSITION: f'inline; filename="{fingerprint}{SUFFIX}"',
        }
        return web.Response(body=armour(found).encode(), headers=headers)
