# SPDX-License-Identifier: GPL-2.0-or-later
"""Files over asyncio's own loop, where uvloop is missing, and to readers that take nothing."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from bdcs.web import files
from bdcs.web.files import Opened, file_answer
from tests.peer import request
from tests.waiting import until

SIZE = 32 << 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20) * (SIZE >> 20))
    return path


@pytest.fixture
async def port(file: Path) -> AsyncIterator[int]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return file_answer(request, Opened.of(file.open("rb")), {})

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_a_file_arrives_whole(file: Path, port: int) -> None:
    def ask(wish: str) -> bytes:
        answer = request(f"http://127.0.0.1:{port}", "GET", "/", headers={"Range": wish})
        return answer.body

    content = await asyncio.to_thread(file.read_bytes)
    assert await asyncio.to_thread(ask, "") == content
    assert await asyncio.to_thread(ask, "bytes=-1000000") == content[-1_000_000:]


async def test_who_takes_nothing_is_cut_off(file: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "STALLED", 0.2)
    assert await asyncio.to_thread(received_by_a_sleeper, file, port) < SIZE


def received_by_a_sleeper(file: Path, port: int) -> int:
    """Ask, read next to nothing until the file is closed again, and return how many bytes are there then."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        received = len(connection.recv(1))
        until(lambda: not is_open(file))
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(1 << 20):
                received += len(data)
        return received


def is_open(file: Path) -> bool:
    """Whether this process has it open."""
    return any(os.path.realpath(link) == str(file) for link in Path("/proc/self/fd").iterdir())
