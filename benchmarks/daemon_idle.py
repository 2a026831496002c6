# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon at rest, after it has pushed: memory (PSS), and wake-ups while its log has a busy neighbour."""

import tempfile
import threading
from pathlib import Path
from typing import Final

from benchmarks.table import Row, print_table
from gentwoo_client.daemon import LINGER
from gentwoo_client.log.watch import POLL_INTERVAL
from tests.faults import Site, scenario_logs
from tests.waiting import until

WATCHED: Final = 2 * POLL_INTERVAL + 5  # seconds in which wake-ups are counted
EXPECTED: Final = int(WATCHED / POLL_INTERVAL)
NEIGHBOUR_EVERY: Final = 0.02  # seconds between two lines in another log
ALONE: Final = 20  # MiB
TOGETHER: Final = 80  # MiB


def proportional_memory(pid: int) -> float:
    """PSS in MiB: what is shared with other processes counts by its share."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition("\nPss:")[2].split()[0]) / 1024


def wake_ups(pid: int) -> int:
    """How often the process has gone to sleep, which is how often it was woken."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def write_neighbour(path: Path, ended: threading.Event) -> None:
    """Write lines to another file of the same directory until `ended`."""
    with path.open("a") as file:
        while not ended.wait(NEIGHBOUR_EVERY):
            file.write("another program says something\n")
            file.flush()


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as home, Site.create(Path(home)) as site:
        site.start()
        assert site.daemon is not None
        site.log.append(scenario_logs())
        site.drain()
        sender = site.sender()
        assert sender is not None
        together = proportional_memory(site.daemon.pid) + proportional_memory(sender)
        until(lambda: site.sender() is None, LINGER + 30, what="the end of the push child")
        alone = proportional_memory(site.daemon.pid)
        woken = count_wake_ups(site)
        afterwards = proportional_memory(site.daemon.pid)
    print_table(
        [
            Row(
                what="daemon at rest, after a push",
                target=f"<= {ALONE} MiB PSS",
                measured=f"{max(alone, afterwards):.1f} MiB",
                ratio=max(alone, afterwards) / ALONE,
                is_met=max(alone, afterwards) <= ALONE,
            ),
            Row(
                what="daemon and push child together",
                target=f"<= {TOGETHER} MiB PSS",
                measured=f"{together:.1f} MiB",
                ratio=together / TOGETHER,
                is_met=together <= TOGETHER,
            ),
            Row(
                what=f"wake-ups in {WATCHED:.0f} s at rest, a neighbour file written 50 times a second",
                target="the slow poll alone",
                measured=str(woken),
                beside=f"{EXPECTED} polls",
                ratio=woken / EXPECTED,
                is_met=woken <= EXPECTED + 1,
            ),
        ]
    )


def count_wake_ups(site: Site) -> int:
    """Wake-ups of the daemon while nothing happens but in a file beside the log."""
    assert site.daemon is not None
    ended = threading.Event()
    neighbour = threading.Thread(
        target=write_neighbour, args=(site.log.path.with_name("other.log"), ended), daemon=True
    )
    neighbour.start()
    threading.Event().wait(NEIGHBOUR_EVERY * 50)  # that it was created may be noticed, once
    before = wake_ups(site.daemon.pid)
    threading.Event().wait(WATCHED)
    woken = wake_ups(site.daemon.pid) - before
    ended.set()
    neighbour.join()
    return woken


if __name__ == "__main__":
    main()
