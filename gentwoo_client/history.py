# SPDX-License-Identifier: GPL-2.0-or-later
"""The history that emerge.log tells, as JSON lines or as a table, without journal or collector.

Logs are read in segments of whole lines: tracked, formatted, written. Of large plain logs two processes take
turns; see `_Relay`.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Protocol

from gentwoo_client.errors import UsageError
from gentwoo_client.log.files import in_order_of_time, read_blocks
from gentwoo_client.log.packed import is_packed
from gentwoo_client.log.tracker import LoggedChange, MergeTracker
from gentwoo_client.repositories import Repositories
from gentwoo_client.wire.version import compare_versions

if TYPE_CHECKING:
    from gentwoo_client.wire.atom import Atom

SEGMENT_SIZE: Final = 1 << 19
"""Bytes of a plain log that one process takes at once."""

ALONE_BELOW: Final = 16 << 20
"""Bytes of all logs together below which a second process does not pay."""

DAY: Final = 86400

_REMEMBERED = 4096  # formatted pieces of each kind, before all are forgotten


# What is asked for ----------------------------------------------------------------------------------------


class Selection(NamedTuple):
    """Which changes to show."""

    atoms: tuple[Atom, ...] = ()
    since: int | None = None
    """Unix seconds, inclusive."""
    until: int | None = None
    """Unix seconds, inclusive."""
    events: frozenset[str] = frozenset()
    """Empty for all."""

    @property
    def is_everything(self) -> bool:
        return not (self.atoms or self.events) and self.since is None and self.until is None

    def has(self, change: LoggedChange, repository: str | None) -> bool:
        """Whether `change` is asked for."""
        if self.since is not None and change.at < self.since:
            return False
        if self.until is not None and change.at > self.until:
            return False
        if self.events and change.event not in self.events:
            return False
        if not self.atoms:
            return True
        from gentwoo_client.wire.cpv import CPV

        cpv = CPV(change.category, change.name, change.version)
        return any(atom.matches(cpv, repository=repository) for atom in self.atoms)


_UNITS = {
    "second": 1, "sec": 1, "s": 1, "minute": 60, "min": 60, "hour": 3600, "h": 3600, "day": DAY, "d": DAY,
    "week": 7 * DAY, "w": 7 * DAY, "month": 30 * DAY, "year": 365 * DAY, "y": 365 * DAY,
}  # fmt: skip
_RELATIVE = r"(\d{1,6}|an?)\s*([a-z]+?)s?(?:\s+ago)?"


def parse_moment(text: str, now: float, *, end: bool = False) -> int:
    """Return the Unix time that a person means.

    That is an ISO date or time (local unless it says otherwise), Unix seconds, `now`, `today`, `yesterday`,
    or an age (`3 days`, `2 weeks ago`; a month is 30 days, a year 365). A whole day is its first second, or
    its last with `end`. Raises `UsageError`.
    """
    words = text.strip().lower()
    if words == "now":
        return int(now)
    if words in ("today", "yesterday"):
        return _of_day(time.localtime(now)[:3], -1 if words == "yesterday" else 0, end=end)
    if re.fullmatch(r"\d{9,}", words):
        return int(words)
    age = re.fullmatch(_RELATIVE, words)
    if age is not None and age[2] in _UNITS:
        return int(now) - (int(age[1]) if age[1].isdigit() else 1) * _UNITS[age[2]]
    if re.fullmatch(r"\d{4}-\d\d-\d\d", words):
        try:
            time.strptime(words, "%Y-%m-%d")
        except ValueError:
            raise _no_moment(text) from None
        return _of_day([int(part) for part in words.split("-")], 0, end=end)
    from datetime import datetime

    try:
        return int(datetime.fromisoformat(text.strip()).timestamp())
    except (ValueError, OverflowError, OSError):
        raise _no_moment(text) from None


def _of_day(date: Sequence[int], later: int, *, end: bool) -> int:
    year, month, day = date
    start_of = day + later + (1 if end else 0)
    return int(time.mktime((year, month, start_of, 0, 0, 0, 0, 0, -1))) - (1 if end else 0)


def _no_moment(text: str) -> UsageError:
    return UsageError(
        f"{text!r} is no time",
        advice="use 2026-11-22, 2026-11-22T08:15, Unix seconds, yesterday, or an age such as '3 days'",
    )


# How it is shown ------------------------------------------------------------------------------------------


class Format(Protocol):
    """Turns changes into lines of text."""

    def lines(self, changes: Iterable[LoggedChange], seq: int) -> list[str]:
        """Return the lines that show `changes`, of which the first has the number `seq` in the whole log."""

    def totals(self) -> list[int]:
        """Return sums over all that was shown; sums of several formats may be added up."""

    def closing(self, totals: Sequence[int]) -> str:
        """Return what stands at the end."""


class _Repository:
    """Names of repositories by the paths of ebuilds, remembered also where there is none."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._names: dict[str, str | None] = {}

    def __call__(self, ebuild: str) -> str | None:
        location = ebuild.rsplit("/", 3)[0]
        try:
            return self._names[location]
        except KeyError:
            if len(self._names) >= _REMEMBERED:
                self._names.clear()
            name = self._names[location] = self._repositories.of_ebuild(ebuild)
            return name


