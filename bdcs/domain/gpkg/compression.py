# SPDX-License-Identifier: GPL-2.0-or-later
"""What the two inner archives are compressed with, undone piece by piece with bounded memory."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from bdcs.domain.gpkg.limits import Limits
from bdcs.errors import InvalidPackage

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

PIECE: Final = 256 << 10  # bytes that are unpacked at a time
_SLICE: Final = (
    32 << 10
)  # bytes that are fed at a time; what follows the end of a stream is copied once a stream
_STREAMS: Final = 10_000  # streams that one archive may consist of, and one more for every …
_STREAM_SIZE: Final = 4096  # … bytes: pbzip2 and pzstd write one for some hundred kilobytes of input

_ERRORS: Final = (OSError, ValueError, lzma.LZMAError, zlib.error, zstd.ZstdError)
_REFUSED: Final = {
    "": "is not compressed, which Portage cannot read where BINPKG_COMPRESS is set (it is by default)",
    ".lz": "is compressed with lzip, which is not supported; use zstd",
    ".lz4": "is compressed with lz4, which is not supported; use zstd",
    ".lzo": "is compressed with lzop, which is not supported; use zstd",
}


class _Stream(Protocol):
    """One compressed stream, as bz2, lzma and zstd of the standard library have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib in the shape of the others."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._more = False

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._more

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        unpacked = self._stream.decompress(self._stream.unconsumed_tail + data, max_length)
        self._more = len(unpacked) == max_length
        return unpacked


def _zstd(limits: Limits) -> _Stream:
    parameter = zstd.DecompressionParameter.window_log_max
    return zstd.ZstdDecompressor(options={parameter: limits.window.bit_length() - 1})


_STREAMS_OF: Final[dict[str, Callable[[Limits], _Stream]]] = {
    ".bz2": lambda limits: bz2.BZ2Decompressor(),
    ".gz": lambda limits: _Gzip(),
    ".xz": lambda limits: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.window),
    ".zst": _zstd,
}


class Decompressor:
    """Undoes the compression that `suffix` names, also of several streams one after another.

    Raises `InvalidPackage` where it is no compression that Portage's clients can be expected to undo, at
    anything but whole streams, and where `limits` are exceeded; `archive` is the archive's name for people.
    """

    def __init__(self, archive: str, suffix: str, limits: Limits) -> None:
        if suffix not in _STREAMS_OF:
            raise InvalidPackage(f"{archive} {_REFUSED.get(suffix, 'is compressed with something unknown')}")
        self._archive = archive
        self._suffix = suffix
        self._limits = limits
        self._stream: _Stream | None = None
        self._streams = 0
        self._taken = 0
        self._given = 0

    def feed(self, data: memoryview) -> Iterator[bytes]:
        """Yield what `data` unpacks to, in pieces of at most `PIECE` bytes."""
        for at in range(0, len(data), _SLICE):
            rest = bytes(data[at : at + _SLICE])
            self._taken += len(rest)
            while rest:
                stream = self._stream or self._next_stream()
                yield from self._unpack(stream, rest)
                rest = stream.unused_data if stream.eof else b""
                if stream.eof:
                    self._stream = None

    def close(self) -> None:
        """Nothing more comes. Raises `InvalidPackage` where the last stream is not complete."""
        if self._stream is not None or not self._streams:
            raise InvalidPackage(f"{self._archive} is cut off: its compression has no end")

    def _next_stream(self) -> _Stream:
        self._streams += 1
        if self._streams > _STREAMS + self._taken // _STREAM_SIZE:
            raise InvalidPackage(f"{self._archive} consists of too many compressed streams")
        self._stream = _STREAMS_OF[self._suffix](self._limits)
        return self._stream

    def _unpack(self, stream: _Stream, data: bytes) -> Iterator[bytes]:
        while True:
            try:
                unpacked = stream.decompress(data, PIECE)
            except _ERRORS as error:
                raise InvalidPackage(f"{self._archive} cannot be unpacked: {error}") from error
            if unpacked:
                self._given += len(unpacked)
                self._check_ratio()
                yield unpacked
            if stream.eof or stream.needs_input:
                return
            data = b""

    def _check_ratio(self) -> None:
        if self._given > self._limits.ratio_free + self._limits.ratio * self._taken:
            raise InvalidPackage(f"{self._archive} unpacks to more than {self._limits.ratio} times its size")
