# SPDX-License-Identifier: GPL-2.0-or-later
"""The GnuPG home that Portage verifies packages with: keys in, keys out, trust, permissions.

Portage accepts a signature only if gpg calls it good *and* its key fully or ultimately trusted, and it has
gpg not look into the trust database first; so ownertrust is set and the database settled here. As root it
runs gpg as `nobody` (GPG_VERIFY_USER_DROP), hence what that user must read. No agent is started: nothing here
needs a secret key.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gentwoo_client.binhost.binrepos import mode_of
from gentwoo_client.errors import BinhostRefused, NotConfigured, printable

ULTIMATE: Final = 6
UNDEFINED: Final = 2
_TRUST_LETTERS = {"n": 3, "m": 4, "f": 5, "u": ULTIMATE}
"""How listings write ownertrust, and how `--import-ownertrust` does."""

_PUBLIC_FILES = ("pubring.kbx", "pubring.gpg", "trustdb.gpg")
_MADE_BY_GPG = (*_PUBLIC_FILES, "pubring.kbx~", "pubring.gpg~")
_TIMEOUT = 60  # seconds

_HERE: Final = "/proc/self/cwd"
"""A short name for the home. An import asks gpg's agent, whose socket lies in the home: no agent is no error,
but a socket whose path has over 107 bytes (unix(7)) is."""

_WRONG_KINDS = {"r": "revoked", "e": "expired", "i": "invalid", "d": "disabled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key as gpg shows it."""

    fingerprint: str
    user_id: str
    expires_at: int | None
    """Unix seconds; None for never."""
    validity: str
    """gpg's letter: `u` ultimate, `f` full, `e` expired, `r` revoked, …"""
    ownertrust: int

    @property
    def is_trusted(self) -> bool:
        """Whether Portage accepts its signatures."""
        return self.validity in ("u", "f")

    @property
    def defect(self) -> str | None:
        """What makes the key useless, in a word; None if nothing does."""
        return _WRONG_KINDS.get(self.validity)


