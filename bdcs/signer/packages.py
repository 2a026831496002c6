# SPDX-License-Identifier: GPL-2.0-or-later
"""Signing one package: exactly those bytes that the signer's own reading passed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from bdcs.domain.gpkg.reading import Package, read_package
from bdcs.domain.gpkg.writing import write_signed
from bdcs.signer.keyring import Keyring


def sign_package(source: BinaryIO, target: BinaryIO, keyring: Keyring, fingerprint: str) -> Package:
    """Write the package in `source` to `target`, signed with the key of that fingerprint, and return it.

    `source` is somebody else's, who could change it once it was read. `write_signed` hashes what is signed,
    so that no signature leaves for anything but what was inspected.
    Raises `InvalidPackage` where the package does not pass, `GpgFailed`, `OSError`.
    """
    package = read_package(source)
    write_signed(source, target, package, _Key(keyring=keyring, fingerprint=fingerprint))
    return package


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """One key of the keyring, as `write_signed` wants it (`domain.gpkg.writing.Signing`)."""

    keyring: Keyring
    fingerprint: str

    def detach(self, data: Iterable[bytes]) -> bytes:
        return self.keyring.detach(self.fingerprint, data)

    def clearsign(self, text: bytes) -> bytes:
        return self.keyring.clearsign(self.fingerprint, text)
