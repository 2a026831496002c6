# SPDX-License-Identifier: GPL-2.0-or-later
"""What takes long to read is read in a process of its own, which gives way to the server.

Statistics and predictions read the whole history of packages; in the server's own process that would have the
interpreter for itself half of the time, while pages and pushes wait for it. The process has what it is to do
from its standard input, and ends with that: so it outlives a server that was killed by what it is just
reading, at most.

    python -P -m bdcs.services.reader_process
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, TypeVar

from sqlalchemy import Connection

from bdcs.errors import StoreError, StoreUnavailable
from bdcs.store.engine import create_reader
from bdcs.store.places import Place
from bdcs.store.store import transaction

T = TypeVar("T")

NICENESS: Final = 10
COMMAND: Final = (sys.executable, "-P", "-m", "bdcs.services.reader_process")
LEAVING: Final = 1.0  # seconds in which it ends of itself, or is killed
_UNREAD: Final = 1 << 16  # bytes of an answer that nobody wants, at once
_SIZE: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class _Failed:
    """That something could not be read."""

    reason: str


class ReaderProcess:
    """The process, and how it is asked. It is started when it is asked first, and ends with the block."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        if self._process is not None:
            await asyncio.shield(_ended(self._process))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` finds, as `Store.read` does; it and that can be pickled.

        Raises `StoreUnavailable`, also where the process cannot be had.
        """
        try:
            if self._process is None:
                self._process = await asyncio.create_subprocess_exec(
                    *COMMAND,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    start_new_session=True,  # a terminal's Ctrl-C is for the server, which tells it
                )
                await self._say(self._place)
            await self._say(work)
            outcome: T | _Failed = await self._heard()
        except (OSError, EOFError) as error:
            raise StoreUnavailable(f"the process that reads much ended: {error!r}") from error
        if isinstance(outcome, _Failed):
            raise StoreUnavailable(outcome.reason)
        return outcome

    async def _say(self, what: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(_framed(what))
        await self._process.stdin.drain()

    async def _heard(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        stdout = self._process.stdout
        (size,) = _SIZE.unpack(await stdout.readexactly(_SIZE.size))
        return await asyncio.to_thread(pickle.loads, await stdout.readexactly(size))


async def _ended(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LEAVING):
            await _read_out(process)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await _read_out(process)


async def _read_out(process: asyncio.subprocess.Process) -> None:
    """Wait for its end. asyncio never sees that of a process of whose answer something is left unread."""
    assert process.stdout is not None
    while await process.stdout.read(_UNREAD):
        pass
    await process.wait()


def _framed(what: object) -> bytes:
    content = pickle.dumps(what, pickle.HIGHEST_PROTOCOL)
    return _SIZE.pack(len(content)) + content


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer what is asked until nobody asks any more."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    reader = create_reader(_next(requests))
    while (work := _next(requests)) is not None:
        try:
            with transaction(reader) as connection:
                outcome = work(connection)
        except StoreError as error:
            outcome = _Failed(str(error))
        answers.write(_framed(outcome))
        answers.flush()


def _next(requests: BinaryIO) -> Any:
    """Return what is said next, or None at the end."""
    head = requests.read(_SIZE.size)
    return pickle.loads(requests.read(_SIZE.unpack(head)[0])) if len(head) == _SIZE.size else None


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, sys.stdout.buffer)
