# SPDX-License-Identifier: GPL-2.0-or-later
"""The outer tar of a package: which members it has, what each is for, and the archives in it."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from bdcs.domain.gpkg import tar
from bdcs.domain.gpkg.compression import Decompressor
from bdcs.domain.gpkg.limits import Limits
from bdcs.errors import InvalidPackage
from gentwoo_client.wire.cpv import CPV

BEGINNING: Final = 100
"""Bytes, in which `/gpkg-1` must stand for Portage to see that a file is a GPKG."""

_PREFIX: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+_.-]*")
_ARCHIVE: Final = re.compile(r"(metadata|image)\.tar((?:\.[a-z0-9]+?)??)((?:\.sig)?)")


class Role(StrEnum):
    """What a member is for."""

    IDENTIFIER = "gpkg-1"
    METADATA = "metadata"
    METADATA_SIGNATURE = "metadata.sig"
    IMAGE = "image"
    IMAGE_SIGNATURE = "image.sig"
    MANIFEST = "Manifest"


def check_beginning(data: bytes | bytearray) -> None:
    """Raise `InvalidPackage` unless the first hundred bytes are those of a GPKG."""
    if b"/gpkg-1\0" not in data[:BEGINNING]:
        raise InvalidPackage("the file does not begin as a GPKG does (XPAK is not taken here)")


def check_prefix(prefix: str, cpv: CPV, build_id: int | None) -> None:
    """Raise `InvalidPackage` unless the container's directory is named after the package in it."""
    if prefix != cpv.pf and (build_id is None or prefix != f"{cpv.pf}-{build_id}"):
        number = "" if build_id is None else f" with BUILD_ID {build_id}"
        raise InvalidPackage(f"the package's directory is {prefix!r}, its metadata say {cpv}{number}")


class Names:
    """Tells what each member is for, by its name. Raises `InvalidPackage` for any that must not be there."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.prefix = ""
        """The one directory; empty before the first member."""
        self._seen: set[Role] = set()

    def place(self, entry: tar.Entry) -> tuple[Role, str]:
        """The role of the next member, and how it is compressed (`.zst`; signatures: what they sign)."""
        prefix, _, name = entry.name.partition("/")
        if entry.kind != tar.FILE:
            raise InvalidPackage(f"the package has a member that is no regular file: {entry.name!r:.200}")
        role, suffix = _role(name)
        if not self._seen:
            self._begin(prefix, role, entry)
        if prefix != self.prefix:
            raise InvalidPackage(f"the package has a second directory: {entry.name!r:.200}")
        if role in self._seen:
            raise InvalidPackage(f"the package has a second {role}: {entry.name!r:.200}")
        self._seen.add(role)
        self._check_size(role, entry)
        return role, suffix

    def _begin(self, prefix: str, role: Role, entry: tar.Entry) -> None:
        if role is not Role.IDENTIFIER or entry.size:
            raise InvalidPackage("the package does not begin with an empty gpkg-1")
        if not _PREFIX.fullmatch(prefix):
            raise InvalidPackage(f"the package's directory has a senseless name: {prefix!r:.200}")
        self.prefix = prefix

    def _check_size(self, role: Role, entry: tar.Entry) -> None:
        most = {
            Role.METADATA: self._limits.metadata_size,
            Role.IMAGE: self._limits.package_size,
            Role.MANIFEST: self._limits.manifest_size,
        }.get(role, self._limits.signature_size)
        if entry.size > most:
            raise InvalidPackage(f"{entry.name!r} has {entry.size} bytes; {most} is the most it may have")


def _role(name: str) -> tuple[Role, str]:
    if name in (Role.IDENTIFIER, Role.MANIFEST):
        return Role(name), ""
    match = _ARCHIVE.fullmatch(name)
    if match is None:
        raise InvalidPackage(f"the package has a member that does not belong in one: {name!r:.200}")
    archive, suffix, signature = match.groups()
    return Role(archive + signature), suffix


class Archive:
    """A compressed tar within the package: unpacked as it comes and walked, but not kept; a `tar.Sink`."""

    def __init__(self, name: str, suffix: str, walker: tar.Walker, limits: Limits, *, size: int) -> None:
        self._name = name
        self._decompressor = Decompressor(name, suffix, limits)
        self._walker = walker
        self._size = size
        self._unpacked = 0

    def feed(self, data: memoryview) -> None:
        """Take the next piece, still compressed. Raises `InvalidPackage`."""
        for piece in self._decompressor.feed(data):
            self._unpacked += len(piece)
            if self._unpacked > self._size:
                raise InvalidPackage(f"{self._name} unpacks to more than {self._size} bytes")
            self._walker.feed(memoryview(piece))

    def close(self) -> None:
        """All of it was there. Raises `InvalidPackage` where it is incomplete."""
        self._decompressor.close()
        self._walker.close()