class Keyring:
    """The GnuPG home at `home`, which need not exist yet; `gpg` is the command."""

    def __init__(self, home: Path, gpg: Path) -> None:
        self.home = home
        self._gpg = gpg

    @classmethod
    def of(cls, home: Path, eprefix: str = "") -> Keyring:
        """The home, with the gpg that Portage has. Raises `NotConfigured` where there is none."""
        places = f"{eprefix}/usr/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        gpg = shutil.which("gpg", path=places)
        if gpg is None:
            raise NotConfigured(
                "there is no gpg, which Portage verifies packages with", advice="emerge app-crypt/gnupg"
            )
        return cls(home, Path(gpg))

    def keys(self) -> dict[str, PublicKey]:
        """The public keys in the home, by fingerprint. Raises `BinhostRefused` if gpg cannot read it."""
        if not self.home.is_dir():
            return {}
        output = self._run(self.home, "--no-auto-check-trustdb", "--list-keys")
        return {key.fingerprint: key for key in _listed(output)}

    def inspect(self, content: bytes) -> PublicKey:
        """The one public key in `content`, which is not kept. Raises `BinhostRefused` if it is none."""
        with tempfile.TemporaryDirectory(prefix="gentwoo-") as empty:
            show = ("--import-options", "show-only", "--import")
            output = self._run(Path(empty), *show, given=content, may_fail=True)
        kinds = [line.partition(":")[0] for line in output.splitlines()]
        keys = _listed(output)
        if len(keys) != 1 or "sec" in kinds:
            raise BinhostRefused("the collector's key file does not hold one public OpenPGP key")
        return keys[0]

    def make_home(self) -> bool:
        """Make the home where it is missing; return whether it was."""
        try:
            self.home.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            return False
        return True

    def trust(self, content: bytes, fingerprint: str) -> None:
        """Import the key in `content`, without what others say of it, and trust it ultimately."""
        self._run(self.home, "--import-options", "import-minimal", "--import", given=content)
        self.set_trust({fingerprint: ULTIMATE})

    def set_trust(self, trust: Mapping[str, int]) -> None:
        """Set the ownertrust of keys, by fingerprint."""
        lines = "".join(f"{fingerprint}:{value}:\n" for fingerprint, value in trust.items())
        self._run(self.home, "--import-ownertrust", given=lines.encode())

    def forget(self, fingerprints: Sequence[str]) -> None:
        """Delete keys that are there, and trust none of these any more."""
        known = self.keys()
        self.set_trust(dict.fromkeys(fingerprints, UNDEFINED))
        for fingerprint in fingerprints:
            if fingerprint in known:
                self._run(self.home, "--yes", "--delete-keys", fingerprint)

    def settle(self) -> None:
        """Have gpg work out which keys are valid, and let everybody read that."""
        self._run(self.home, "--check-trustdb")
        for path, mode in self.closed_modes().items():
            Path(path).chmod(mode | _wanted_mode(Path(path)))

    def closed_modes(self) -> dict[str, int]:
        """The modes of the home and its public files that not everybody may read, by path."""
        paths = [path for path in (self.home, *map(self.home.joinpath, _PUBLIC_FILES)) if path.exists()]
        modes = {str(path): mode_of(path) for path in paths}
        return {path: mode for path, mode in modes.items() if mode != mode | _wanted_mode(Path(path))}

    def check_readable(self, user: str, group: str, fingerprints: Sequence[str]) -> None:
        """See that whoever Portage verifies as finds these keys trusted. Raises `BinhostRefused`."""
        identity: tuple[int, int] | None = None
        if os.geteuid() == 0 and user:
            try:
                entry = pwd.getpwnam(user)
                identity = (entry.pw_uid, grp.getgrnam(group).gr_gid if group else entry.pw_gid)
            except KeyError:
                raise BinhostRefused(
                    f"Portage verifies packages as {user}:{group}, but this system has no such user or group",
                    advice="in make.conf set GPG_VERIFY_USER_DROP and GPG_VERIFY_GROUP_DROP to ones that do",
                ) from None
        output = self._run(
            self.home, "--no-auto-check-trustdb", "--list-keys", may_fail=True, identity=identity
        )
        trusted = {key.fingerprint for key in _listed(output) if key.is_trusted}
        if not trusted.issuperset(fingerprints):
            raise BinhostRefused(
                f"{user or 'gpg'} cannot read {self.home} or does not find the key trusted there, so Portage"
                " would refuse every package",
                advice=f"see that all directories above {self.home} may be entered by everybody",
            )

    def clear_away(self) -> bool:
        """Remove the home with what gpg made in it, if no key is left; return whether it is gone."""
        if self.home.is_dir() and not self.keys():
            for name in _MADE_BY_GPG:
                (self.home / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something of somebody else is there
                self.home.rmdir()
        return not self.home.exists()

    def _run(
        self,
        home: Path,
        *arguments: str,
        given: bytes = b"",
        may_fail: bool = False,
        identity: tuple[int, int] | None = None,
    ) -> str:
        """Run gpg and return what it prints. Raises `BinhostRefused` with its last word if it fails.

        Under another `identity` the home is called by its path, for that user has to find the way to it.
        """
        is_short = identity is None and os.path.isdir(_HERE)  # in a chroot there may be no /proc
        directory, name = (home, _HERE) if is_short else (Path("/"), str(home))
        options = ("--batch", "--no-tty", "--no-autostart", "--no-permission-warning", "--with-colons")
        uid, gid = identity or (None, None)
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        environment.pop("GNUPGHOME", None)
        try:
            done = subprocess.run(
                [self._gpg, "--homedir", name, *options, *arguments],
                input=given,
                env=environment,
                cwd=directory,
                capture_output=True,
                timeout=_TIMEOUT,
                check=False,
                user=uid,
                group=gid,
                extra_groups=None if identity is None else [],
            )
        except subprocess.TimeoutExpired:
            raise BinhostRefused(
                f"gpg did not finish within {_TIMEOUT} seconds; perhaps another one holds {home}"
            ) from None
        if done.returncode and not may_fail:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            said = lines[-1].replace(_HERE, str(home)) if lines else "gpg failed"
            raise BinhostRefused(f"{home}: {printable(said)}")
        return done.stdout.decode(errors="replace")


def _wanted_mode(path: Path) -> int:
    return 0o755 if path.is_dir() else 0o644


def _listed(output: str) -> list[PublicKey]:
    """The keys in a listing `--with-colons` (GnuPG's doc/DETAILS)."""
    keys: list[PublicKey] = []
    public: list[str] = []
    fingerprint = user_id = ""
    for line in [*output.splitlines(), "end"]:
        fields = line.split(":")
        if fields[0] in ("pub", "sec", "end"):
            if public and fingerprint:
                keys.append(_public_key(public, fingerprint, user_id))
            public, fingerprint, user_id = (fields if fields[0] == "pub" else []), "", ""
        elif fields[0] == "fpr" and not fingerprint:
            fingerprint = fields[9]
        elif fields[0] == "uid" and not user_id:
            user_id = _unescaped(fields[9])
    return keys


def _public_key(public: Sequence[str], fingerprint: str, user_id: str) -> PublicKey:
    return PublicKey(
        fingerprint=fingerprint,
        user_id=printable(user_id),
        expires_at=int(public[6]) if public[6].isdecimal() else None,
        validity=public[1],
        ownertrust=_TRUST_LETTERS.get(public[8], UNDEFINED),
    )


def _unescaped(text: str) -> str:
    """A field of a listing, in which `\\x3a` stands for a colon."""
    return (
        text.encode()
        .decode("unicode_escape", errors="replace")
        .encode("latin-1", "replace")
        .decode("utf-8", errors="replace")
        if "\\x" in text
        else text
    )
