# SPDX-License-Identifier: GPL-2.0-or-later
"""Where in emerge.log reading goes on, and how that place is recognised after the file was moved or changed.

A byte offset alone is worthless once logrotate, an editor or a restored backup had its hands on the file. So
a position also holds checksums of the file's first bytes and of the bytes just before the offset: content
that has both at the right places is the content that was read, whatever it is called now and also inside a
compressed copy. Device and inode only say where to look first.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass

HEAD_SIZE = 1024
"""Bytes of a file's beginning that are fingerprinted."""

TAIL_SIZE = 256
"""Bytes of the last line before the offset that are fingerprinted."""

STAMP_SIZE = 12
"""Bytes of a line that its time stamp takes at most."""

_STAMPED = re.compile(rb"^(\d{1,10}): .*\n", re.MULTILINE)


def last_stamped(lines: bytes) -> tuple[int, bytes] | None:
    """Return the last of `lines` that has a time stamp, after that stamp."""
    start = max(0, lines.rfind(b"\n", 0, -1))
    found = list(_STAMPED.finditer(lines, start)) or list(_STAMPED.finditer(lines))
    return (int(found[-1][1]), found[-1][0]) if found else None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Length and CRC-32 of some bytes. Not against forgers: whoever can write the log can write anything."""

    length: int
    checksum: int

    @classmethod
    def of(cls, content: bytes) -> Fingerprint:
        return cls(len(content), zlib.crc32(content))

    def matches(self, content: bytes) -> bool:
        return len(content) == self.length and zlib.crc32(content) == self.checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place between two lines of the log, never at offset 0: who has read nothing has no position."""

    device: int
    inode: int
    offset: int
    head: Fingerprint
    """Of the first `HEAD_SIZE` bytes, fewer where the offset is smaller."""

    tail: Fingerprint
    """Of the line that ends at the offset, or of its last `TAIL_SIZE` bytes."""

    stamp: int | None
    """Time stamp of the last line before the offset that has one, perhaps in an older part of the log."""

    line: Fingerprint | None
    """Of that line."""

    def dump(self) -> str:
        """Return the position as one line of JSON."""
        return json.dumps(
            {
                "device": self.device,
                "inode": self.inode,
                "offset": self.offset,
                "head": [self.head.length, self.head.checksum],
                "tail": [self.tail.length, self.tail.checksum],
                "stamp": self.stamp,
                "line": [self.line.length, self.line.checksum] if self.line else None,
            },
            separators=(",", ":"),
        )

    @classmethod
    def load(cls, text: str) -> Position:
        """Return the position that `dump` wrote, now or before it knew of `line`.

        Raises ValueError for anything else.
        """
        try:
            fields = json.loads(text)
            return cls(
                device=fields["device"],
                inode=fields["inode"],
                offset=fields["offset"],
                head=Fingerprint(*fields["head"]),
                tail=Fingerprint(*fields["tail"]),
                stamp=fields["stamp"],
                line=Fingerprint(*fields["line"]) if fields.get("line") else None,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a position: {text!r}") from error
