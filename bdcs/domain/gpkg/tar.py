# SPDX-License-Identifier: GPL-2.0-or-later
"""Tar archives, walked as they come: push style, nothing is kept but a header.

Understood is what Portage writes (POSIX.1-1988 ustar, and the GNU format for long names and sizes from 8 GiB
on). Everything else is refused rather than guessed: two programs that read one archive differently are two
packages. Python's `tarfile`, which Portage uses, ends silently at a header that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple, Protocol

from bdcs.errors import InvalidPackage

BLOCK: Final = 512  # bytes
ZEROS: Final = bytes(BLOCK)
_RECORD: Final = 20 * BLOCK
OCTAL_SIZES: Final = 8 << 30  # bytes; sizes from here on need the GNU format

FILE: Final = b"0"
HARD_LINK: Final = b"1"
SYMBOLIC_LINK: Final = b"2"
DIRECTORY: Final = b"5"
LONG_LINK: Final = b"K"
LONG_NAME: Final = b"L"

_USTAR: Final = b"ustar\x0000"
_GNU: Final = b"ustar  \x00"
_TIME_MAX: Final = 8**11 - 1  # seconds: the largest that is written in octal
_NAME_MAX: Final = 4096  # bytes: PATH_MAX of Linux

_KINDS: Final = (FILE, DIRECTORY, SYMBOLIC_LINK, HARD_LINK, LONG_NAME, LONG_LINK)
_OCTAL: Final = re.compile(rb" *([0-7]*) *[\0 ]*")

_WITHOUT_DATA: Final = (DIRECTORY, SYMBOLIC_LINK, HARD_LINK)

# name, numbers, type, link, magic and version, user and group, devices, prefix, rest
_HEADER: Final = Struct("100s56sc100s8s64x16s155s12s")
_NUMBERS: Final = Struct("8s8s8s12s12s8s")  # mode, uid, gid, size, mtime, checksum
_PLAIN: Final = re.compile(rb"(?:[0-7]{7}\0){3}(?:[0-7]{11}\0){2}[0-7]{6}\0 ")
_NO_DEVICES: Final = (bytes(16), b"0000000\x00" * 2)
_UNSUPPORTED: Final = {
    b"\0": "a member of the old tar format",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a fifo",
    b"7": "a contiguous file",
    b"D": "a GNU directory listing",
    b"M": "a part of a multi-volume archive",
    b"S": "a sparse file",
    b"V": "a volume label",
    b"g": "a global pax header",
    b"x": "a pax header",
}


class Entry(NamedTuple):
    """One member, as its header tells."""

    name: str
    kind: bytes
    mode: int
    size: int
    link: str
    offset: int
    """Where its data begins in the archive, in bytes."""


class Sink(Protocol):
    """Takes the data of one member."""

    def feed(self, data: memoryview) -> None:
        """Take the next piece."""

    def close(self) -> None:
        """All of it was there."""


Visitor = Callable[[Entry], Sink | None]
"""Is told each member before its data; None: the data are of no interest. Raises `InvalidPackage`."""


def parse(archive: str, block: bytes, offset: int) -> Entry:
    """The member whose header is `block`, its data at `offset`. Raises `InvalidPackage`.

    `archive` is the name of the archive for people.
    """
    name, numbers, kind, link, magic, devices, prefix, rest = _HEADER.unpack(block)
    wide = magic == _GNU
    if not wide and magic != _USTAR:
        raise InvalidPackage(f"{archive} has a header that is neither ustar nor GNU tar")
    mode, size, checksum = _numbers(archive, numbers, devices, wide=wide)
    if checksum != sum(block) - sum(numbers[-8:]) + 8 * 0x20:
        raise InvalidPackage(f"{archive} has a header whose checksum is wrong")
    if rest.strip(b"\0") or (wide and prefix.strip(b"\0")):
        raise InvalidPackage(f"{archive} has a header with fields that are neither ustar's nor GNU tar's")
    text = _text(archive, name)
    if prefix[0]:
        text = f"{_text(archive, prefix)}/{text}"
    if kind not in _KINDS:
        raise InvalidPackage(
            f"{archive} has {_UNSUPPORTED.get(kind, 'an unknown kind of member')}: {text!r:.200}"
        )
    if size < 0 or (size and kind in _WITHOUT_DATA):
        raise InvalidPackage(f"{archive} has a size that cannot be for {text!r:.200}")
    return Entry(text, kind, mode, size, _text(archive, link) if link[0] else "", offset)


def _numbers(archive: str, numbers: bytes, devices: bytes, *, wide: bool) -> tuple[int, int, int]:
    """Mode, size and checksum out of the fields of a header; the others are numbers too."""
    if _PLAIN.fullmatch(numbers):  # as nearly every header is written
        mode, size, checksum = int(numbers[:7], 8), int(numbers[24:35], 8), int(numbers[48:54], 8)
    else:
        mode, _, _, size, _, checksum = (
            _number(archive, field, wide=wide) for field in _NUMBERS.unpack(numbers)
        )
    if devices not in _NO_DEVICES:
        for field in (devices[:8], devices[8:]):
            _number(archive, field, wide=wide)
    return mode, size, checksum


def _number(archive: str, field: bytes, *, wide: bool) -> int:
    """The number in a field of a header; `wide`: GNU's form of large ones is allowed."""
    if wide and field[0] in (0x80, 0xFF):
        return int.from_bytes(field, signed=True) if field[0] == 0xFF else int.from_bytes(field[1:])
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise InvalidPackage(f"{archive} has a header with {field!r} where a number must be")
    return int(match[1] or b"0", 8)


