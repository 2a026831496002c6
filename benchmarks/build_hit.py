# SPDX-License-Identifier: GPL-2.0-or-later
"""An exact hit: from a request for a build that is published to its answer, durable, over loopback.

One connection, one request after the other, among other published builds; what the client itself does (its
token, its document) is not counted.
"""

import http.client
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks.table import Row, print_table
from gentwoo_client.wire.builds import BuildSpecification
from tests.builds import TARGET, HandBuilder, Wisher, specification
from tests.processes import Collector
from tests.shelf import Shelf

HITS: Final = 500
BUILDS: Final = 20
LIMIT: Final = 5.0  # ms


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


def hit(connection: http.client.HTTPConnection, machine: Wisher, number: int) -> float:
    """Ask for one; return the milliseconds until the answer was there."""
    document = {"target": TARGET, "packages": [wished(number).to_json()], "atoms": []}
    body = json.dumps(document).encode()
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {machine.token('POST', '/v1/builds', body)}",
    }
    started = time.perf_counter()
    connection.request("POST", "/v1/builds", body=body, headers=headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    took = (time.perf_counter() - started) * 1000
    assert (response.status, answer["state"]) == (201, "published"), answer
    return took


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory, Collector(Path(directory)) as collector:
        machine = prepare(collector)
        address = urlsplit(collector.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        took = sorted(hit(connection, machine, number % BUILDS) for number in range(HITS))
        connection.close()
    p99 = took[int(HITS * 0.99)]
    print_table(
        [
            Row(
                what=f"exact hit of a build request, p99 of {HITS} (median {statistics.median(took):.1f} ms)",
                target=f"<= {LIMIT:.0f} ms",
                measured=f"{p99:.1f} ms",
                is_met=p99 <= LIMIT,
            )
        ]
    )


if __name__ == "__main__":
    main()
