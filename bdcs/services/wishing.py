# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines may do with requests, each with a token: ask, look, wait, cancel, try again."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, select

from bdcs.blobs.attempt_logs import Logs
from bdcs.domain.jobs import Answer as Told
from bdcs.domain.jobs import MemberState, Origin, Refusal, RequestState
from bdcs.services import answers, builders, requests, targets, tokens
from bdcs.services import request_rights as rights
from bdcs.services.answers import Answer, SignedRequest
from bdcs.services.authentication import Authenticator, approved
from bdcs.services.build_documents import BuildDocuments, Document
from bdcs.services.exact_hits import ExactHits
from bdcs.services.jobs import Jobs
from bdcs.services.machines import Machine
from bdcs.services.requests import Request
from bdcs.services.targets import Target
from bdcs.services.verdicts import Catalogue, Judge, Verdict, Wish, near_misses, wishes_of
from bdcs.services.waking import Transactions, job_topic, request_topic
from bdcs.store.store import Store
from bdcs.store.tables import attempts, jobs, members
from bdcs.store.tables import requests as request_table
from bdcs.store.tables import targets as target_table
from gentwoo_client.wire.build_messages import BuildWish
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.errors import (
    Forbidden,
    InvalidParameter,
    InvalidSpecification,
    NotFound,
)
from gentwoo_client.wire.parameters import Parameters
from gentwoo_client.wire.records import format_time
from gentwoo_client.wire.tokens import Token

log = logging.getLogger(__name__)

