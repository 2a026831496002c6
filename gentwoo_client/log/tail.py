# SPDX-License-Identifier: GPL-2.0-or-later
"""Follow emerge.log through everything that happens to log files: every whole line once, in order.

`LogTail.read` gives the next block of lines and the `Position` after it; whoever stores the position together
with what the lines caused, and later starts from it, misses nothing and sees nothing twice. Handled are
rotation by rename and by copytruncate, while we look and while we do not, also where the older parts are
compressed by now; truncation, deletion, replacement (an editor writes a new file with old content); a log
that does not exist yet, may not be read, or is a symlink to /dev/null; unterminated, overlong and damaged
lines.

Where the file that was read last is gone for good, lines are skipped up to the place that the position
remembers, or else up to the first one that is later than what was read.

The log is never locked: closing any descriptor of a file drops a process' POSIX locks on it, and emerge waits
for such locks. Nothing here waits either; `retry_in` says when to look again without being woken.
"""

from __future__ import annotations

import logging
import os
import re
import time

from gentwoo_client.log.part import NotAFile, Part, PlainPart, Surroundings, open_rotated
from gentwoo_client.log.position import HEAD_SIZE, TAIL_SIZE, Fingerprint, Position, last_stamped
from gentwoo_client.log.rotation import RotatedFile, rotated_files

LINE_SIZE = 1024 * 1024
"""A line longer than this (bytes) is damage, and is skipped. The longest ones in the wild have 24 kB."""

GRACE = 1.0
"""Seconds between noticing that the log was moved away and leaving it: emerge opens the file before it takes
the lock, so a record can still land in the old file."""

_STAMP = re.compile(rb"(\d{1,10}): ")

logger = logging.getLogger(__name__)


class Block:
    """Whole lines of the log, each ending in a newline, and the position after them."""

    __slots__ = ("lines", "position")

    def __init__(self, lines: bytes, position: Position) -> None:
        self.lines = lines
        self.position = position


