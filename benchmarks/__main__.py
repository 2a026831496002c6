# SPDX-License-Identifier: GPL-2.0-or-later
"""All benchmarks, one after the other, each in a process of its own: `make bench`.

    python -m benchmarks [NAME [OPTION…]]

runs one of them, with options of its own; `NAME --help` says which it has.
"""

import subprocess
import sys

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
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False)
        if done.returncode:
            print(f"{name} ended with {done.returncode}\n", flush=True)


if __name__ == "__main__":
    main()
