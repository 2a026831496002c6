# SPDX-License-Identifier: GPL-2.0-or-later
"""Verifying a package's signatures with gpgv against exactly the keys that are accepted.

Portage asks gpg for GOODSIG and enough trust, and whether everything is signed if anything is. Here a package
must be signed entirely, by one key, so whatever passes here passes there.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from bdcs.domain.gpkg import manifest
from bdcs.domain.gpkg.container import Role
from bdcs.domain.gpkg.reading import Member, Package
from bdcs.errors import InvalidPackage, UntrustedSignature
from bdcs.openpgp import command
from bdcs.openpgp.command import Finished

_CHUNK: Final = 1 << 20  # bytes

_OUTCOMES: Final[Mapping[str, str]] = {
    "BADSIG": "has a signature that is not of this content",
    "EXPSIG": "has a signature that is expired",
    "EXPKEYSIG": "is signed by a key that is expired",
    "REVKEYSIG": "is signed by a key that is revoked",
    "ERRSIG": "has a signature that cannot be verified",
}
"""Status lines of a signature that does not count, and what they mean. GOODSIG is the one that does."""

_MISSING_KEY: Final = "9"  # return code of ERRSIG (doc/DETAILS of GnuPG)
_DIGESTS: Final = frozenset({"8", "9", "10", "12", "14"})
"""SHA-256, -384, -512, SHA3-256, -512 (RFC 9580 §9.5): not MD5, SHA-1, RIPEMD-160, SHA-224."""
_WEAK: Final = "is signed over a digest that is too weak"
_BINARY, _TEXT = "00", "01"  # types of signature (RFC 9580 §5.2.1)


def verify(file: Path | BinaryIO, package: Package, keys: Iterable[bytes]) -> str:
    """Return the fingerprint of the one key, among the public `keys`, that signed all of `package`.

    `file` is what `package` was read from, `keys` are binary OpenPGP. Metadata, image and Manifest must each
    carry one valid signature of the same primary key, which is neither expired nor revoked, over SHA-256 or
    better; the signed Manifest must describe the members that were read. Data are streamed.
    Raises `UntrustedSignature` with the reason, `GpgFailed`, `OSError`.
    """
    if not package.signed:
        raise UntrustedSignature("the package is not signed")
    with _opened(file) as source, tempfile.TemporaryDirectory(prefix="bdcs-gpgv-") as directory:
        verifier = _Verifier(source, package, Path(directory), keys)
        # (1) Metadata and image each have a detached signature of their bytes.
        signers = {
            verifier.detached(Role.METADATA, Role.METADATA_SIGNATURE),
            verifier.detached(Role.IMAGE, Role.IMAGE_SIGNATURE),
            # (2) The Manifest is clear-signed, and what is signed of it describes exactly these members.
            verifier.manifest(),
        }
    # (3) All three are the same key's.
    if len(signers) != 1:
        raise UntrustedSignature(f"the package is signed by several keys: {', '.join(sorted(signers))}")
    return signers.pop()


class _Verifier:
    """gpgv with a keyring of its own, in a directory that is thrown away."""

    def __init__(self, source: BinaryIO, package: Package, directory: Path, keys: Iterable[bytes]) -> None:
        self._source = source
        self._package = package
        self._directory = directory
        self._keyring = directory / "keys.gpg"
        self._keyring.write_bytes(b"".join(keys))

    def detached(self, signed: Role, signature: Role) -> str:
        """Verify a detached signature; return the signer's fingerprint. Raises `UntrustedSignature`."""
        member = self._package.member(signed)
        file = self._directory / "signature"
        file.write_bytes(b"".join(self._data(self._package.member(signature))))
        done = self._gpgv(file, "-", data=self._data(member))
        return _signer(member.name, done, _BINARY)

    def manifest(self) -> str:
        """Verify the Manifest; return the signer's fingerprint. Raises `UntrustedSignature`."""
        done = self._gpgv("--output", "-", "-", data=self._data(self._package.member(Role.MANIFEST)))
        signer = _signer("Manifest", done, _TEXT)
        found = {
            member.name: member.record for member in self._package.members if member.role is not Role.MANIFEST
        }
        try:
            is_same = manifest.parse(done.output) == found
        except InvalidPackage as error:
            raise UntrustedSignature(f"what is signed of Manifest cannot be read: {error.reason}") from error
        if not is_same:
            raise UntrustedSignature("what is signed of Manifest does not describe this package")
        return signer

    def _gpgv(self, *arguments: str | Path, data: Iterable[bytes]) -> Finished:
        weak = ("--weak-digest", "SHA1", "--weak-digest", "RIPEMD160")
        keyring = ("--keyring", self._keyring)
        return command.run("gpgv", *weak, *keyring, *arguments, data=data, home=self._directory)

    def _data(self, member: Member) -> Iterator[bytes]:
        self._source.seek(member.offset)
        left = member.size
        while left:
            chunk = self._source.read(min(left, _CHUNK))
            if not chunk:
                raise UntrustedSignature(f"{member.name} became shorter while it was verified")
            left -= len(chunk)
            yield chunk


def _signer(name: str, done: Finished, kind: str) -> str:
    """Return who validly signed the member `name`, by what gpgv said. Raises `UntrustedSignature`."""
    outcomes = [words for words in done.statuses if words[0] == "GOODSIG" or words[0] in _OUTCOMES]
    for words in outcomes:
        if words[0] != "GOODSIG":
            raise UntrustedSignature(f"{name} {_reason(words)}")
    if len(outcomes) > 1:
        raise UntrustedSignature(f"{name} has several signatures, which Portage never makes")
    valid = [words for words in done.statuses if words[0] == "VALIDSIG"]
    if done.returncode or not outcomes or len(valid) != 1 or len(valid[0]) < 11:
        raise UntrustedSignature(f"{name} has no valid signature: {done.complaint}")
    _, _, _, _, _, _, _, _, digest, found, primary = valid[0][:11]
    if digest not in _DIGESTS:
        raise UntrustedSignature(f"{name} {_WEAK}")
    if found != kind:
        raise UntrustedSignature(f"{name} has a signature of another kind than Portage makes")
    return primary


def _reason(words: list[str]) -> str:
    if words[0] == "ERRSIG" and len(words) > 6:
        if words[6] == _MISSING_KEY:
            return f"is signed by the key {words[1]}, which is not accepted here"
        if words[3] not in _DIGESTS:
            return _WEAK
    return f"{_OUTCOMES[words[0]]} (key {words[1]})"


@contextlib.contextmanager
def _opened(file: Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(file, Path):
        with file.open("rb") as source:
            yield source
    else:
        yield file
