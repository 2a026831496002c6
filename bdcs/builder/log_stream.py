# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of an attempt, sent while it is written."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from gentwoo_client.errors import TryLater
from gentwoo_client.wire import limits

GATHERING: Final = 0.25
"""Seconds in which output is gathered, so that not each line is a request."""
_PAUSE: Final = 2.0  # seconds before a piece that could not be sent is sent again
_PIECE: Final = limits.LOG_PIECE_LENGTH // 4  # bytes

Send = Callable[[int, str], Awaitable[int]]
"""Sends text that begins at an offset (bytes of UTF-8); returns how far the log has come at the collector."""


class LogStream:
    """What was printed and is not sent yet. Bytes that are no UTF-8 become U+FFFD."""

    def __init__(self, send: Send, *, size: int, overflow: Callable[[], None]) -> None:
        """`overflow` is called once there are more than `size` bytes; nothing more is kept from then on."""
        self._send = send
        self._room = size
        self._overflow = overflow
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._waiting = bytearray()
        self._offset = 0
        self._news = asyncio.Event()
        self._closed = asyncio.Event()
        self._ended = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Add what was printed."""
        if self._room <= 0:
            return
        self._room -= len(data)
        self._waiting += self._decoder.decode(data).encode()
        self._news.set()
        if self._room <= 0:
            self._waiting += b"\n>>> builder: more output than is allowed\n"
            self._overflow()

    async def finish(self) -> None:
        """Wait until all is sent, or cannot be, and send no more."""
        self._closed.set()
        self._news.set()
        await self._ended.wait()

    async def run(self) -> None:
        """Send what comes, until `finish`. Raises `CollectorRefused`."""
        try:
            while not self._closed.is_set():
                await self._news.wait()
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closed.wait(), GATHERING)
                await self._flush()
        finally:
            self._ended.set()

    async def _flush(self) -> None:
        while self._waiting:
            piece = self._waiting[:_PIECE].decode(errors="ignore")
            try:
                end = await self._send(self._offset, piece)
            except TryLater as error:
                await asyncio.sleep(error.retry_after or _PAUSE)
                continue
            # More than was answered may have arrived before; a collector that takes no more gets no more.
            sent = end - self._offset if end > self._offset else len(piece.encode())
            del self._waiting[:sent]
            self._offset += sent
            while self._waiting and self._waiting[0] & 0xC0 == 0x80:
                del self._waiting[0]  # a character that the collector had room for the beginning of
