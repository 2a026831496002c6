# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo`: a collector whose pages show a simulated fleet, until Ctrl-C.

Makes 1,000 machines with a year of merges (DEMO_MACHINES says otherwise) straight in a new store, starts a
collector on it and waits until the pages show them. Nothing here comes from a real machine.
"""

import os
import shutil
import sys
import time
import urllib.request
from contextlib import ExitStack

from benchmarks.fleet import load_store
from dev.orphans import claim
from dev.places import ROOT
from dev.run import ENVIRONMENT, Job, chosen_port, require_free, wait_until_listening
from dev.session import CannotRun, run_until_stopped

MACHINES_SETTING = "DEMO_MACHINES"
MACHINES = 1000
SEED = 1
PATIENCE = 600.0  # seconds
LOOK = 0.5


def main() -> int:
    """Run the demo; return the exit code."""
    return run_until_stopped("demo", begin)


def begin(leaving: ExitStack) -> None:
    """Fill a store and show it; `leaving` ends the collector."""
    start = time.monotonic()
    port, home = chosen_port(), ROOT / ".run" / "demo"
    ENVIRONMENT.update(claim(home, leaving))
    require_free(port)
    job = Job(home, port)
    leaving.callback(job.stop)
    fill(job, start)
    show(job, start)


def fill(job: Job, start: float) -> None:
    """Make the fleet, in a store that is always new."""
    count = int(os.environ.get(MACHINES_SETTING, MACHINES))
    shutil.rmtree(job.home, ignore_errors=True)
    job.data.mkdir(parents=True)
    job.collector_config.write_text(f'listen = "{job.url.removeprefix("http://")}"\ndata = "{job.data}"\n')
    records = load_store(job.data, job.url, count, SEED, int(time.time()))
    print(f"{count:,} simulated machines, {records:,} records, {time.monotonic() - start:.0f} s", flush=True)


def show(job: Job, start: float) -> None:
    """Serve the store, say when all of it is on the pages, and go on until a signal comes."""
    job.start("collector", "bdcs", "--config", job.collector_config, "serve")
    wait_until_listening(job, "collector")
    while "not yet since" in page(job, "/about/status"):
        job.check()
        if time.monotonic() - start > PATIENCE:
            raise CannotRun(f"the figures do not appear: {job.output('collector')}")
        time.sleep(LOOK)
    print(
        f"After {time.monotonic() - start:.0f} s all is on the pages:\n\n  {job.url}/\n  {job.url}/fleet\n"
        f"  {job.url}/packages?sort=risers\n\nCtrl-C ends it.",
        flush=True,
    )
    while True:
        job.check()
        time.sleep(LOOK)


def page(job: Job, path: str) -> str:
    """The text of a page of the collector."""
    with urllib.request.urlopen(job.url + path, timeout=60) as answer:
        return str(answer.read().decode())


if __name__ == "__main__":
    sys.exit(main())
