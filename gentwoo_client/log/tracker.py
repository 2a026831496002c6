# SPDX-License-Identifier: GPL-2.0-or-later
"""What happened to packages, told from the records of emerge.log. Pure: reads no file and no clock.

The log names no process and says nothing of failures; a failed item merely never completes. So the tracker
keeps, beside the open items, the *runs* that it believes are under way: one for each `Started emerge`, until
its `exiting` or `terminating`.

- An item belongs to the run whose numbering (N of M) it continues; a list's first item to the newest run that
  has none yet.
- An ending belongs to the only run, or to the one that it fits best: one that exits successfully has nothing
  open, one that is merely terminated either never merged anything or was interrupted.
- Where several fit (two runs with open items, or one that was killed without a word) the ending is kept until
  a further record shows which of them lives on; at the latest at the next start of a process it is given to
  the one that was active last.
- What stays open is decided when the same package starts again, or after `FORGOTTEN_AFTER`.

Semantics: DESIGN §3 "Record"; facts about the log: reference/emerge-log.md, §3 to §9.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import accumulate
from operator import length_hint
from typing import Any, Final, NamedTuple

from gentwoo_client.log import parser
from gentwoo_client.log.parser import KIND, STAMP, Command, Package

AT_WORK_FOR_AT_MOST: Final = 7 * 86400
"""Seconds after which an item that never completed no longer counts as being at work."""

FORGOTTEN_AFTER: Final = 30 * 86400
"""Seconds after which an item that never completed is given up as interrupted."""

IDLE_RUN_FORGOTTEN_AFTER: Final = 86400
"""Seconds after which a run that has nothing open, and was heard of no more, is taken for killed."""

EXIT_LASTS_AT_MOST: Final = 3600
"""Seconds between `exiting` and `terminating` of a process that was not killed."""

OPEN_ITEMS: Final = 1000
"""No more items (runs, removals) are kept open; the oldest goes. emerge itself never gets near."""

STATUS_SINCE: Final = 1_191_196_800
"""October 2007: before, `exiting successfully` was logged whatever happened."""

SINGLE_END_SINCE: Final = 1_325_376_000
"""2012: before, `terminating` could be logged twice by one process."""

# How a run ended.
_SUCCEEDED = "succeeded"
_FAILED = "failed"
_TERMINATED = "terminated"
_KILLED = "killed"
_UNCLEAR = "unclear"

_NEVER = 1 << 62
_FORMAT = 1


class LoggedChange(NamedTuple):
    """One package came, went, or failed to come."""

    event: str
    """`install`, `uninstall` or `failure`."""
    category: str
    name: str
    version: str
    root: str | None
    """ROOT as logged, with its slash; None for a manual removal, whose record names none."""
    ebuild: str | None
    """Path of the ebuild, from the records of a source build."""
    install_type: str | None
    """`source`, `binary`, or None where the log does not say."""
    cause: str | None
    replaces: str | None
    """Of an install: the version that left the same slot."""
    at: int
    """Unix seconds: stamp of the record that ended it."""
    time_delta: int | None
    """Seconds from start to end; None if either was not seen, or the clock went backwards between."""
    concurrency: float | None
    """Mean number of merges at work meanwhile, itself included, two decimals; None as `time_delta`."""
    start_seen: bool
    end: int
    """Just after the line that decided it: offset in the bytes given to `feed`, count of lines for `take`."""


class _Run:
    """A process that merges, unmerges, synchronizes, …"""

    __slots__ = ("command", "items", "m", "n", "seen")

    def __init__(self, seen: int) -> None:
        self.command: Command | None = None
        self.seen = seen
        self.n = 0
        self.m = 0
        self.items: list[_Item] = []

    @property
    def installs(self) -> bool:
        return self.command is None or self.command.installs


class _Item:
    """A merge that began and has not ended yet."""

    __slots__ = (
        "area",
        "at_work",
        "built",
        "cpv",
        "ebuild",
        "ended",
        "in_place",
        "install_type",
        "package",
        "place",
        "replaces",
        "root",
        "run",
        "slotless",
        "start",
        "time",
    )

    def __init__(
        self,
        cpv: bytes,
        package: Package,
        root: bytes,
        place: bytes,
        run: _Run,
        start: int,
        area: int,
        time: int,
    ) -> None:
        self.cpv = cpv
        self.package = package
        self.root = root
        self.place = place
        self.run = run
        self.start = start
        self.area = area  # of the tracker when it began
        self.time = time  # of the tracker when it began
        self.at_work = True
        self.ended: int | None = None  # it ended before its run did: the list began anew without it
        self.built = False  # something was compiled or merged
        self.in_place = False  # its files are installed (AUTOCLEAN)
        self.slotless = False  # … by a Portage whose replacements look like manual removals
        self.install_type: str | None = None
        self.ebuild: bytes | None = None
        self.replaces: str | None = None


class _LooseEnd(NamedTuple):
    """A run ended, and more than one may have been it."""

    at: int
    how: str
    runs: list[_Run]


class _Removal(NamedTuple):
    """An unmerge under way."""

    replacing: bool
    start: int
    area: int
    time: int


class MergeTracker:
    """Turns the lines of emerge.log into changes, in the order in which the log decides them.

    How the log is cut into calls, and whether the tracker was dumped and loaded between two lines, makes no
    difference to what comes out.
    """

    def __init__(self) -> None:
        self._now = 0  # stamp of the last start or end
        self._boot = 0
        self._area = 0  # ∫ number of merges at work dt, with `_time` = ∫ dt, over forward steps of the clock
        self._time = 0
        self._at_work = 0
        self._deadline = _NEVER  # when the first item at work stops counting
        self._open: dict[bytes, list[_Item]] = {}  # by CATEGORY/NAME, oldest first
        self._runs: list[_Run] = []  # the one that was active last stands last
        self._limbo = _Run(0)  # whose items are of a run that is still open, but not of which
        self._loose: list[_LooseEnd] = []
        self._removals: dict[bytes, _Removal] = {}
        self._finished: list[int] = []  # stamps of Finished without exiting
        self._closing = 0  # runs that have exited and not terminated
        self._exited = 0  # stamp of the last `exiting`
        self._terminated = 0  # stamp of the last `terminating`
        self._last_done: tuple[bytes, bytes, bytes] | None = None  # the last completion, until the next start

        self._changes: list[LoggedChange] = []
        self._lines = 0
        self._rest: Iterator[bytes] = iter(())
        self._places = parser.places()
        self._packages = parser.packages()
        self._roots = parser.roots()
        self._handlers: dict[bytes, Callable[[bytes, int], None]] = {
            b":  >>> e": self._on_start,
            b":  === (": self._on_phase,
            b":  --- (": self._on_phase,
            b":  >>> A": self._on_autoclean,
            b":  === U": self._on_replacement,
            b": === Un": self._on_removal,
            b":  >>> u": self._on_removed,
            b":  !!! u": self._on_kept,
            b":  ::: c": self._on_completed,
            b": Starte": self._on_started,
            b":  *** e": self._on_command_or_exit,
            b":  *** F": self._on_finished,
            b":  *** t": self._on_terminating,
            b":  *** R": self._on_restart,
        }

    def feed(self, lines: bytes) -> list[LoggedChange]:
        """Take whole lines, each ending in LF, and return what they decided. Bad lines are skipped."""
        changes = self.take(parser.split_lines(lines))
        if not changes:
            return changes
        ends = list(accumulate((len(line) + 1 for line in lines.split(b"\n")), initial=0))
        return [change._replace(end=ends[change.end]) for change in changes]

    def take(self, lines: list[bytes]) -> list[LoggedChange]:
        """As `feed`, with the lines already separated, without LF (and CR)."""
        changes: list[LoggedChange] = []
        self._changes = changes
        self._lines = len(lines)
        self._rest = rest = iter(lines)
        handler_of = self._handlers.get
        last, at = b"", 0
        for line in rest:
            handle = handler_of(line[KIND])
            if handle is None:
                if line[10:12] == b": ":
                    continue
                padded = parser.aligned(line)
                if padded is None or (handle := handler_of(padded[KIND])) is None:
                    continue
                line = padded
            stamp = line[STAMP]
            if stamp != last:
                if not stamp.isdigit():
                    continue
                last, at = stamp, int(stamp)
            handle(line, at)
        return changes

    def boot(self, at: int) -> None:
        """Say that the machine booted then (Unix seconds): what began before is not at work since."""
        self._boot = max(self._boot, at)
        for item in self._items():
            if item.at_work:
                self._deadline = min(self._deadline, self._limit(item))

    @property
    def open_items(self) -> int:
        """How many merges began of which the end is not known yet."""
        return sum(1 for _ in self._items())

    # What a record says ---------------------------------------------------------------------------------

    def _on_start(self, line: bytes, at: int) -> None:
        """Handle ` >>> emerge (N of M) CPV to ROOT`."""
        close = line.find(b") ", 24)
        to = line.find(b" to ", close)
        if close < 0 or to < 0 or line[18:24] != b"merge ":
            return
        text = line[24 : close + 1]
        cpv = line[close + 2 : to]
        root = line[to + 4 :]
        place, package = self._places[text], self._packages[cpv]
        if place is None or package is None or self._roots[root] is None:
            return
        self._last_done = None
        key = package.key
        same = self._open.get(key)
        if same is not None:
            for item in same[::-1]:
                if item.cpv == cpv and item.root == root:
                    self._supersede(item, at)
                    same = self._open.get(key)
        self._advance(at)
        run = self._run_of_start(place[0], place[1], at)
        item = _Item(cpv, package, root, text, run, at, self._area, self._time)
        run.items.append(item)
        if same is None:
            self._open[key] = [item]
        else:
            same.append(item)
        self._at_work += 1
        limit = at + AT_WORK_FOR_AT_MOST
        if at < self._boot < limit:
            limit = self._boot
        if limit < self._deadline:
            self._deadline = limit
        if self._at_work > OPEN_ITEMS:
            self._conclude(next(self._items()), at, _KILLED)

    def _on_phase(self, line: bytes, at: int) -> None:
        """Handle ` === (N of M) Merging (CPV::PATH)` and its like."""
        close = line.find(b") ", 17)
        begin = line.find(b" (", close)
        phase = _PHASES.get(line[close + 2 : begin])
        end = line.find(b"::", begin)
        if close < 0 or begin < 0 or phase is None or end < 0 or line[-1:] != b")":
            return
        cpv = line[begin + 2 : end]
        package = self._packages[cpv]
        if package is None or self._places[text := line[17 : close + 1]] is None:
            return
        for item in reversed(self._open.get(package.key, ())):
            if item.cpv == cpv and item.place == text:
                install_type, built = phase
                item.install_type = install_type
                if built:
                    item.built = True
                if install_type == "source":
                    item.ebuild = line[end + 2 : -1]
                self._heard_of(item.run, at)
                return

    def _on_autoclean(self, line: bytes, at: int) -> None:
        """Handle ` >>> AUTOCLEAN: CAT/PN:SLOT`: the files of an item are in place."""
        if line[17:28] != b"AUTOCLEAN: ":
            return
        key, colon, _slot = line[28:].partition(b":")
        candidate = None
        for item in self._open.get(key, ()):
            if not item.in_place and (candidate is None or item.built >= candidate.built):
                candidate = item
        if candidate is not None:
            candidate.in_place = candidate.built = True
            candidate.slotless = not colon
            self._heard_of(candidate.run, at)

    def _on_replacement(self, line: bytes, at: int) -> None:
        """Handle ` === Unmerging... (CPV)`."""
        if line[17:31] == b"Unmerging... (" and line[-1:] == b")":
            self._begin_removal(line[31:-1], at, replacing=True)

    def _on_removal(self, line: bytes, at: int) -> None:
        """Handle `=== Unmerging... (CPV)`, without the space in front."""
        if line[16:30] == b"Unmerging... (" and line[-1:] == b")":
            self._begin_removal(line[30:-1], at, replacing=False)

    def _begin_removal(self, cpv: bytes, at: int, *, replacing: bool) -> None:
        if self._packages[cpv] is None:
            return
        self._advance(at)
        if len(self._removals) >= OPEN_ITEMS:
            self._removals.pop(next(iter(self._removals)))
        self._removals.pop(cpv, None)
        self._removals[cpv] = _Removal(replacing, at, self._area, self._time)

    def _on_removed(self, line: bytes, at: int) -> None:
        """Handle ` >>> unmerge success: CPV`."""
        cpv = line[34:]
        if line[17:34] != b"unmerge success: " or (package := self._packages[cpv]) is None:
            return
        self._advance(at)
        removal = self._removals.pop(cpv, None)
        item = self._replacer(package, replacing=removal is None or removal.replacing)
        if item is not None:
            item.replaces = package.version
        # Of the form of the record, even for logs in which every replacement looks manual.
        replaced = item is not None if removal is None else removal.replacing
        delta = concurrency = None
        if removal is not None and at >= removal.start:
            delta = at - removal.start
            own = 0.0 if replaced else 1.0
            concurrency = max(1.0, own + self._mean(removal.area, removal.time))
        root = self._roots[item.root] if item is not None and replaced else None
        self._changes.append(
            LoggedChange(
                "uninstall", package.category, package.name, package.version, root, None, None,
                "replaced" if replaced else "manual", None, at, delta, concurrency, removal is not None,
                self._taken(),
            )
        )  # fmt: skip

    def _replacer(self, package: Package, *, replacing: bool) -> _Item | None:
        """Return the item in whose favour `package` goes, if any."""
        candidate = None
        for item in self._open.get(package.key, ()):
            if (replacing or (item.slotless and item.in_place)) and (
                candidate is None or item.in_place >= candidate.in_place
            ):
                candidate = item
        return candidate

    def _on_kept(self, line: bytes, at: int) -> None:
        """Handle ` !!! unmerge FAILURE: CPV`."""
        if line[17:34] == b"unmerge FAILURE: ":
            self._removals.pop(line[34:], None)

    def _on_completed(self, line: bytes, at: int) -> None:
        """Handle ` ::: completed emerge (N of M) CPV to ROOT`."""
        close = line.find(b") ", 34)
        to = line.find(b" to ", close)
        if close < 0 or to < 0 or line[18:34] != b"ompleted emerge ":
            return
        text = line[34 : close + 1]
        cpv = line[close + 2 : to]
        root = line[to + 4 :]
        package, where = self._packages[cpv], self._roots[root]
        if self._places[text] is None or package is None or where is None:
            return
        for item in reversed(self._open.get(package.key, ())):
            if item.cpv == cpv and item.root == root:
                break
        else:
            if self._last_done != (text, cpv, root):
                self._last_done = (text, cpv, root)
                self._changes.append(
                    LoggedChange(
                        "install", package.category, package.name, package.version, where, None, None,
                        None, None, at, None, None, False, self._taken(),
                    )
                )  # fmt: skip
            return
        self._last_done = (text, cpv, root)
        self._advance(at)
        self._emit_install(item, at, known_end=True)
        run = item.run
        self._remove(item)
        self._heard_of(run, at)

    def _on_started(self, line: bytes, at: int) -> None:
        """Handle `Started emerge on: …`: a process begins. A good moment to give up what is long dead."""
        if line[18:29] != b"d emerge on":
            return
        while self._loose:
            at_end, how, runs = self._loose.pop(0)
            self._close(next(run for run in reversed(self._runs) if run in runs), at_end, how)
        self._advance(at)
        for run in self._runs[:]:
            for item in run.items[:]:
                if at - item.start > FORGOTTEN_AFTER:
                    self._conclude(item, at, _KILLED)
            if not run.items and at - run.seen > IDLE_RUN_FORGOTTEN_AFTER:
                self._forget(run)
        if not self._runs:
            self._finished.clear()
            self._removals.clear()
            self._area = self._time = 0
        if self._closing and abs(at - self._exited) > EXIT_LASTS_AT_MOST:
            self._closing = 0
        self._last_done = None
        self._terminated = 0
        self._runs.append(_Run(at))
        if len(self._runs) > OPEN_ITEMS:
            self._close(self._runs[0], at, _KILLED)

    def _on_command_or_exit(self, line: bytes, at: int) -> None:
        """Handle ` *** emerge …`, ` *** exiting successfully.`, ` *** exiting unsuccessfully …`."""
        text = line[17:]
        if text == b"exiting successfully.":
            self._on_exit(at, _SUCCEEDED if at >= STATUS_SINCE else _FAILED)
        elif text.startswith(b"exiting unsuccessfully with status '") and text.endswith(b"'."):
            self._on_exit(at, _FAILED)
        elif text.startswith(b"emerge "):
            run = next((run for run in self._runs if run.command is None), None)
            if run is None:
                run = _Run(at)
                self._runs.append(run)
            run.command = parser.read_command(text[7:])

    def _on_finished(self, line: bytes, at: int) -> None:
        """Handle ` *** Finished. Cleaning up...`: a list is done; how, `exiting` will tell."""
        if line[17:] == b"Finished. Cleaning up..." and len(self._finished) < OPEN_ITEMS:
            self._finished.append(at)

    def _on_exit(self, at: int, how: str) -> None:
        self._closing += 1
        self._exited = at
        if self._finished:
            self._end(self._finished.pop(0), how, finished=True)
        else:
            self._end(at, how, finished=False)

    def _on_terminating(self, line: bytes, at: int) -> None:
        """Handle ` *** terminating.`: the last record of a process; its only one if it was interrupted."""
        if line[17:] != b"terminating.":
            return
        again = at < SINGLE_END_SINCE and self._terminated == at
        self._terminated = at
        if self._closing:
            self._closing -= 1
            self._exited = self._exited if self._closing else 0
        elif self._finished:
            self._end(self._finished.pop(0), _FAILED, finished=True)
        elif not again:
            self._end(at, _TERMINATED, finished=False)

    def _on_restart(self, line: bytes, at: int) -> None:
        """Handle ` *** RESTARTING emerge via exec() after change of portage version.`."""
        if line[17:] == b"RESTARTING emerge via exec() after change of portage version.":
            self._end(at, _SUCCEEDED, finished=True)

    # Runs -----------------------------------------------------------------------------------------------

    def _run_of_start(self, n: int, m: int, at: int) -> _Run:
        """Return the run that starts its item `n` of `m`, and note that it does."""
        runs = self._runs
        certain = True
        if not runs:
            run = _Run(at)
            runs.append(run)
        elif len(runs) == 1:
            run = runs[0]
        else:
            run, certain = self._likeliest_run(n, m)
        if certain and run.items and (n == 1 or (run.command is not None and run.command.serial)):
            # Only one item at a time, or a new list (--keep-going): those before have ended.
            for item in run.items:
                if item.ended is None:
                    item.ended = at
                    self._stop_work(item)
        run.n, run.m = n, m
        if certain:
            self._heard_of(run, at)
        else:
            run.seen = at
        return run

    def _likeliest_run(self, n: int, m: int) -> tuple[_Run, bool]:
        newest_first = self._runs[::-1]
        if n > 1:
            for run in newest_first:
                if run.m == m and run.n == n - 1:
                    return run, True
            for run in newest_first:
                if run.m == m and run.n < n:
                    return run, False
        for run in newest_first:
            if not run.m:
                return run, False
        return newest_first[0], False

    def _heard_of(self, run: _Run, at: int) -> None:
        """Note that `run` is alive; whatever ended meanwhile was another."""
        if run is self._limbo:
            return
        run.seen = at
        runs = self._runs
        if runs[-1] is not run:
            runs.remove(run)
            runs.append(run)
        if self._loose:
            self._rule_out(run)

    def _rule_out(self, run: _Run) -> None:
        for loose in self._loose:
            if run in loose.runs:
                loose.runs.remove(run)
        while (decided := next((loose for loose in self._loose if len(loose.runs) <= 1), None)) is not None:
            self._loose.remove(decided)
            for other in decided.runs:
                self._close(other, decided.at, decided.how)

    def _end(self, at: int, how: str, *, finished: bool) -> None:
        """Close the run that this ending is of, or keep the ending until that is known."""
        if not self._runs:
            return
        if len(self._runs) == 1:
            self._close(self._runs[0], at, how)
            return
        free = [
            run for run in self._runs if not any(run in loose.runs for loose in self._loose)
        ] or self._runs
        marks = [_fitness(run, how, finished=finished) for run in free]
        best = [run for run, mark in zip(free, marks, strict=True) if mark == max(marks)]
        if len(best) == 1 or not any(run.items for run in best):
            self._close(best[-1], at, how)
        else:
            self._loose.append(_LooseEnd(at, how, best))
            self._close_all_ended()

    def _close_all_ended(self) -> None:
        """Close the runs among which the loose ends are, if there are as many ends as runs."""
        ended = [run for run in self._runs if any(run in loose.runs for loose in self._loose)]
        if len(ended) > len(self._loose):
            return
        ways = {loose.how for loose in self._loose}
        at, how = self._loose[-1].at, ways.pop() if len(ways) == 1 else _UNCLEAR
        self._loose.clear()
        for run in ended:
            self._close(run, at, how)

    def _close(self, run: _Run, at: int, how: str) -> None:
        self._advance(at)
        for item in run.items[:]:
            if how == _SUCCEEDED and not item.in_place and len(self._runs) > 1:
                # Nothing failed there: it must be another's.
                run.items.remove(item)
                self._limbo.items.append(item)
                item.run = self._limbo
            else:
                self._conclude(item, at, how)
        self._forget(run)

    def _forget(self, run: _Run) -> None:
        self._runs.remove(run)
        self._rule_out(run)
        if not self._runs:
            for item in self._limbo.items[:]:
                self._conclude(item, self._now, _SUCCEEDED)

    # Items ----------------------------------------------------------------------------------------------

    def _items(self) -> Iterator[_Item]:
        """Yield the open items of all runs, the run that was active longest ago first."""
        return (item for run in (*self._runs, self._limbo) for item in run.items)

    def _supersede(self, item: _Item, at: int) -> None:
        """The same package starts again: whatever ran before is gone, and nobody saw when."""
        run = item.run
        self._conclude(item, at, _KILLED)
        if not run.items and run is not self._limbo and len(self._runs) > 1:
            self._forget(run)

    def _conclude(self, item: _Item, at: int, how: str) -> None:
        """`item` did not complete, and its run ended so, or was `_KILLED` at an unknown time."""
        if item.in_place:
            # Only pkg_postinst failed: the package is there.
            self._emit_install(item, at if item.ended is None else item.ended, known_end=how != _KILLED)
        elif item.run.installs and how != _SUCCEEDED:
            self._emit_failure(item, at, how)
        self._remove(item)

    def _emit_install(self, item: _Item, at: int, *, known_end: bool) -> None:
        package = item.package
        install_type = "binary" if item.install_type == "binary" else "source"
        delta = concurrency = None
        if known_end and at >= item.start:
            delta = at - item.start
            concurrency = 1.0 if self._area - item.area == self._time - item.time else self._concurrency(item)
        ebuild = item.ebuild
        self._changes.append(
            LoggedChange(
                "install", package.category, package.name, package.version, self._roots[item.root],
                ebuild.decode("utf-8", "backslashreplace") if ebuild else None, install_type, None,
                item.replaces, at, delta, concurrency, True, self._taken(),
            )
        )  # fmt: skip

    def _emit_failure(self, item: _Item, at: int, how: str) -> None:
        package = item.package
        cause: str | None = "build" if item.built else "fetch"
        if item.ended is not None:
            at = item.ended
        elif how == _TERMINATED:
            cause = "interrupted"
        elif how == _UNCLEAR:
            cause = None
        elif how == _KILLED:
            cause = None if any(item.run in loose.runs for loose in self._loose) else "interrupted"
        delta = concurrency = None
        if at >= item.start and (how != _KILLED or item.ended is not None):
            delta, concurrency = at - item.start, self._concurrency(item)
        ebuild = item.ebuild
        self._changes.append(
            LoggedChange(
                "failure", package.category, package.name, package.version, self._roots[item.root],
                ebuild.decode("utf-8", "backslashreplace") if ebuild else None, item.install_type,
                cause, None, at, delta, concurrency, True, self._taken(),
            )
        )  # fmt: skip

    def _remove(self, item: _Item) -> None:
        key = item.package.key
        same = self._open[key]
        if len(same) == 1:
            del self._open[key]
        else:
            same.remove(item)
        item.run.items.remove(item)
        self._stop_work(item)

    def _taken(self) -> int:
        """Return how many lines of this call were taken so far."""
        return self._lines - length_hint(self._rest)

    # Time at work ---------------------------------------------------------------------------------------

    def _advance(self, at: int) -> None:
        """Let time pass until `at`. Where the clock was put back, nothing passes."""
        if at > self._now:
            if at > self._deadline:
                self._expire(at)
            passed = at - self._now
            self._area += self._at_work * passed
            self._time += passed
        self._now = at

    def _expire(self, at: int) -> None:
        """Stop counting, at their time, those that are taken for dead before `at`."""
        working = [item for item in self._items() if item.at_work]
        for limit, item in sorted(((self._limit(item), item) for item in working), key=lambda pair: pair[0]):
            if limit < at:
                passed = max(0, limit - self._now)
                self._area += self._at_work * passed
                self._time += passed
                self._now += passed
                self._stop_work(item)
        self._deadline = min((self._limit(item) for item in working if item.at_work), default=_NEVER)

    def _limit(self, item: _Item) -> int:
        limit = item.start + AT_WORK_FOR_AT_MOST
        return min(limit, self._boot) if item.start < self._boot else limit

    def _stop_work(self, item: _Item) -> None:
        if item.at_work:
            item.at_work = False
            self._at_work -= 1
            if not self._at_work:
                self._deadline = _NEVER

    def _concurrency(self, item: _Item) -> float:
        return max(1.0, self._mean(item.area, item.time))

    def _mean(self, area: int, time: int) -> float:
        """Return the mean number of merges at work since then; within one second, the number now."""
        passed = self._time - time
        return round((self._area - area) / passed, 2) if passed else float(self._at_work)

    # State ----------------------------------------------------------------------------------------------

    def dump(self) -> str:
        """Return the state as JSON: small where nothing is open, and equal for equal futures."""
        runs = [
            [
                run.seen,
                run.n,
                run.m,
                None if run.command is None else list(run.command),
                [_pack(i) for i in run.items],
            ]
            for run in self._runs
        ]
        # The items of one package are kept in order of their start, which the runs alone do not tell.
        ranks = {id(item): rank for same in self._open.values() for rank, item in enumerate(same)}
        state = {
            "format": _FORMAT,
            "clock": [self._now, self._boot, self._area, self._time],
            "runs": runs,
            "limbo": [_pack(item) for item in self._limbo.items],
            "ranks": [ranks[id(item)] for item in self._items()],
            "loose": [[at, how, [self._runs.index(run) for run in ended]] for at, how, ended in self._loose],
            "removals": [[_text(cpv), *removal] for cpv, removal in self._removals.items()],
            "ends": [self._finished, self._closing, self._exited, self._terminated],
            "last": None if self._last_done is None else [_text(part) for part in self._last_done],
        }
        return json.dumps(state, separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> MergeTracker:
        """Return a tracker that continues where the one that dumped `text` was. Raises ValueError."""
        tracker = cls()
        try:
            tracker._restore(json.loads(text))
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"not a state of the merge tracker: {error!r}") from error
        return tracker

    def _restore(self, state: dict[str, Any]) -> None:
        if state["format"] != _FORMAT:
            raise ValueError(f"a merge tracker's state of the unknown format {state['format']!r}")
        self._now, self._boot, self._area, self._time = state["clock"]
        for seen, n, m, command, items in state["runs"]:
            run = _Run(seen)
            run.n, run.m = n, m
            run.command = None if command is None else Command(*command)
            run.items.extend(self._unpack(run, *fields) for fields in items)
            self._runs.append(run)
        self._limbo.items.extend(self._unpack(self._limbo, *fields) for fields in state["limbo"])
        for _, item in sorted(zip(state["ranks"], self._items(), strict=True), key=lambda pair: int(pair[0])):
            self._open.setdefault(item.package.key, []).append(item)
        self._at_work = sum(item.at_work for item in self._items())
        self._deadline = min((self._limit(item) for item in self._items() if item.at_work), default=_NEVER)
        self._loose = [
            _LooseEnd(at, how, [self._runs[i] for i in ended]) for at, how, ended in state["loose"]
        ]
        self._removals = {_bytes(cpv): _Removal(*removal) for cpv, *removal in state["removals"]}
        self._finished, self._closing, self._exited, self._terminated = state["ends"]
        last = state["last"]
        self._last_done = None if last is None else (_bytes(last[0]), _bytes(last[1]), _bytes(last[2]))

    def _unpack(self, run: _Run, cpv: str, root: str, place: str, *rest: Any) -> _Item:
        package = self._packages[_bytes(cpv)]
        if package is None:
            raise ValueError(f"not a package: {cpv!r}")
        start, area, time, at_work, ended, built, in_place, slotless, install_type, ebuild, replaces = rest
        item = _Item(_bytes(cpv), package, _bytes(root), _bytes(place), run, start, area, time)
        item.at_work, item.ended, item.built = at_work, ended, built
        item.in_place, item.slotless = in_place, slotless
        item.install_type, item.replaces = install_type, replaces
        item.ebuild = None if ebuild is None else _bytes(ebuild)
        return item


def _pack(item: _Item) -> list[object]:
    return [
        _text(item.cpv),
        _text(item.root),
        _text(item.place),
        item.start,
        item.area,
        item.time,
        item.at_work,
        item.ended,
        item.built,
        item.in_place,
        item.slotless,
        item.install_type,
        None if item.ebuild is None else _text(item.ebuild),
        item.replaces,
    ]


def _text(raw: bytes) -> str:
    """Return bytes as text that JSON can hold and `_bytes` gives back exactly."""
    return raw.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def _fitness(run: _Run, how: str, *, finished: bool) -> int:
    """How well an ending fits `run`: 0 hardly, 3 very well. `finished`: it said so before it exited."""
    merged = run.m > 0
    if how == _TERMINATED:  # without exiting: synchronizing, --config and the like; or interrupted
        return 2 if run.items else 1 if merged else 3
    if how == _SUCCEEDED:
        if run.items and run.installs:
            return 0
        if not merged:
            return 2 if finished else 3
        return 3 if finished and run.n == run.m else 1
    if run.items:
        return 3 if finished else 1
    if merged:
        return 1
    return 1 if finished else 3


_PHASES: Final[dict[bytes, tuple[str, bool]]] = {
    b"Cleaning": ("source", False),
    b"Compiling/Merging": ("source", True),
    b"Compiling/Packaging": ("source", True),
    b"Merging": ("source", True),
    b"Fetching Binary": ("binary", False),
    b"Merging Binary": ("binary", True),
}
"""What a phase says of an item: its install type, and whether the fetch is behind it."""