def _text(archive: str, field: bytes) -> str:
    """The text in a field of a header: up to the first NUL, behind which nothing else may be."""
    text = field.rstrip(b"\0")
    try:
        if b"\0" not in text:
            return text.decode()
    except UnicodeDecodeError:
        raise InvalidPackage(f"{archive} has a name that is no UTF-8: {text!r:.200}") from None
    raise InvalidPackage(f"{archive} has a name with a NUL in it: {text!r:.200}")


class Walker:
    """Walks one archive. Raises `InvalidPackage` as soon as something in it is not as it must be.

    `archive` is its name for people; `long_names` says whether GNU's extension for these is allowed.
    """

    def __init__(self, archive: str, visit: Visitor, *, padding: int, long_names: bool) -> None:
        self._archive = archive
        self._visit = visit
        self._padding = padding
        self._long_names = long_names
        self._position = 0
        self._partial = bytearray()
        self._sink: Sink | None = None
        self._open = False
        self._data = 0  # bytes of the member at hand still to come
        self._fill = 0  # … and of the zeros behind it
        self._zeros = 0  # bytes read since the end began; 0: it has not
        self._long: dict[bytes, str] = {}

    def feed(self, data: memoryview) -> None:
        """Take the next piece of the archive, of any length."""
        at, end = 0, len(data)
        while at < end:
            if self._open:
                at = self._feed_member(data, at)
            elif self._zeros:
                self._feed_end(data[at:])
                at = end
            else:
                at = self._feed_header(data, at)
        self._position += end

    def close(self) -> None:
        """The archive is over. Raises `InvalidPackage` where more should have come."""
        if self._zeros < 2 * BLOCK or self._zeros % BLOCK:
            raise self._invalid("is cut off: it has no end-of-archive blocks")

    def _invalid(self, what: str) -> InvalidPackage:
        return InvalidPackage(f"{self._archive} {what}")

    def _feed_member(self, data: memoryview, at: int) -> int:
        if self._data:
            piece = data[at : at + self._data]
            if self._sink is not None:
                self._sink.feed(piece)
            self._data -= len(piece)
            at += len(piece)
        if not self._data and self._fill:
            piece = data[at : at + self._fill]
            if bytes(piece).strip(b"\0"):
                raise self._invalid("has something other than zeros between its members")
            self._fill -= len(piece)
            at += len(piece)
        if not self._data and not self._fill:
            self._end_member()
        return at

    def _end_member(self) -> None:
        self._open = False
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()

    def _feed_header(self, data: memoryview, at: int) -> int:
        if not self._partial and at + BLOCK <= len(data):
            block = bytes(data[at : at + BLOCK])
            at += BLOCK
        else:
            piece = data[at : at + BLOCK - len(self._partial)]
            self._partial += piece
            at += len(piece)
            if len(self._partial) < BLOCK:
                return at
            block = bytes(self._partial)
            self._partial.clear()
        if block == ZEROS:
            if self._long:
                raise self._invalid("has a long name that belongs to no member")
            self._zeros = BLOCK
        else:
            self._begin_member(block, self._position + at)
        return at

    def _feed_end(self, data: memoryview) -> None:
        if bytes(data).strip(b"\0"):
            raise self._invalid("has something behind its end")
        self._zeros += len(data)
        if self._zeros > 2 * BLOCK + self._padding:
            raise self._invalid(f"has more than {self._padding} bytes of zeros behind its end")

    def _begin_member(self, block: bytes, offset: int) -> None:
        entry = parse(self._archive, block, offset)
        if self._long and entry.kind not in (LONG_NAME, LONG_LINK):
            name, link = self._long.get(LONG_NAME, entry.name), self._long.get(LONG_LINK, entry.link)
            entry = entry._replace(name=name, link=link)
            self._long.clear()
        self._open = True
        self._data = entry.size
        self._fill = -entry.size % BLOCK
        if entry.kind in (LONG_NAME, LONG_LINK):
            self._sink = self._long_name(entry)
        else:
            self._sink = self._visit(entry)
        if not entry.size:
            self._end_member()

    def _long_name(self, entry: Entry) -> Sink:
        if not self._long_names:
            raise self._invalid("has a name that is too long")
        if entry.kind in self._long:
            raise self._invalid("has two long names for one member")
        if not 1 < entry.size <= _NAME_MAX + 1:
            raise self._invalid(f"has a name of {entry.size} bytes")
        return _LongName(lambda field: self._keep_long_name(entry.kind, field))

    def _keep_long_name(self, kind: bytes, field: bytes) -> None:
        self._long[kind] = _text(self._archive, field)


