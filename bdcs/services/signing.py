# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking the signer, and what it told of its keys, which are served also while it is down.

client = SignerClient(settings.signer)
fingerprint = client.sign(unsigned.fileno(), signed.fileno())
with transaction(engine) as connection:
    remember_keys(connection, client.keys(), time.time())
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, select, update

from bdcs.domain.signing_keys import KeyState, SigningKey
from bdcs.errors import SignerUnavailable
from bdcs.signer import protocol
from bdcs.signer.protocol import BrokenMessage
from bdcs.store.tables import signing_keys
from bdcs.store.upserts import upsert

log = logging.getLogger(__name__)

CONNECTING: Final = 5.0  # seconds
SIGNING: Final = 1800.0  # seconds, with the wait behind others


@dataclass(frozen=True, slots=True)
class SignerClient:
    """The signer behind the socket at `path`. Every method blocks; each call is a connection of its own."""

    path: Path
    _warnings: set[str] = field(default_factory=set, compare=False, repr=False)
    """Those that were told already: a publication may be of thousands of packages."""

    def sign(self, source: int, target: int) -> str:
        """Have the package in the open file `source` signed into `target`; return the key's fingerprint.

        `target` must be empty, readable and writable; whatever stands in it after an error is to be thrown
        away. Nobody else may move or change either file meanwhile. Raises `InvalidPackage` with the reason
        where the signer's own reading does not pass it, `NoUsableKey`, `SignerRefused`, `GpgFailed`,
        `SignerUnavailable`.
        """
        answer = self._ask({"do": "sign"}, (source, target))
        warning = answer.get("warning")
        if warning and warning not in self._warnings:
            self._warnings.add(warning)
            log.warning("%s", warning)
        if not isinstance(answer.get("fingerprint"), str):
            raise SignerUnavailable(f"the signer at {self.path} answered without a fingerprint")
        return str(answer["fingerprint"])

    def keys(self) -> list[SigningKey]:
        """Return all keys of the signer, retired ones too.

        Raises `SignerUnavailable`, `SignerRefused`, `GpgFailed`.
        """
        answer = self._ask({"do": "keys"})
        try:
            return [protocol.parse_key(document) for document in answer["keys"]]
        except (BrokenMessage, KeyError, TypeError) as error:
            raise SignerUnavailable(f"the signer at {self.path} answered without keys: {error}") from error

    def _ask(self, document: dict[str, Any], files: Sequence[int] = ()) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(CONNECTING)
            try:
                connection.connect(str(self.path))
                with contextlib.suppress(BrokenPipeError):  # it may refuse us without reading, and says why
                    protocol.send(connection, document, files)
                answer = protocol.receive(connection, size=protocol.ANSWER_SIZE, seconds=SIGNING)
            except OSError as error:
                raise SignerUnavailable(f"no signer at {self.path}: {error.strerror or error}") from error
            except BrokenMessage as error:
                raise SignerUnavailable(f"the signer at {self.path} gave no answer: {error}") from error
        protocol.raise_error(answer)
        return answer


def remember_keys(connection: Connection, keys: Iterable[SigningKey], now: float) -> None:
    """Note what the signer told of its keys; one that it no longer has counts as retired from now on."""
    told = list(keys)
    for key in told:
        values = {
            "public_key": key.public_key,
            "user_id": key.user_id,
            "created_at": key.created_at,
            "expires_at": key.expires_at,
            "state": str(key.state),
            "seen_at": int(now),
        }
        row = upsert(signing_keys).values(fingerprint=key.fingerprint, **values)
        connection.execute(row.on_conflict_do_update(index_elements=["fingerprint"], set_=values))
    gone = signing_keys.c.fingerprint.not_in([key.fingerprint for key in told])
    connection.execute(update(signing_keys).where(gone).values(state=str(KeyState.RETIRED)))


def differ(told: Iterable[SigningKey], known: Iterable[SigningKey]) -> bool:
    """Return whether there is anything in what the signer told that is not known so."""
    news = {key.fingerprint: key for key in told}
    before = {key.fingerprint: key for key in known}
    gone = before.keys() - news.keys()
    return any(before.get(name) != key for name, key in news.items()) or any(
        before[name].state is KeyState.ACTIVE for name in gone
    )


def known_keys(connection: Connection) -> list[SigningKey]:
    """Return all keys that the signer ever told of, the oldest first: those to publish."""
    rows = connection.execute(
        select(signing_keys).order_by(signing_keys.c.created_at, signing_keys.c.seen_at)
    )
    return [
        SigningKey(
            fingerprint=row.fingerprint,
            public_key=row.public_key,
            user_id=row.user_id,
            created_at=row.created_at,
            expires_at=row.expires_at,
            state=KeyState(row.state),
        )
        for row in rows
    ]
