# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a package, once, from its first byte to its last, and believing nothing of it.

`Inspector` is fed what arrives; `read_package` feeds it a file. Both tell what the package is, with hashes
of the whole and of its members, or raise `InvalidPackage` with one sentence that says why not.
`read_metadata` only looks at the metadata, which is what a scan of thousands of files wants.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from bdcs.domain.gpkg import manifest, metadata, tar
from bdcs.domain.gpkg.container import Archive, Names, Role, check_beginning, check_prefix
from bdcs.domain.gpkg.image import Image, ImageReader
from bdcs.domain.gpkg.limits import DEFAULT, Limits
from bdcs.domain.gpkg.manifest import Hashes, Record
from bdcs.domain.gpkg.metadata import MetadataReader
from bdcs.errors import InvalidPackage
from gentwoo_client.wire.cpv import CPV

READ_SIZE: Final = 1 << 20  # bytes
_SCAN_SIZE: Final = 64 << 10  # bytes, in which the metadata of nearly every package lie

_REQUIRED: Final = (Role.METADATA, Role.IMAGE, Role.MANIFEST)
_SIGNED: Final = {Role.METADATA: Role.METADATA_SIGNATURE, Role.IMAGE: Role.IMAGE_SIGNATURE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of the container."""

    name: str
    """Without the directory: `image.tar.zst`."""
    role: Role
    offset: int
    """Where its data begins in the file, in bytes."""
    record: Record
    """Size and hashes of its data."""

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return self.record.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One binary package, as its file says; everything in here was checked except who signed it."""

    cpv: CPV
    build_id: int | None
    prefix: str
    """The directory in the container: PF or PF-BUILD_ID. Empty for XPAK."""
    metadata: Mapping[str, str]
    """Values by Portage's own names, folded; without the environment, the ebuild and lists of ELF files.
    Empty ones are left out. SIZE is that of the installed files."""
    size: int
    """Bytes of the file."""
    md5: str
    sha1: str
    sha512: str
    signed: bool
    """Whether everything that can be signed carries a signature (else nothing does)."""
    members: tuple[Member, ...]
    """In the order of the file. Empty for XPAK."""
    image: Image

    def member(self, role: Role) -> Member:
        """The member with this role. Raises `KeyError`."""
        for member in self.members:
            if member.role is role:
                return member
        raise KeyError(role)


class WholeHashes:
    """Size and hashes of a whole file, as an index and an upload name them."""

    def __init__(self) -> None:
        self.size = 0
        self._hashes = {name: hashlib.new(name) for name in ("md5", "sha1", "sha512")}

    def feed(self, data: memoryview) -> None:
        """Take the next piece."""
        self.size += len(data)
        for one in self._hashes.values():
            one.update(data)

    def hexdigests(self) -> dict[str, str]:
        """Each hash in hexadecimal, by its name."""
        return {name: one.hexdigest() for name, one in self._hashes.items()}


class Inspector:
    """Takes a package as it arrives, in pieces of any size, and says at the end what it is.

    Raises `InvalidPackage` as soon as it can be known; it is of no use any more then. Nothing is written, and
    memory is bounded by `limits`. Works for minutes on large packages: let a thread feed it.
    """

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self._limits = limits
        self._beginning = b""
        self._size = 0
        self._whole = WholeHashes()
        self._walker = tar.Walker("the package", self._visit, padding=limits.padding, long_names=False)
        self._names = Names(limits)
        self._members: dict[Role, _Open] = {}
        self._manifest = bytearray()
        self._metadata = MetadataReader("the metadata", limits)
        self._image = ImageReader("the image", limits)

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next piece of the file. Raises `InvalidPackage`."""
        view = memoryview(data)
        self.hash(view)
        self.walk(view)

    def hash(self, view: memoryview) -> None:
        """The half of `feed` that hashes the whole, for whoever lets another thread do that."""
        self._whole.feed(view)

    def walk(self, view: memoryview) -> None:
        """The other half of `feed`. Raises `InvalidPackage`."""
        self._size += len(view)
        if self._size > self._limits.package_size:
            raise InvalidPackage(f"the package is larger than {self._limits.package_size} bytes")
        if len(self._beginning) < tar.BLOCK:
            self._beginning += view[: tar.BLOCK]
            if len(self._beginning) >= tar.BLOCK:
                check_beginning(self._beginning)
        self._walker.feed(view)

    def close(self) -> Package:
        """The file is over: what it is. Raises `InvalidPackage`."""
        check_beginning(self._beginning)
        self._walker.close()
        members = {role: one.member() for role, one in self._members.items()}
        self._check_complete(members)
        signed = self._check_signed(members)
        self._check_manifest(members)
        values, cpv, build_id = self._check_metadata()
        return Package(
            cpv=cpv,
            build_id=build_id,
            prefix=self._names.prefix,
            metadata=MappingProxyType(values),
            size=self._whole.size,
            **self._whole.hexdigests(),
            signed=signed,
            members=tuple(members.values()),
            image=self._image.image(),
        )

    def _visit(self, entry: tar.Entry) -> tar.Sink:
        role, suffix = self._names.place(entry)
        self._members[role] = member = _Open(entry, role, self._content(entry, role, suffix))
        return member

    def _content(self, entry: tar.Entry, role: Role, suffix: str) -> tar.Sink | None:
        name = entry.name.rpartition("/")[2]
        if role is Role.METADATA:
            return metadata_archive(name, suffix, self._metadata, self._limits)
        if role is Role.IMAGE:
            return image_archive(name, suffix, self._image, self._limits)
        return _Kept(self._manifest) if role is Role.MANIFEST else None

    def _check_complete(self, members: Mapping[Role, Member]) -> None:
        for role in _REQUIRED:
            if role not in members:
                raise InvalidPackage(f"the package has no {role}")

    def _check_signed(self, members: Mapping[Role, Member]) -> bool:
        """Whether it is signed, in all places or in none. Raises `InvalidPackage`."""
        signed = {name for name, signature in _SIGNED.items() if signature in members}
        if manifest.is_signed(self._manifest):
            signed.add(Role.MANIFEST)
        for name in _REQUIRED:
            if signed and name not in signed:
                raise InvalidPackage(f"the package is signed, but its {name} is not")
        for name, signature in _SIGNED.items():
            if signed and members[signature].name != f"{members[name].name}.sig":
                raise InvalidPackage(
                    f"{members[signature].name} is the signature of something that is not there"
                )
        return bool(signed)

    def _check_manifest(self, members: Mapping[Role, Member]) -> None:
        records = manifest.parse(bytes(self._manifest))
        there = {member.name: member.record for role, member in members.items() if role is not Role.MANIFEST}
        for name, record in there.items():
            said = records.get(name)
            if said is None:
                raise InvalidPackage(f"{name} is not in the Manifest")
            if said != record:
                raise InvalidPackage(
                    f"{name} is not what the Manifest says: {manifest.difference(said, record)}"
                )
        for name in records.keys() - there.keys():
            raise InvalidPackage(f"the Manifest names {name!r:.100}, which is not in the package")

    def _check_metadata(self) -> tuple[dict[str, str], CPV, int | None]:
        values = self._metadata.values()
        cpv, build_id = metadata.check(values)
        check_prefix(self._names.prefix, cpv, build_id)
        return values, cpv, build_id


class _Open:
    """A member that is being read: hashed, and passed on."""

    def __init__(self, entry: tar.Entry, role: Role, content: tar.Sink | None) -> None:
        self._entry = entry
        self._role = role
        self._content = content
        self._hashes = Hashes()

    def feed(self, data: memoryview) -> None:
        self._hashes.feed(data)
        if self._content is not None:
            self._content.feed(data)

    def close(self) -> None:
        if self._content is not None:
            self._content.close()

    def member(self) -> Member:
        """What was read."""
        name = self._entry.name.rpartition("/")[2]
        return Member(name=name, role=self._role, offset=self._entry.offset, record=self._hashes.record())


class _Kept:
    """A member whose bytes are kept."""

    def __init__(self, target: bytearray) -> None:
        self._target = target

    def feed(self, data: memoryview) -> None:
        self._target += data

    def close(self) -> None:
        """Nothing to do."""


def metadata_archive(name: str, suffix: str, reader: MetadataReader, limits: Limits) -> Archive:
    """What takes a compressed metadata archive and tells `reader` of it."""
    walker = tar.Walker(name, reader.visit, padding=limits.padding, long_names=False)
    return Archive(name, suffix, walker, limits, size=limits.metadata_size)


def image_archive(name: str, suffix: str, reader: ImageReader, limits: Limits) -> Archive:
    """What takes a compressed image archive and tells `reader` of it."""
    walker = tar.Walker(name, reader.visit, padding=limits.padding, long_names=True)
    return Archive(name, suffix, walker, limits, size=limits.image_size)


def read_package(source: Path | BinaryIO, limits: Limits = DEFAULT) -> Package:
    """The package in a file, all of it read. Raises `InvalidPackage`, and `OSError` as reading does.

    A file object is read from where it stands, which must be its beginning.
    """
    inspector = Inspector(limits)
    with source.open("rb", buffering=0) if isinstance(source, Path) else nullcontext(source) as file:
        data = file.read(READ_SIZE)
        if len(data) < READ_SIZE:
            inspector.feed(data)
        else:
            _read_large(file, data, inspector)
        while data := file.read(READ_SIZE):
            inspector.feed(data)
    return inspector.close()


def _read_large(file: BinaryIO, data: bytes, inspector: Inspector) -> None:
    """Feed `data` and the rest of `file`, on two processors: half the time goes into hashes of the whole."""
    with ThreadPoolExecutor(1, thread_name_prefix="hashing") as hashing:
        while data:
            hashed = hashing.submit(inspector.hash, memoryview(data))
            inspector.walk(memoryview(data))
            data = file.read(READ_SIZE)
            hashed.result()


def read_metadata(file: BinaryIO, limits: Limits = DEFAULT) -> dict[str, str]:
    """The metadata of the package in `file`, the same as `read_package` has; nothing else is looked at.

    For scans of files that are known to be whole: no hash is compared and the image is not read. Begins where
    `file` stands, which must be its beginning, and leaves it anywhere. Raises `InvalidPackage`.
    """
    head = file.read(_SCAN_SIZE)
    check_beginning(head)
    names = Names(limits)
    offset = 0
    while True:
        block = _slice(file, head, offset, tar.BLOCK)
        if len(block) < tar.BLOCK or block == tar.ZEROS:
            raise InvalidPackage("the package has no metadata")
        offset += tar.BLOCK
        entry = tar.parse("the package", block, offset)
        role, suffix = names.place(entry)
        if role is Role.METADATA:
            break
        offset += entry.size + -entry.size % tar.BLOCK
    name = entry.name.rpartition("/")[2]
    reader = MetadataReader("the metadata", limits)
    archive = metadata_archive(name, suffix, reader, limits)
    archive.feed(memoryview(_slice(file, head, offset, entry.size)))
    archive.close()
    values = reader.values()
    check_prefix(names.prefix, *metadata.check(values))
    return values


def _slice(file: BinaryIO, head: bytes, offset: int, size: int) -> bytes:
    """Bytes of the file that begins with `head`."""
    if offset + size <= len(head):
        return head[offset : offset + size]
    file.seek(offset)
    return file.read(size)
