# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading what gpg lists with `--with-colons` (doc/DETAILS of GnuPG)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_VALIDITY, _CREATED, _EXPIRES, _NAME, _CAPABILITIES, _TOKEN = 1, 5, 6, 9, 11, 14
_ESCAPED: Final = re.compile(r"\\x([0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A primary key or a subkey."""

    fingerprint: str
    expires_at: int | None
    """Unix seconds; None: never."""
    is_revoked: bool
    can_sign: bool
    """It is meant for signing, and where secret keys were listed, its secret is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A primary key with its subkeys."""

    primary: Part
    subkeys: tuple[Part, ...]
    user_id: str
    created_at: int
    """Unix seconds."""

    @property
    def fingerprint(self) -> str:
        """40 upper-case hexadecimal digits."""
        return self.primary.fingerprint

    @property
    def signing_parts(self) -> tuple[Part, ...]:
        """Those that could make a signature, were they not expired."""
        return tuple(part for part in (self.primary, *self.subkeys) if part.can_sign and not part.is_revoked)

    @property
    def expires_at(self) -> int | None:
        """Unix seconds from which on nothing can be signed; None: never."""
        ends = [part.expires_at for part in self.signing_parts]
        last = None if None in ends else max((end for end in ends if end is not None), default=None)
        known = [end for end in (last, self.primary.expires_at) if end is not None]
        return min(known, default=None)


def parse_keys(listing: str) -> list[Key]:
    """Return the keys of a listing (public or secret), in its order."""
    return [_key(records) for records in _blocks(listing)]


def _blocks(listing: str) -> Iterator[list[list[str]]]:
    block: list[list[str]] = []
    for line in listing.splitlines():
        fields = line.split(":")
        if fields[0] in ("pub", "sec"):
            if block:
                yield block
            block = []
        if block or fields[0] in ("pub", "sec"):
            block.append(fields)
    if block:
        yield block


def _key(records: list[list[str]]) -> Key:
    parts: list[Part] = []
    for record, following in zip(records, [*records[1:], [""]], strict=True):
        if record[0] in ("pub", "sec", "sub", "ssb") and following[0] == "fpr":
            parts.append(_part(record, following[_NAME]))
    names = [record[_NAME] for record in records if record[0] == "uid"]
    return Key(
        primary=parts[0],
        subkeys=tuple(parts[1:]),
        user_id=_unescaped(names[0]) if names else "",
        created_at=int(records[0][_CREATED]),
    )


def _part(record: list[str], fingerprint: str) -> Part:
    has_secret = record[0] in ("pub", "sub") or record[_TOKEN] not in ("", "#")
    return Part(
        fingerprint=fingerprint,
        expires_at=int(record[_EXPIRES]) if record[_EXPIRES] else None,
        is_revoked=record[_VALIDITY] == "r",
        can_sign=has_secret and "s" in record[_CAPABILITIES],
    )


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
