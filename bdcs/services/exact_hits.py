# SPDX-License-Identifier: GPL-2.0-or-later
"""Exact hits: wishes of which every one is published already, answered by a lookup each.

A wish's document is its specification written in the one way there is, so its digest follows from the
document as it came. A build has that digest: then the document is that build's specification, and need not
be read to know it; whatever else it were, its digest would be another. So an answer costs a signature, and
for each package a hash and a lookup.

That somebody asked is written down a moment later, together with others, while nobody waits for it: nothing
was promised but what is there. Who asks for his requests in that moment waits until it is. Where he may ask
another collector, which cannot know of it, the answer waits instead.
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
from bdcs.domain.packages_index import LEAD
from bdcs.errors import StoreUnavailable
from bdcs.services import request_hits, request_rights, requests, targets
from bdcs.services.answers import Answer
from bdcs.services.authentication import approved
from bdcs.services.build_documents import BuildDocuments
from bdcs.services.indexing import COMMITTING, INTERVAL
from bdcs.services.jobs import Jobs
from bdcs.services.listing import LISTED_AT, with_listing
from bdcs.services.request_hits import Hit, Published
from bdcs.services.waking import Transactions
from bdcs.store import tables
from bdcs.store.lookups import Lookup, Lookups
from gentwoo_client.wire.build_messages import BuildWish
from gentwoo_client.wire.builds import digest_of
from gentwoo_client.wire.tokens import Token

log = logging.getLogger(__name__)

PAUSE: Final = 0.5
"""Seconds in which hits gather to be written down together."""
FEW: Final = 8
"""Packages that are looked up at once; more of them in a thread."""
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
        # Who comes again under the same key has to find the first one.
        async with self._keyed if wish.key is not None else contextlib.nullcontext():
            if wish.key is not None and any(noted.key == wish.key for noted in self._noted):
                await self.settle()
            found = await self._found(
                partial(self._look, token=token, wish=wish, digests=digests), len(digests)
            )
            if found is None or (found.is_private and not await self._may_ask(token, wish)):
                return None
            self._note(found.hit)
            if self.transactions.store.is_shared:
                await self.settle()  # who asks for it next may ask another collector
        return Answer(status=201, body=json.dumps(self.documents.hit(found.hit)))

    async def _found(self, look: Callable[[Lookups], _Found | None], count: int) -> _Found | None:
        store = self.transactions.store
        if count > FEW:
            return await store.read(lambda connection: look(Lookups.within(connection)))
        try:
            return store.look_up(look)
        except StoreUnavailable:
            return None  # what looks at more than hits also says what is wrong

    async def _may_ask(self, token: Token, wish: BuildWish) -> bool:
        def look(connection: Connection) -> bool:
            machine, target = approved(connection, token), targets.require(connection, wish.target)
            return request_rights.may_ask(connection, machine, target, wish.access)

        return await self.transactions.store.read(look)

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
        self, lookups: Lookups, *, token: Token, wish: BuildWish, digests: Sequence[str]
    ) -> _Found | None:
        packages: dict[str, Published] = {}
        at = int(self.now())
        for digest in digests:
            row = lookups.first(
                _PUBLISHED,
                machine=str(token.sub),
                target=wish.target,
                digest=digest,
                lead=LEAD - COMMITTING,
            )
            if row is None:
                return None
            machine, state, target, is_private, build, cpv, path, listed_at = row
            if listed_at > at + LEAD - COMMITTING - INTERVAL:
                return None  # how long it is to be waited for says what looks at more
            packages[digest] = Published(cpv=cpv, digest=digest, build=build, path=path)
        if state != State.APPROVED:
            return None
        key = None if wish.key is None else requests.idempotency(machine, wish.key)
        if key is not None and lookups.first(_EARLIER, key=key) is not None:
            return None
        hit = Hit(
            number=requests.new_id(),
            machine_id=machine,
            target_id=target,
            target=wish.target,
            at=at,
            atoms=tuple(wish.atoms),
            key=wish.key,
            packages=tuple(packages.values()),
        )
        return _Found(hit=hit, is_private=bool(is_private))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    hit: Hit
    is_private: bool


_PUBLISHED: Final = Lookup(
    select(
        tables.machines.c.id,
        tables.machines.c.state,
        tables.targets.c.id,
        tables.targets.c.private,
        tables.builds.c.id,
        tables.builds.c.cpv,
        tables.builds.c.path,
        LISTED_AT,
    )
    .select_from(
        with_listing(
            tables.machines.join(tables.targets, true()).join(
                tables.builds, tables.builds.c.target_id == tables.targets.c.id
            )
        )
    )
    .where(
        tables.machines.c.uuid == bindparam("machine"),
        tables.targets.c.name == bindparam("target"),
        tables.builds.c.digest == bindparam("digest"),
        tables.builds.c.visible,
    )
    .order_by(tables.builds.c.id.desc())
)
_EARLIER: Final = Lookup(
    select(tables.requests.c.id).where(tables.requests.c.idempotency == bindparam("key"))
)


def _digests(documents: Sequence[object]) -> list[str]:
    return [digest_of(document) for document in documents]


def _write_down(book: Jobs, hits: Sequence[Hit]) -> None:
    request_hits.write_down(book.connection, hits)
