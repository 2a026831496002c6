# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of long logs: the first and last lines, some from the middle, and what has come since.

Lines are found by going through the file once; of its text only what is asked for is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bdcs.blobs.attempt_logs import Logs

HEAD: Final = 200
TAIL: Final = 1000
"""Lines of a long log that come with its page."""
PIECE: Final = 1 << 20  # bytes that are read at once
MOST: Final = 512 << 10  # bytes of one end of a log that come with its page, however few lines that are
LONGEST: Final = 4 << 20  # bytes that are searched for lines from the middle
BATCH: Final = 500
"""Lines that are told at once of a log that grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a page shows of a log."""

    head: tuple[str, ...]
    tail: tuple[str, ...]
    tail_first: int
    """The number of the first line of `tail`."""
    lines: int
    """All that are complete; of a log that is over also the last."""
    end: int
    """Bytes of these."""

    @property
    def gap(self) -> tuple[int, int] | None:
        """Which lines in between are not here: the first and the last."""
        first, last = len(self.head) + 1, self.tail_first - 1
        return (first, last) if first <= last else None


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Lines that have come."""

    lines: tuple[str, ...]
    end: int
    """Where to go on, in bytes."""


def window(logs: Logs, attempt: int, *, is_over: bool) -> Window | None:
    """Return both ends of a log; None where there is no file, or nothing in it yet."""
    head, tail = b"", b""
    newlines = end = size = 0
    for piece in _pieces(logs, attempt):
        if len(head) < MOST:
            head = (head + piece)[:MOST]
        newlines += piece.count(b"\n")
        if (newline := piece.rfind(b"\n")) >= 0:
            end = size + newline + 1
        size += len(piece)
        tail = (tail + piece)[-MOST:]
    if is_over and end < size:
        newlines, end = newlines + 1, size
    if not end:
        return None
    first = _split(head[:end] if end <= MOST else head[: head.rfind(b"\n") + 1])[:HEAD]
    last = _split(tail[: len(tail) - (size - end)])
    if end > MOST:
        last = last[1:]  # of which the beginning may be missing
    shown = last[-min(TAIL, max(0, newlines - len(first))) :] if newlines > len(first) else []
    return Window(
        head=tuple(first),
        tail=tuple(shown),
        tail_first=newlines - len(shown) + 1,
        lines=newlines,
        end=end,
    )


def middle(logs: Logs, attempt: int, first: int, count: int = TAIL) -> tuple[str, ...]:
    """Return so many lines from the one with the number `first` on."""
    before, text = 0, b""
    for piece in _pieces(logs, attempt):
        newlines = piece.count(b"\n")
        if not text and before + newlines < first - 1:
            before += newlines
            continue
        text += piece
        if before + text.count(b"\n") >= first + count - 1 or len(text) > LONGEST:
            break
    return tuple(_split(text)[first - 1 - before :][:count])


def news(logs: Logs, attempt: int, offset: int, *, is_over: bool) -> News:
    """Return complete lines from `offset` on, at most `BATCH`; of a log that is over also the last."""
    text = logs.read(attempt, offset, PIECE)
    is_all = len(text) < PIECE - 4
    cut = len(text) if is_over and is_all else text.rfind(b"\n") + 1
    if not cut and not is_all:
        cut = len(text)  # one line that is longer than any should be
    lines = _lines(text[:cut])[:BATCH]
    return News(lines=tuple(map(_text, lines)), end=offset + sum(map(len, lines)))


def last_line(logs: Logs, attempt: int, size: int = 4096) -> str:
    """Return the last line that is not empty; nothing where there is none."""
    length = logs.size(attempt)
    lines = _split(logs.read(attempt, max(0, length - size), size))
    return next((line for line in reversed(lines) if line.strip()), "")


def _pieces(logs: Logs, attempt: int) -> Iterator[bytes]:
    offset = 0
    while piece := logs.read(attempt, offset, PIECE):
        yield piece
        offset += len(piece)


def _split(text: bytes) -> list[str]:
    return [_text(line) for line in _lines(text)]


def _lines(text: bytes) -> list[bytes]:
    """Return lines with their ends."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _text(line: bytes) -> str:
    return line.removesuffix(b"\n").decode(errors="replace")
