# SPDX-License-Identifier: GPL-2.0-or-later
"""What builders may do, each with a token: take a job, say that they are at it, tell of it, end it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sqlalchemy import Connection, select, update

from bdcs.blobs.attempt_logs import Logs
from bdcs.domain.jobs import AttemptState, Failure, JobState
from bdcs.errors import CollectorError, SignerUnavailable, StoreUnavailable
from bdcs.services import answers, attempt_publishing, builders, claiming
from bdcs.services.answers import Answer, SignedRequest
from bdcs.services.attempt_publishing import Handover
from bdcs.services.authentication import Authenticator, approved
from bdcs.services.build_documents import BuildDocuments, Document
from bdcs.services.claiming import Asking, Claimed
from bdcs.services.finishing import to_its_end
from bdcs.services.jobs import Jobs
from bdcs.services.looking import Looks
from bdcs.services.publishing import Publisher
from bdcs.services.waking import Transactions, attempt_topic, job_topic, target_topic
from bdcs.store import tables
from bdcs.store.tables import attempts, jobs
from gentwoo_client.wire.build_messages import Claim, Failed, Fencing, LogPiece, Publish
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.errors import LeaseLost, RefusedPackage, Unavailable
from gentwoo_client.wire.tokens import Token

log = logging.getLogger(__name__)

POLL: Final = 5.0
"""Seconds after which who waits looks again without having been woken: others may have done it."""
RECENT: Final = 1.0
"""Seconds since which another may have looked for him: of thousands who wait, one looks."""
RETRY_AFTER: Final = 30  # seconds after which who could not publish tries again
LOG_THREADS: Final = 4
"""Logs that are looked at or written at once, by threads that downloads and uploads cannot take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempting:
    """Answers builders."""

    transactions: Transactions
    authenticator: Authenticator
    documents: BuildDocuments
    logs: Logs
    publisher: Publisher
    now: Callable[[], float]
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="attempts")
    )
    _log_threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(LOG_THREADS, thread_name_prefix="attempt-logs")
    )

    _looks: Looks = field(default_factory=Looks)

    async def claim(self, signed: SignedRequest, claim: Claim, *, wait: float) -> Answer:
        """Lease the job whose turn it is (201), waiting at most so long for there to be one (else 204).

        Raises `Forbidden` where the machine is no builder of any of the targets.
        """
        token = await self.authenticator.verified(signed)
        deadline = time.monotonic() + wait
        asking = Asking(signed=signed, token=token, claim=claim)
        claimed = await self._claimed(asking)
        if claimed.answer is not None:
            return claimed.answer
        claimant = claimed.claimant
        asking = Asking(signed=signed, token=token, claim=claim, is_noted=True)
        topics = map(target_topic, claimant.target_ids)
        with self.transactions.bus.subscribed(*topics) as subscription:
            is_woken = True
            while not claim.draining:
                since = time.monotonic() - (0 if is_woken else RECENT)
                if (await self._looks.since(since, self.transactions.store)).is_for(claimant):
                    claimed = await self._claimed(asking)
                    if claimed.answer is not None:
                        return claimed.answer
                left = deadline - time.monotonic()
                if left <= 0 or subscription.is_closing:
                    break
                is_woken = await subscription.wait(min(left, POLL))
        return Answer(status=204, body="")

    async def _claimed(self, asking: Asking) -> Claimed:
        """Claim with all others who do so now."""
        try:
            claimed: Claimed = await self.transactions.write_grouped(self._claim_all, asking)
        except asyncio.CancelledError:
            asking.is_gone = True
            raise
        return claimed

    async def heartbeat(self, signed: SignedRequest, number: int, beat: Fencing, *, wait: float) -> Document:
        """Renew the lease, or give the job back; then wait at most so long for the attempt to be over.

        Raises `NotFound`.
        """
        token = await self.authenticator.verified(signed)
        deadline = time.monotonic() + wait
        with self.transactions.bus.subscribed(attempt_topic(number)) as subscription:
            document = await self.transactions.write(lambda book: self._beat(book, token, number, beat))
            while not document["cancelled"] and not beat.release:
                left = deadline - time.monotonic()
                if left <= 0 or subscription.is_closing:
                    break
                await subscription.wait(min(left, POLL))
                document = await self.transactions.store.read(
                    lambda connection: _heartbeat(self._book(connection), token, number, beat.fencing)
                )
        return document

    async def log(self, signed: SignedRequest, number: int, piece: LogPiece) -> Document:
        """Put a piece of the log where it belongs. Raises `NotFound`, `BlobsFull`.

        The log of an attempt that is over takes no more; the builder is told to stop.
        """
        token = await self.authenticator.verified(signed)

        def look(connection: Connection) -> tuple[bool, int]:
            book = self._book(connection)
            attempt = book.attempt(number, approved(connection, token).id)
            return attempt.state is AttemptState.LEASED and attempt.number == piece.fencing, attempt.job_id

        may_go_on, job = await self.transactions.store.read(look)
        if not may_go_on:
            return {"size": await self._log_size(number), "cancelled": True}
        append = partial(self.logs.append, number, piece.offset, piece.text.encode())
        size = await asyncio.get_running_loop().run_in_executor(self._log_threads, append)
        self.transactions.bus.tell([job_topic(job)])
        return {"size": size, "cancelled": False}

    async def fail(self, signed: SignedRequest, number: int, failed: Failed) -> Answer:
        """The attempt failed. Raises `NotFound`, `LeaseLost`."""
        token = await self.authenticator.verified(signed)
        size = await self._log_size(number)

        def work(book: Jobs) -> Answer:
            def do(connection: Connection) -> Answer:
                attempt = book.leased(number, failed.fencing, approved(connection, token).id)
                book.fail(attempt, Failure(failed.kind), failed.text)
                _note_log(connection, number, size)
                return Answer(status=200, body=json.dumps({"lease": 0, "cancelled": False}))

            return answers.once(book.connection, signed, token, self.now(), do)

        return await self.transactions.write(work)

    async def publish(self, signed: SignedRequest, number: int, publish: Publish) -> Answer:
        """Publish what the attempt built, as one.

        Told again, though by another token, what was done is told again, without its packages. Raises
        `NotFound`, `LeaseLost`, `InvalidCPV`, `RefusedPackage`, `Unavailable`.
        """
        before = await self.transactions.store.read(
            lambda connection: answers.earlier(connection, signed, self.now())
        )
        if before is not None:
            return before
        token = await self.authenticator.verified(signed)
        done = await self.transactions.store.read(
            lambda connection: _published_before(connection, token, number, publish.fencing)
        )
        if done is not None:
            return done
        machine = await self.transactions.store.read(lambda connection: approved(connection, token))
        handover = Handover(
            request=signed,
            token=token,
            machine_id=machine.id,
            attempt=number,
            fencing=publish.fencing,
            uploads=tuple(dict.fromkeys(publish.uploads)),
            left_out=tuple(str(CPV.parse(text)) for text in dict.fromkeys(publish.left_out)),
            policy=self.transactions.policy,
        )
        work = partial(attempt_publishing.publish, self.publisher, handover, url=self.documents.url)
        try:
            answer, touched = await to_its_end(self._threads, work)
        except (SignerUnavailable, StoreUnavailable) as error:
            log.warning("attempt %d could not be published now: %s", number, error)
            raise Unavailable(str(error), retry_after=RETRY_AFTER) from error
        except CollectorError as error:
            log.warning("attempt %d could not be published: %s", number, error)
            raise RefusedPackage(str(error)) from error
        self.transactions.tell(touched)
        size = await self._log_size(number)
        await self.transactions.write(lambda book: _note_log(book.connection, number, size))
        return answer

    def close(self) -> None:
        """Wait for what is being published and written: what that goes to is closed next."""
        self._threads.shutdown()
        self._log_threads.shutdown()

    async def _log_size(self, number: int) -> int:
        return await asyncio.get_running_loop().run_in_executor(self._log_threads, self.logs.size, number)

    # In transactions.

    def _book(self, connection: Connection) -> Jobs:
        return Jobs(connection, self.now(), self.transactions.policy)

    def _claim_all(self, book: Jobs, asking: Sequence[Asking]) -> list[Claimed | Exception]:
        return claiming.claim_all(book, asking, self.documents)

    def _beat(self, book: Jobs, token: Token, number: int, beat: Fencing) -> Document:
        machine = approved(book.connection, token)
        document = _heartbeat(book, token, number, beat.fencing)
        if document["cancelled"]:
            return document
        attempt = book.attempt(number, machine.id)
        if beat.release:
            book.give_back(attempt)
            return {"lease": 0, "cancelled": True}
        book.renew(attempt)
        book.connection.execute(
            update(tables.builders)
            .where(
                tables.builders.c.machine_id == machine.id,
                tables.builders.c.name == attempt.builder,
                tables.builders.c.seen_at < book.now - builders.SEEN,
            )
            .values(seen_at=book.now)
        )
        return document


def _heartbeat(book: Jobs, token: Token, number: int, fencing: int) -> Document:
    machine = approved(book.connection, token)
    try:
        book.leased(number, fencing, machine.id)
    except LeaseLost:
        return {"lease": 0, "cancelled": True}
    return {"lease": book.policy.lease, "cancelled": False}


def _published_before(connection: Connection, token: Token, number: int, fencing: int) -> Answer | None:
    attempt = Jobs(connection, 0).attempt(number, approved(connection, token).id)
    if attempt.state is not AttemptState.PUBLISHED or attempt.number != fencing:
        return None
    row = connection.execute(
        select(jobs.c.state, jobs.c.failure_text, tables.targets.c.generation)
        .join(tables.targets, tables.targets.c.id == jobs.c.target_id)
        .where(jobs.c.id == attempt.job_id)
    ).one()
    differs = row.state == JobState.MISMATCH
    document = {
        "state": "mismatch" if differs else "published",
        "generation": row.generation,
        "packages": [],
        "difference": (row.failure_text or "").splitlines() if differs else [],
    }
    return Answer(status=200, body=json.dumps(document))


def _note_log(connection: Connection, number: int, size: int) -> None:
    connection.execute(update(attempts).where(attempts.c.id == number).values(log_size=size))
