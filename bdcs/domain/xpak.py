# SPDX-License-Identifier: GPL-2.0-or-later
"""XPAK, Portage's old binary packages, read for `bdcs import` only: no hashes and no signatures are in them.

A compressed tar of what is installed, and behind it a block of metadata (xpak(5)): `XPAKPACK`, the lengths
of index and data, the index (name, offset and length of each value), the data, `XPAKSTOP`; then the length of
this block and `STOP`. All numbers are big-endian, of 32 bits.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Final

from bdcs.domain.gpkg import metadata
from bdcs.domain.gpkg.image import Image
from bdcs.domain.gpkg.limits import DEFAULT, Limits
from bdcs.domain.gpkg.reading import READ_SIZE, Package, WholeHashes
from bdcs.errors import InvalidPackage

if TYPE_CHECKING:
    from pathlib import Path

_TRAILER: Final = Struct(">8sI4s")
_HEAD: Final = Struct(">8sII")
_NUMBER: Final = Struct(">I")
_PLACE: Final = Struct(">II")


def read_xpak(path: Path, limits: Limits = DEFAULT) -> Package:
    """The package in a file `.xpak` or `.tbz2`.

    Its image is not looked at: `image` has only a size, which is what SIZE in the metadata says.
    Raises `InvalidPackage`, and `OSError` as reading does.
    """
    hashes = WholeHashes()
    with path.open("rb", buffering=0) as file:
        while data := file.read(READ_SIZE):
            hashes.feed(memoryview(data))
            if hashes.size > limits.package_size:
                raise InvalidPackage(f"the package is larger than {limits.package_size} bytes")
        values = _metadata(file, hashes.size, limits)
    cpv, build_id = metadata.check(values)
    return Package(
        cpv=cpv,
        build_id=build_id,
        prefix="",
        metadata=MappingProxyType(values),
        size=hashes.size,
        **hashes.hexdigests(),
        signed=False,
        members=(),
        image=Image(files=0, size=int(values.get("SIZE", "0"))),
    )


def _metadata(file: BinaryIO, size: int, limits: Limits) -> dict[str, str]:
    """The values in the block at the end of a file of `size` bytes."""
    if size < _TRAILER.size + _HEAD.size:
        raise InvalidPackage("the file is no XPAK: it is too short")
    file.seek(size - _TRAILER.size)
    stop, length, end = _TRAILER.unpack(file.read(_TRAILER.size))
    if stop != b"XPAKSTOP" or end != b"STOP":
        raise InvalidPackage("the file is no XPAK: it does not end as one")
    if not _HEAD.size <= length <= min(size - 8, limits.metadata_size):
        raise InvalidPackage("the metadata of the XPAK cannot have the size that they claim")
    file.seek(size - 8 - length)
    return metadata.fold(_files(file.read(length), limits))


def _files(block: bytes, limits: Limits) -> dict[str, bytes]:
    """The raw values of the kind that is kept."""
    start, index_size, data_size = _HEAD.unpack_from(block)
    index_end = _HEAD.size + index_size
    if start != b"XPAKPACK" or index_end + data_size + len(b"XPAKSTOP") != len(block):
        raise InvalidPackage("the metadata of the XPAK do not fit together")
    index, data = block[_HEAD.size : index_end], block[index_end : index_end + data_size]
    files: dict[str, bytes] = {}
    at = count = 0
    while at < len(index):
        count += 1
        name, offset, length, at = _index_entry(index, at)
        if name in files or count > limits.metadata_members or offset + length > data_size:
            raise InvalidPackage("the index of the XPAK is damaged")
        if metadata.is_kept(name):
            if length > limits.value_size:
                raise InvalidPackage(f"{name} in the metadata is larger than {limits.value_size} bytes")
            files[name] = data[offset : offset + length]
    return files


def _index_entry(index: bytes, at: int) -> tuple[str, int, int, int]:
    """Name, offset and length of the entry of the index at `at`, and where the next one begins."""
    try:
        (length,) = _NUMBER.unpack_from(index, at)
        name = index[at + 4 : at + 4 + length].decode("ascii")
        at += 4 + length
        return (name, *_PLACE.unpack_from(index, at), at + _PLACE.size)
    except (ValueError, OverflowError, StructError) as error:
        raise InvalidPackage("the index of the XPAK is damaged") from error
