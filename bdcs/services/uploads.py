# SPDX-License-Identifier: GPL-2.0-or-later
"""What builders send: received into quarantine, where it waits until it is published, or dropped.

    reception = await uploads.begin(declared)
    if isinstance(reception, Reception):                 # else that very upload is there already
        try:
            async for chunk in body:
                await asyncio.to_thread(reception.write, chunk)
            upload = await uploads.finish(reception)
        except RefusedPackage as error:
            await uploads.refuse(reception, error.reason)
            raise
        finally:
            await uploads.end(reception)

A kill leaves no more than a workspace or a file that no row names, which `services.upkeep` removes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, delete, func, select, update

from bdcs.blobs.blobs import Blobs
from bdcs.blobs.workspace import Draft, Workspace, space_errors
from bdcs.domain.admission import Origin
from bdcs.domain.gpkg.limits import Limits
from bdcs.domain.gpkg.reading import Inspector
from bdcs.domain.targets import Cause
from bdcs.domain.uploads import LIFE, MOST, Declared, State
from bdcs.errors import InvalidPackage, NoSuchUpload, StoreUnavailable, UploadsDiffer
from bdcs.services import builders, machines, targets
from bdcs.services.intake import Source
from bdcs.services.machines import Machine
from bdcs.services.publishing import ADMINISTRATOR, Builds, Published, Publisher
from bdcs.services.targets import Target
from bdcs.store import tables
from bdcs.store.store import Store
from bdcs.store.tables import uploads
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.errors import (
    Forbidden,
    NotFound,
    RefusedPackage,
    TooLarge,
    TooManyRequests,
)

QUOTA: Final = 4
"""How many of the largest packages one machine may have in quarantine."""
RETRY_AFTER: Final = 600  # seconds after which a machine whose quota is used up asks again


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One upload, as it is known."""

    id: str
    target: str
    category: str
    pf: str
    machine: str
    """UUID."""
    size: int
    """Bytes."""
    received_at: int
    state: State
    reason: str | None
    """Why it was refused."""
    blob: str | None
    """Its file in quarantine."""

    def to_document(self) -> dict[str, object]:
        """Return what its builder is told."""
        return {
            "upload": self.id,
            "target": self.target,
            "category": self.category,
            "package": self.pf,
            "size": self.size,
            "state": str(self.state),
        }

    def to_json(self) -> dict[str, object]:
        """Return what `bdcs publish --list-uploads --json` prints of it."""
        return {
            **self.to_document(),
            "machine": self.machine,
            "received_at": self.received_at,
            "reason": self.reason,
        }


class Reception:
    """An upload that is arriving. `write` and `close` block."""

    def __init__(self, declared: Declared, target: Target, machine: Machine, workspace: Workspace) -> None:
        self.declared = declared
        self.target = target
        self.machine = machine
        self._workspace = workspace
        self._inspector = Inspector(Limits(package_size=declared.size))
        self._draft: Draft = workspace.create()
        self._received = 0

    def write(self, data: bytes) -> None:
        """Take the next piece. Raises `RefusedPackage` as soon as it can be known, `BlobsFull`."""
        self._received += len(data)
        if self._received > self.declared.size:
            raise RefusedPackage(f"more arrives than the {self.declared.size} bytes that were declared")
        try:
            self._inspector.feed(data)
        except InvalidPackage as error:
            raise RefusedPackage(error.reason) from error
        with space_errors(self._draft.path):
            self._draft.file.write(data)

    def complete(self, now: float) -> Draft:
        """Everything arrived: compare it with what was declared; return the finished draft.

        Raises `RefusedPackage`, `BlobsFull`.
        """
        if self._received < self.declared.size:
            raise RefusedPackage(f"{self._received} bytes arrived, {self.declared.size} were declared")
        try:
            package = self._inspector.close()
        except InvalidPackage as error:
            raise RefusedPackage(error.reason) from error
        objection = self.declared.objection(package, chost=self.target.chost, bindist=self.target.bindist)
        if objection:
            raise RefusedPackage(objection)
        with space_errors(self._draft.path):
            self._draft.finish(int(now))
        return self._draft

    def close(self) -> None:
        """Whatever was not kept goes."""
        self._draft.close()
        self._workspace.close()


