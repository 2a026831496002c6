# SPDX-License-Identifier: GPL-2.0-or-later
"""Many that register, and many that are slow: limits hold, others are served, no address is kept."""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from bdcs.services.readiness import Readiness
from bdcs.store.store import Store
from bdcs.web import bodies, listener
from bdcs.web.listener import Listener
from bdcs.web.problems import problems
from tests.peer import JSON, Peer, request
from tests.processes import Collector

FLOOD = 60
PER_NETWORK = 7
IDLE = 200


def registers(collector: str, forwarded: str) -> int:
    """Register a new machine for whom `forwarded` names; return the status."""
    peer = Peer(collector)
    body = peer.registration()
    headers = {
        **JSON,
        "Authorization": f"Bearer {peer.token('POST', '/v1/machines', body)}",
        "X-Forwarded-For": forwarded,
    }
    answer = request(collector, "POST", "/v1/machines", body=body, headers=headers)
    if answer.status == 429:
        assert answer.slug == "too-many-requests"
        assert 0 < int(answer.headers["Retry-After"]) <= 86_401
    return answer.status


def flood(collector: str, address: Callable[[int], str]) -> Counter[int]:
    """The statuses of many registrations at once."""
    with ThreadPoolExecutor(16) as pool:
        return Counter(pool.map(lambda number: registers(collector, address(number)), range(1, FLOOD + 1)))


@contextlib.contextmanager
def collector_with(home: Path, *settings: str) -> Iterator[Collector]:
    """A collector with these lines of configuration."""
    config = home / "bdcs.toml"
    config.write_text(
        "\n".join([f"registrations_per_network = {PER_NETWORK}", 'log_level = "debug"', *settings])
    )
    with Collector(home, options=["--config", str(config)]) as collector:
        yield collector


def kept(collector: Collector) -> bytes:
    """Everything that a collector wrote, while it ran and when it stopped: its files, its log."""
    running = b"".join(file.read_bytes() for file in collector.data.iterdir())
    assert collector.stop() == 0
    assert collector.process is not None
    log = collector.process.output.replace(collector.url, "")
    return running + b"".join(file.read_bytes() for file in collector.data.iterdir()) + log.encode()


def test_a_network_behind_a_trusted_proxy_is_one_network(tmp_path: Path) -> None:
    with collector_with(tmp_path, 'trusted_proxies = ["127.0.0.1"]') as collector:
        assert flood(collector.url, lambda number: f"198.51.100.{number}") == {
            201: PER_NETWORK,
            429: FLOOD - PER_NETWORK,
        }
        assert flood(collector.url, lambda number: f"2001:db8:77:{number:x}::{number:x}") == {
            201: PER_NETWORK,
            429: FLOOD - PER_NETWORK,
        }
        # What the client itself wrote before the proxy's word proves nothing.
        assert flood(collector.url, lambda number: f"10.0.{number}.1, 203.0.113.{number}") == {
            201: PER_NETWORK,
            429: FLOOD - PER_NETWORK,
        }
        assert registers(collector.url, "198.51.101.1") == 201
        assert registers(collector.url, "2001:db8:78::1") == 201
        written = kept(collector)
    for address in (b"198.51.10", b"2001:db8", b"203.0.113", b"127.0.0.1"):
        assert address not in written


def test_nobody_else_is_believed(tmp_path: Path) -> None:
    with collector_with(tmp_path, 'trusted_proxies = ["192.0.2.1"]') as collector:
        assert flood(collector.url, lambda number: f"198.51.{number}.1") == {
            201: PER_NETWORK,
            429: FLOOD - PER_NETWORK,
        }
        assert registers(collector.url, "2001:db8:77::1") == 429
        written = kept(collector)
    for address in (b"198.51.", b"2001:db8", b"127.0.0.1"):
        assert address not in written


def test_those_who_say_nothing_or_half_of_it_keep_nobody_waiting(tmp_path: Path) -> None:
    halves = (
        b"",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n",
        b"POST /v1/machines HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer x\r\nContent-Length: 100\r\n\r\nhalf",
    )
    with contextlib.ExitStack() as stack:
        collector = stack.enter_context(Collector(tmp_path))
        address = urlsplit(collector.url)
        for number in range(IDLE):
            idle = socket.create_connection((address.hostname, address.port), timeout=30)
            stack.enter_context(idle)
            idle.sendall(halves[number % len(halves)])
        started = time.monotonic()
        peers = [Peer(collector.url) for _ in range(5)]
        for peer in peers:
            peer.register()
            peer.push(2)
        assert request(collector.url, "GET", "/readyz").status == 200
        assert time.monotonic() - started < 15  # seconds; the idle ones stay for longer than that
        assert len(collector.export()) == 10


async def received_by(address: tuple[str, int], half: bytes, *, drips: bool) -> bytes:
    """What who sends `half` of a request, and perhaps a byte now and then, receives until he is cut off."""
    loop = asyncio.get_running_loop()
    with socket.create_connection(address) as client:
        client.sendall(half)
        client.setblocking(False)

        async def drip() -> None:
            while drips:
                await asyncio.sleep(0.1)
                with contextlib.suppress(OSError):  # the connection was closed before
                    client.send(b"x")

        dripping = asyncio.create_task(drip())
        received = b""
        async with asyncio.timeout(30):  # aiohttp waits 10 s more for the rest of a body
            with contextlib.suppress(ConnectionResetError):  # a drop arrived after the connection was closed
                while piece := await loop.sock_recv(client, 4096):
                    received += piece
        dripping.cancel()
        return received


@pytest.mark.parametrize(
    ("half", "answer"),
    [
        (b"", b""),
        (b"POST / HTTP/1.1\r\nHost: x\r\n", b""),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nhalf", b"HTTP/1.1 408 "),
    ],
    ids=["nothing", "headers", "body"],
)
@pytest.mark.parametrize("drips", [False, True])
async def test_the_slow_are_cut_off(
    half: bytes, answer: bytes, drips: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also who sends a byte now and then."""
    monkeypatch.setattr(listener, "KEEP_ALIVE", 1.0)
    monkeypatch.setattr(bodies, "BODY_TIMEOUT", 1.0)

    async def take(request: web.Request) -> web.Response:
        return web.Response(body=await bodies.read_body(request, 1000))

    app = web.Application(middlewares=[problems])
    app.router.add_post("/", take)
    store = Store(tmp_path / "bdcs.sqlite")
    listening = Listener(app, Readiness(store), 0)
    bound = listener.bind("127.0.0.1", 0)
    await listening.start(bound, None)
    try:
        received = await received_by(bound.getsockname()[:2], half, drips=bool(half) and drips)
        assert received.startswith(answer)
        assert bool(received) == bool(answer)
    finally:
        await listening.stop()
        await store.close()