class LogTail:
    """Reads the log `path` from `position` on, or from its oldest part if there is none."""

    def __init__(self, path: str | os.PathLike[str], position: Position | None = None) -> None:
        self._path = os.fspath(path)
        self._position = position
        self._part: Part | None = None
        self._is_log = False  # whether `_part` was opened as the log itself
        self._head = b""
        self._before = b""  # up to TAIL_SIZE bytes before `_boundary`
        self._boundary = 0  # offset up to which lines were delivered or skipped
        self._partial = bytearray()  # what was read after it
        self._is_overlong = False
        self._repetition: _Repetition | None = None
        self._complaint: str | None = None
        self._leaving_since: float | None = None
        self.is_denied = False
        """Whether the last `read` failed because this user may not read the log."""

        self.at_end = False
        """After `read` returned None: whether this was the end of the log as it is now."""

        self.has_gap = False
        """Whether lines may be missing before the last block, because the file it should continue is gone.
        For the reader to reset."""

    @property
    def position(self) -> Position | None:
        """After the last block delivered, or where reading is to begin; None before the very first."""
        return self._position

    @property
    def retry_in(self) -> float | None:
        """Seconds after which to call `read` again although nothing has changed; None: only when woken."""
        return None if self._leaving_since is None else self._grace_left()

    def read(self) -> Block | None:
        """Return the next lines, or None when there are none now. Does not wait, does not raise OSError."""
        self.at_end = self.is_denied = False
        while True:
            try:
                if self._part is None and not self._open():
                    return None
                chunk = self._next_chunk()
            except OSError as error:
                self.is_denied = isinstance(error, PermissionError)
                self._complain(logging.WARNING, f"cannot be read: {error.strerror or error}")
                self._leave()
                return None
            if chunk is None:
                logger.info("%s was truncated or rewritten", self._path)
                self._leave()
            elif chunk:
                if (block := self._take(chunk)) is not None:
                    return block
            elif not self._advance():
                return None

    def close(self) -> None:
        """Let go of the file. A later `read` opens it again and goes on after the last block."""
        self._leave()

    # What is read

    def _next_chunk(self) -> bytes | None:
        assert self._part is not None
        expected = (self._before + bytes(self._partial[-TAIL_SIZE:]))[-TAIL_SIZE:]
        return self._part.read(self._boundary + len(self._partial), expected)

    def _take(self, chunk: bytes) -> Block | None:
        """Account for `chunk`, the bytes that follow; return the block that they complete, if any."""
        if len(self._head) < HEAD_SIZE:
            self._head += chunk[: HEAD_SIZE - len(self._head)]
        self._partial += chunk
        if self._is_overlong:
            end = chunk.find(b"\n") + 1
            self._is_overlong = not end
            self._skip(end or len(chunk))
        end = self._partial.rfind(b"\n") + 1
        if end:
            return self._deliver(end)
        if len(self._partial) > LINE_SIZE:
            logger.warning("%s: skipping a line of more than %d bytes", self._path, LINE_SIZE)
            self._is_overlong = True
            self._skip(len(self._partial))
        return None

    def _skip(self, length: int) -> None:
        self._before = (self._before + bytes(self._partial[max(0, length - TAIL_SIZE) : length]))[-TAIL_SIZE:]
        self._boundary += length
        del self._partial[:length]

    def _deliver(self, end: int) -> Block | None:
        assert self._part is not None
        lines = bytes(self._partial[:end])
        self._skip(end)
        if self._repetition is not None:
            lines = lines[self._repetition.end_in(lines) :]
            if not lines:
                return None
            self._repetition = None
        stamp, line = self._stamped_line(lines)
        self._position = Position(
            device=self._part.device,
            inode=self._part.inode,
            offset=self._boundary,
            head=Fingerprint.of(self._head[: self._boundary]),
            tail=Fingerprint.of(self._before[self._before.rfind(b"\n", 0, -1) + 1 :]),
            stamp=stamp,
            line=line,
        )
        return Block(lines, self._position)

    def _stamped_line(self, lines: bytes) -> tuple[int | None, Fingerprint | None]:
        """Return time stamp and fingerprint of the last line that has one, in `lines` or before them."""
        if found := last_stamped(lines):
            return found[0], Fingerprint.of(found[1])
        return (self._position.stamp, self._position.line) if self._position else (None, None)

    # Which file is read

    def _open(self) -> bool:
        """Find the file to read now. False where there is none; raises OSError where it may not be read."""
        if self._position is None or self._position.stamp is None:
            return self._enter_first(self._parts())
        return self._enter_at(self._position) or self._enter_after_gap(self._position)

    def _enter_at(self, position: Position) -> bool:
        """Open the file that holds what was read before `position`, whatever it is called now."""
        if self._enter_log_at(position):
            return True
        rotated = rotated_files(self._path)[::-1]
        rotated.sort(key=lambda file: (file.packed, file.inode != position.inode))
        for file in rotated:
            if part := open_rotated(file):
                if surroundings := part.find(position):
                    self._enter(part, position.offset, surroundings, is_log=False)
                    return True
                part.close()
        return False

    def _enter_log_at(self, position: Position) -> bool:
        """Open the log, if it holds what was read before `position`."""
        log = self._open_log()
        if log is None:
            return False
        if surroundings := log.find(position):
            self._enter(log, position.offset, surroundings, is_log=True)
            return True
        log.close()
        return False

    def _enter_after_gap(self, position: Position) -> bool:
        if not self._enter_unknown(position):
            return False
        self.has_gap = True
        logger.warning("%s: the file that was read last is gone; going on with what is later", self._path)
        return True

    def _enter_unknown(self, position: Position) -> bool:
        """Open what may go on after `position`, though the file that it belongs to is gone."""
        repetition = None if position.stamp is None else _Repetition(position, position.stamp)
        return self._enter_first(self._newer_parts(position), repetition)

    def _enter_first(self, parts: list[RotatedFile], repetition: _Repetition | None = None) -> bool:
        """Open the first of `parts` that can be, else the log, at its beginning."""
        for file in parts:
            if part := open_rotated(file):
                self._enter(part, 0, Surroundings(), is_log=False, repetition=repetition)
                return True
        if log := self._open_log():
            self._enter(log, 0, Surroundings(), is_log=True, repetition=repetition)
            return True
        return False

    def _enter(
        self,
        part: Part,
        offset: int,
        surroundings: Surroundings,
        *,
        is_log: bool,
        repetition: _Repetition | None = None,
    ) -> None:
        self._leave()
        self._part = part
        self._is_log = is_log
        self._head = surroundings.head
        self._before = surroundings.before
        self._boundary = offset
        self._repetition = repetition
        self.at_end = False

    def _leave(self) -> None:
        if self._part is not None:
            self._part.close()
        self._part = None
        self._partial = bytearray()
        self._is_overlong = False
        self._leaving_since = None

    def _advance(self) -> bool:
        """At the end of a file: go on to the one written after it. False while there is none."""
        part = self._part
        assert part is not None
        if self._is_current(part):
            self._leaving_since = None
            self.at_end = True
            return False
        position = self._position
        following, is_known = self._following(part)
        waiting = following if is_known else self._newer_parts(position)
        if not waiting and not os.path.exists(self._path):
            self.at_end = True
            return False
        if self._leaving_since is None:
            self._leaving_since = time.monotonic()
        if self._grace_left() > 0:
            return False
        if is_known:
            return self._enter_first(following, self._repetition)
        if position is None:
            return self._enter_first(waiting)
        # Neither there nor renamed, but deleted or replaced: what stands there now may repeat what was read.
        # Not in an older part: `part` may be a copy of what is still in the log, and we would be back there.
        return self._enter_log_at(position) or self._enter_unknown(position)

    def _is_current(self, part: Part) -> bool:
        """Whether `part` is what the log's path leads to."""
        try:
            status = os.stat(self._path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == (part.device, part.inode)

    def _grace_left(self) -> float:
        assert self._part is not None
        assert self._leaving_since is not None
        if self._is_log:
            return max(0.0, self._leaving_since + GRACE - time.monotonic())
        return self._part.settled_in(GRACE)

    def _following(self, part: Part) -> tuple[list[RotatedFile], bool]:
        """Return the older parts written after `part`, and whether `part` is still among them."""
        parts = self._parts()
        for index, file in enumerate(parts):
            if (file.device, file.inode) == (part.device, part.inode):
                return parts[index + 1 :], True
        if self._position is not None:
            for index, file in enumerate(parts):  # compressed meanwhile
                if file.packed and (packed := open_rotated(file)):
                    surroundings = packed.find(self._position)
                    packed.close()
                    if surroundings:
                        return parts[index + 1 :], True
        return [], False

    def _newer_parts(self, position: Position | None) -> list[RotatedFile]:
        """Return the older parts of the log in which something may have been written after `position`."""
        stamp = position.stamp if position else None
        return [file for file in self._parts() if stamp is None or file.modified >= stamp]

    def _parts(self) -> list[RotatedFile]:
        """Return the older parts of the log, oldest first, without a copy of what is still in the log.

        There is one for a moment before copytruncate truncates.
        """
        parts = rotated_files(self._path)
        if not parts:
            return []
        try:
            log = PlainPart(self._path)
        except OSError:
            return parts
        beginning = _beginning(log)
        log.close()
        return [file for file in parts if not _is_same(beginning, _beginning_of(file))]

    def _open_log(self) -> PlainPart | None:
        """Open the log. None where it is missing or switched off; raises OSError where it may not be read."""
        try:
            log = PlainPart(self._path)
        except FileNotFoundError:
            self._complain(logging.INFO, "does not exist yet; waiting for it")
        except NotAFile as error:
            self._complain(logging.WARNING, f"{error}; nothing can be read from it")
        else:
            self._complain(logging.INFO, None)
            return log
        self.at_end = True
        return None

    def _complain(self, level: int, complaint: str | None) -> None:
        """Say once what is wrong with the log, and once that it no longer is."""
        if complaint != self._complaint:
            logger.log(level, "%s %s", self._path, complaint or "can be read now")
        self._complaint = complaint


class _Repetition:
    """Finds where lines of an unknown file stop being those that were read before."""

    def __init__(self, position: Position, stamp: int) -> None:
        self._line = position.line
        self._stamp = stamp
        self._has_older = False

    def end_in(self, lines: bytes) -> int:
        """Return how much of `lines` was read before; all of it where the end is still to come.

        That is up to the line that the position remembers, or else up to the first line later than what was
        read. A file that begins no earlier than that repeats nothing.
        """
        fresh: int | None = None
        start = 0
        while start < len(lines):
            end = lines.index(b"\n", start) + 1
            match = _STAMP.match(lines, start, end)
            stamp = int(match[1]) if match else None
            if stamp is not None and stamp > self._stamp:
                return start if fresh is None else fresh
            if stamp is not None and stamp < self._stamp:
                self._has_older = True
            elif stamp is not None:
                if self._line is not None and self._line.matches(lines[start:end]):
                    return end
                if fresh is None and not self._has_older:
                    fresh = start
            start = end
        return len(lines) if fresh is None else fresh


def _beginning(part: Part) -> bytes:
    """Return the first whole lines of `part`, at most `HEAD_SIZE` bytes."""
    content = (part.read(0, b"") or b"")[:HEAD_SIZE]
    return content[: content.rfind(b"\n") + 1]


def _beginning_of(file: RotatedFile) -> bytes:
    part = open_rotated(file)
    if part is None:
        return b""
    beginning = _beginning(part)
    part.close()
    return beginning


def _is_same(one: bytes, other: bytes) -> bool:
    """Whether two beginnings are of the same log, one of them perhaps when it was shorter.

    Only lines with a stamp tell: two logs may well begin with the same damage.
    """
    shorter, longer = sorted((one, other), key=len)
    return last_stamped(shorter) is not None and longer.startswith(shorter)
