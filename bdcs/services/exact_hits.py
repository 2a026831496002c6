# SPDX-License-Identifier: GPL-2.0-or-later
"""Exact hits: wishes of which every one is published already, answered by one statement.

A wish's document is its specification written in the one way there is, so its digest follows from the
document as it came. A build has that digest: then the document is that build's specification, and need not be
read to know it; whatever else it were, its digest would be another. So an answer costs a signature, a hash
for each package, and one statement.

That somebody asked is written down a moment later, together with others, while nobody waits for it: nothing
was promised but what is there. Who asks for his requests in that moment waits until it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sqlalchemy import Connection, bindparam, select, true

from bdcs.domain.machines import State
from bdcs.errors import StoreUnavailable
from bdcs.services import requests, targets
from bdcs.services.answers import Answer
from bdcs.services.authentication import approved
from bdcs.services.build_documents import BuildDocuments
from bdcs.services.jobs import Jobs
from bdcs.services.requests import Hit, Published
from bdcs.services.waking import Transactions
from bdcs.store import tables
from gentwoo_client.wire.build_messages import BuildWish
from gentwoo_client.wire.builds import digest_of
from gentwoo_client.wire.tokens import Token

log = logging.getLogger(__name__)

PAUSE: Final = 0.1
"""Seconds in which hits gather to be written down together."""
MANY: Final = 100
"""Packages from which on digests are computed in a thread."""


@dataclass(slots=True, kw_only=True)
class ExactHits:
    """Answers what is published, and writes down that somebody asked."""

    transactions: Transactions
    documents: BuildDocuments
    now: Callable[[], float]
    _noted: list[Hit] = field(default_factory=list)
    _writing: asyncio.Task[None] | None = None
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _keyed: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def answer(self, token: Token, wish: BuildWish) -> Answer | None:
        """Return the answer where all that is wanted is published; None where more is to be looked at."""
        digest_all = partial(_digests, wish.packages)
        digests = digest_all() if len(wish.packages) < MANY else await asyncio.to_thread(digest_all)
        look = partial(self._look, token=token, wish=wish, digests=digests)
        # Who comes again under the same key has to find the first one.
        async with self._keyed if wish.key is not None else contextlib.nullcontext():
            if wish.key is not None and any(noted.key == wish.key for noted in self._noted):
                await self.settle()
            hit = await self.transactions.store.read(look)
            if hit is None:
                return None
            self._note(hit)
        return Answer(status=201, body=json.dumps(self.documents.hit(hit)))

    def _note(self, hit: Hit) -> None:
        self._noted.append(hit)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def settle(self) -> None:
        """See that all that was answered is written down."""
        while self._writing is not None:
            self._due.set()
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        try:
            while self._noted:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._due.wait(), PAUSE)
                self._due.clear()
                hits = tuple(self._noted)
                try:
                    await self.transactions.write(partial(_write_down, hits=hits))
                except StoreUnavailable as error:
                    log.warning("requests that were answered at once were not written down: %s", error)
                del self._noted[: len(hits)]
        finally:
            self._writing = None

    def _look(
        self, connection: Connection, *, token: Token, wish: BuildWish, digests: Sequence[str]
    ) -> Hit | None:
        found: dict[str, Published] = {}
        for some in requests.slices(digests):
            rows = connection.execute(
                _PUBLISHED, {"machine": str(token.sub), "target": wish.target, "digests": some}
            ).all()
            if len(rows) < len(some) or rows[0].state != State.APPROVED:
                return None
            found.update(
                (row.digest, Published(cpv=row.cpv, digest=row.digest, build=row.build, path=row.path))
                for row in rows
            )
        if len(found) < len(set(digests)):
            return None
        if rows[0].private and not _may_ask(connection, token, wish):
            return None
        if wish.key is not None and requests.earlier(connection, rows[0].machine_id, wish.key) is not None:
            return None
        return Hit(
            number=requests.new_id(),
            machine_id=rows[0].machine_id,
            target_id=rows[0].target_id,
            target=wish.target,
            at=int(self.now()),
            atoms=tuple(wish.atoms),
            key=wish.key,
            packages=tuple(found[digest] for digest in dict.fromkeys(digests)),
        )


_PUBLISHED: Final = (
    select(
        tables.machines.c.id.label("machine_id"),
        tables.machines.c.state,
        tables.targets.c.id.label("target_id"),
        tables.targets.c.private,
        tables.builds.c.id.label("build"),
        tables.builds.c.digest,
        tables.builds.c.cpv,
        tables.builds.c.path,
    )
    .select_from(tables.machines)
    .join(tables.targets, true())
    .join(tables.builds, tables.builds.c.target_id == tables.targets.c.id)
    .where(
        tables.machines.c.uuid == bindparam("machine"),
        tables.targets.c.name == bindparam("target"),
        tables.builds.c.digest.in_(bindparam("digests", expanding=True)),
        tables.builds.c.visible,
    )
    .order_by(tables.builds.c.id)
)


def _digests(documents: Sequence[object]) -> list[str]:
    return [digest_of(document) for document in documents]


def _may_ask(connection: Connection, token: Token, wish: BuildWish) -> bool:
    machine, target = approved(connection, token), targets.require(connection, wish.target)
    return requests.may_ask(connection, machine, target, wish.access)


def _write_down(book: Jobs, hits: Sequence[Hit]) -> None:
    requests.write_down(book.connection, hits)
