# SPDX-License-Identifier: GPL-2.0-or-later
"""All benchmarks, one after the other, each in a process of its own: `make bench`.

    python -m benchmarks [NAME [OPTION…]]

runs one of them, with options of its own; `NAME --help` says which it has.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence

BENCHMARKS = (
    "history",
    "prediction",
    "daemon_idle",
    "latency",
    "live_ingest",
    "backfill_ingest",
    "storage",
    "statistics_pages",
    "index_publish",
    "rescan",
    "index_304",
    "download",
    "build_hit",
    "build_request",
    "build_whole",
    "claims",
    "clients",
)
ON_DEMAND = ("scale",)
"""Those that `make bench` leaves out, since they take long."""


def main() -> None:
    """Run them; what one of them finds is no reason to stop."""
    only, options = sys.argv[1:2], sys.argv[2:]
    if unknown := set(only) - {*BENCHMARKS, *ON_DEMAND}:
        raise SystemExit(f"{unknown.pop()}: no benchmark; there are {', '.join(BENCHMARKS + ON_DEMAND)}")
    for name in only or BENCHMARKS:
        print(f"## {name}\n", flush=True)
        code = run(f"benchmarks.{name}", options)
        if code:
            print(f"{name} ended with {code}\n", flush=True)


def run(module: str, options: Sequence[str]) -> int:
    """Run it and return its exit code; one that is interrupted has the time to stop what it started."""
    # In a session of its own it hears of a terminal's Ctrl-C from here, once.
    process = subprocess.Popen([sys.executable, "-m", module, *options], start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
