# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading history: `gentwoo history` on a small log and on one of 200 MB, whole processes.

The large log is the small one again and again, each time later. Peers: `qlop -mvt` where it is on PATH, else
0.15 of the speed of `grep -c emerge` on the same file (what qlop reached where both were measured); and the
start of a bare interpreter. All are run in turns, several times, and the fastest run counts, since the only
thing that a busy machine can do is to slow one down.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.table import Row, print_table

SMALL = Path(__file__).parents[1] / "tests" / "data" / "emerge-logs" / "emlop-10000.log"
LARGE_SIZE = 200_000_000  # bytes
PAUSE = 2 * 86400  # seconds between the end of the small log and its next repetition
FIRST = 1_100_000_000  # stamp from which on the large log begins
ROUNDS = 5
QLOP_OF_GREP = 0.15
MEMORY = 64 * 1024  # KiB, of all processes together
GENTWOO = (sys.executable, "-c", "from gentwoo_client.cli import main; raise SystemExit(main())", "history")


def write_large_log(path: Path) -> None:
    """Repeat the small log, shifted in time."""
    lines = [(int(line[:10]), line[10:]) for line in SMALL.read_bytes().splitlines(keepends=True)]
    span = lines[-1][0] - lines[0][0] + PAUSE
    shift = FIRST - lines[0][0]
    with path.open("wb") as file:
        while file.tell() < LARGE_SIZE:
            file.write(b"".join(b"%d%b" % (stamp + shift, text) for stamp, text in lines))
            shift += span


def seconds(*command: str) -> float:
    """How long a process takes, from start to end."""
    # grep sees /dev/null and does not count; a pipe it takes seriously.
    output = subprocess.PIPE if command[0] == "grep" else subprocess.DEVNULL
    start = time.perf_counter()
    subprocess.run(command, stdout=output, check=True)
    return time.perf_counter() - start


def peak_memory(*command: str) -> int:
    """The most memory, in KiB (PSS), that a process and its children have together."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                peak = max(peak, sum(_memory(pid) for pid in (str(process.pid), *children)))
            time.sleep(0.01)
    return peak


def _memory(pid: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def fastest(**runs: Callable[[], float]) -> dict[str, float]:
    """The best of several rounds of each, taken in turns."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for name, run in runs.items():
            best[name] = min(best[name], run())
    return best


def small_rows() -> list[Row]:
    """The whole process on the small log."""
    log = str(SMALL)
    best = fastest(
        bare=lambda: seconds(sys.executable, "-c", "pass"),
        table=lambda: seconds(*GENTWOO, "--log", log),
        json=lambda: seconds(*GENTWOO, "--json", "--log", log),
    )
    return [
        Row(
            what=f"history{option}, 851 kB",
            target="≤ 60 ms or 6 × bare",
            measured=f"{best[name] * 1000:.0f} ms",
            beside=f"bare interpreter {best['bare'] * 1000:.0f} ms",
            ratio=best[name] / best["bare"],
            is_met=best[name] <= max(0.06, 6 * best["bare"]),
        )
        for name, option in (("table", ""), ("json", " --json"))
    ]


def large_rows(log: str) -> list[Row]:
    """Throughput and memory on the large log."""
    qlop = shutil.which("qlop")
    best = fastest(
        grep=lambda: seconds("grep", "-c", "emerge", log),
        peer=lambda: seconds(qlop, "-mvt", "-f", log) if qlop else float("inf"),
        table=lambda: seconds(*GENTWOO, "--log", log),
        json=lambda: seconds(*GENTWOO, "--json", "--log", log),
    )
    peer = best["peer"] if qlop else best["grep"] / QLOP_OF_GREP
    named = f"qlop {peer:.2f} s" if qlop else f"0.15 × grep's {best['grep']:.2f} s: {peer:.2f} s"
    rows = [
        Row(
            what=f"history{option}, 200 MB",
            target="≥ 1.0 × qlop -mvt",
            measured=f"{best[name]:.2f} s",
            beside=named,
            ratio=peer / best[name],
            is_met=best[name] <= peer,
        )
        for name, option in (("table", ""), ("json", " --json"))
    ]
    for option in ((), ("--json",)):
        peak = peak_memory(*GENTWOO, *option, "--log", log)
        rows.append(
            Row(
                what=" ".join(("memory, history", *option)),
                target="≤ 64 MiB",
                measured=f"{peak / 1024:.1f} MiB",
                ratio=peak / MEMORY,
                is_met=peak <= MEMORY,
            )
        )
    return rows


def main() -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory(prefix="gentwoo-history-") as directory:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(directory) / "bytecode")
        rows = small_rows()
        log = Path(directory) / "emerge.log"
        write_large_log(log)
        rows += large_rows(str(log))
    print_table(rows)


if __name__ == "__main__":
    main()
