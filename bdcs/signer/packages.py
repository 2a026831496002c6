# SPDX-License-Identifier: GPL-2.0-or-later
"""Signing one package: exactly those bytes that the signer's own reading passed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from bdcs.domain.gpkg import manifest
from bdcs.domain.gpkg.container import Role
from bdcs.domain.gpkg.manifest import Record
from bdcs.domain.gpkg.reading import Package, read_package
from bdcs.domain.gpkg.writing import write_signed
from bdcs.errors import InvalidPackage
from bdcs.signer.keyring import Keyring


def sign_package(source: BinaryIO, target: BinaryIO, keyring: Keyring, fingerprint: str) -> None:
    """Write the package in `source` to `target`, signed with the key of that fingerprint.

    Raises `InvalidPackage` where the package does not pass, `GpgFailed`, `OSError`.
    """
    package = read_package(source)
    signatures = _Signatures(keyring=keyring, fingerprint=fingerprint, package=package)
    write_signed(source, target, package, signatures)


@dataclass(slots=True, kw_only=True)
class _Signatures:
    """Makes the three signatures of one package, and none of anything else.

    The file is somebody else's, who could change it after it was read. So what passes on to gpg is hashed
    once more: a signature leaves only if its bytes are those of the package.
    """

    keyring: Keyring
    fingerprint: str
    package: Package
    _made: set[Record] = field(default_factory=set)

    def detach(self, chunks: Iterable[bytes]) -> bytes:
        """Return an armoured detached signature of metadata or image.

        Raises `InvalidPackage`, `GpgFailed`.
        """
        digest = hashlib.sha512()

        def hashed() -> Iterator[bytes]:
            for chunk in chunks:
                digest.update(chunk)
                yield chunk

        signature = self.keyring.detach(self.fingerprint, hashed())
        if digest.hexdigest() not in {record.sha512 for record in self._archives().values()}:
            raise InvalidPackage("the package changed while it was being signed")
        self._made.add(manifest.record_of(signature))
        return signature

    def clearsign(self, text: bytes) -> bytes:
        """Return the Manifest `text`, clear-signed. Raises `InvalidPackage`, `GpgFailed`."""
        archives = self._archives()
        others = dict(manifest.parse(text))
        described = {name: others.pop(name, None) for name in archives}
        signatures = {others.pop(f"{name}.sig", None) for name in archives}
        if described != archives or signatures != self._made or others.keys() - {Role.IDENTIFIER}:
            raise InvalidPackage("the Manifest to be signed is not this package's")
        return self.keyring.clearsign(self.fingerprint, text)

    def _archives(self) -> dict[str, Record]:
        members = (self.package.member(role) for role in (Role.METADATA, Role.IMAGE))
        return {member.name: member.record for member in members}
