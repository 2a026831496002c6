# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing packages: an inspected one again, under another number or with signatures.

What is installed stays byte for byte what was inspected. Both functions take the package that `reading` made
of the same file. Times in what they write are the package's BUILD_TIME: the same input gives the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from bdcs.domain.gpkg import manifest, metadata, tar
from bdcs.domain.gpkg.compression import Decompressor
from bdcs.domain.gpkg.container import BEGINNING, Role
from bdcs.domain.gpkg.limits import DEFAULT, Limits
from bdcs.domain.gpkg.manifest import Hashes, Record
from bdcs.domain.gpkg.reading import Member, Package
from bdcs.errors import InvalidPackage

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

_COPY_SIZE: Final = 1 << 20  # bytes
_MOVE_SIZE: Final = 1 << 30  # bytes that the kernel copies in one call
_SIGNED: Final = (Role.METADATA, Role.IMAGE)


class Signing(Protocol):
    """Makes OpenPGP signatures."""

    def detach(self, data: Iterable[bytes]) -> bytes:
        """Read all of `data`; return its detached signature, ASCII-armoured."""

    def clearsign(self, text: bytes) -> bytes:
        """Return `text` in the cleartext signature framework (RFC 9580 §7)."""


def renumber(source: BinaryIO, target: BinaryIO, package: Package, build_id: int) -> None:
    """Write `package`, which lies in `source`, into the empty `target` with another BUILD_ID, unsigned.

    Its directory, the BUILD_ID in the metadata and the Manifest change; signatures are left out. Raises
    `InvalidPackage` where the name becomes too long for Portage.
    """
    data = _renumbered_metadata(source, package, build_id)
    image = package.member(Role.IMAGE)
    writer = _Writer(target, f"{package.cpv.pf}-{build_id}", package, largest=image.size)
    writer.add("gpkg-1", b"")
    writer.add("metadata.tar.zst", data)
    writer.move(source, image)
    writer.finish()


def write_signed(source: BinaryIO, target: BinaryIO, package: Package, sign: Signing) -> None:
    """Write `package`, which lies in `source`, into the empty `target` with signatures of `sign`.

    Signatures that it had are left out. What is signed is hashed at the same time: raises `InvalidPackage`,
    before the Manifest is signed, where `source` is not any more what was inspected.
    """
    image = package.member(Role.IMAGE)
    writer = _Writer(target, package.prefix, package, largest=image.size)
    writer.add("gpkg-1", b"")
    for role in _SIGNED:
        member = package.member(role)
        signature = sign.detach(writer.copying(source, member))
        writer.check(member)
        writer.add(f"{member.name}.sig", signature)
    writer.finish(sign)


class _Writer:
    """A container that is being written."""

    def __init__(self, target: BinaryIO, prefix: str, package: Package, *, largest: int) -> None:
        if len(prefix) + len("/gpkg-1\0") > BEGINNING:
            raise InvalidPackage(f"the name {prefix} is too long for Portage")
        self._target = target
        self._prefix = prefix
        self._time = int(package.metadata.get("BUILD_TIME", "0"))
        self._gnu = largest >= tar.OCTAL_SIZES
        self._position = 0
        self._records: dict[str, Record] = {}

    def add(self, name: str, data: bytes) -> None:
        """Add a member that is in memory."""
        self._begin(name, len(data))
        self._write(data)
        self._end(name, manifest.record_of(data))

    def move(self, source: BinaryIO, member: Member) -> None:
        """Add a member of `source` as it is, without a look at it."""
        self._begin(member.name, member.size)
        self._target.flush()
        for count in _copy(source, self._target, member, self._position):
            self._position += count
        self._target.seek(self._position)
        self._end(member.name, member.record)

    def copying(self, source: BinaryIO, member: Member) -> Iterator[bytes]:
        """Add a member of `source`, and yield what it consists of meanwhile."""
        hashes = Hashes()
        self._begin(member.name, member.size)
        for piece in _pieces(source, member):
            hashes.feed(piece)
            self._write(piece)
            yield piece
        self._end(member.name, hashes.record())

    def check(self, member: Member) -> None:
        """Raise `InvalidPackage` unless the member that was copied is the one that was inspected."""
        if self._records.get(member.name) != member.record:
            raise InvalidPackage(f"{member.name} is not what it was when it was inspected")

    def finish(self, sign: Signing | None = None) -> None:
        """Add the Manifest and the end."""
        text = manifest.text(self._records.items())
        self.add("Manifest", text if sign is None else sign.clearsign(text))
        self._write(tar.end(self._position))
        self._target.flush()

    def _begin(self, name: str, size: int) -> None:
        self._write(tar.header(f"{self._prefix}/{name}", size, self._time, gnu=self._gnu))

    def _end(self, name: str, record: Record) -> None:
        self._write(bytes(-record.size % tar.BLOCK))
        self._records[name] = record

    def _write(self, data: bytes) -> None:
        self._target.write(data)
        self._position += len(data)


