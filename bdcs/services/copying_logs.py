# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs of attempts on their way from a data directory to where collectors that share a store look for them.

A log that has ended never changes, and goes to their blobs. So one that is there with its size need not be
copied again, and a copy that was interrupted goes on where it stopped. One that grows yet goes to the store,
when the collector that it grew at has stopped: builders send nothing twice, and go on behind what they sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, select

from bdcs.blobs.attempt_logs import DIRECTORY, SUFFIX, AttemptLogs
from bdcs.blobs.blobs import Blobs
from bdcs.errors import BlobsUnavailable
from bdcs.services.stored_logs import StoredLogs
from bdcs.store.store import transaction
from bdcs.store.tables import attempts

PIECE: Final = 1 << 20  # bytes of a log that grows, at once


@dataclass(slots=True, kw_only=True)
class CopiedLogs:
    """What was looked at, and what was copied."""

    logs: int = 0
    """Below the data directory, of attempts that have ended; with the last copy also of all others."""
    copied: int = 0
    """Of these, now."""


def copy_logs(store: Engine, data: Path, blobs: Blobs) -> CopiedLogs:
    """Have the logs below `data` in `blobs` that the store promises, of attempts that have ended.

    Raises `StoreUnavailable`, `BlobsUnavailable`, `BlobsFull`, `OSError`.
    """
    report, there = CopiedLogs(), set(blobs.logs())
    ended = attempts.c.finished_at.is_not(None) & attempts.c.log_deleted_at.is_(None)
    with transaction(store) as connection:
        promised = set(connection.scalars(select(attempts.c.id).where(ended)))
    for number in sorted(promised.intersection(AttemptLogs(data).listed())):
        path = data / DIRECTORY / f"{number}{SUFFIX}"
        report.logs += 1
        if number in there and _size(blobs, number) == path.stat().st_size:
            continue
        text = path.read_bytes()
        blobs.keep_log(number, text)
        if _size(blobs, number) != len(text):
            raise BlobsUnavailable(path.name, "it did not arrive as it was sent")
        report.copied += 1
    return report


def copy_growing(store: Engine, data: Path, logs: StoredLogs) -> CopiedLogs:
    """Have the logs below `data` in `logs` as far as they have come, of attempts that have not ended.

    Nobody adds to them any more. Raises `StoreUnavailable`, `OSError`.
    """
    with transaction(store) as connection:
        growing = set(connection.scalars(select(attempts.c.id).where(attempts.c.finished_at.is_(None))))
    report = CopiedLogs()
    for number in sorted(growing.intersection(AttemptLogs(data).listed())):
        with (data / DIRECTORY / f"{number}{SUFFIX}").open("rb") as file:
            offset = 0
            while text := file.read(PIECE):
                logs.append(number, offset, text)
                offset += len(text)
        report.logs += 1
        report.copied += 1
    return report


def _size(blobs: Blobs, attempt: int) -> int:
    with blobs.open_log(attempt) as file:
        return file.seek(0, 2)
