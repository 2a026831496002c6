# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders that are processes of this host.

    DIRECTORY/amd64-1/slot.lock       held from before the builder is started until it has ended
    DIRECTORY/amd64-1/builder.lock    the builder's own; its process id is in it
    DIRECTORY/amd64-1/builder.log     what it printed since it was started

The lock is handed down to the builder, so whoever comes after us sees by the locks alone who is there: to
kill us at any moment leaves builders that work, and places that are free. SIGTERM lets a builder end what it
builds.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from bdcs.capacity.drivers import Fleet
from bdcs.domain.capacity_pools import AND
from bdcs.errors import CapacityRefused

SLOT_LOCK: Final = "slot.lock"
BUILDER_LOCK: Final = "builder.lock"
LOG: Final = "builder.log"
LONGEST: Final = 48  # characters of a pool's name that stands in those of its builders, which have 64

Prepare = Callable[[str, Path], Sequence[str]]
"""Gets a builder's name and directory ready, and returns the command that is the builder."""


class LocalProcesses:
    """`bdcs builder` processes, each with a directory of its own below `directory`."""

    def __init__(self, pool: str, directory: Path, prepare: Prepare) -> None:
        """`prepare` is called in a thread and may raise `CollectorError`."""
        self._prefix = f"{_shown(pool)}-"
        self._directory = directory
        self._prepare = prepare
        self._children: list[subprocess.Popen[bytes]] = []

    async def look(self) -> Fleet:
        """Return those that run."""
        there = await asyncio.to_thread(lambda: frozenset(self._there()))
        return Fleet(wanted=len(there), members=there)

    async def resize(self, wanted: int, _spare: Sequence[str] = ()) -> None:
        """Start those that are missing."""
        await asyncio.to_thread(self._start, wanted)

    async def dismiss(self, names: Sequence[str]) -> None:
        """Have these end; one that has only just been started is passed over, and asked for again."""
        await asyncio.to_thread(self._dismiss, names)

    async def tend(self) -> None:
        """Nothing is to be done."""

    async def close(self) -> None:
        """Nothing is open: builders work on."""

    # In a thread.

    def _there(self) -> Iterator[str]:
        self._children = [child for child in self._children if child.poll() is None]
        for place in self._places():
            lock = _locked(place / SLOT_LOCK)
            if lock is None:
                yield place.name
            else:
                os.close(lock)

    def _places(self) -> list[Path]:
        """Return the directories of this pool's builders: a number stands behind its name."""
        found = self._directory.glob(f"{self._prefix}*")
        return sorted(place for place in found if place.name.removeprefix(self._prefix).isdecimal())

    def _start(self, wanted: int) -> None:
        missing = wanted - len(list(self._there()))
        number = 0
        while missing > 0:
            number += 1
            place = self._directory / f"{self._prefix}{number}"
            try:
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = _locked(place / SLOT_LOCK)
                if lock is not None:
                    with _closing(lock):
                        self._start_in(place, lock)
                    missing -= 1
            except OSError as error:
                raise CapacityRefused(f"{place}: no builder can be started: {error.strerror}") from error

    def _start_in(self, place: Path, lock: int) -> None:
        (place / BUILDER_LOCK).unlink(missing_ok=True)  # whose process id is in it has ended
        command = self._prepare(place.name, place)
        with (place / LOG).open("wb") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                start_new_session=True,  # a terminal's Ctrl-C is for us
            )
        self._children.append(child)

    def _dismiss(self, names: Sequence[str]) -> None:
        for name in names:
            self._tell(name)

    def _tell(self, name: str) -> None:
        place = self._directory / name
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pidfd = os.pidfd_open(int((place / BUILDER_LOCK).read_text()))
            with _closing(pidfd):
                lock = _locked(place / SLOT_LOCK)
                if lock is None:  # it is there still, so that process is it
                    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                else:
                    os.close(lock)


def _shown(pool: str) -> str:
    """Return what a pool's builders are called after: no other pool, whose names have no capital letters."""
    if len(pool) <= LONGEST and AND not in pool:
        return pool
    digest = hashlib.sha256(pool.encode()).hexdigest()[:12]
    return f"{pool[: LONGEST - 14].replace(AND, '.')}.D{digest}"


def _locked(path: Path) -> int | None:
    """Return the file locked, or None where somebody has it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)