class _LongName:
    """The data of a member that is no member: the name of the next one."""

    def __init__(self, keep: Callable[[bytes], None]) -> None:
        self._keep = keep
        self._field = bytearray()

    def feed(self, data: memoryview) -> None:
        self._field += data

    def close(self) -> None:
        self._keep(bytes(self._field))


def header(name: str, size: int, mtime: int, *, gnu: bool = False) -> bytes:
    """The header of a regular file of mode 0644 that is root's; `gnu`: sizes of 8 GiB and more are possible.

    Raises `InvalidPackage` where `name` is too long for its form.
    """
    directory, _, last = name.rpartition("/")
    short, prefix = (name.encode(), b"") if len(name) <= 100 else (last.encode(), directory.encode())
    if len(short) > 100 or len(prefix) > (0 if gnu else 155):
        raise InvalidPackage(f"the name {name} is too long")
    length = b"\x80" + size.to_bytes(11) if size >= OCTAL_SIZES else b"%011o\0" % size
    numbers = b"0000644\x000000000\x000000000\x00%b%011o\0" % (length, min(mtime, _TIME_MAX))
    magic = _GNU if gnu else _USTAR
    fields = (FILE, b"", magic, _NO_DEVICES[0], prefix, b"")
    checksum = sum(_HEADER.pack(short, numbers + b" " * 8, *fields))
    return _HEADER.pack(short, numbers + b"%06o\0 " % checksum, *fields)


def end(size: int) -> bytes:
    """What ends an archive of `size` bytes: two blocks of zeros, and more until the record is full."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % _RECORD)
