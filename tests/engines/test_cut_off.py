# SPDX-License-Identifier: GPL-2.0-or-later
"""A collector that reaches its store no more, and is told so by nobody: in a network namespace of its own."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from gentwoo_client.wire import segments
from tests.cluster import Namespace, listen_at
from tests.peer import Answer, Peer, request
from tests.postgresql import USER, running_postgresql
from tests.processes import BDCS, Collector, free_port
from tests.waiting import until

pytestmark = pytest.mark.engines

MACHINES = 12
"""More than a collector's threads that read."""
SOON = 20.0
"""Seconds; 5 to 7 on a machine that has nothing else to do, and minutes where each waits for the others."""


@dataclass(frozen=True, slots=True)
class Far:
    """The collector, and the namespace it is in."""

    collector: Collector
    namespace: Namespace


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    with Namespace.new() as namespace, running_postgresql(tmp_path) as server:
        address = namespace.back.near
        listen_at(server, address)
        database = server.new_database().rpartition("/")[2]
        hosts = f"{address}:{server.port},{address}:{free_port()}"  # as where there is a replica
        settings = {
            "store": f"postgresql://{USER}@{hosts}/{database}",
            "registrations_per_network": 2 * MACHINES,
        }
        file = tmp_path / "bdcs.toml"
        file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
        command = ("ip", "netns", "exec", namespace.name, *BDCS, "--config", file)
        url = f"http://{namespace.front.far}:8642"
        with Collector(tmp_path / "far", command=command, url=url) as collector:
            yield Far(collector, namespace)


def test_who_asks_is_told_soon(far: Far) -> None:
    """Whether something is to be written or read; nothing is lost, and what is sent again is there once."""
    url = far.collector.url
    peers = [Peer(url) for _ in range(MACHINES)]
    for peer in peers:
        assert peer.register().status == 201
        peer.push()
    compacts = [peer.signed(peer.payload()) for peer in peers]

    def push(number: int) -> tuple[Answer, float]:
        began = time.monotonic()
        return peers[number].send(compacts[number]), time.monotonic() - began

    def read(_number: int) -> tuple[Answer, float]:
        began = time.monotonic()
        return request(url, "GET", "/targets"), time.monotonic() - began

    far.namespace.back.cut()
    with ThreadPoolExecutor(2 * MACHINES) as threads:
        for _ in range(2):
            pushed, seen = threads.map(push, range(MACHINES)), threads.map(read, range(MACHINES))
            answers = [*pushed, *seen]
            for answer, seconds in answers:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) > 0
                assert seconds < SOON
            print(f"answered within {max(seconds for _, seconds in answers):.1f} s", flush=True)
    assert request(url, "GET", "/readyz").status == 503
    far.namespace.back.heal()
    until(lambda: request(url, "GET", "/readyz").status == 200, what="a collector in contact again")
    for peer, compact in zip(peers, compacts, strict=True):
        assert peer.send(compact).status == 200
        peer.seq, peer.prev = 2, segments.digest(compact)
        peer.push()
    records = sorted((record["machine"], record["seq"]) for record in far.collector.export())
    assert records == sorted((str(peer.machine), seq) for peer in peers for seq in (1, 2, 3))
    assert far.collector.process is not None
    assert "Traceback" not in far.collector.process.output
