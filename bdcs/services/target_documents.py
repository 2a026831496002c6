# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told of targets and of the packages in them, by the API and to `gentwoo binhost`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, select, tuple_

from bdcs.domain.builds import effective_use
from bdcs.domain.signing_keys import choose
from bdcs.services.signing import known_keys
from bdcs.services.targets import Target
from bdcs.store.tables import builds, generations, signing_keys, trusted_keys
from gentwoo_client.wire import limits
from gentwoo_client.wire import targets as wire
from gentwoo_client.wire.errors import Malformed
from gentwoo_client.wire.records import format_time

PAGE: Final = 100
"""Packages of a list before the next page, unless asked otherwise."""
LONGEST_PAGE: Final = 1000
QUERY_LENGTH: Final = 200
_ROWID_DIGITS: Final = 18


class TargetDocuments:
    """Makes the documents of targets; which keys signed a generation is looked up once."""

    def __init__(self, public_url: str, now: Callable[[], float]) -> None:
        self._public_url = public_url
        self._now = now
        self._signers: dict[int, tuple[int, tuple[str, ...]]] = {}

    def url(self, target: Target) -> str:
        """Return the target's sync-uri."""
        return f"{self._public_url}/binhost/{target.name}"

    def of(self, connection: Connection, target: Target) -> wire.Target:
        """Return what is told of `target`."""
        return wire.Target(
            name=target.name,
            chost=target.chost,
            profile=target.profile,
            cflags=target.cflags,
            cpu=target.cpu,
            toolchain=target.toolchain,
            description=target.description,
            signatures=str(target.signatures),
            private=target.private,
            url=self.url(target),
            packages=_count(connection, target),
            timestamp=target.timestamp,
            keys=self._keys(connection, target),
        )

    def _keys(self, connection: Connection, target: Target) -> tuple[wire.TargetKey, ...]:
        """Return the key that signs now, then those that signed what the target has."""
        known = known_keys(connection)
        expiries = {key.fingerprint: key.expires_at for key in known}
        active = choose(known, self._now())
        first = () if active is None else (active.fingerprint,)
        fingerprints = dict.fromkeys((*first, *self._signers_of(connection, target)))
        return tuple(
            wire.TargetKey(
                fingerprint=fingerprint,
                expires_at=expiries.get(fingerprint),
                url=key_url(self._public_url, fingerprint),
            )
            for fingerprint in itertools.islice(fingerprints, limits.KEYS_PER_TARGET)
        )

    def _signers_of(self, connection: Connection, target: Target) -> tuple[str, ...]:
        generation, signers = self._signers.get(target.id, (-1, ()))
        if generation != target.generation:
            rows = connection.scalars(
                select(builds.c.signed_by)
                .where(builds.c.target_id == target.id, builds.c.visible, builds.c.signed_by.is_not(None))
                .distinct()
                .order_by(builds.c.signed_by)
            )
            signers = tuple(rows)
            self._signers[target.id] = (target.generation, signers)
        return signers


def key_url(public_url: str, fingerprint: str) -> str:
    """Return where a public key is."""
    return f"{public_url}/binhost/keys/{fingerprint}.asc"


def public_key(connection: Connection, fingerprint: str) -> bytes | None:
    """Return a key (binary OpenPGP) whose signatures count at some target, the signer's own or another's."""
    for table in (signing_keys, trusted_keys):
        found = connection.scalar(select(table.c.public_key).where(table.c.fingerprint == fingerprint))
        if found is not None:
            return bytes(found)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagePage:
    """Some of a target's packages, by CPV as text; builds of one in order of arrival."""

    packages: tuple[dict[str, object], ...]
    after: str | None
    """What to ask for the next page with; None on the last."""


def package_page(
    connection: Connection, target: Target, *, query: str = "", after: str = "", limit: int = PAGE
) -> PackagePage:
    """Return the packages whose CATEGORY/NAME has every word of `query`, behind the mark `after`.

    Raises `Malformed` for a mark that no page gave.
    """
    statement = select(builds).where(builds.c.target_id == target.id, builds.c.visible)
    for word in query.split():
        name = builds.c.category + "/" + builds.c.name
        statement = statement.where(name.contains(word, autoescape=True))
    if after:
        statement = statement.where(tuple_(builds.c.cpv, builds.c.id) > _mark(after))
    rows = connection.execute(statement.order_by(builds.c.cpv, builds.c.id).limit(limit + 1)).all()
    more = len(rows) > limit
    last = rows[limit - 1] if more else None
    return PackagePage(
        packages=tuple(map(_document, rows[:limit])),
        after=None if last is None else f"{last.cpv}:{last.id}",
    )


def _mark(after: str) -> tuple[str, int]:
    cpv, _, number = after.rpartition(":")
    if not (number.isascii() and number.isdigit() and len(number) <= _ROWID_DIGITS):
        raise Malformed("`after` is not what the page before said")
    return cpv, int(number)


def _document(row: Row[*tuple[Any, ...]]) -> dict[str, object]:
    return {
        "category": row.category,
        "name": row.name,
        "version": row.version,
        "build_id": row.build_id,
        "path": row.path,
        "size": row.size,
        "installed_size": row.installed_size,
        "sha1": row.sha1,
        "slot": row.slot,
        "repository": row.repository,
        "use": sorted(effective_use(row.use, row.iuse)),
        "keywords": row.keywords,
        "license": row.license,
        "chost": row.chost,
        "cflags": row.cflags,
        "signed_by": row.signed_by,
        "build_time": format_time(row.build_time),
        "published_at": format_time(row.published_at),
        "published_by": row.actor,
    }


def _count(connection: Connection, target: Target) -> int:
    """Return how many packages the newest generation has."""
    return (
        connection.scalar(
            select(generations.c.builds).where(
                generations.c.target_id == target.id, generations.c.number == target.generation
            )
        )
        or 0
    )
