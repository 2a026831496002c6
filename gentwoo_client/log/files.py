# SPDX-License-Identifier: GPL-2.0-or-later
"""Log files that nobody is following: read once from end to end, compressed or not, in order of time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import IO, Final

from gentwoo_client.log.packed import is_packed as is_packed
from gentwoo_client.log.packed import open_packed

BLOCK_SIZE: Final = 512 << 10
"""Bytes read at once."""

LINE_SIZE: Final = 1 << 20
"""Bytes; a longer line is damage (power loss leaves blocks of NULs) and is skipped."""

_FIRST_STAMP = re.compile(rb"^([0-9]{1,10}): ", re.MULTILINE)


class DamagedFile(OSError):
    """A compressed file that cannot be unpacked."""


def read_blocks(path: str, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield the whole lines of a log, or of `begin` to `end` of a plain one, in blocks of about `BLOCK_SIZE`.

    An unterminated last line may still be in the making and is left out, a line longer than `LINE_SIZE` as
    well. Raises OSError; `DamagedFile` when what was packed can be unpacked only so far.
    """
    with _open(path) as file:
        if begin:
            file.seek(begin)
        remaining = _UNLIMITED if end is None else end - begin
        rest, skipping = b"", False
        while remaining > 0 and (block := _read(file, path, min(BLOCK_SIZE, remaining))):
            remaining -= len(block)
            cut = block.rfind(b"\n") + 1
            if not cut:
                rest += b"" if skipping else block
                if len(rest) > LINE_SIZE:
                    rest, skipping = b"", True
                continue
            lines, rest = rest + block[:cut], block[cut:]
            if skipping:
                lines, skipping = lines[lines.index(b"\n") + 1 :], False
            yield lines


_UNLIMITED = 1 << 62


def in_order_of_time(paths: Iterable[str]) -> list[str]:
    """Return the parts of a log sorted by their first stamps, as far as they have any. Raises OSError."""
    stamps = {path: _first_stamp(path) for path in dict.fromkeys(paths)}
    return sorted(stamps, key=lambda path: stamps[path])


def _first_stamp(path: str) -> int:
    for block in read_blocks(path):
        match = _FIRST_STAMP.search(block)
        if match is not None:
            return int(match[1])
    return 0


def _open(path: str) -> IO[bytes]:
    if not is_packed(path):
        return open(path, "rb", buffering=0)
    if not os.path.isfile(path):
        open(path, "rb").close()
    return open_packed(path)


def _read(file: IO[bytes], path: str, size: int) -> bytes:
    if not is_packed(path):
        return file.read(size)
    try:
        return file.read(size)
    except Exception as error:  # each library has its own errors for damage
        raise DamagedFile(None, f"damaged: {error}", path) from error
