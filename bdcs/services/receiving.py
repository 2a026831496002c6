# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages from builders: who may send one, and what is answered. What becomes of its bytes: `uploads`.

admission = await receiver.admit(request, described)      # before a byte of the body
if not isinstance(admission, Answer):
    answer = await receiver.receive(admission, chunks)
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from bdcs.domain.machines import State
from bdcs.domain.uploads import Declared
from bdcs.services import answers, builders, machines, targets
from bdcs.services.answers import Answer, SignedRequest
from bdcs.services.authentication import Authenticator
from bdcs.services.finishing import to_its_end
from bdcs.services.uploads import Reception, Upload, Uploads
from bdcs.store.store import Store
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.errors import (
    AwaitingApproval,
    Forbidden,
    NotFound,
    Quarantined,
    RefusedPackage,
    Unavailable,
)
from gentwoo_client.wire.tokens import Token

AT_ONCE: Final = 4
"""Packages that are received at the same time: each may need the memory of a decompressor's window."""
RETRY_AFTER: Final = 30  # seconds for who comes while as many are received
_NAME_LENGTH: Final = 100  # bytes of a container in which the name of its first member is


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What the address of an upload says of it; its size in bytes, its hash in hexadecimal."""

    target: str
    cpv: CPV
    size: int
    sha512: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """An upload that may come."""

    request: SignedRequest
    token: Token
    declared: Declared


class Receiver:
    """Takes packages into quarantine."""

    def __init__(
        self, store: Store, uploads: Uploads, authenticator: Authenticator, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._uploads = uploads
        self._authenticator = authenticator
        self._now = now
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="receiver")
        self._receptions = 0

    async def admit(self, request: SignedRequest, described: Described) -> Admission | Answer:
        """Return that the upload may come, or the answer that this very request got before.

        Raises `Unauthorized`, `Unregistered`, `Forgotten`, `Forbidden`, `NotFound`.
        """
        before = await self._store.read(partial(answers.earlier, request=request, now=self._now()))
        if before is not None:
            return before
        token = await self._authenticator.verified(request, covers_body=False)
        await self._store.read(partial(_check_sender, machine=token.sub, target=described.target))
        declared = Declared(
            machine=token.sub,
            target=described.target,
            category=described.cpv.category,
            pf=described.cpv.pf,
            size=described.size,
            sha512=described.sha512,
        )
        return Admission(request=request, token=token, declared=declared)

    async def receive(self, admission: Admission, chunks: AsyncIterator[bytes]) -> Answer:
        """Read the package from `chunks`; 201 when it is in quarantine, durably.

        A package that is there already is not read again. Whatever is raised, by `chunks` too, no file of the
        upload stays. Raises `RefusedPackage`, `TooLarge`, `TooManyRequests`, `TokenReused`, `Unavailable`,
        `StoreUnavailable`.
        """
        if self._receptions >= AT_ONCE:
            raise Unavailable("other packages are being received", retry_after=RETRY_AFTER)
        self._receptions += 1
        try:
            reception = await self._uploads.begin(admission.declared)
            if isinstance(reception, Upload):
                upload = reception
            else:
                upload = await self._received(reception, chunks)
        finally:
            self._receptions -= 1
        return await self._store.write(partial(self._answer, admission, upload))

    async def _received(self, reception: Reception, chunks: AsyncIterator[bytes]) -> Upload:
        try:
            is_first = True
            async for chunk in chunks:
                if is_first:
                    _check_beginning(reception.declared, chunk)
                    is_first = False
                await to_its_end(self._threads, partial(reception.write, chunk))
            return await self._uploads.finish(reception)
        except RefusedPackage as error:
            await self._uploads.refuse(reception, error.detail)
            raise
        finally:
            await self._uploads.end(reception)

    def _answer(self, admission: Admission, upload: Upload, connection: Connection) -> Answer:
        def make(_connection: Connection) -> Answer:
            return Answer(status=201, body=json.dumps(upload.to_document()))

        return answers.once(connection, admission.request, admission.token, self._now(), make)


def _check_sender(connection: Connection, machine: UUID, target: str) -> None:
    """Raise unless the machine may send to the target: `Unregistered`, `Forgotten`, `Forbidden`, `NotFound`.

    That a private target exists is only told to its builders.
    """
    sender = machines.require(connection, machine)
    found = targets.find(connection, target)
    is_builder = found is not None and builders.is_approved(connection, found, sender)
    if found is None or (found.private and not is_builder):
        raise NotFound("no target of this name")
    if sender.state is State.AWAITING_APPROVAL:
        raise AwaitingApproval()
    if sender.state is State.QUARANTINED:
        raise Quarantined()
    if not is_builder:
        raise Forbidden(f"this machine is no builder of {target}: `bdcs admin builders approve` makes it one")


def _check_beginning(declared: Declared, data: bytes) -> None:
    """Raise `RefusedPackage` where the container's first name shows that it is another package."""
    prefix, slash, _ = data[:_NAME_LENGTH].partition(b"/")
    if slash and not re.fullmatch(rf"{re.escape(declared.pf)}(?:-[0-9]+)?".encode(), prefix):
        found = prefix.decode("ascii", "backslashreplace")
        raise RefusedPackage(f"it was sent as {declared.pf}, and begins with {found}/")
