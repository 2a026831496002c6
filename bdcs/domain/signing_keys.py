# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys that sign packages: what is known of each, which one signs, and when to warn. No gpg, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gentwoo_client.wire.records import format_time

EXPIRY_WARNING: Final = 30 * 86_400
"""Seconds before a key's expiry from which on everybody who signs with it is warned."""

FINGERPRINT: Final = re.compile(r"[0-9A-F]{40}")


class KeyState(StrEnum):
    """Whether a key signs new packages. What it signed before stays valid, retired or not."""

    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key of the signer, as everybody may know it."""

    fingerprint: str
    """Of the primary key: 40 upper-case hexadecimal digits."""
    public_key: bytes
    """Binary OpenPGP, with self-signatures and revocations only."""
    user_id: str
    created_at: int
    """Unix seconds."""
    expires_at: int | None
    """Unix seconds from which on nothing is signed with it; None: never."""
    state: KeyState

    def is_expired(self, now: float) -> bool:
        """Whether nothing can be signed with it any more, until it is extended."""
        return self.expires_at is not None and self.expires_at <= now


def fingerprint(text: str) -> str:
    """Return `text` as fingerprints are written here: upper case, without blanks and 0x.

    Raises `ValueError` where it is none of 40 hexadecimal digits.
    """
    found = "".join(text.split()).upper().removeprefix("0X")
    if not FINGERPRINT.fullmatch(found):
        raise ValueError(f"{text!r} is no fingerprint of 40 hexadecimal digits")
    return found


def choose(keys: Iterable[SigningKey], now: float) -> SigningKey | None:
    """Return the key that signs: the newest that is active and not expired; of equal age the later one."""
    usable = [key for key in keys if key.state == KeyState.ACTIVE and not key.is_expired(now)]
    return max(reversed(usable), key=lambda key: key.created_at, default=None)


def expiry_warning(key: SigningKey, now: float) -> str | None:
    """Return what to tell whoever signs with a key that expires soon, with the command that helps."""
    if key.expires_at is None or key.expires_at - now > EXPIRY_WARNING:
        return None
    days = max(0, int(key.expires_at - now) // 86_400)
    return (
        f"the signing key {key.fingerprint} expires in {days} {'day' if days == 1 else 'days'},"
        f" at {format_time(key.expires_at)};"
        f" run `bdcs admin keys extend {key.fingerprint} 2y`"
    )