POLL: Final = 5.0
"""Seconds after which who waits looks again without having been woken: others may have done it."""
FEW: Final = 8
"""Packages that are read at once; more of them in a thread."""
LOG_PIECE: Final = 256 * 1024  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishing:
    """Answers machines that want packages built."""

    transactions: Transactions
    authenticator: Authenticator
    documents: BuildDocuments
    logs: Logs
    now: Callable[[], float]
    fleet: int
    """Machines whose records must be known for an estimate from the fleet."""
    hits: ExactHits
    catalogue: Catalogue

    @property
    def store(self) -> Store:
        """The store."""
        return self.transactions.store

    async def ask(self, signed: SignedRequest, wish: BuildWish) -> Answer:
        """Plan (200), or make a request (201; 200 where its key made one before).

        Raises `InvalidSpecification`, `Unauthorized`, `TokenReused`, `TooManyRequests`, and what `approved`
        raises.
        """
        token = await self.authenticator.verified(signed)
        if wish.commit and (hit := await self.hits.answer(token, wish)) is not None:
            return hit
        if len(wish.packages) > FEW:
            wishes = await asyncio.to_thread(_wishes, wish)
        else:
            wishes = _wishes(wish)
        if not wish.commit:
            return await self.store.read(lambda connection: self._plan(connection, token, wish, wishes))
        return await self.transactions.write(lambda book: self._request(book, signed, token, wish, wishes))

    async def listed(self, signed: SignedRequest) -> Document:
        """Return the machine's requests."""
        token = await self.authenticator.verified(signed)
        await self.hits.settle()
        return await self.store.read(
            lambda connection: self.documents.summaries(connection, approved(connection, token).id)
        )

    async def state(self, signed: SignedRequest, number: str, *, wait: float, since: str | None) -> Document:
        """Return how a request stands; wait at most so long for it to be other than `since`, or at its end.

        Raises `NotFound`.
        """
        token = await self.authenticator.verified(signed)
        return await self.when_changed(token, number, wait=wait, since=since)

    async def when_changed(self, token: Token, number: str, *, wait: float, since: str | None) -> Document:
        """Do that for a token that was verified."""
        await self.hits.settle()
        deadline = time.monotonic() + wait
        with self.transactions.bus.subscribed(request_topic(number)) as subscription:
            while True:
                document = await self.store.read(lambda connection: self._state(connection, token, number))
                left = deadline - time.monotonic()
                is_other = since is not None and document["version"] != since
                if is_other or document["state"] != RequestState.OPEN or left <= 0 or subscription.is_closing:
                    return document
                await subscription.wait(min(left, POLL))

    async def cancel(self, signed: SignedRequest, number: str) -> Answer:
        """Cancel what is left of a request. Raises `NotFound`."""
        token = await self.authenticator.verified(signed)
        await self.hits.settle()

        def work(book: Jobs) -> Answer:
            def do(connection: Connection) -> Answer:
                requests.require(connection, number, approved(connection, token).id)
                requests.cancel(book, number)
                return _answer(200, self._state(connection, token, number))

            return answers.once(book.connection, signed, token, self.now(), do)

        return await self.transactions.write(work)

    async def retry(self, signed: SignedRequest, number: str) -> Answer:
        """Try again what failed of a request.

        Raises `NotFound`, `TooManyRequests`, and `Forbidden` where the target is for others by now.
        """
        token = await self.authenticator.verified(signed)
        await self.hits.settle()

        def work(book: Jobs) -> Answer:
            def do(connection: Connection) -> Answer:
                machine = approved(connection, token)
                request = requests.require(connection, number, machine.id)
                target = targets.require(connection, request.target)
                if not rights.may_ask_again(connection, machine, target, request.access):
                    raise Forbidden(f"what opened {target.name} for this request counts no longer")
                judge = self._judge(connection, target, machine, retry=True)
                verdicts = requests.retry(book, target, judge, number)
                waits = any(verdict.state is MemberState.WAITING for verdict in verdicts)
                if waits and request.finished_at is not None:  # what is open stays so
                    rights.check_quota(connection, machine.id, book.policy, book.now, besides=number)
                return _answer(200, self._state(connection, token, number))

            return answers.once(book.connection, signed, token, self.now(), do)

        return await self.transactions.write(work)

    async def job(self, signed: SignedRequest, number: int) -> Document:
        """Return what is told of a job. Raises `NotFound`, also where it is not for this machine."""
        token = await self.authenticator.verified(signed)

        def look(connection: Connection) -> Document:
            _check_reader(connection, approved(connection, token), number)
            return self.documents.job(connection, number, int(self.now()))

        return await self.store.read(look)

    async def log(
        self, signed: SignedRequest, number: int, *, attempt: int | None, offset: int, wait: float
    ) -> Log:
        """Return more of the log of a job's attempt (the last), waiting at most so long for there to be any.

        Raises `NotFound`, also where the log was deleted after its time.
        """
        token = await self.authenticator.verified(signed)
        await self.store.read(
            lambda connection: _check_reader(connection, approved(connection, token), number)
        )
        deadline = time.monotonic() + wait
        with self.transactions.bus.subscribed(job_topic(number)) as subscription:
            while True:
                found = await self.store.read(lambda connection: _log_of(connection, number, attempt))
                if found is not None and found.deleted_at is not None:
                    when = format_time(found.deleted_at)
                    raise NotFound(
                        f"the log of attempt {found.attempt} was deleted after its time, at {when}"
                    )
                text = b""
                if found is not None:
                    text = await asyncio.to_thread(self.logs.read, found.attempt, offset, LOG_PIECE)
                left = deadline - time.monotonic()
                is_over = found is not None and found.is_over
                if text or is_over or left <= 0 or subscription.is_closing:
                    return Log(
                        attempt=None if found is None else found.attempt,
                        text=text,
                        end=offset + len(text),
                        is_over=is_over and not text,
                    )
                await subscription.wait(min(left, POLL))

    async def builders(self, signed: SignedRequest) -> Document:
        """Return all builders."""
        token = await self.authenticator.verified(signed)

        def look(connection: Connection) -> Document:
            approved(connection, token)
            return self.documents.builders(connection, int(self.now()))

        return await self.store.read(look)

    async def events(
        self, signed: SignedRequest, number: str, cursor: dict[int, int]
    ) -> AsyncGenerator[tuple[str, Document, dict[int, int]], None]:
        """Yield what becomes of a request until its end: ("state" or "log", document, cursor).

        A cursor says how much of the logs of which attempts was told: who comes again brings the last one.
        Yields ("", {}, cursor) where nothing happened for a while. Raises `NotFound`.
        """
        token = await self.authenticator.verified(signed)
        await self.hits.settle()
        told: Document = {}
        while True:
            topics = [request_topic(number)]
            topics += [job_topic(package["job"]) for package in told.get("packages", ()) if package["job"]]
            with self.transactions.bus.subscribed(*topics) as subscription:
                document = await self.store.read(lambda connection: self._state(connection, token, number))
                is_new = document != told
                told = document
                if is_new:
                    yield "state", document, cursor
                async for log in self._more_logs(document, cursor):
                    yield "log", log, cursor
                if document["state"] != RequestState.OPEN or subscription.is_closing:
                    return
                if not is_new and not await subscription.wait(POLL):
                    yield "", {}, cursor

    async def _more_logs(self, document: Document, cursor: dict[int, int]) -> AsyncIterator[Document]:
        """Yield what the logs of the request's jobs have beyond `cursor`, which goes along."""
        for package in document["packages"]:
            if package["job"] is None or package["answer"] not in (Told.QUEUED, Told.JOINED):
                continue
            number = package["job"]
            found = await self.store.read(partial(_log_of, job=number, attempt=None))
            if found is None:
                continue
            offset = cursor.get(found.attempt, 0)
            while text := await asyncio.to_thread(self.logs.read, found.attempt, offset, LOG_PIECE):
                cursor[found.attempt] = offset + len(text)
                yield {
                    "job": number,
                    "attempt": found.attempt,
                    "cpv": package["cpv"],
                    "offset": offset,
                    "text": text.decode("utf-8", "replace"),
                }
                offset += len(text)

    # In transactions.

    def _plan(self, connection: Connection, token: Token, wish: BuildWish, wishes: Sequence[Wish]) -> Answer:
        target, verdicts = self._verdicts(connection, approved(connection, token), wish, wishes)
        near = {} if target is None else near_misses(connection, target, verdicts)
        document = self.documents.plan(connection, wish.target, verdicts, near, wish.atoms, int(self.now()))
        return _answer(200, document)

    def _request(
        self, book: Jobs, signed: SignedRequest, token: Token, wish: BuildWish, wishes: Sequence[Wish]
    ) -> Answer:
        def do(connection: Connection) -> Answer:
            machine = approved(connection, token)
            if wish.key is not None:
                before = requests.earlier(connection, machine.id, wish.key)
                if before is not None:
                    return _answer(200, self._state(connection, token, before))
            target, verdicts = self._verdicts(connection, machine, wish, wishes)
            if target is None:
                return self._plan(connection, token, wish, wishes)
            if any(verdict.state is MemberState.WAITING for verdict in verdicts):
                rights.check_quota(connection, machine.id, book.policy, book.now)
            number = requests.commit(
                book,
                target,
                verdicts,
                machine_id=machine.id,
                atoms=wish.atoms,
                key=wish.key,
                origin=Origin.REQUEST,
                access=None if wish.access is None else tokens.hash_of(wish.access.token),
            )
            near = near_misses(connection, target, verdicts)
            waits = any(verdict.state is MemberState.WAITING for verdict in verdicts)
            request = Request(
                id=number,
                machine_id=machine.id,
                target=target.name,
                created_at=book.now,
                cancelled_at=None,
                finished_at=None if waits else book.now,
                atoms=tuple(wish.atoms),
            )
            return _answer(201, self.documents.answered(connection, request, verdicts, near, book.now))

        return answers.once(book.connection, signed, token, self.now(), do)

    def _verdicts(
        self, connection: Connection, machine: Machine, wish: BuildWish, wishes: Sequence[Wish]
    ) -> tuple[Target | None, list[Verdict]]:
        """Return the target, if the machine may know it, and the answers."""
        target = targets.find(connection, wish.target)
        if target is None or not rights.may_ask(connection, machine, target, wish.access):
            reason = f"there is no target {wish.target}"
            return None, [
                Verdict(wish=one, answer=Told.REFUSED, refusal=Refusal.NO_TARGET, reason=reason)
                for one in wishes
            ]
        judge = self._judge(connection, target, machine, retry=wish.retry, objection=_objection(target, wish))
        return target, judge.verdicts(wishes)

    def _judge(
        self,
        connection: Connection,
        target: Target,
        machine: Machine,
        *,
        retry: bool,
        objection: str | None = None,
    ) -> Judge:
        return Judge(
            connection=connection,
            target=target,
            machine_id=machine.id,
            now=int(self.now()),
            retry=retry,
            catalogue=self.catalogue,
            objection=objection,
            fleet=self.fleet,
            policy=self.transactions.policy,
        )

    def _state(self, connection: Connection, token: Token, number: str) -> Document:
        request = requests.require(connection, number, approved(connection, token).id)
        return self.documents.request(connection, request, int(self.now()), {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A piece of a log."""

    attempt: int | None
    """None: nobody has begun."""
    text: bytes
    end: int
    """Where to go on."""
    is_over: bool
    """Whether nothing more will come of this attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _AttemptLog:
    attempt: int
    is_over: bool
    deleted_at: int | None


def _log_of(connection: Connection, job: int, attempt: int | None) -> _AttemptLog | None:
    """Return that attempt of a job, or its last. Raises `NotFound` where it is another job's."""
    columns = (attempts.c.id, attempts.c.finished_at, attempts.c.log_deleted_at)
    query = select(*columns).where(attempts.c.job_id == job)
    if attempt is not None:
        query = query.where(attempts.c.id == attempt)
    row = connection.execute(query.order_by(attempts.c.id.desc()).limit(1)).first()
    if row is None:
        if attempt is not None:
            raise NotFound("the job has no such attempt")
        return None
    is_over = row.finished_at is not None
    return _AttemptLog(attempt=row.id, is_over=is_over, deleted_at=row.log_deleted_at)


def _wishes(wish: BuildWish) -> list[Wish]:
    specifications = []
    for position, document in enumerate(wish.packages):
        try:
            specifications.append(BuildSpecification.from_json(document))
        except InvalidSpecification as error:
            raise InvalidSpecification(f"packages.{position}.{error.field}", error.reason) from None
    return wishes_of(specifications)


def _objection(target: Target, wish: BuildWish) -> str | None:
    """Return what of the machine's parameters no build may have, or is not the target's."""
    if wish.parameters is None:
        return None
    try:
        parameters = Parameters.from_json(wish.parameters)
    except InvalidParameter as error:
        return error.detail
    for name, wanted, own in (
        ("CHOST", target.chost, parameters.chost),
        ("CFLAGS", target.cflags, parameters.cflags),
    ):
        if wanted.split() != own.split():
            return f"{name} of {target.name} is {wanted}, yours is {own}"
    return None


def _check_reader(connection: Connection, machine: Machine, job: int) -> None:
    """Raise `NotFound` unless the machine may know of the job."""
    row = connection.execute(
        select(target_table.c.name).join(jobs, jobs.c.target_id == target_table.c.id).where(jobs.c.id == job)
    ).first()
    target = None if row is None else targets.find(connection, row.name)
    if target is not None and (
        not target.private
        or builders.is_approved(connection, target, machine)
        or _wanted_by(connection, machine, job)
    ):
        return
    raise NotFound("there is no such job")


def _wanted_by(connection: Connection, machine: Machine, job: int) -> bool:
    query = (
        select(members.c.job_id)
        .join(request_table, request_table.c.id == members.c.request_id)
        .where(members.c.job_id == job, request_table.c.machine_id == machine.id)
    )
    return connection.execute(query.limit(1)).first() is not None


def _answer(status: int, document: dict[str, Any]) -> Answer:
    return Answer(status=status, body=json.dumps(document))
