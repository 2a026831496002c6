# SPDX-License-Identifier: GPL-2.0-or-later
"""The keys in the signer's home: made, listed, changed and signed with by gpg.

Every key there whose secret is there as well belongs to the signer. The one file of our own, `retired`, names
those that sign nothing new, a fingerprint a line; gpg knows everything else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bdcs.domain.signing_keys import KeyState, SigningKey, choose
from bdcs.errors import ConfigurationError, NoSuchKey, NoUsableKey, UnusableKey
from bdcs.openpgp import command
from bdcs.openpgp.command import Finished
from bdcs.openpgp.listing import Key, parse_keys
from gentwoo_client.wire.records import format_time

ALGORITHM: Final = "ed25519"
"""GnuPG verifies it since 2.1 (2014); docs/decisions/0006-signing.md says what else was weighed."""

RETIRED: Final = "retired"

_PERIOD: Final = re.compile(r"[1-9][0-9]{0,3}[dwmy]|never|[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f<>()-][^\x00-\x1f\x7f<>()]{4,100}")
_EMAIL: Final = re.compile(r"[^\s\x00-\x1f\x7f<>()@]{1,64}@[^\s\x00-\x1f\x7f<>()@]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The keys in `home`. Nothing is remembered: other processes may change them at any time."""

    home: Path
    passphrase_file: Path | None = None
    """Its first line unlocks the secret keys; None: they are not locked."""

    def all(self) -> list[SigningKey]:
        """Return all keys, in the order in which they came. Raises `GpgFailed`."""
        retired = self._retired()
        return [
            SigningKey(
                fingerprint=key.fingerprint,
                public_key=self._exported(key.fingerprint),
                user_id=key.user_id,
                created_at=key.created_at,
                expires_at=key.expires_at,
                state=_state(key, retired),
            )
            for key in self._listed()
        ]

    def require(self, fingerprint: str) -> SigningKey:
        """Return the key of that fingerprint. Raises `NoSuchKey`, `GpgFailed`."""
        for key in self.all():
            if key.fingerprint == fingerprint:
                return key
        raise NoSuchKey(fingerprint)

    def signing_key(self, now: float) -> SigningKey:
        """Return the key to sign with. Raises `NoUsableKey`, which says what helps; `GpgFailed`."""
        keys = self.all()
        chosen = choose(keys, now)
        if chosen is not None:
            return chosen
        expired = [key for key in keys if key.state == KeyState.ACTIVE]
        if not expired:
            raise NoUsableKey(
                "the signer has no key" + (" that is not retired" if keys else ""),
                advice="run `bdcs admin keys create`",
            )
        last = max(expired, key=lambda key: key.expires_at or 0)
        raise NoUsableKey(
            f"the signing key {last.fingerprint} expired at {format_time(last.expires_at or 0)}",
            advice=f"run `bdcs admin keys extend {last.fingerprint} 2y`, or `bdcs admin keys create`",
        )

    def create(self, *, name: str, email: str | None, expires: str) -> SigningKey:
        """Make a key and return it. `expires`: see `extend`. Raises `ConfigurationError`, `GpgFailed`."""
        period = _checked_period(expires)
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} cannot be the name of a key: 5 to 101 characters, no ()<>, no - first"
            )
        if email is not None and not _EMAIL.fullmatch(email):
            raise ConfigurationError(f"{email!r} is no e-mail address")
        user_id = name if email is None else f"{name} <{email}>"
        done = self._run("a key could not be made", "--quick-gen-key", user_id, ALGORITHM, "sign", period)
        created = [words[2] for words in done.statuses if words[:2] == ["KEY_CREATED", "P"]]
        return self.require(created[0])

    def import_key(self, data: bytes) -> SigningKey:
        """Take over the one secret key in `data` (as `gpg --export-secret-keys` writes it), and return it.

        Raises `UnusableKey` where there is none, or several, or none that can sign; `GpgFailed`.
        """
        shown = self._gpg("--with-colons", "--import-options", "show-only", "--import", data=[data])
        listing = shown.output.decode("utf-8", "replace")
        keys = parse_keys(listing)
        if not any(line.startswith("sec:") for line in listing.splitlines()):
            raise UnusableKey("there is no secret key in it, such as `gpg --export-secret-keys` writes")
        if len(keys) != 1:
            raise UnusableKey(f"there are {len(keys)} keys in it; give one")
        self._run("the key could not be imported", "--import", data=[data])
        key = self._find(keys[0].fingerprint)
        if key is None or not key.signing_parts:
            raise UnusableKey(f"the key {keys[0].fingerprint} cannot sign, or its secret is not in it")
        return self.require(key.fingerprint)

    def extend(self, fingerprint: str, period: str) -> SigningKey:
        """Let a key expire `period` from now, and return it.

        `period`: number and unit (`90d`, `8w`, `18m`, `2y`), a date (`2030-01-31`), or `never`.
        Raises `ConfigurationError`, `NoSuchKey`, `GpgFailed`.
        """
        checked = _checked_period(period)
        key = self._find(fingerprint)
        if key is None:
            raise NoSuchKey(fingerprint)
        what = "the key could not be extended"
        self._run(what, "--quick-set-expire", fingerprint, checked)
        subkeys = [part.fingerprint for part in key.signing_parts if part != key.primary]
        if subkeys:
            self._run(what, "--quick-set-expire", fingerprint, checked, *subkeys)
        return self.require(fingerprint)

    def retire(self, fingerprint: str) -> SigningKey:
        """Sign nothing new with a key from now on, and return it. Raises `NoSuchKey`, `GpgFailed`."""
        self.require(fingerprint)
        file = self.home / RETIRED
        temporary = file.with_suffix(".new")
        with temporary.open("w", encoding="ascii") as output:
            output.writelines(f"{line}\n" for line in sorted(self._retired() | {fingerprint}))
            output.flush()
            os.fsync(output.fileno())
        temporary.replace(file)
        return self.require(fingerprint)

    def detach(self, fingerprint: str, data: Iterable[bytes]) -> bytes:
        """Return an armoured detached signature over `data`. Raises `GpgFailed`."""
        return self._signed("--armor", "--detach-sign", fingerprint=fingerprint, data=data)

    def clearsign(self, fingerprint: str, text: bytes) -> bytes:
        """Return `text`, clear-signed. Raises `GpgFailed`."""
        return self._signed("--clearsign", fingerprint=fingerprint, data=[text])

    def _signed(self, *how: str, fingerprint: str, data: Iterable[bytes]) -> bytes:
        what = "gpg did not sign"
        done = self._run(what, "--digest-algo", "SHA512", "--local-user", fingerprint, *how, data=data)
        if not any(words[0] == "SIG_CREATED" for words in done.statuses):
            raise command.failed(what, done, self.home)
        return done.output

    def _listed(self) -> list[Key]:
        done = self._run("gpg did not list its keys", "--with-colons", "--list-secret-keys")
        keys = parse_keys(done.output.decode("utf-8", "replace"))
        return [key for key in keys if any(part.can_sign for part in (key.primary, *key.subkeys))]

    def _find(self, fingerprint: str) -> Key | None:
        return next((key for key in self._listed() if key.fingerprint == fingerprint), None)

    def _exported(self, fingerprint: str) -> bytes:
        options = ("--export-options", "export-minimal", "--export")
        return self._run("gpg did not export a key", *options, fingerprint).output

    def _retired(self) -> set[str]:
        try:
            return set((self.home / RETIRED).read_text("ascii").split())
        except FileNotFoundError:
            return set()

    def _run(self, what: str, *arguments: str, data: Iterable[bytes] = ()) -> Finished:
        done = self._gpg(*arguments, data=data)
        if done.returncode:
            raise command.failed(what, done, self.home)
        return done

    def _gpg(self, *arguments: str, data: Iterable[bytes] = ()) -> Finished:
        # A locked key without a passphrase file is an error at once: nobody is there to be asked.
        unlock = (
            ("--passphrase", "")
            if self.passphrase_file is None
            else ("--passphrase-file", self.passphrase_file)
        )
        general = ("--no-options", "--no-tty", "--batch", "--yes", "--pinentry-mode", "loopback", *unlock)
        return command.run("gpg", *general, *arguments, data=data, home=self.home)


def _state(key: Key, retired: set[str]) -> KeyState:
    is_over = key.fingerprint in retired or not key.signing_parts or key.primary.is_revoked
    return KeyState.RETIRED if is_over else KeyState.ACTIVE


def _checked_period(period: str) -> str:
    if not _PERIOD.fullmatch(period):
        raise ConfigurationError(f"{period!r} is no period, such as 90d, 18m, 2y, never or 2030-01-31")
    return period
