# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs of attempts where several collectors share a store: any takes a piece, any other shows it at once.

A log grows in the store, a row for each piece that came. Some time after its attempt has ended it becomes one
object of the blobs (`keep`), for nothing is added to it any more, and its rows go. So the store has the logs
of what is being built, and no others. Who reads looks for pieces first: the object is there before they go.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import Connection, Engine, Row, delete, func, select

from bdcs.blobs.attempt_logs import LARGEST, whole
from bdcs.blobs.blobs import Blobs
from bdcs.errors import BlobMissing, StoreError
from bdcs.services.finishing import to_its_end
from bdcs.services.regular_work import regularly
from bdcs.store.engine import Place, create_appender, create_reader
from bdcs.store.store import transaction
from bdcs.store.tables import attempts, log_pieces
from bdcs.store.upserts import upsert

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

log = logging.getLogger(__name__)

INTERVAL: Final = 60.0  # seconds from one look for logs that may be kept to the next
REST: Final = 300  # seconds after its attempt's end in which a log stays in the store


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLogs:
    """Logs in a store, and in blobs later; for any number of threads, and of collectors."""

    reader: Engine
    appender: Engine
    blobs: Blobs
    largest: int = LARGEST
    """Bytes of one log; what a build prints beyond that is not kept."""

    @classmethod
    def of(cls, place: Place, blobs: Blobs, largest: int = LARGEST) -> Self:
        """Make them for a store, which exists. Raises `NoStore`, `NoPermission`."""
        return cls(reader=create_reader(place), appender=create_appender(place), blobs=blobs, largest=largest)

    def append(self, attempt: int, offset: int, text: bytes) -> int:
        """Put `text` where it belongs, from `offset` on, and return how long the log is now.

        What is there already is not written again; with a gap in between, nothing is. Raises
        `StoreUnavailable`.
        """
        while True:
            with transaction(self.appender) as connection:
                size = _size(connection, attempt)
                if not offset <= size < min(offset + len(text), self.largest):
                    return size
                new = text[size - offset :][: self.largest - size]
                if _add(connection, attempt, size, new):
                    return size + len(new)
            # The same was sent again, and came beside the first: now that is there.

    def size(self, attempt: int) -> int:
        """Return how many bytes the log has; 0 where there is none."""
        with transaction(self.reader) as connection:
            size = _size(connection, attempt)
            if size or not _has_ended(connection, attempt):
                return size
        try:
            with self.blobs.open_log(attempt) as file:
                return file.seek(0, 2)
        except BlobMissing:
            return 0

    def read(self, attempt: int, offset: int, most: int) -> bytes:
        """Return at most so many bytes of the log from `offset` on, never a part of a character."""
        with transaction(self.reader) as connection:
            pieces = _pieces(connection, attempt, offset, most)
            if pieces:
                text = b"".join(zstd.decompress(row.text) for row in pieces)
                begin = offset - pieces[0].start
                return whole(text[begin : begin + most])
            if _size(connection, attempt) or not _has_ended(connection, attempt):
                return b""
        try:
            with self.blobs.open_log(attempt) as file:
                file.seek(offset)
                return whole(_all_of(file, most))
        except BlobMissing:
            return b""

    def remove(self, attempt: int) -> None:
        """Let the log be gone."""
        with transaction(self.appender) as connection:
            connection.execute(delete(log_pieces).where(log_pieces.c.attempt_id == attempt))
        self.blobs.drop_log(attempt)

    def listed(self) -> list[int]:
        """Return the attempts that have a log; what others put there is passed over."""
        with transaction(self.reader) as connection:
            growing = set(connection.scalars(select(log_pieces.c.attempt_id).distinct()))
        return sorted(growing.union(self.blobs.logs()))

    def keep(self, now: float, rest: int = REST) -> int:
        """Make objects of the logs whose attempts ended `rest` seconds ago; return how many there were.

        Raises `StoreError`.
        """
        with transaction(self.reader) as connection:
            ended = (
                select(log_pieces.c.attempt_id)
                .join(attempts, attempts.c.id == log_pieces.c.attempt_id)
                .where(attempts.c.finished_at <= int(now) - rest)
            )
            numbers = list(connection.scalars(ended.distinct()))
        for number in numbers:
            self.blobs.keep_log(number, self.read(number, 0, self.largest))
            with transaction(self.appender) as connection:
                connection.execute(delete(log_pieces).where(log_pieces.c.attempt_id == number))
        return len(numbers)

    def close(self) -> None:
        """Let go of the store."""
        self.reader.dispose()
        self.appender.dispose()


async def keep_regularly(logs: StoredLogs, now: Callable[[], float] = time.time) -> None:
    """Keep logs that have ended, every `INTERVAL` seconds until cancelled."""
    await regularly(
        lambda: to_its_end(None, lambda: logs.keep(now())),
        name="logs",
        seconds=INTERVAL,
        passing=StoreError,
        tell=partial(log.warning, "logs of builds that have ended stay in the store: %s"),
    )


def _size(connection: Connection, attempt: int) -> int:
    last = (
        select(log_pieces.c.start + log_pieces.c.size)
        .where(log_pieces.c.attempt_id == attempt)
        .order_by(log_pieces.c.start.desc())
        .limit(1)
    )
    return connection.scalar(last) or 0


def _add(connection: Connection, attempt: int, start: int, text: bytes) -> bool:
    """Write a piece; return False where one that begins there came first."""
    values = {"attempt_id": attempt, "start": start, "size": len(text), "text": zstd.compress(text)}
    added = connection.execute(
        upsert(log_pieces)
        .values(**values)
        .on_conflict_do_nothing(index_elements=[log_pieces.c.attempt_id, log_pieces.c.start])
    )
    return added.rowcount == 1


def _pieces(connection: Connection, attempt: int, offset: int, most: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the pieces that have any of these bytes, in their order."""
    of_it = log_pieces.c.attempt_id == attempt
    first = select(func.max(log_pieces.c.start)).where(of_it, log_pieces.c.start <= offset).scalar_subquery()
    return connection.execute(
        select(log_pieces.c.start, log_pieces.c.text)
        .where(
            of_it,
            log_pieces.c.start >= first,
            log_pieces.c.start < offset + most,
            log_pieces.c.start + log_pieces.c.size > offset,
        )
        .order_by(log_pieces.c.start)
    ).all()


def _has_ended(connection: Connection, attempt: int) -> bool:
    """Whether the log may have become an object."""
    ended = select(attempts.c.id).where(attempts.c.id == attempt, attempts.c.finished_at.is_not(None))
    return connection.execute(ended).first() is not None


def _all_of(file: Any, most: int) -> bytes:
    """Read so many bytes, or up to the end."""
    text = b""
    while len(text) < most and (more := file.read(most - len(text))):
        text += more
    return text
