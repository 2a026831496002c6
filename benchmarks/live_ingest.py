# SPDX-License-Identifier: GPL-2.0-or-later
"""Live ingest: one signed record a push, 64 connections, each answered when its record is durable.

The limit is what one core could do if it only spoke HTTP and verified signatures, 1/(1/h + 1/v); h and v are
measured in the same run on the same core as the collector.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.load import Drive, chain, drive, numbered, push_request, real_changes
from benchmarks.table import Row, print_table
from tests.peer import Peer
from tests.processes import BDCS, LISTENING, Collector, Process, run

CONNECTIONS: Final = 64
PUSHES: Final = 150
"""For each connection."""
CORE_NUMBER: Final = 0
CORE: Final = ("taskset", "-c", f"{CORE_NUMBER}")
SETTINGS: Final = "registrations_per_network = 1000000\n"
TARGET: Final = 0.5


@contextmanager
def pinned_collector() -> Iterator[Collector]:
    """A collector on the core that is measured."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        (home / "bdcs.toml").write_text(SETTINGS)
        collector = Collector(home, command=(*CORE, *BDCS), options=("--config", str(home / "bdcs.toml")))
        with collector:
            yield collector


@contextmanager
def bare_handler() -> Iterator[str]:
    """The URL of a handler that does nothing, on the same core."""
    with tempfile.TemporaryDirectory() as directory:
        command = [*CORE, sys.executable, "-m", "benchmarks.limits", "handler"]
        with Process(command, log=Path(directory, "handler.log")) as process:
            yield process.until_printed(LISTENING)[1]
            process.stop()


def verifications() -> float:
    """Ed25519 verifications that the core does in a second."""
    return float(run([*CORE, sys.executable, "-m", "benchmarks.limits", "verify"], check=True).stdout)


def registered(collector: str, count: int) -> list[Peer]:
    """Machines that the collector knows."""
    peers = [Peer(collector) for _ in range(count)]
    for peer in peers:
        assert peer.register().status == 201
    return peers


def queues(collector: str) -> list[list[bytes]]:
    """What machines that are now registered push, each over a connection of its own."""
    changes = real_changes()
    return [
        [
            push_request(peer, compact)
            for compact in chain(peer, numbered(changes, machine=number), segments=PUSHES, size=1)
        ]
        for number, peer in enumerate(registered(collector, CONNECTIONS))
    ]


def ingest(collector: str) -> Drive:
    """Push from all connections at once."""
    return drive(collector, queues(collector))


def handle(url: str) -> Drive:
    """The same requests to the handler that does nothing."""
    changes = real_changes()
    peer = Peer(url)
    (compact,) = chain(peer, numbered(changes, machine=0), segments=1, size=1)
    return drive(url, [[push_request(peer, compact)] * PUSHES * 2] * CONNECTIONS)


def main() -> None:
    """Measure and print."""
    with bare_handler() as url:
        h = handle(url).rate
    v = verifications()
    with pinned_collector() as collector:
        rate = ingest(collector.url).rate
    limit = 1 / (1 / h + 1 / v)
    print_table(
        [
            Row(
                what=f"live ingest, one record a push, {CONNECTIONS} connections",
                target=f">= {TARGET} of 1/(1/h + 1/v)",
                measured=f"{rate:,.0f} pushes/s",
                beside=f"{limit:,.0f}/s (h {h:,.0f}, v {v:,.0f})",
                ratio=rate / limit,
                is_met=rate / limit >= TARGET,
            )
        ]
    )


if __name__ == "__main__":
    main()