def _pieces(source: BinaryIO, member: Member) -> Iterator[bytes]:
    """The data of a member. Raises `InvalidPackage` where the file has become shorter."""
    source.seek(member.offset)
    left = member.size
    while left:
        piece = source.read(min(left, _COPY_SIZE))
        if not piece:
            raise InvalidPackage(f"the file ends within {member.name}, which it did not before")
        left -= len(piece)
        yield piece


def _copy(source: BinaryIO, target: BinaryIO, member: Member, position: int) -> Iterator[int]:
    """Copy a member's data to `position`, by the kernel where it can; yields how many bytes at a time."""
    copied = 0
    with contextlib.suppress(OSError):  # other file systems, no files at all: copied by hand below
        while copied < member.size:
            count = os.copy_file_range(
                source.fileno(),
                target.fileno(),
                min(member.size - copied, _MOVE_SIZE),
                member.offset + copied,
                position + copied,
            )
            if not count:
                break
            copied += count
            yield count
    source.seek(member.offset + copied)
    target.seek(position + copied)
    while copied < member.size:
        piece = source.read(min(member.size - copied, _COPY_SIZE))
        if not piece:
            raise InvalidPackage(f"the file ends within {member.name}, which it did not before")
        target.write(piece)
        copied += len(piece)
        yield len(piece)


def _renumbered_metadata(source: BinaryIO, package: Package, build_id: int) -> bytes:
    """The metadata archive with another BUILD_ID; everything else in it as it is."""
    member = package.member(Role.METADATA)
    files = _metadata_files(source, member, DEFAULT)
    files["BUILD_ID"] = b"%d\n" % build_id
    time = int(package.metadata.get("BUILD_TIME", "0"))
    archive = io.BytesIO()
    for name, data in files.items():
        archive.write(tar.header(f"{metadata.ROOT}/{name}", len(data), time))
        archive.write(data)
        archive.write(bytes(-len(data) % tar.BLOCK))
    archive.write(tar.end(archive.tell()))
    return zstd.compress(archive.getvalue())


def _metadata_files(source: BinaryIO, member: Member, limits: Limits) -> dict[str, bytes]:
    """Every file in the metadata, by its name."""
    unpacked = io.BytesIO()
    decompressor = Decompressor(member.name, member.name.partition(".tar")[2], limits)
    for piece in _pieces(source, member):
        for plain in decompressor.feed(memoryview(piece)):
            unpacked.write(plain)
    content = unpacked.getbuffer()
    files: dict[str, bytes] = {}
    offset = 0
    while (block := bytes(content[offset : offset + tar.BLOCK])) != tar.ZEROS:
        offset += tar.BLOCK
        entry = tar.parse(member.name, block, offset)
        files[metadata.file_name(member.name, entry)] = bytes(content[offset : offset + entry.size])
        offset += entry.size + -entry.size % tar.BLOCK
    return files
