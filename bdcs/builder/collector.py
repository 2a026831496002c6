# SPDX-License-Identifier: GPL-2.0-or-later
"""What a builder asks of the collector: leases, heartbeats, logs, packages.

Every method raises what `CollectorAPI` raises. A long poll holds its connection, so who waits has one of
their own.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, TypeVar

from gentwoo_client.collector_api import Answer, CollectorAPI, Patience
from gentwoo_client.errors import CollectorBroken, printable
from gentwoo_client.machine_key import MachineKey
from gentwoo_client.wire import limits
from gentwoo_client.wire.build_messages import (
    Claim,
    Failed,
    FailureKind,
    Fencing,
    Heartbeat,
    Lease,
    LogEnd,
    LogPiece,
    MetadataMade,
    MetadataTaken,
    MetadataWanted,
    Publish,
    Published,
)
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.errors import InvalidTarget
from gentwoo_client.wire.messages import Message
from gentwoo_client.wire.targets import Target

M = TypeVar("M", bound=Message)

log = logging.getLogger(__name__)

GPKG: Final = "application/vnd.gentoo.gpkg"
WAIT: Final = 25
"""Seconds that the collector may let a long poll wait."""
PATIENCE: Final = Patience(read=120.0, total=6 * 3600.0)
"""A large package takes long to send, and then to be signed."""


class BuilderAPI(CollectorAPI):
    """The collector at `audience`, as the builder with `key` sees it. Use as an async context manager.

    `address` is where it is reached, where that is not its public_url.
    """

    def __init__(self, audience: str, key: MachineKey, *, address: str | None = None) -> None:
        super().__init__(audience, key, patience=PATIENCE, address=address)

    def reached(self, url: str) -> str:
        """Return where what the collector calls `url` is reached from here."""
        return self._address + url.removeprefix(self.audience) if url.startswith(self.audience) else url

    async def public_targets(self, names: Collection[str]) -> tuple[Target, ...]:
        """Return those of these targets that are for everybody.

        One that cannot be is passed over: whatever is to be built for it fails, and says why.
        """
        answer = await self.request("GET", "/v1/targets", limit=limits.TARGETS_SIZE)
        listed = answer.document.get("targets") if isinstance(answer.document, dict) else None
        if not isinstance(listed, list):
            raise CollectorBroken(f"{self.audience}: what it says of its targets is not understood")
        found = []
        for document in listed:
            if isinstance(document, dict) and document.get("name") in names:
                try:
                    found.append(Target.from_json(document))
                except InvalidTarget as error:
                    log.warning("target %s is not one to build for: %s", document["name"], error)
        return tuple(found)

    async def claim(self, claim: Claim) -> Lease | None:
        """Return a lease as soon as there is work; None where there was none for a while."""
        answer = await self._post(f"/v1/attempts?wait={WAIT}", claim, limits.BUILD_ANSWER_SIZE)
        return None if answer.status == 204 else _parsed(Lease, answer)

    async def leave(self, claim: Claim) -> None:
        """Say that no more work is taken."""
        await self._post("/v1/attempts", claim)

    async def heartbeat(self, lease: Lease, *, wait: int) -> Heartbeat:
        """Renew the lease; the answer comes when the attempt has to stop, or after `wait` seconds."""
        path = f"/v1/attempts/{lease.attempt}/heartbeat?wait={wait}"
        return _parsed(Heartbeat, await self._post(path, Fencing(fencing=lease.fencing)))

    async def release(self, lease: Lease) -> None:
        """Give the job back."""
        path = f"/v1/attempts/{lease.attempt}/heartbeat"
        await self._post(path, Fencing(fencing=lease.fencing, release=True))

    async def log(self, lease: Lease, offset: int, text: str) -> LogEnd:
        """Add to the attempt's log."""
        piece = LogPiece(fencing=lease.fencing, offset=offset, text=text)
        return _parsed(LogEnd, await self._post(f"/v1/attempts/{lease.attempt}/log", piece))

    async def send_package(self, target: str, cpv: CPV, file: Path, *, size: int, sha512: str) -> str:
        """Bring a package into quarantine; return the name of the upload."""
        name = f"{cpv.category}/{cpv.pf}.gpkg.tar"
        path = f"/v1/targets/{target}/packages/{name}?size={size}&sha512={sha512}"
        answer = await self.upload(path, file, GPKG)
        upload = answer.document.get("upload") if isinstance(answer.document, dict) else None
        if not isinstance(upload, str):
            raise CollectorBroken(f"{self.audience}: the answer to an upload does not name it")
        return upload

    async def publish(self, lease: Lease, uploads: Sequence[str], left_out: Sequence[str]) -> Published:
        """Have what was uploaded published, as one."""
        message = Publish(fencing=lease.fencing, uploads=list(uploads), left_out=list(left_out))
        path = f"/v1/attempts/{lease.attempt}/publish"
        return _parsed(Published, await self._post(path, message, limits.BUILD_ANSWER_SIZE))

    async def fail(self, lease: Lease, kind: FailureKind, text: str) -> None:
        """Say that the attempt failed, and why."""
        text = text[: limits.FAILURE_LENGTH]
        message = Failed(fencing=lease.fencing, kind=kind, text=text)
        await self._post(f"/v1/attempts/{lease.attempt}/fail", message)

    async def metadata_wanted(self) -> MetadataWanted:
        """Return the ebuilds that the collector knows nothing of."""
        answer = await self.request("GET", "/v1/metadata", limit=limits.BUILD_ANSWER_SIZE)
        return _parsed(MetadataWanted, answer)

    async def send_metadata(self, made: MetadataMade) -> MetadataTaken:
        """Bring metadata that was made of some."""
        return _parsed(MetadataTaken, await self._post("/v1/metadata", made, limits.BUILD_ANSWER_SIZE))

    async def _post(self, path: str, message: Message, limit: int = limits.ANSWER_SIZE) -> Answer:
        return await self.request("POST", path, body=message.model_dump_json().encode(), limit=limit)


def _parsed(kind: type[M], answer: Answer) -> M:
    try:
        return kind.model_validate(answer.document)
    except ValueError as error:
        raise CollectorBroken(f"the collector's answer is not as agreed: {printable(str(error))}") from None
