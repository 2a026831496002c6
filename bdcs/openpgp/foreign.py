# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading other people's public keys, in a gpg home that is thrown away."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from bdcs.errors import UnusableKey
from bdcs.openpgp import command
from bdcs.openpgp.listing import Key, parse_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A public key, and what gpg says of it."""

    key: Key
    data: bytes
    """Binary OpenPGP, with self-signatures and revocations only."""


def read_public_keys(data: bytes) -> list[PublicKey]:
    """Return the public keys in `data`, armoured or binary.

    Raises `UnusableKey` where there is none, or one that makes no signatures; `GpgFailed`.
    """
    with tempfile.TemporaryDirectory(prefix="bdcs-keys-") as directory:
        home = Path(directory)
        try:
            return _read(data, home)
        finally:
            command.end_daemons(home)


def _read(data: bytes, home: Path) -> list[PublicKey]:
    general = ("--no-options", "--no-tty", "--batch")
    shown = command.run(
        "gpg", *general, "--with-colons", "--import-options", "show-only", "--import", data=[data], home=home
    )
    listing = shown.output.decode("utf-8", "replace")
    if any(line.startswith("sec:") for line in listing.splitlines()):
        raise UnusableKey("there is a secret key in it; give the public one only")
    command.run("gpg", *general, "--import", data=[data], home=home)
    listed = command.run("gpg", *general, "--with-colons", "--list-keys", home=home)
    keys = parse_keys(listed.output.decode("utf-8", "replace"))
    if not keys:
        raise UnusableKey("there is no public key in it, such as `gpg --export --armor` writes")
    for key in keys:
        if not key.signing_parts:
            raise UnusableKey(f"the key {key.fingerprint} is revoked, or not for signing")
    return [PublicKey(key=key, data=_exported(key, general, home)) for key in keys]


def _exported(key: Key, general: tuple[str, ...], home: Path) -> bytes:
    options = ("--export-options", "export-minimal", "--export")
    return command.run("gpg", *general, *options, key.fingerprint, home=home).output
