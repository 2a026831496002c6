# SPDX-License-Identifier: GPL-2.0-or-later
"""The fields of a record of emerge.log: each is accepted whole, or the record is skipped.

A record is `STAMP: TEXT`. Its kind is told by the eight bytes after a stamp of ten digits (`KIND`), at fixed
columns; a shorter stamp is first padded by `aligned`. What varies inside the text is checked here, and
remembered, because the same packages, places and roots come again and again. Nothing here raises.

Slices and dictionaries do what a large regular expression would, in less than half of the time; see
`benchmarks/history`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from gentwoo_client.wire.cpv import split_cpv

KIND: Final = slice(10, 18)
"""Where the kind of a record stands, colon and blanks included."""

STAMP: Final = slice(0, 10)

_REMEMBERED = 8192  # values of each field, before all are forgotten
_CPV_SIZE = 400  # bytes; no longer one can be valid

_PLACE = re.compile(rb"\(([0-9]{1,6}) of ([0-9]{1,6})\)")
_PACKED_ALONE = re.compile(rb"(?:^| )--(?:buildpkgonly|fetchonly|fetch-all-uri)(?: |$)")
_JOBS = re.compile(rb"(?:^| )--jobs(?:=([0-9]+))?(?: |$)")


class Package(NamedTuple):
    """A CPV taken apart."""

    category: str
    name: str
    version: str
    key: bytes
    """CATEGORY/NAME as in the log."""


class Command(NamedTuple):
    """What the command line of a run tells about the records that follow."""

    installs: bool
    """False with --fetchonly or --buildpkgonly: items begin and never complete, and none fails for us."""
    serial: bool
    """One item after the other: without --jobs, or with --jobs=1."""


def split_lines(block: bytes) -> list[bytes]:
    """Return the lines of a block, without LF, and without the CR of a log that was edited elsewhere."""
    lines = block.split(b"\n")
    if b"\r" in block:
        lines = [line[:-1] if line[-1:] == b"\r" else line for line in lines]
    return lines


def aligned(line: bytes) -> bytes | None:
    """Return `line` with its stamp padded to ten digits; None if it does not begin with a stamp."""
    colon = line.find(b":", 1, 11)
    if colon < 0 or not line[:colon].isdigit():
        return None
    return line.rjust(len(line) + 10 - colon, b"0")


def _read_place(text: bytes) -> tuple[int, int] | None:
    match = _PLACE.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


def _read_package(text: bytes) -> Package | None:
    if len(text) > _CPV_SIZE or not text.isascii():
        return None
    parts = split_cpv(text.decode("ascii"))
    if parts is None:
        return None
    category, name, version = parts
    return Package(category, name, version, f"{category}/{name}".encode("ascii"))


def _read_root(text: bytes) -> str | None:
    if b"\0" in text or b"\r" in text or not text.startswith(b"/"):
        return None
    return text.decode("utf-8", "backslashreplace")


def read_command(text: bytes) -> Command:
    """Read the options in a command line as emerge logs it, spelled out.

    Arguments are raw text of the user; one that spells an option inside a longer argument cannot be told
    from the option, and only makes us more careful.
    """
    jobs = _JOBS.search(text)
    return Command(
        installs=_PACKED_ALONE.search(text) is None,
        serial=jobs is None or jobs[1] == b"1",
    )


_Value = TypeVar("_Value")


class Memory(dict[bytes, _Value]):
    """What `read` made of each text so far: `memory[text]` is a mere look-up for a text seen before."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[bytes], _Value]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, text: bytes) -> _Value:
        if len(self) >= _REMEMBERED:
            self.clear()
        value = self[text] = self._read(text)
        return value


def places() -> Memory[tuple[int, int] | None]:
    """`(N of M)` → (N, M); None if it is not that."""
    return Memory(_read_place)


def packages() -> Memory[Package | None]:
    """CPV → `Package`; None if it is no CPV, as `media-libs/libpng` or `app-misc/-MERGING-foo-1`."""
    return Memory(_read_package)


def roots() -> Memory[str | None]:
    """ROOT → itself as text; None if it is no path."""
    return Memory(_read_root)
