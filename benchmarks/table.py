# SPDX-License-Identifier: GPL-2.0-or-later
"""The one form in which every benchmark prints what it found."""

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure beside what it should be."""

    what: str
    target: str
    measured: str
    beside: str = ""
    """The peer or limit that was measured in the same run."""
    ratio: float | None = None
    """Of what was measured to `beside`, or to the target where there is no peer."""
    is_met: bool


HEADINGS = ("what", "target", "measured", "peer or limit", "ratio", "met")


def print_table(rows: Iterable[Row]) -> None:
    """Print `rows` as a table of Markdown, below the machine and the time."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    print(f"{now}, {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    lines = [HEADINGS, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    for number, line in enumerate(lines):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if number == 0:
            print("| " + " | ".join("-" * width for width in widths) + " |")
    print(flush=True)


def processor() -> str:
    """The name of the processor."""
    with open("/proc/cpuinfo") as file:
        names = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
        return next(names, platform.machine())


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return (row.what, row.target, row.measured, row.beside, ratio, "yes" if row.is_met else "NO")
