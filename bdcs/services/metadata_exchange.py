# SPDX-License-Identifier: GPL-2.0-or-later
"""What approved builders are asked of ebuilds without metadata, and what they bring; each with a token."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from sqlalchemy import Connection, select

from bdcs.errors import NoSuchRepository, RepositoryUnusable, SyncFailed
from bdcs.services.answers import SignedRequest
from bdcs.services.authentication import Authenticator, approved
from bdcs.services.build_documents import Document
from bdcs.services.machines import Machine
from bdcs.services.refreshing import Refresher
from bdcs.store.store import Store
from bdcs.store.tables import builder_targets
from gentwoo_client.wire.build_messages import MetadataMade
from gentwoo_client.wire.errors import Forbidden, NotFound, Unavailable
from gentwoo_client.wire.tokens import Token

log = logging.getLogger(__name__)

RETRY_AFTER = 60  # seconds after which who brought metadata that could not be kept tries again


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataExchange:
    """Answers builders."""

    store: Store
    authenticator: Authenticator
    refresher: Refresher

    async def wanted(self, signed: SignedRequest) -> Document:
        """Return ebuilds that nothing is known of. Raises `Forbidden` for who is no builder."""
        await self._builder(signed)
        found = await asyncio.to_thread(self.refresher.wanted)
        return {
            "repositories": [
                {"repository": name, "ebuilds": [{"cpv": cpv, "md5": md5} for cpv, md5 in ebuilds]}
                for name, ebuilds in found.items()
            ]
        }

    async def take(self, signed: SignedRequest, made: MetadataMade) -> Document:
        """Take what is sound, and say what is not. Raises `Forbidden`, `NotFound`, `Unavailable`."""
        machine = await self._builder(signed)
        try:
            refused = await asyncio.to_thread(self.refresher.take_made, made.repository, made.entries)
        except NoSuchRepository as error:
            raise NotFound(str(error)) from error
        except (RepositoryUnusable, SyncFailed, OSError) as error:
            log.warning("metadata for %s could not be kept: %s", made.repository, error)
            raise Unavailable("the repository cannot be read now", retry_after=RETRY_AFTER) from error
        taken = len(made.entries) - len(refused)
        log.info("repository %s: %d entries made by %s", made.repository, taken, machine.uuid)
        return {
            "taken": taken,
            "refused": [{"cpv": cpv, "reason": reason} for cpv, reason in refused.items()],
        }

    async def _builder(self, signed: SignedRequest) -> Machine:
        token = await self.authenticator.verified(signed)
        return await self.store.read(lambda connection: _require_builder(connection, token))


def _require_builder(connection: Connection, token: Token) -> Machine:
    machine = approved(connection, token)
    mine = select(builder_targets.c.machine_id).where(builder_targets.c.machine_id == machine.id)
    if connection.execute(mine.limit(1)).first() is None:
        raise Forbidden("this machine is no builder: `bdcs admin builders approve` makes it one")
    return machine
