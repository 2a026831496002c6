# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs of attempts: everything arrives once and in order, whatever happens on the way."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bdcs.blobs.attempt_logs import AttemptLogs
from bdcs.builder.log_stream import LogStream
from gentwoo_client.errors import CollectorUnreachable


class Collector:
    """A log that is appended to; the first answers may be lost."""

    def __init__(self, *, lost: int = 0) -> None:
        self.log = b""
        self.pieces = 0
        self._lost = lost

    async def take(self, offset: int, text: str) -> int:
        self.pieces += 1
        data = text.encode()
        assert offset <= len(self.log)
        self.log += data[len(self.log) - offset :]
        if self._lost:
            self._lost -= 1
            raise CollectorUnreachable("the answer is lost", retry_after=0.001)
        return len(self.log)


async def send(collector: Collector, *pieces: bytes, size: int = 1 << 20) -> list[str]:
    overflows: list[str] = []
    stream = LogStream(collector.take, size=size, overflow=lambda: overflows.append("overflow"))
    running = asyncio.create_task(stream.run())
    for piece in pieces:
        stream.write(piece)
        await asyncio.sleep(0)
    await stream.finish()
    await running
    return overflows


async def test_everything_arrives_also_what_is_cut_within_a_character() -> None:
    collector = Collector()
    assert await send(collector, b"one\n", "zwölf".encode()[:3], "zwölf".encode()[3:], b"\xff\n") == []
    assert collector.log.decode() == "one\nzwölf\N{REPLACEMENT CHARACTER}\n"


async def test_a_lost_answer_repeats_nothing() -> None:
    collector = Collector(lost=2)
    await send(collector, b"one\n", b"two\n")
    assert collector.log == b"one\ntwo\n"


async def test_much_is_sent_in_pieces() -> None:
    collector = Collector()
    text = "ä" * 200_000
    await send(collector, text.encode())
    assert collector.log.decode() == text
    assert collector.pieces > 1


async def test_too_much_is_told_once_and_cut() -> None:
    collector = Collector()
    assert await send(collector, b"x" * 60, b"y" * 60, b"z" * 60, size=100) == ["overflow"]
    assert collector.log.endswith(b"more output than is allowed\n")
    assert b"z" not in collector.log


async def test_a_log_may_be_full_within_a_character(tmp_path: Path) -> None:
    """… and the attempt goes on: what is left of the character is sent no more."""
    logs = AttemptLogs(tmp_path, largest=5)

    async def take(offset: int, text: str) -> int:
        return logs.append(1, offset, text.encode())

    stream = LogStream(take, size=1 << 20, overflow=lambda: None)
    running = asyncio.create_task(stream.run())
    stream.write("nine\N{EURO SIGN}".encode())
    await asyncio.wait_for(stream.finish(), 60)
    await running
    assert logs.size(1) == 5
    assert logs.read(1, 0, 100) == b"nine"


def test_what_comes_twice_at_once_is_there_once(tmp_path: Path) -> None:
    """A piece that was sent again may arrive while the first is being written."""
    logs = AttemptLogs(tmp_path)
    lines = [f"line {number}\n".encode() for number in range(300)]
    text = b"".join(lines)
    together = threading.Barrier(4)

    def send() -> None:
        offset = 0
        for line in lines:
            together.wait(60)
            logs.append(1, offset, line)
            offset += len(line)

    with ThreadPoolExecutor(4) as threads:
        for sending in [threads.submit(send) for _ in range(4)]:
            sending.result()
    assert logs.read(1, 0, len(text) + 1) == text
