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

What the fields of a change mean is in docs/protocol.md. Portage documents its log nowhere; what is known of
it beyond its source stands beside the code that relies on it, and in the tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from gentwoo_client.log import parser
from gentwoo_client.log.parser import Package

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

Match: TypeAlias = re.Match[bytes]


# The last groups of records, to find their ends.
_GROUPS = parser.TOKEN.groupindex
_START_ROOT: Final = _GROUPS["start_root"]
_CLEANING: Final = _GROUPS["cleaning"]
_START_PATH: Final = _GROUPS["start_path"]
_WHOLE_KEY: Final = _GROUPS["whole_cp"]
_WHOLE_GONE_AT: Final = _GROUPS["whole_gone_at"]
_WHOLE_DONE_AT: Final = _GROUPS["whole_done_at"]
_PHASE_PATH: Final = _GROUPS["phase_path"]
_PLACED_SLOT: Final = _GROUPS["placed_slot"]
_PLACED_GONE_AT: Final = _GROUPS["placed_gone_at"]
_PLACED_ROOT: Final = _GROUPS["placed_root"]
_REMOVED_CPV: Final = _GROUPS["removed_cpv"]
_COMPLETED_ROOT: Final = _GROUPS["completed_root"]
_IDLE_UNTIL: Final = _GROUPS["idle_until"]
_ENDING: Final = _GROUPS["ending"]
_STATUS: Final = _GROUPS["status"]
_TERMINATED_AT: Final = _GROUPS["terminated_at"]

_FORMAT: Final = 1


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
    """Offset, within the bytes fed, just after the line that decided this."""


_new = tuple.__new__


def _change(*fields: Any) -> LoggedChange:
    """Return `LoggedChange(*fields)` in half of the time."""
    return _new(LoggedChange, fields)


class _Run:
    """A process that merges, unmerges, synchronizes, …"""

    __slots__ = ("_serial", "command", "items", "m", "n", "seen")

    def __init__(self, seen: int) -> None:
        self.command: bytes | None = None
        self._serial: bool | None = None
        self.seen = seen
        self.n = 0
        self.m = 0
        self.items: list[_Item] = []

    def obey(self, command: bytes) -> None:
        self.command = command
        self._serial = None

    @property
    def installs(self) -> bool:
        return self.command is None or parser.installs(self.command)

    @property
    def is_serial(self) -> bool:
        if self._serial is None:
            self._serial = self.command is not None and parser.is_serial(self.command)
        return self._serial


