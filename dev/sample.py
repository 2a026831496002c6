# SPDX-License-Identifier: GPL-2.0-or-later
"""A log to follow where this machine has none: the tests' scenario logs, replayed as if they happened now.

Those logs are our own, made by running real emerge; their packages (app-misc/alpha, …) are invented. The
first part is written at once, with its stamps moved so that it ends now: the past. The rest comes line by
line, with the time at which it is written: the present.
"""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from dev.places import ROOT

SCENARIOS = ROOT / "tests/data/emerge-logs/scenarios"
PAST_SCENARIOS = 20


def replay(log: Path) -> Iterator[None]:
    """Write the past into `log`, unless it is there already, then one more line at each step, for ever."""
    scenarios = [path.read_bytes().splitlines(keepends=True) for path in sorted(SCENARIOS.glob("*.log"))]
    past = [line for lines in scenarios[:PAST_SCENARIOS] for line in lines]
    if not log.exists():
        log.write_bytes(b"".join(moved(past, int(time.time()))))
    present = (line for lines in itertools.cycle(scenarios[PAST_SCENARIOS:]) for line in lines)
    for line in present:
        yield
        with log.open("ab") as file:
            file.write(stamped(line, int(time.time())))


def moved(lines: list[bytes], end: int) -> Iterator[bytes]:
    """The lines with their stamps moved by one amount, such that the latest is `end`."""
    latest = max(int(line.partition(b":")[0]) for line in lines)
    for line in lines:
        yield stamped(line, int(line.partition(b":")[0]) + end - latest)


def stamped(line: bytes, stamp: int) -> bytes:
    return str(stamp).encode() + b":" + line.partition(b":")[2]
