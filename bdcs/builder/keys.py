# SPDX-License-Identifier: GPL-2.0-or-later
"""The keys that packages of a target are signed with, as a GnuPG home that Portage verifies with."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from gentwoo_client.binhost.keyring import Keyring
from gentwoo_client.collector_api import PublicAPI
from gentwoo_client.wire.targets import Target


class Keys:
    """GnuPG homes below `directory`, one for each set of keys, made when first needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = asyncio.Lock()

    async def home(self, collector: PublicAPI, name: str) -> Path | None:
        """Return the home with the keys of the target of that name; None where it shows no keys.

        Raises what `PublicAPI` raises, and `BinhostRefused` where a key is none.
        """
        found = [target for target in await collector.targets() if target.name == name]
        if not found or not found[0].keys:
            return None
        target = found[0]
        digest = hashlib.sha256(" ".join(sorted(key.fingerprint for key in target.keys)).encode())
        home = self._directory / digest.hexdigest()[:32]
        async with self._lock:
            if not home.exists():
                await self._make(collector, target, home)
        return home

    async def _make(self, collector: PublicAPI, target: Target, home: Path) -> None:
        contents = {key.fingerprint: await collector.public_key(key) for key in target.keys}
        draft = home.with_suffix(".new")
        await asyncio.to_thread(_fill, draft, contents)
        draft.rename(home)


def _fill(home: Path, contents: dict[str, bytes]) -> None:
    keyring = Keyring.of(home)
    keyring.make_home()
    for fingerprint, content in contents.items():
        keyring.trust(content, fingerprint)
    keyring.settle()