_TWO = [f"{number:02}" for number in range(60)]
_MINUTES = [
    hour + minute for hour in [f"{two}:" for two in _TWO[:24]] for minute in [f"{two}:" for two in _TWO]
]


class _UtcMoments(dict[int, str]):
    """Days since the epoch → `2026-11-22T`, remembered."""

    def __missing__(self, day: int) -> str:
        if len(self) >= _REMEMBERED:
            self.clear()
        date = self[day] = time.strftime("%Y-%m-%dT", time.gmtime(day * DAY))
        return date


class _LocalMoments:
    """Unix times as local date and time. What is the same all day is remembered."""

    def __init__(self) -> None:
        self._dates: dict[int, tuple[str, int | None]] = {}  # by day of UTC: the date, and the offset there

    def __call__(self, at: int) -> str:
        day = at // DAY
        known = self._dates.get(day) or self._date(day)
        offset = known[1]
        if offset is None:  # clocks are changed within the day
            return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
        local = at + offset
        later, second = divmod(local, DAY)
        if later != day:
            known = self._dates.get(later) or self._date(later)
        minute, second = divmod(second, 60)
        return f"{known[0]}{_MINUTES[minute]}{_TWO[second]}"

    def _date(self, day: int) -> tuple[str, int | None]:
        if len(self._dates) >= _REMEMBERED:
            self._dates.clear()
        start = day * DAY
        first, last = time.localtime(start).tm_gmtoff, time.localtime(start + DAY).tm_gmtoff
        known = time.strftime("%Y-%m-%d ", time.gmtime(start)), first if first == last else None
        self._dates[day] = known
        return known


class _Quoted(dict["str | None", str]):
    """Text or None as JSON, remembered."""

    def __missing__(self, value: str | None) -> str:
        if len(self) >= _REMEMBERED:
            self.clear()
        text = self[value] = json.dumps(value)
        return text


class _Roots(dict[str, str]):
    """ROOT → how the line of a record ends, remembered."""

    def __missing__(self, root: str) -> str:
        if len(self) >= _REMEMBERED:
            self.clear()
        text = self[root] = f',"root":{json.dumps(root)}{_END}'
        return text


_END = "}\n"


