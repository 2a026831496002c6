# SPDX-License-Identifier: GPL-2.0-or-later
"""An exact hit: from a request for a build that is published to its answer, over loopback.

One connection, one request after the other, among other published builds; what the client itself does (its
token, its document) is not counted. That somebody asked is written down while the next one is answered. In
turns with it a bare aiohttp handler is asked the same: what that takes is this machine's, not ours. Who else
computes here decides about the slowest of a hundred, so there are several rounds: that one counts in which
the bare handler was disturbed the least, and the noisiest is told beside it. Processor time counts everything
that the collector does, the writing included.
"""

import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.table import Row, print_table
from gentwoo_client.wire.builds import BuildSpecification
from tests.builds import TARGET, HandBuilder, Wisher, specification
from tests.processes import LISTENING, Collector, Process
from tests.shelf import Shelf

ROUNDS: Final = 8
HITS: Final = 250  # of each round
BUILDS: Final = 20
LIMIT: Final = 5.0  # ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long requests of one round took, in milliseconds, sorted."""

    ours: list[float]
    bare: list[float]

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> "Times":
        """Sort what was measured in turns."""
        ours, bare = zip(*pairs, strict=True)
        return cls(ours=sorted(ours), bare=sorted(bare))


def p99(times: Sequence[float]) -> float:
    """What 99 of 100 did not exceed."""
    return times[int(len(times) * 0.99)]


def prepare(collector: Collector) -> Wisher:
    """Have builds published; return a machine that will want them."""
    Shelf(collector.data).add_target(TARGET, signatures="optional")
    builder = HandBuilder.approved(collector, TARGET)
    machine = Wisher(collector.url)
    machine.register()
    for number in range(BUILDS):
        machine.ask(wished(number))
        lease = builder.claim()
        assert lease is not None
        assert builder.build(lease).status == 200
    return machine


def wished(number: int) -> BuildSpecification:
    """One of the builds."""
    return specification(
        f"app-misc/alpha{number}x-1.0", use=("gtk",), DEPEND="dev-libs/one >=dev-libs/two-2:0"
    )


def connected(url: str) -> http.client.HTTPConnection:
    """Return a connection to the server at that URL."""
    address = urlsplit(url)
    return http.client.HTTPConnection(address.hostname or "", address.port)


def hit(connection: http.client.HTTPConnection, machine: Wisher, number: int) -> float:
    """Ask for one; return the milliseconds until the answer was there."""
    document = {"target": TARGET, "packages": [wished(number).to_json()], "atoms": []}
    body = json.dumps(document).encode()
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {machine.token('POST', '/v1/builds', body)}",
    }
    took, answer = exchange(connection, "/v1/builds", body, headers)
    assert (answer["state"], len(answer["packages"])) == ("published", 1), answer
    return took


def bare(connection: http.client.HTTPConnection) -> float:
    """Ask the handler that does nothing."""
    return exchange(connection, "/v1/machines/x/segments", bytes(1000), {})[0]


def exchange(
    connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]
) -> tuple[float, Any]:
    """Send a request; return the milliseconds until its answer was there, and the answer."""
    started = time.perf_counter()
    connection.request("POST", path, body=body, headers=headers)
    response = connection.getresponse()
    answer = response.read()
    took = (time.perf_counter() - started) * 1000
    assert response.status in (200, 201), answer
    return took, json.loads(answer)


def processor_time(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        handler = [sys.executable, "-m", "benchmarks.limits", "handler"]
        log = Path(directory) / "bare.log"
        with Process(handler, log=log) as process, Collector(Path(directory) / "c") as collector:
            machine = prepare(collector)
            ours, other = connected(collector.url), connected(process.until_printed(LISTENING)[1])
            assert collector.process is not None
            before = processor_time(collector.process.pid)
            rounds = [
                Times.of([(hit(ours, machine, number % BUILDS), bare(other)) for number in range(HITS)])
                for _ in range(ROUNDS)
            ]
            computed = (processor_time(collector.process.pid) - before) / (ROUNDS * HITS) * 1000
            ours.close()
            other.close()
            process.stop()
    quietest = min(rounds, key=lambda times: p99(times.bare))
    worst = max(p99(times.ours) for times in rounds)
    beside = max(p99(times.bare) for times in rounds)
    load = os.getloadavg()[0]
    print_table(
        [
            Row(
                what=f"exact hit of a build request, p99 of {HITS}; quietest of {ROUNDS} rounds",
                target=f"<= {LIMIT:.0f} ms",
                measured=f"{p99(quietest.ours):.1f} ms (median {statistics.median(quietest.ours):.1f},"
                f" computing {computed:.1f}; noisiest round {worst:.1f})",
                beside=f"bare handler: {p99(quietest.bare):.1f} ms ({statistics.median(quietest.bare):.1f};"
                f" noisiest {beside:.1f})",
                is_met=p99(quietest.ours) <= LIMIT,
            )
        ]
    )
    print(f"load: {load:.1f}\n")


if __name__ == "__main__":
    main()
