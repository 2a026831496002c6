# SPDX-License-Identifier: GPL-2.0-or-later
"""Following the emerge at work to its end, line by line of its log."""

from __future__ import annotations

import os
from collections.abc import Iterator

from gentwoo_client.foretelling.outlook import Outlook, of_running
from gentwoo_client.foretelling.own_history import walk_through
from gentwoo_client.foretelling.running import emerge_processes, running_list
from gentwoo_client.log.files import read_blocks
from gentwoo_client.log.merges import MergeReader
from gentwoo_client.prediction.history import Estimated, Walk


class Follower:
    """Reads on where the log ended; `walk` and `reader` have seen what is before `offset`."""

    def __init__(self, log: str, reader: MergeReader, walk: Walk, eprefix: str, offset: int) -> None:
        self._log = log
        self._reader = reader
        self._walk = walk
        self._eprefix = eprefix
        self._offset = offset

    def news(self) -> list[Estimated]:
        """Read what was written since; return the merges that completed. Raises OSError."""
        try:
            size = os.stat(self._log).st_size
        except FileNotFoundError:
            return []
        if size < self._offset:  # rotated or cut: from its beginning
            self._offset = 0
        return list(self._read())

    def outlook(self, now: float) -> Outlook | None:
        """Return how it stands; None when nothing is at work."""
        running = running_list(self._reader, self._eprefix)
        return None if running is None else of_running(self._walk, running, now=now)

    def is_over(self) -> bool:
        """Whether no emerge is at work any more, neither at a merge nor between two."""
        if not self._reader.is_open:
            return True
        return not self._reader.running() and emerge_processes() in ([], None)

    def _read(self) -> Iterator[Estimated]:
        for block in read_blocks(self._log, self._offset):
            self._offset += len(block)
            yield from walk_through(self._walk, self._reader.read(block))