class Uploads:
    """Receives uploads in the server."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        *,
        package_size: int,
        most: int = MOST,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`package_size`: bytes of the largest package that is taken; `most`: uploads of one machine."""
        self._store = store
        self._blobs = blobs
        self._package_size = package_size
        self._most = most
        self._now = now
        self._arriving: Counter[UUID] = Counter()
        """Bytes that machines have declared, and that may still come."""

    async def begin(self, declared: Declared) -> Reception | Upload:
        """Make ready for an upload; or return it where that very file waits or was published already.

        The machine's token was verified. Raises `NotFound` (no such target), `Forbidden` (no builder of it),
        `Unregistered`, `Forgotten`, `InvalidCPV`, `TooLarge`, `TooManyRequests`, `BlobsFull`.
        """
        CPV.parse(f"{declared.category}/{declared.pf}")
        if declared.size > self._package_size:
            raise TooLarge(
                f"a package may have {self._package_size} bytes here, and this one has {declared.size}"
            )

        def look(connection: Connection) -> tuple[Target, Machine, Upload | None, tuple[int, int]]:
            target = targets.find(connection, declared.target)
            if target is None:
                raise NotFound("no target of this name")
            machine = machines.require(connection, declared.machine)
            if not builders.is_approved(connection, target, machine):
                raise Forbidden(f"this machine is no builder of {target.name}")
            return target, machine, find(connection, declared.id), _in_quarantine(connection, machine)

        target, machine, known, (count, size) = await self._store.read(look)
        if known is not None and known.state is not State.REFUSED:
            return known
        size += self._arriving[declared.machine] + declared.size
        if count >= self._most:
            raise TooManyRequests(
                f"{count} packages of this machine wait to be published, as many as may",
                retry_after=RETRY_AFTER,
                limit="uploads_per_machine",
                allowed=self._most,
            )
        if size > QUOTA * self._package_size:
            raise TooManyRequests(
                f"packages of this machine that wait to be published may have {QUOTA} times the bytes of the"
                f" largest package, {QUOTA * self._package_size}",
                retry_after=RETRY_AFTER,
                limit="package_size",
                allowed=self._package_size,
            )
        reception = Reception(declared, target, machine, await asyncio.to_thread(self._blobs.workspace))
        self._arriving[declared.machine] += declared.size
        return reception

    async def finish(self, reception: Reception) -> Upload:
        """Put what has arrived into quarantine, durably. Raises `RefusedPackage`, `NotFound`, `BlobsFull`."""
        declared, now = reception.declared, int(self._now())
        draft = await asyncio.to_thread(reception.complete, now)
        await asyncio.to_thread(self._blobs.keep_upload, draft, declared.id)
        return await self._note(reception, State.QUARANTINED, now, blob=declared.id)

    async def refuse(self, reception: Reception, reason: str) -> None:
        """Note that what arrived was refused, for the operator's list."""
        await self._note(reception, State.REFUSED, int(self._now()), reason=reason)

    async def end(self, reception: Reception) -> None:
        """Whatever was not kept goes; to be called in any case."""
        self._arriving[reception.declared.machine] -= reception.declared.size
        if not self._arriving[reception.declared.machine]:
            del self._arriving[reception.declared.machine]
        await asyncio.to_thread(reception.close)

    async def _note(
        self,
        reception: Reception,
        state: State,
        now: int,
        *,
        reason: str | None = None,
        blob: str | None = None,
    ) -> Upload:
        declared = reception.declared

        def note(connection: Connection) -> Upload:
            target = targets.find(connection, declared.target)
            if target is None or target.id != reception.target.id:
                raise NotFound("no target of this name")
            machines.require(connection, declared.machine)
            connection.execute(delete(uploads).where(uploads.c.id == declared.id))
            connection.execute(
                uploads.insert().values(
                    id=declared.id,
                    target_id=target.id,
                    category=declared.category,
                    pf=declared.pf,
                    machine_id=reception.machine.id,
                    size=declared.size,
                    received_at=now,
                    state=str(state),
                    reason=reason,
                    blob=blob,
                )
            )
            return require(connection, declared.id)

        return await self._store.write(note)


