# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeping up with the signer's keys, so that a new, extended or retired one is told of soon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from bdcs import measures
from bdcs.errors import CollectorError
from bdcs.services.regular_work import regularly
from bdcs.services.signing import SignerClient, differ, known_keys, remember_keys
from bdcs.store.store import Store

log = logging.getLogger(__name__)

INTERVAL: Final = 10.0  # seconds from one question to the next


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWatch:
    """Asks the signer for its keys, where there is a signer, and notes what is new."""

    store: Store
    signer: SignerClient
    now: Callable[[], float]

    async def run(self) -> None:
        """Ask again and again until cancelled."""
        try:
            await regularly(
                self.look,
                name="signing-keys",
                seconds=INTERVAL,
                passing=CollectorError,
                tell=partial(log.warning, "the signer's keys are not known anew: %s"),
            )
        finally:
            measures.SIGNER_UP.clear()

    async def look(self) -> None:
        """Ask once. Raises `SignerUnavailable` and what else the signer says, `StoreUnavailable`."""
        if not self.signer.path.exists():
            measures.SIGNER_UP.set(0)
            return
        measures.SIGNER_UP.set(0)
        told = await asyncio.to_thread(self.signer.keys)
        measures.SIGNER_UP.set(1)
        known = await self.store.read(known_keys)
        if differ(told, known):
            await self.store.write(partial(remember_keys, keys=told, now=self.now()))
