# SPDX-License-Identifier: GPL-2.0-or-later
"""How many clients a second can be told that they have the index: 64 connections, 304 each time.

The limit is a bare aiohttp handler that answers 304 to whoever asks, in the same run on the same core.
"""

import sys
import tempfile
import time
from email.utils import formatdate
from pathlib import Path
from typing import Final

from benchmarks.live_ingest import CORE
from benchmarks.load import Drive, drive
from benchmarks.table import Row, print_table
from tests.processes import BDCS, LISTENING, Collector, Process
from tests.shelf import Shelf
from tests.waiting import until

CONNECTIONS: Final = 64
REQUESTS: Final = 400
"""On each connection."""
ROUNDS: Final = 3
"""Of both, in turns; the best of each counts, since other work on the machine only ever slows."""
TARGET: Final = 0.5
PATH: Final = "/binhost/amd64/Packages.gz"


def asked(since: float) -> bytes:
    """The request of Portage for an index that it has."""
    return (
        f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Gentoo Portage\r\n"
        f"Accept-Encoding: bzip2,gzip,deflate\r\nIf-Modified-Since: {formatdate(since, usegmt=True)}\r\n\r\n"
    ).encode()


def measure(url: str) -> Drive:
    """Ask on all connections at once."""
    request = asked(time.time() + 3600)
    return drive(url, [[request] * REQUESTS] * CONNECTIONS, status=304)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        bare = [*CORE, sys.executable, "-m", "benchmarks.limits", "handler"]
        with (
            Process(bare, log=home / "bare.log") as process,
            Collector(home / "collector", command=(*CORE, *BDCS)) as collector,
        ):
            url = process.until_printed(LISTENING)[1]
            shelf = Shelf(collector.data)
            shelf.add_target("amd64")
            shelf.put("amd64", "app-misc/alpha-1.0", b"alpha")
            until(lambda: measure_one(collector.url))
            rates = [(measure(url).rate, measure(collector.url).rate) for _ in range(ROUNDS)]
            process.stop()
    limit, rate = (max(each) for each in zip(*rates, strict=True))
    print_table(
        [
            Row(
                what=f"304 for an index, {CONNECTIONS} connections",
                target=f">= {TARGET} of a bare aiohttp handler",
                measured=f"{rate:,.0f}/s",
                beside=f"{limit:,.0f}/s",
                ratio=rate / limit,
                is_met=rate / limit >= TARGET,
            )
        ]
    )


def measure_one(url: str) -> bool:
    """Whether the index is there."""
    try:
        drive(url, [[asked(time.time() + 3600)]], status=304)
    except AssertionError:
        return False
    return True


if __name__ == "__main__":
    main()
