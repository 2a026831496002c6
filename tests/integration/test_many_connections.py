# SPDX-License-Identifier: GPL-2.0-or-later
"""Hundreds of machines that keep their connections, and push over them at once."""

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

from gentwoo_client.wire import segments
from tests.peer import Peer, request
from tests.processes import Collector
from tests.waiting import until

MACHINES = 500
REGISTERED = 25
"""Machines that there are: of each, one connection after the other pushes what continues its chain."""
PATIENCE = 120.0


class Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, method: str, path: str, body: bytes = b"") -> int:
        """Send a request; return the status of the answer, which is read to its end."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/jose\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(PATIENCE):
            answer = await self._reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", answer)
            assert length is not None, answer
            await self._reader.readexactly(int(length[1]))
        return int(answer.split()[1])

    def close(self) -> None:
        """Close it."""
        self._writer.close()


def opened(collector: Collector) -> int:
    """Connections that the collector has, by its own account."""
    metrics = request(collector.url, "GET", "/metrics").body.decode()
    found = re.search(r"^bdcs_connections (\S+)$", metrics, re.MULTILINE)
    assert found
    return int(float(found[1]))


def test_each_keeps_its_connection_and_what_it_pushes_arrives_once(tmp_path: Path) -> None:
    with Collector(tmp_path) as collector:
        peers = [Peer(collector.url) for _ in range(REGISTERED)]
        for peer in peers:
            assert peer.register().status == 201
        asyncio.run(push_from_all(collector, peers))
        until(lambda: opened(collector) < REGISTERED, what="the end of all connections")
        records = sorted((record["machine"], record["seq"]) for record in collector.export())
        assert records == sorted((str(each.machine), 1 + seq) for each in peers for seq in range(each.seq))
        assert len(records) == MACHINES
        assert collector.stop() == 0
        assert collector.process is not None
        assert "Traceback" not in collector.process.output


async def push_from_all(collector: Collector, peers: list[Peer]) -> None:
    """Open all connections, and use each; all stay open until the last is answered."""
    address = urlsplit(collector.url)
    lines = [
        Line(*pair)
        for pair in await asyncio.gather(
            *(asyncio.open_connection(address.hostname, address.port) for _ in range(MACHINES))
        )
    ]
    await asyncio.to_thread(until, lambda: opened(collector) > MACHINES, what="every connection")
    assert await asyncio.gather(*(line.ask("GET", "/livez") for line in lines)) == [200] * MACHINES

    async def push(peer: Peer, own: list[Line]) -> None:
        for line in own:
            compact = peer.signed(peer.payload())
            assert await line.ask("POST", f"{peer.path}/segments", compact) == 200
            peer.seq, peer.prev = peer.seq + 1, segments.digest(compact)

    await asyncio.gather(*(push(peer, lines[number::REGISTERED]) for number, peer in enumerate(peers)))
    assert opened(collector) > MACHINES
    for line in lines:
        line.close()