class JsonFormat:
    """One `PackageStateChange` a line, as in docs/protocol.md, then `root` where the log names one."""

    def __init__(self, selection: Selection, repositories: Repositories) -> None:
        self._selection = None if selection.is_everything else selection
        self._repository = _Repository(repositories)
        self._days = _UtcMoments()
        self._json = _Quoted()
        self._roots = _Roots()

    def lines(self, changes: Iterable[LoggedChange], seq: int) -> list[str]:
        selection, days, repository_of, as_json = self._selection, self._days, self._repository, self._json
        minutes, two = _MINUTES, _TWO
        lines = []
        for number, change in enumerate(changes, seq):
            (
                event,
                category,
                name,
                version,
                root,
                ebuild,
                install_type,
                cause,
                replaces,
                at,
                delta,
                mean,
                _,
                _,
            ) = change
            repository = None if ebuild is None else repository_of(ebuild)
            if selection is not None and not selection.has(change, repository):
                continue
            minute, second = divmod(at, 60)
            # Names and versions by PMS need no escapes.
            lines.append(
                f'{{"seq":{number},"event":"{event}","category":"{category}","name":"{name}",'
                f'"version":"{version}","repository":{as_json[repository]},'
                f'"install_type":{as_json[install_type]},"cause":{as_json[cause]},'
                f'"replaces":{as_json[replaces]},'
                f'"recorded_at":"{days[minute // 1440]}{minutes[minute % 1440]}{two[second]}+00:00",'
                f'"time_delta":{"null" if delta is None else delta},'
                f'"concurrency":{"null" if mean is None else mean},'
                f'"observed":"backfill","clock":"unknown"{_END if root is None else self._roots[root]}'
            )
        return lines

    def totals(self) -> list[int]:
        return []

    def closing(self, totals: Sequence[int]) -> str:
        return ""


_PLAIN = dict.fromkeys(("new", "upgrade", "downgrade", "rebuild", "removed", "failed", "off"), "")
_COLOURS = {
    "new": "\x1b[32m",
    "upgrade": "\x1b[36m",
    "downgrade": "\x1b[33m",
    "rebuild": "",
    "removed": "\x1b[35m",
    "failed": "\x1b[31m",
    "off": "\x1b[0m",
}


class TableFormat:
    """When (local time), what, how long, from source or binary, and what it meant; sums at the end.

    The removal of a version that another one replaced is part of that other's line, unless uninstalls were
    asked for.
    """

    def __init__(self, selection: Selection, repositories: Repositories, *, colour: bool) -> None:
        self._selection = None if selection.is_everything else selection
        self._repository = _Repository(repositories)
        self._fold = "uninstall" not in selection.events
        self._colours = _COLOURS if colour else _PLAIN
        self._when = _LocalMoments()
        self._durations: dict[int | None, str] = {}
        self._relations: dict[tuple[str, str | None], tuple[str, str]] = {}
        self._totals = [0, 0, 0, 0]

    def lines(self, changes: Iterable[LoggedChange], seq: int) -> list[str]:
        selection, fold, when, colours = self._selection, self._fold, self._when, self._colours
        durations, relations, off = self._durations, self._relations, colours["off"]
        merges, seconds, removals, failures = self._totals
        lines = []
        for change in changes:
            (
                event,
                category,
                name,
                version,
                root,
                ebuild,
                install_type,
                cause,
                replaces,
                at,
                delta,
                _,
                seen,
                _,
            ) = change
            if fold and cause == "replaced":
                continue
            if selection is not None and not selection.has(change, ebuild and self._repository(ebuild)):
                continue
            if event == "install":
                merges += 1
                seconds += delta or 0
                colour, what = relations.get((version, replaces)) or self._relation(version, replaces, seen)
            elif event == "uninstall":
                removals += 1
                colour, what = "removed", "replaced" if cause == "replaced" else "removed"
            else:
                failures += 1
                colour, what = "failed", f"failed ({cause})" if cause else "failed"
            if root != "/" and root is not None:
                what = f"{what} in {root}"
            text = (
                f"{when(at)}  {durations.get(delta) or self._duration(delta)}  "
                f"{_TYPES[install_type]}  {f'{category}/{name}-{version}':<48}  {what}"
            )
            paint = colours[colour]
            lines.append(f"{paint}{text}{off}\n" if paint else f"{text}\n")
        self._totals = [merges, seconds, removals, failures]
        return lines

    def totals(self) -> list[int]:
        return self._totals

    def closing(self, totals: Sequence[int]) -> str:
        merges, seconds, removals, failures = totals
        if not merges + removals + failures:
            return ""
        parts = [_count(merges, "merge") + (f" in {_span(seconds)}" if merges else "")]
        if removals:
            parts.append(_count(removals, "removal"))
        if failures:
            parts.append(_count(failures, "failure"))
        return f"{', '.join(parts)}\n"

    def _duration(self, seconds: int | None) -> str:
        if len(self._durations) >= _REMEMBERED:
            self._durations.clear()
        text = self._durations[seconds] = f"{'?' if seconds is None else _span(seconds):>9}"
        return text

    def _relation(self, version: str, replaces: str | None, seen: bool) -> tuple[str, str]:
        """Return what an install meant: its colour, and in words."""
        if replaces is None:
            return ("new", "new") if seen else ("new", "?")
        if len(self._relations) >= _REMEMBERED:
            self._relations.clear()
        if version == replaces:
            known = ("rebuild", "rebuild")
        elif compare_versions(version, replaces) >= 0:
            known = ("upgrade", f"upgrade from {replaces}")
        else:
            known = ("downgrade", f"downgrade from {replaces}")
        self._relations[version, replaces] = known
        return known


