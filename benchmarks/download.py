# SPDX-License-Identifier: GPL-2.0-or-later
"""Downloading a large package over loopback, from the collector and from nginx, each on one core.

Both send the same file, which is in memory by then; the client only counts what arrives.
"""

import socket
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from benchmarks.live_ingest import CORE
from benchmarks.table import Row, print_table
from tests.nginx import Nginx
from tests.processes import BDCS, Collector
from tests.shelf import Shelf

SIZE: Final = 512 << 20
ROUNDS: Final = 7
"""Downloads from each, in turns."""
TARGET: Final = 0.7
READ: Final = 1 << 20
MIB: Final = 1 << 20


def download(url: str, path: str) -> float:
    """Fetch the file once; return bytes a second. Raises `AssertionError` unless all of it comes."""
    address = urlsplit(url)
    buffer = memoryview(bytearray(READ))
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        start = time.perf_counter()
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        head = bytearray()
        while b"\r\n\r\n" not in head:
            head += connection.recv(READ)
        assert head.startswith(b"HTTP/1.1 200"), bytes(head[:200])
        received = len(head.partition(b"\r\n\r\n")[2])
        while count := connection.recv_into(buffer):
            received += count
        seconds = time.perf_counter() - start
    assert received == SIZE, received
    return received / seconds


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        with Collector(home / "collector", command=(*CORE, *BDCS)) as collector:
            shelf = Shelf(collector.data)
            shelf.add_target("amd64")
            path = shelf.put("amd64", "app-office/large-1.0", bytes(SIZE))
            locations = f"location / {{ root {collector.data}/packages; }}"
            with Nginx(home / "nginx", locations, prefix=CORE) as nginx:
                rates = [
                    (download(nginx.url, f"/amd64/{path}"), download(collector.url, f"/binhost/amd64/{path}"))
                    for _ in range(ROUNDS)
                ]
                nginx.stop()
    limit, rate = (median(each) for each in zip(*rates, strict=True))
    print_table(
        [
            Row(
                what=f"download of a package of {SIZE // MIB} MiB",
                target=f">= {TARGET} of nginx",
                measured=f"{rate / MIB:,.0f} MiB/s",
                beside=f"{limit / MIB:,.0f} MiB/s",
                ratio=rate / limit,
                is_met=rate / limit >= TARGET,
            )
        ]
    )


if __name__ == "__main__":
    main()