def find(connection: Connection, upload: str) -> Upload | None:
    """Return the upload, or None."""
    row = connection.execute(_UPLOADS.where(uploads.c.id == upload)).first()
    return None if row is None else _upload(row)


def require(connection: Connection, upload: str) -> Upload:
    """Return the upload. Raises `NoSuchUpload`."""
    found = find(connection, upload)
    if found is None:
        raise NoSuchUpload(upload)
    return found


def listed(connection: Connection, target: str | None = None) -> list[Upload]:
    """Return what waits and what was decided lately, the oldest first; of one target, or of all.

    Raises `NoSuchTarget`.
    """
    query = _UPLOADS.order_by(uploads.c.received_at, uploads.c.id)
    if target is not None:
        query = query.where(uploads.c.target_id == targets.require(connection, target).id)
    return [_upload(row) for row in connection.execute(query)]


def publish(publisher: Publisher, ids: Sequence[str]) -> Published:
    """Publish what waits in quarantine, as one generation of the one target that it was sent for.

    Raises `NoSuchUpload`, `UploadsDiffer`, and what `Publisher.publish` raises; then everything waits on.
    """
    with publisher.reading() as connection:
        waiting = [require(connection, upload) for upload in ids]
    for upload in waiting:
        if upload.state is not State.QUARANTINED or upload.blob is None:
            raise NoSuchUpload(upload.id)
    names = {upload.target for upload in waiting}
    if len(names) > 1:
        raise UploadsDiffer(sorted(names))

    def note(connection: Connection, _builds: Builds) -> None:
        connection.execute(
            update(uploads).where(uploads.c.id.in_(ids)).values(state=str(State.PUBLISHED), blob=None)
        )

    with publisher.begin(
        names.pop(), actor=ADMINISTRATOR, origin=Origin.UPLOAD, cause=Cause.PUBLISH
    ) as publication:
        taken = [publication.take(_source(publisher.blobs, upload)) for upload in waiting]
        published = publication.commit(taken, also=note)
    with contextlib.suppress(StoreUnavailable):  # they are published: upkeep drops them later
        for upload in waiting:
            publisher.blobs.drop_upload(upload.id)
    return published


def drop_old(connection: Connection, now: float, life: int = LIFE) -> list[str]:
    """Give up what nobody published within `life` seconds, and forget what was decided as long ago.

    Return the names of what is still to wait in quarantine: all other files there may go.
    """
    old = uploads.c.received_at < int(now) - life
    connection.execute(delete(uploads).where(old))
    return list(connection.scalars(select(uploads.c.blob).where(uploads.c.blob.is_not(None))))


_UPLOADS: Final = (
    select(uploads, tables.targets.c.name.label("target"), tables.machines.c.uuid.label("machine"))
    .join(tables.targets, tables.targets.c.id == uploads.c.target_id)
    .outerjoin(tables.machines, tables.machines.c.id == uploads.c.machine_id)
)


def _upload(row: Row[Any]) -> Upload:
    return Upload(
        id=row.id,
        target=row.target,
        category=row.category,
        pf=row.pf,
        machine=row.machine or builders.FORGOTTEN,
        size=row.size,
        received_at=row.received_at,
        state=State(row.state),
        reason=row.reason,
        blob=row.blob,
    )


def _in_quarantine(connection: Connection, machine: Machine) -> tuple[int, int]:
    """Return how many uploads of the machine wait, and how many bytes these are."""
    count, size = connection.execute(
        select(func.count(), func.coalesce(func.sum(uploads.c.size), 0)).where(
            uploads.c.machine_id == machine.id, uploads.c.state == str(State.QUARANTINED)
        )
    ).one()
    return count, size


def _source(blobs: Blobs, upload: Upload) -> Source:
    return Source(
        name=f"upload {upload.id}",
        open=lambda: blobs.open_upload(upload.id),
        mtime=upload.received_at,
        builder=upload.machine,
    )