_TYPES = {None: "      ", "source": "source", "binary": "binary"}


def _span(seconds: int) -> str:
    """Return a duration as h:mm:ss."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{_TWO[minute]}:{_TWO[second]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# Reading --------------------------------------------------------------------------------------------------


class Segment(NamedTuple):
    """A stretch of whole lines of one file; `opening` is the line before it, if that is in the same file."""

    path: str
    begin: int
    end: int | None
    opening: bytes


def show(paths: Sequence[str], form: Format, write: Callable[[bytes], object], *, encoding: str) -> int:
    """Write the history that the logs `paths` tell, and its sums; return how many lines of it there were.

    Raises OSError for a log that cannot be read, and what `write` raises.
    """
    if len(paths) > 1:
        paths = in_order_of_time(paths)
    large = sum(os.path.getsize(path) for path in paths) >= ALONE_BELOW and len(os.sched_getaffinity(0)) > 1
    segments = [segment for path in paths for segment in _cut(path, large=large)]
    gc.disable()  # of all that is built here, nothing refers to itself
    try:
        relay = _Relay(segments, form, write, encoding)
        shown, totals = relay.with_another() if large and len(segments) > 1 else relay.alone()
    finally:
        gc.enable()
    write(form.closing(totals).encode(encoding, "backslashreplace"))
    return shown


def _cut(path: str, *, large: bool) -> Iterator[Segment]:
    """Cut a large plain log just after starts of processes: hardly ever is anything else open then."""
    if not large or is_packed(path):
        yield Segment(path, 0, None, b"")
        return
    size = os.path.getsize(path)
    begin, opening = 0, b""
    with open(path, "rb", buffering=0) as file:
        while size - begin > 2 * SEGMENT_SIZE:
            end, line = _next_start(file, begin + SEGMENT_SIZE)
            if not line:
                break
            yield Segment(path, begin, end, opening)
            begin, opening = end, line
    yield Segment(path, begin, None, opening)


_STARTED = b": Started emerge on"


def _next_start(file: IO[bytes], begin: int) -> tuple[int, bytes]:
    """Return where, from `begin` on, the line that starts a process ends, and that line.

    The line is empty if there is none.
    """
    file.seek(begin)
    window = b""
    while block := file.read(_WINDOW):
        window = window[-_WINDOW:] + block
        begin += len(block)
        start = window.find(_STARTED)
        end = window.find(b"\n", start) + 1
        if start >= 0 and end:
            return begin - len(window) + end, window[window.rfind(b"\n", 0, start) + 1 : end]
    return begin, b""


_WINDOW = 1 << 16


class _Relay:
    """One process takes the segments one by one, or two take turns.

    What a segment tells depends on what was open before it. The process that takes it first assumes that all
    there is is the one that just started; when the other has done the segment before, it says what the state
    really is, and in the rare case that it differs the segment is tracked again. So the result is
    exactly that of reading from end to end. Two messages go from the process of each segment to the other's:
    the state after it, as soon as it is known, and, when its text is written, that it is the other's turn.
    """

    def __init__(
        self, segments: list[Segment], form: Format, write: Callable[[bytes], object], encoding: str
    ) -> None:
        self._segments = segments
        self._form = form
        self._write = write
        self._encoding = encoding

    def alone(self) -> tuple[int, list[int]]:
        """Read from end to end. Return how many lines were written, and the sums of the format."""
        tracker, seq, shown = MergeTracker(), 1, 0
        for segment in self._segments:
            for block in read_blocks(segment.path, segment.begin, segment.end):
                changes = tracker.feed(block, locate=False)
                shown += self._put(changes, seq)
                seq += len(changes)
        return shown, self._form.totals()

    def _put(self, changes: list[LoggedChange], seq: int) -> int:
        lines = self._form.lines(changes, seq)
        self._write("".join(lines).encode(self._encoding, "backslashreplace"))
        return len(lines)

    def with_another(self) -> tuple[int, list[int]]:
        """Share the work with a child process; `write` must not buffer. Return the same as `alone`."""
        from_child, to_parent = os.pipe()
        from_parent, to_child = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.close(from_child)
            os.close(to_child)
            self._be_the_other(from_parent, to_parent)
        os.close(from_parent)
        os.close(to_parent)
        status = 0
        try:
            with open(from_child, "rb") as receive, open(to_child, "wb", buffering=0) as send:
                shown = self._every_second(0, receive, send)
                shown_there, totals_there = _told(receive)
        except _Gone:
            pass
        finally:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == _NOBODY_READS:
            raise BrokenPipeError
        if status:
            raise ChildProcessError(f"the second process ended with {status}")
        totals = [here + there for here, there in zip(self._form.totals(), totals_there, strict=True)]
        return shown + shown_there, totals

    def _be_the_other(self, from_parent: int, to_parent: int) -> NoReturn:
        code = 1
        try:
            with open(from_parent, "rb") as receive, open(to_parent, "wb", buffering=0) as send:
                shown = self._every_second(1, receive, send)
                _tell(send, [shown, self._form.totals()])
            code = 0
        except (BrokenPipeError, _Gone):
            code = _NOBODY_READS
        except KeyboardInterrupt:
            pass
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def _every_second(self, first: int, receive: IO[bytes], send: IO[bytes]) -> int:
        """Do every second segment from the one with the index `first`; return how many lines were written."""
        last = len(self._segments) - 1
        shown = 0
        for index in range(first, last + 1, 2):
            segment = self._segments[index]
            tracker = MergeTracker()
            tracker.feed(segment.opening)
            assumed = tracker.dump()
            changes = _track(tracker, segment)
            seq = 1
            if index:
                state, seq = _told(receive)
                if state != assumed:
                    tracker = MergeTracker.load(state)
                    changes = _track(tracker, segment)
            if index < last:
                _tell(send, [tracker.dump(), seq + len(changes)])
            lines = self._form.lines(changes, seq)
            text = "".join(lines).encode(self._encoding, "backslashreplace")
            if index:
                _told(receive)
            self._write(text)
            shown += len(lines)
            if index < last:
                _tell(send, [])
        return shown


_NOBODY_READS = 141


class _Gone(Exception):
    """The other process is gone."""


def _track(tracker: MergeTracker, segment: Segment) -> list[LoggedChange]:
    changes: list[LoggedChange] = []
    for block in read_blocks(segment.path, segment.begin, segment.end):
        changes += tracker.feed(block, locate=False)
    return changes


def _tell(pipe: IO[bytes], message: list[object]) -> None:
    pipe.write(json.dumps(message).encode() + b"\n")


def _told(pipe: IO[bytes]) -> list[Any]:
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise _Gone
    message: list[Any] = json.loads(line)
    return message
