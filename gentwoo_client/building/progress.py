# SPDX-License-Identifier: GPL-2.0-or-later
"""Showing how far a request is: on a terminal, lines that are drawn anew; elsewhere a line for each change.

What is shown is made by pure functions (`bar`, `live_lines`, `changed_lines`); the displays only write it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TextIO

from gentwoo_client.building.plan_text import IN_FLIGHT, duration, ordinal, state_words
from gentwoo_client.building.request import Builds
from gentwoo_client.errors import TryLater, printable
from gentwoo_client.wire.build_messages import BuildState, PackageStatus
from gentwoo_client.wire.errors import InvalidTime
from gentwoo_client.wire.records import parse_time

SHOWN: Final = 10
"""Packages that are shown at once on a terminal."""

_BAR = 20  # characters
_ORDER = {"building": 0, "queued": 1, "waiting": 2}


class Display(Protocol):
    """Where progress is shown."""

    def show(self, state: BuildState) -> None:
        """Something changed."""

    def tick(self) -> None:
        """A second has passed."""

    def trouble(self, error: TryLater) -> None:
        """The collector cannot be asked; it will be again."""

    def close(self) -> None:
        """Leave the terminal as it should be."""


async def watch(builds: Builds, request: str, display: Display) -> BuildState:
    """Show a request until it has ended; return how it ended. Goes on while the collector is away."""
    ticking = asyncio.create_task(_tick(display))
    last: BuildState | None = None
    try:
        async for state in builds.changes(request, trouble=display.trouble):
            display.show(state)
            last = state
    finally:
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
        display.close()
    assert last is not None
    return last


async def _tick(display: Display) -> None:
    while True:
        await asyncio.sleep(1)
        display.tick()


def display_on(stream: TextIO) -> Display:
    """The display that `stream` can take."""
    if stream.isatty() and os.environ.get("TERM") not in (None, "", "dumb"):
        return Live(stream)
    return Plain(stream)


@dataclass(slots=True)
class Plain:
    """A line for each package whose state changes."""

    stream: TextIO
    states: dict[str, str] = field(default_factory=dict)
    is_away: bool = False

    def show(self, state: BuildState) -> None:
        """Write what changed."""
        if self.is_away:
            self._write("the collector answers again")
            self.is_away = False
        for line in changed_lines(state, self.states):
            self._write(line)
        self.states = {package.digest: package.state for package in state.packages}

    def tick(self) -> None:
        """Time alone is not worth a line."""

    def trouble(self, error: TryLater) -> None:
        """Say it once."""
        if not self.is_away:
            self._write(f"{error}; waiting goes on")
            self.is_away = True

    def close(self) -> None:
        """Nothing is open."""

    def _write(self, line: str) -> None:
        print(line, file=self.stream, flush=True)


class Live:
    """What is in flight, drawn anew each second below what has ended."""

    def __init__(self, stream: TextIO, *, now: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._now = now
        self._state: BuildState | None = None
        self._states: dict[str, str] = {}
        self._began: dict[str, float] = {}
        self._drawn = 0
        self._trouble = ""

    def show(self, state: BuildState) -> None:
        """Write above what has ended since, and draw the rest."""
        ended = [line for line in changed_lines(state, self._states, only_ended=True) if self._states]
        for package in state.packages:
            if package.state == "building":
                self._began.setdefault(package.digest, self._now())
        self._states = {package.digest: package.state for package in state.packages}
        self._state, self._trouble = state, ""
        self._erase()
        for line in ended:
            self._stream.write(f"{line}\n")
        self._draw()

    def tick(self) -> None:
        """Draw anew."""
        self._erase()
        self._draw()

    def trouble(self, error: TryLater) -> None:
        """Show it until the collector answers."""
        self._trouble = f"{error}; waiting goes on"
        self.tick()

    def close(self) -> None:
        """Take away what would not be true any more."""
        self._erase()
        self._stream.flush()

    def _draw(self) -> None:
        columns, rows = _size(self._stream)
        lines = [self._trouble] if self._trouble else []
        if self._state is not None:
            shown = max(min(SHOWN, rows - 4), 1)
            lines += live_lines(self._state, began=self._began, now=self._now(), shown=shown)
        for line in lines:
            self._stream.write(f"{line[: columns - 1]}\n")
        self._drawn = len(lines)
        self._stream.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0


def changed_lines(state: BuildState, before: Mapping[str, str], *, only_ended: bool = False) -> Iterator[str]:
    """A line for each package that stands otherwise than `before` (states by digest)."""
    for package in state.packages:
        if package.state == before.get(package.digest) or (only_ended and package.state in IN_FLIGHT):
            continue
        if before or package.state != "published":  # what was there from the start is no news
            yield f"{printable(package.cpv)}: {state_words(package)}"


def live_lines(state: BuildState, *, began: Mapping[str, float], now: float, shown: int) -> list[str]:
    """What is in flight, the nearest first, and how far all of it is; `began` are times by digest."""
    flying = sorted(
        (package for package in state.packages if package.state in IN_FLIGHT),
        key=lambda package: (_ORDER[package.state], package.position or 0),
    )
    width = max((len(package.cpv) for package in flying[:shown]), default=0)
    lines = [
        f"{printable(package.cpv):<{width}}  {_progress(package, began.get(package.digest), now)}"
        for package in flying[:shown]
    ]
    if len(flying) > shown:
        lines.append(f"and {len(flying) - shown:,} more")
    there = sum(package.state == "published" for package in state.packages)
    finish = _left(state.finish_at, now)
    left = "" if finish is None else f", about {duration(finish)} to go"
    lines.append(f"{there:,} of {len(state.packages):,} are there{left}")
    return lines


def bar(elapsed: float, expected: float) -> str:
    """A bar that is full when what was expected has passed."""
    done = min(int(_BAR * elapsed / expected), _BAR) if expected > 0 else _BAR
    return f"[{'#' * done}{'.' * (_BAR - done)}]"


def _progress(package: PackageStatus, began: float | None, now: float) -> str:
    if package.state != "building" or began is None:
        left = _left(package.finish_at, now)
        if package.state == "queued" and package.position is not None:
            after = "" if left is None else f", ready in about {duration(left)}"
            return f"{ordinal(package.position)} in the queue{after}"
        return state_words(package)
    expected = package.expected_seconds
    left = _left(package.finish_at, now)
    elapsed = max(expected - left, 0.0) if expected and left else now - began
    if not expected:
        return f"building, {duration(elapsed)}"
    return f"building {bar(elapsed, expected)} {duration(elapsed)} of about {duration(expected)}"


def _left(finish_at: str | None, now: float) -> float | None:
    """Seconds until a time; None where it is not known or over."""
    try:
        left = parse_time(finish_at) - now if finish_at else None
    except InvalidTime:
        return None
    return left if left is not None and left > 0 else None


def _size(stream: TextIO) -> tuple[int, int]:
    try:
        size: Sequence[int] = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return (size[0], size[1]) if size[0] > 0 else (80, 24)