class _Item:
    """A merge that began and has not ended yet."""

    __slots__ = (
        "area", "at_work", "built", "cpv", "ebuild", "ended", "in_place", "install_type", "package", "place",
        "replaces", "root", "run", "slotless", "start", "time",
    )  # fmt: skip

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
        self.at_work = True  # it counts in `concurrency`
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
        self._match: Match | None = None  # the token at hand,
        self._locate = True
        self._group = 0  # and the last group of its record at hand

    def feed(self, lines: bytes, *, locate: bool = True) -> list[LoggedChange]:
        """Take whole lines, each ending in LF, and return what they decided. Bad lines are skipped.

        Without `locate` the changes do not say where they end, which saves a little time.
        """
        self._locate = locate
        changes = self._changes = []
        handlers = _HANDLERS
        for match in parser.TOKEN.finditer(lines):
            handle = handlers[match.lastindex]  # type: ignore[index]  # every alternative ends with a group
            if handle is not None:
                self._match = match
                handle(self, match)
        self._match = None
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

    def _on_start(self, match: Match) -> None:
        """Handle ` >>> emerge (N of M) CPV to ROOT`, and perhaps Cleaning and Compiling of the same item."""
        at, place, cpv, root, cleaning, path = match.group(*parser.START_FIELDS)
        package = parser.PACKAGES[cpv]
        if package is None:
            return
        self._group = _START_ROOT
        item = self._start(int(at), place, cpv, package, root)
        if cleaning is None:
            return
        if not self._loose and self._runs[-1] is item.run:
            item.install_type = "source"  # as below; the run has just been heard of
            item.built = path is not None
            item.ebuild = cleaning
            return
        self._prepare(place, cpv, cleaning, path)

    def _prepare(self, place: bytes, cpv: bytes, cleaning: bytes, path: bytes | None) -> None:
        """The item just begun gets to Cleaning, and perhaps to Compiling."""
        self._group = _CLEANING
        self._reach(place, cpv, b"Cleaning", cleaning)
        if path is not None:
            self._group = _START_PATH
            self._reach(place, cpv, b"Compiling/Merging", path)

    def _on_whole(self, match: Match) -> None:
        """Handle all of an item."""
        fields: tuple[Any, ...] = match.group(*parser.WHOLE_FIELDS)
        at, place, cpv, root, cleaning, path, key, old_at, old, gone_at, done_at = fields
        package = parser.PACKAGES[cpv]
        if package is None:
            self._arrive(key, is_slotless=False)
            self._replace(_WHOLE_GONE_AT, old_at, old, gone_at)
        elif not self._whole(package, fields):
            self._group = _START_ROOT
            self._start(int(at), place, cpv, package, root)
            self._prepare(place, cpv, cleaning, path)
            self._group = _WHOLE_KEY
            self._reach(place, cpv, b"Merging", path)
            self._arrive(key, is_slotless=False)
            self._replace(_WHOLE_GONE_AT, old_at, old, gone_at)
            self._group = _WHOLE_DONE_AT
            self._complete(int(done_at), place, cpv, root)

    def _whole(self, package: Package, fields: tuple[Any, ...]) -> bool:
        """Do at once what the handlers of each record would: an ordinary install while nothing else is open.

        Returns False, having done nothing, where it is anything else.
        """
        stamp, place, cpv, root_text, _, path, key, old_at, old, gone_at, done_at = fields
        category, name, version, own_key = package
        if self._open or key != own_key or self._removals or self._loose or len(self._runs) != 1:
            return False
        at, end, now = int(stamp), int(done_at), self._now
        if at < now or at < self._boot or not 0 <= end - at < AT_WORK_FOR_AT_MOST:
            return False
        root, replaces = parser.ROOTS[root_text], None
        if old is not None:
            gone = parser.PACKAGES[old]
            begin, past = int(old_at), int(gone_at)
            if gone is None or gone.key != key or not at <= begin <= past <= end:
                return False
            replaces = gone.version
            self._group = _WHOLE_GONE_AT
            self._changes.append(
                _new(LoggedChange, (
                    "uninstall", category, name, replaces, root, None, None,
                    "replaced", None, past, past - begin, 1.0, True, self._locate and self._end_of_record(),
                ))
            )  # fmt: skip
        self._group = _WHOLE_DONE_AT
        self._changes.append(
            _new(LoggedChange, (
                "install", category, name, version, root, path.decode("utf-8", "backslashreplace"),
                "source", None, replaces, end, end - at, 1.0, True, self._locate and self._end_of_record(),
            ))
        )  # fmt: skip
        run = self._runs[0]
        run.n, run.m = parser.PLACES[place]
        run.seen = self._now = end
        self._area += end - at
        self._time += end - now
        self._last_done = (place, cpv, root_text)
        return True

    def _start(self, at: int, place: bytes, cpv: bytes, package: Package, root: bytes) -> _Item:
        self._last_done = None
        key = package.key
        same = self._open.get(key)
        if same is not None:
            for item in same[::-1]:
                if item.cpv == cpv and item.root == root:
                    self._supersede(item, at)
            same = self._open.get(key)
        self._advance(at)
        n, m = parser.PLACES[place]
        runs = self._runs
        if len(runs) == 1 and not self._loose and (not runs[0].items or (n > 1 and not runs[0].is_serial)):
            run = runs[0]  # as below
            run.n, run.m, run.seen = n, m, at
        else:
            run = self._run_of_start(n, m, at)
        item = _Item(cpv, package, root, place, run, at, self._area, self._time)
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
        return item

    def _on_phase(self, match: Match) -> None:
        """Handle ` === (N of M) Merging (CPV::PATH)` and its like."""
        place, phase, cpv, path = match.group(*parser.PHASE_FIELDS)
        self._group = _PHASE_PATH
        self._reach(place, cpv, phase, path)

    def _reach(self, place: bytes, cpv: bytes, phase: bytes, path: bytes) -> None:
        """Note how far the item at `place` has got."""
        package = parser.PACKAGES[cpv]
        if package is None:
            return
        for item in reversed(self._open.get(package.key, ())):
            if item.cpv == cpv and item.place == place:
                item.install_type, built = _PHASES[phase]
                if built:
                    item.built = True
                if phase in _OF_AN_EBUILD:
                    item.ebuild = path
                self._heard_of(item.run)
                return

    def _on_placed(self, match: Match) -> None:
        """Handle ` >>> AUTOCLEAN: CAT/PN:SLOT`, and perhaps the replacement of the old version."""
        key, slot, old_at, old, gone_at = match.group(*parser.PLACED_FIELDS)
        self._group = _PLACED_SLOT
        self._arrive(key, is_slotless=not slot)
        self._replace(_PLACED_GONE_AT, old_at, old, gone_at)

    def _on_finished(self, match: Match) -> None:
        """Handle the same, and then the completion: at once where it is as usual, else record by record."""
        key, slot, old_at, old, gone_at, done_at, place, cpv, root = match.group(*parser.FINISHED_FIELDS)
        item, end = self._usual_item(key, cpv, root), int(done_at)
        if (
            item is None
            or not slot
            or not self._now <= end <= self._deadline
            or (old is not None and not self._make_room(item, int(old_at), old, int(gone_at), end))
        ):
            self._on_placed(match)
            self._group = _PLACED_ROOT
            self._complete(end, place, cpv, root)
            return
        passed = end - self._now
        self._area += self._at_work * passed
        self._time += passed
        self._now = end
        self._group = _PLACED_ROOT
        self._last_done = (place, cpv, root)
        self._emit_install(item, end, known_end=True)
        self._remove(item)
        run = item.run
        run.seen = end
        if self._runs[-1] is not run:
            self._heard_of(run)

    def _usual_item(self, key: bytes, cpv: bytes, root: bytes) -> _Item | None:
        """Return the only open item of that package, if it is at work as usual, beside others or alone."""
        same = self._open.get(key)
        if same is None or len(same) != 1 or self._loose:
            return None
        item = same[0]
        if (
            item.cpv != cpv
            or item.root != root
            or item.in_place
            or not item.at_work
            or item.run is self._limbo
        ):
            return None
        return item

    def _make_room(self, item: _Item, begin: int, old: bytes, past: int, end: int) -> bool:
        """The package `old` goes for `item`. Returns False, having done nothing, if not as usual."""
        gone = parser.PACKAGES[old]
        category, name, _, key = item.package
        if gone is None or gone.key != key or not self._now <= begin <= past <= end:
            return False
        item.replaces = gone.version
        if self._removals:
            self._removals.pop(old, None)
        self._group = _PLACED_GONE_AT
        self._changes.append(
            _new(LoggedChange, (
                "uninstall", category, name, gone.version, parser.ROOTS[item.root], None, None, "replaced",
                None, past, past - begin, float(self._at_work), True, self._locate and self._end_of_record(),
            ))
        )  # fmt: skip
        return True

    def _arrive(self, key: bytes, *, is_slotless: bool) -> None:
        """An item of that package is in place."""
        candidate = None
        for item in self._open.get(key, ()):
            if not item.in_place and (candidate is None or item.built >= candidate.built):
                candidate = item
        if candidate is not None:
            candidate.in_place = candidate.built = True
            candidate.slotless = is_slotless
            self._heard_of(candidate.run)

    def _replace(self, group: int, old_at: bytes | None, old: bytes | None, gone_at: bytes) -> None:
        """The package `old`, if any, made room for another; `group` is the last one of that."""
        package = None if old is None else parser.PACKAGES[old]
        if package is not None and old is not None and old_at is not None:
            self._advance(begin := int(old_at))
            self._removals.pop(old, None)
            self._group = group
            self._end_removal(int(gone_at), package, _Removal(True, begin, self._area, self._time))

    def _on_replacing(self, match: Match) -> None:
        """Handle ` === Unmerging... (CPV)`."""
        at, cpv = match.group(*parser.REPLACING_FIELDS)
        self._begin_removal(int(at), cpv, replacing=True)

    def _on_removing(self, match: Match) -> None:
        """Handle `=== Unmerging... (CPV)`, without the space in front."""
        at, cpv = match.group(*parser.REMOVING_FIELDS)
        self._begin_removal(int(at), cpv, replacing=False)

    def _begin_removal(self, at: int, cpv: bytes, *, replacing: bool) -> None:
        if parser.PACKAGES[cpv] is None:
            return
        self._advance(at)
        if len(self._removals) >= OPEN_ITEMS:
            self._removals.pop(next(iter(self._removals)))
        self._removals.pop(cpv, None)
        self._removals[cpv] = _Removal(replacing, at, self._area, self._time)

    def _on_removed(self, match: Match) -> None:
        """Handle ` >>> unmerge success: CPV`."""
        at, cpv = match.group(*parser.REMOVED_FIELDS)
        package = parser.PACKAGES[cpv]
        if package is not None:
            self._group = _REMOVED_CPV
            self._end_removal(int(at), package, self._removals.pop(cpv, None))

    def _end_removal(self, at: int, package: Package, removal: _Removal | None) -> None:
        self._advance(at)
        item = self._replacer(package, replacing=removal is None or removal.replacing)
        if item is not None:
            item.replaces = package.version
        # Of the form of the record, even for logs in which every replacement looks manual.
        replaced = item is not None if removal is None else removal.replacing
        delta = concurrency = None
        if removal is not None and at >= removal.start:
            delta = at - removal.start
            concurrency = self._mean(removal.area, removal.time)
            if not replaced:
                concurrency += 1.0
            elif concurrency < 1.0:
                concurrency = 1.0
        root = parser.ROOTS[item.root] if item is not None and replaced else None
        self._changes.append(
            _change(
                "uninstall", package.category, package.name, package.version, root, None, None,
                "replaced" if replaced else "manual", None, at, delta, concurrency, removal is not None,
                self._end_of_record(),
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

    def _on_kept(self, match: Match) -> None:
        """Handle ` !!! unmerge FAILURE: CPV`."""
        self._removals.pop(match[parser.KEPT], None)

    def _on_completed(self, match: Match) -> None:
        """Handle ` ::: completed emerge (N of M) CPV to ROOT`."""
        at, place, cpv, root = match.group(*parser.COMPLETED_FIELDS)
        self._group = _COMPLETED_ROOT
        self._complete(int(at), place, cpv, root)

    def _complete(self, at: int, place: bytes, cpv: bytes, root: bytes) -> None:
        package = parser.PACKAGES[cpv]
        if package is None:
            return
        done = (place, cpv, root)
        for item in reversed(self._open.get(package.key, ())):
            if item.cpv == cpv and item.root == root:
                self._last_done = done
                self._advance(at)
                self._emit_install(item, at, known_end=True)
                self._remove(item)
                item.run.seen = at
                self._heard_of(item.run)
                return
        if self._last_done != done:
            self._last_done = done
            self._changes.append(
                _change(
                    "install", package.category, package.name, package.version, parser.ROOTS[root],
                    None, None, None, None, at, None, None, False, self._end_of_record(),
                )
            )  # fmt: skip

    def _on_started(self, match: Match) -> None:
        """Handle `Started emerge on: …`, and perhaps the command."""
        at, command = match.group(*parser.STARTED_FIELDS)
        self._group = parser.STAMP
        self._begin_run(int(at))
        if command is not None:
            self._command(int(at), command)

    def _on_idle(self, match: Match) -> None:
        """Handle a process that merged nothing: `Started emerge on: …`, the command, `terminating`."""
        at, until = match.group(*parser.IDLE_FIELDS)
        if self._runs or self._closing:
            self._on_started(match)
            self._group = _IDLE_UNTIL
            self._terminate(int(until))
            return
        # It was alone; as above.
        self._finished.clear()
        self._removals.clear()
        self._now = self._terminated = int(until)
        self._area, self._time = 0, max(0, self._now - int(at))
        self._last_done = None

    def _begin_run(self, at: int) -> None:
        """A process begins: a good moment to give up what is long dead."""
        while self._loose:
            at_end, how, runs = self._loose.pop(0)
            likeliest = next(run for run in reversed(self._runs) if run in runs)
            self._close(likeliest, at_end, how)
        self._advance(at)
        for item in self._limbo.items[:]:
            if item.ended is not None or at - item.start > FORGOTTEN_AFTER:
                self._conclude(item, at, _SUCCEEDED)
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

    def _on_command(self, match: Match) -> None:
        """Handle ` *** emerge OPTIONS --ACTION ARGUMENTS`."""
        at, command = match.group(*parser.COMMAND_FIELDS)
        self._command(int(at), command)

    def _command(self, at: int, text: bytes) -> None:
        run = next((run for run in self._runs if run.command is None), None)
        if run is None:
            run = _Run(at)
            self._runs.append(run)
        run.obey(parser.options(text))

    def _on_ending(self, match: Match) -> None:
        """Handle what a process says at its end: Finished, exiting, terminating."""
        stamp, text, exited_at, status, terminated_at = match.group(*parser.ENDING_FIELDS)
        at = int(stamp)
        if len(self._runs) == 1 and not (self._open or self._loose or self._finished or self._closing):
            # The only run ends with nothing open; as below.
            if terminated_at is not None and (status is not None or text.startswith(b"exiting")):
                self._runs.clear()
                self._advance(at)
                self._exited = 0
                self._terminated = int(terminated_at)
                return
            if text == b"terminating." and terminated_at is None and self._terminated != at:
                self._runs.clear()
                self._advance(at)
                self._terminated = at
                return
        self._group = _ENDING
        self._say_ending(at, text)
        if status is not None:
            self._group = _STATUS
            self._say_ending(int(exited_at), status)
        if terminated_at is not None:
            self._group = _TERMINATED_AT
            self._terminate(int(terminated_at))

    def _say_ending(self, at: int, text: bytes) -> None:
        if text == b"terminating.":
            self._terminate(at)
        elif text == b"exiting successfully.":
            self._exit(at, _SUCCEEDED if at >= STATUS_SINCE else _FAILED)
        elif text.startswith(b"exiting"):
            self._exit(at, _FAILED)
        elif text.startswith(b"RESTARTING"):
            self._end(at, _SUCCEEDED, finished=True)
        elif len(self._finished) < OPEN_ITEMS:
            self._finished.append(at)  # how it went, `exiting` will tell

    def _exit(self, at: int, how: str) -> None:
        self._closing += 1
        self._exited = at
        if self._finished:
            self._end(self._finished.pop(0), how, finished=True)
        else:
            self._end(at, how, finished=False)

    def _terminate(self, at: int) -> None:
        """The last record of a process; its only one if it was interrupted."""
        again = at < SINGLE_END_SINCE and self._terminated == at
        self._terminated = at
        if self._closing:
            self._closing -= 1
            self._exited = self._exited if self._closing else 0
        elif self._finished:
            self._end(self._finished.pop(0), _FAILED, finished=True)
        elif not again:
            self._end(at, _TERMINATED, finished=False)

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
        if certain and run.items and (n == 1 or run.is_serial):
            # Only one item at a time, or a new list (--keep-going): those before have ended.
            for item in run.items:
                if item.ended is None:
                    item.ended = at
                    self._stop_work(item)
        run.n, run.m = n, m
        run.seen = at
        if certain:
            self._heard_of(run)
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

    def _heard_of(self, run: _Run) -> None:
        """Note that `run` is alive; whatever ended meanwhile was another."""
        runs = self._runs
        if runs[-1] is not run and run is not self._limbo:
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
            if (how == _SUCCEEDED or item.in_place) and len(self._runs) > 1:
                # It has not completed, yet did not fail either: perhaps it is another's.
                if how != _SUCCEEDED and item.ended is None:
                    item.ended = at
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
        elif item.run.installs and item.run is not self._limbo and how != _SUCCEEDED:
            self._emit_failure(item, at, how)
        self._remove(item)

    def _emit_install(self, item: _Item, at: int, *, known_end: bool) -> None:
        package = item.package
        install_type = "binary" if item.install_type == "binary" else "source"
        delta = concurrency = None
        if known_end and at >= item.start:
            delta, concurrency = at - item.start, self._concurrency(item)
        ebuild = item.ebuild
        self._changes.append(
            _change(
                "install", package.category, package.name, package.version, parser.ROOTS[item.root],
                ebuild.decode("utf-8", "backslashreplace") if ebuild else None, install_type, None,
                item.replaces, at, delta, concurrency, True, self._end_of_record(),
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
            _change(
                "failure", package.category, package.name, package.version, parser.ROOTS[item.root],
                ebuild.decode("utf-8", "backslashreplace") if ebuild else None, item.install_type,
                cause, None, at, delta, concurrency, True, self._end_of_record(),
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

    def _end_of_record(self) -> int:
        """Return where the record at hand ends in the bytes that were fed."""
        match = self._match
        if match is None or not self._locate:
            return 0
        return match.string.index(b"\n", match.end(self._group)) + 1

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
                None if run.command is None else _text(run.command),
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
            raise ValueError(f"the merge tracker's state is of format {state['format']!r}, not {_FORMAT}")
        self._now, self._boot, self._area, self._time = state["clock"]
        for seen, n, m, command, items in state["runs"]:
            run = _Run(seen)
            run.n, run.m = n, m
            run.command = None if command is None else _bytes(command)
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
        package = parser.PACKAGES[_bytes(cpv)]
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


_OF_AN_EBUILD: Final = frozenset({b"Cleaning", b"Compiling/Merging", b"Compiling/Packaging", b"Merging"})
_PHASES: Final[dict[bytes, tuple[str, bool]]] = {
    b"Cleaning": ("source", False),
    b"Compiling/Merging": ("source", True),
    b"Compiling/Packaging": ("source", True),
    b"Merging": ("source", True),
    b"Fetching Binary": ("binary", False),
    b"Merging Binary": ("binary", True),
}
"""What a phase says of an item: its install type, and whether the fetch is behind it."""

_HANDLER_OF: Final[dict[int, Callable[[MergeTracker, Match], None]]] = {
    **dict.fromkeys(parser.START, MergeTracker._on_start),
    parser.WHOLE: MergeTracker._on_whole,
    parser.PHASE: MergeTracker._on_phase,
    **dict.fromkeys(parser.PLACED, MergeTracker._on_placed),
    parser.FINISHED: MergeTracker._on_finished,
    parser.REPLACING: MergeTracker._on_replacing,
    parser.REMOVING: MergeTracker._on_removing,
    parser.REMOVED: MergeTracker._on_removed,
    parser.KEPT: MergeTracker._on_kept,
    parser.COMPLETED: MergeTracker._on_completed,
    **dict.fromkeys(parser.STARTED, MergeTracker._on_started),
    parser.IDLE: MergeTracker._on_idle,
    parser.COMMAND: MergeTracker._on_command,
    **dict.fromkeys(parser.ENDING, MergeTracker._on_ending),
}
_HANDLERS: Final = [_HANDLER_OF.get(kind) for kind in range(parser.TOKEN.groups + 1)]
