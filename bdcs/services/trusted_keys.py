# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose signatures a target accepts: those of our own signer, and of keys that an administrator trusts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from bdcs.errors import NoSuchKey
from bdcs.services.signing import known_keys
from bdcs.services.targets import Target
from bdcs.store.tables import trusted_keys
from bdcs.store.upserts import upsert


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """Somebody else's key, whose packages a target takes as they are."""

    fingerprint: str
    public_key: bytes
    """Binary OpenPGP."""
    added_at: int
    """Unix seconds."""


def trust(connection: Connection, target: Target, keys: Iterable[tuple[str, bytes]], now: float) -> None:
    """Accept signatures of `keys` (fingerprint and binary public key); a newer copy replaces an older one."""
    for fingerprint, public_key in keys:
        values = {"public_key": public_key, "added_at": int(now)}
        row = upsert(trusted_keys).values(target_id=target.id, fingerprint=fingerprint, **values)
        connection.execute(
            row.on_conflict_do_update(index_elements=["target_id", "fingerprint"], set_=values)
        )


def untrust(connection: Connection, target: Target, fingerprint: str) -> None:
    """Accept no more packages signed with that key; published ones stay. Raises `NoSuchKey`."""
    found = (trusted_keys.c.target_id == target.id) & (trusted_keys.c.fingerprint == fingerprint)
    if not connection.execute(delete(trusted_keys).where(found)).rowcount:
        raise NoSuchKey(fingerprint)


def trusted(connection: Connection, target: Target) -> list[TrustedKey]:
    """Return the keys that an administrator trusts there, in order of their fingerprints."""
    rows = connection.execute(
        select(trusted_keys).where(trusted_keys.c.target_id == target.id).order_by(trusted_keys.c.fingerprint)
    )
    return [
        TrustedKey(fingerprint=row.fingerprint, public_key=row.public_key, added_at=row.added_at)
        for row in rows
    ]


def accepted_keys(connection: Connection, target: Target) -> list[bytes]:
    """Return the public keys, binary, with which a package for the target may be signed."""
    own = [key.public_key for key in known_keys(connection)]
    return own + [key.public_key for key in trusted(connection, target)]
