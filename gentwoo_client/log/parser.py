# SPDX-License-Identifier: GPL-2.0-or-later
r"""The grammar of emerge.log, as one regular expression that eats whole lines.

`TOKEN.finditer(block)` matches again and again without leaving a gap. Each match is one token: a record
(`1795307625:  >>> emerge (1 of 1) app-misc/alpha-1.0 to /`) together with those that usually follow it
directly, so that the ten lines of an ordinary merge are three tokens. What a follower says is the same as if
it stood alone; hence the log may be cut between any two lines.

`match.lastindex`, the group that was closed last, tells the kind and how many of the usual followers there
were; `*_FIELDS` are the groups to ask for. Lines that say nothing about packages, that are damaged or unknown
are `NOISE`.

Only whole records count, since the text of one may also stand inside the arguments of a command line. A
stamp has at most ten digits, names are ASCII, no field holds a NUL; a CR before the LF (an edited log) is let
through.

How it is written matters for speed (`benchmarks/history`): alternatives that share a beginning stand in one
branch, and `(?:X|)` is three times as fast as `(?:X)?`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from gentwoo_client.wire.cpv import split_cpv

_LF = rb"\r?\n"
_AT = rb"[0-9]{1,10}: "
_NUMBER = rb"[0-9]{1,6}"
_PLACE = rb"\(" + _NUMBER + rb" of " + _NUMBER + rb"\)"
_REST = rb"[^\n]*\n"


def _time(name: bytes) -> bytes:
    return rb"(?P<" + name + rb">[0-9]{1,10}): "


def _cpv(name: bytes) -> bytes:
    return rb"(?P<" + name + rb">[A-Za-z0-9+_./-]+)"


def _place(name: bytes) -> bytes:
    return rb"(?P<" + name + rb">" + _PLACE + rb")"


def _item(name: bytes) -> bytes:
    """(N of M) CPV to ROOT"""
    root = rb" to (?P<" + name + rb"_root>/[^\n\r\0]*)" + _LF
    return _place(name + rb"_place") + rb" " + _cpv(name + rb"_cpv") + root


def _any(*alternatives: bytes) -> bytes:
    return rb"(?:" + rb"|".join(alternatives) + rb")"


def _perhaps(follower: bytes) -> bytes:
    return rb"(?:" + follower + rb"|)"


_WORLD = _AT + rb" === " + _PLACE + rb" Updating world" + _REST
_CLEANED = _AT + rb" === " + _PLACE + rb" Post-Build" + _REST

# Records without consequences that are frequent: synchronizing, world file, cleaning up.
_QUIET = _AT + _any(
    rb">>> ",
    rb"=== S",
    rb" (?:=== (?:" + _PLACE + rb" (?:Updating world|Post-Build)|sync|regen|metadata|Resource)",
    rb"--- AUTOCLEAN",
    rb">>> depclean)",
) + _REST  # fmt: skip


def _removal(name: bytes) -> bytes:
    """Perhaps the removal of the old version."""
    return _perhaps(
        _time(name + b"_old_at") + rb" === Unmerging\.\.\. \(" + _cpv(name + b"_old") + rb"\)" + _LF
        + _time(name + b"_gone_at") + rb" >>> unmerge success: (?P=" + name + rb"_old)" + _LF
    )  # fmt: skip


def _completion(name: bytes, item: bytes) -> bytes:
    return (
        _perhaps(_WORLD) + _perhaps(_CLEANED)
        + _time(name + b"_done_at") + rb" ::: completed emerge " + item
    )  # fmt: skip


_SAME = rb" \((?P=start_cpv)::"
_START = (
    rb"emerge " + _item(b"start")
    + _perhaps(
        _AT + rb" === (?P=start_place) Cleaning" + _SAME + rb"(?P<cleaning>[^\n]*)\)" + _LF
        + _perhaps(
            _AT + rb" === (?P=start_place) Compiling/(?:Merg|Packag)ing" + _SAME
            + rb"(?P<start_path>[^\n]*)\)" + _LF
            + _perhaps(
                _AT + rb" === (?P=start_place) Merging" + _SAME + rb"(?P=start_path)\)" + _LF
                + _AT + rb" >>> AUTOCLEAN: " + _cpv(b"whole_cp") + rb":[^\n\r\0]+" + _LF + _removal(b"whole")
                + _completion(b"whole", rb"(?P=start_place) (?P=start_cpv) to (?P=start_root)" + _LF)
            )
        )
    )
)  # fmt: skip

_AUTOCLEAN = (
    rb"AUTOCLEAN: " + _cpv(b"placed_cp") + rb"(?P<placed_slot>:[^\n\r\0]+|)" + _LF + _removal(b"placed")
    + _perhaps(_completion(b"placed", _item(b"placed")))
)  # fmt: skip
_REMOVED = rb"unmerge success: " + _cpv(b"removed_cpv") + _LF
_KEPT = rb"!!! unmerge FAILURE: " + _cpv(b"kept_cpv") + _LF
_COMPLETED = rb"::: completed emerge " + _item(b"completed")
_REPLACING = rb"=== Unmerging\.\.\. \(" + _cpv(b"replaced_cpv") + rb"\)" + _LF
_REMOVING = rb"=== Unmerging\.\.\. \(" + _cpv(b"removal_cpv") + rb"\)" + _LF
_COMMAND = rb"emerge (?P<command>[^\n]*)\n"

_PHASE = (
    rb"(?:===|---) " + _place(b"phase_place")
    + rb" (?P<phase>Merging(?: Binary)?|Compiling/(?:Merg|Packag)ing|Cleaning|Fetching Binary)"
    + rb" \(" + _cpv(b"phase_cpv") + rb"::(?P<phase_path>[^\n]*)\)" + _LF
)  # fmt: skip

_STATUS = rb"exiting successfully\.|exiting unsuccessfully with status '[^'\n]*'\."
_TERMINATED = _time(b"terminated_at") + rb" \*\*\* terminating\." + _LF
_ENDING = (
    rb"(?P<ending>Finished\. Cleaning up\.\.\.|" + _STATUS + rb"|terminating\."
    rb"|RESTARTING emerge via exec\(\) after change of portage version\.)" + _LF
    + _perhaps(_time(b"exited_at") + rb" \*\*\* (?P<status>" + _STATUS + rb")" + _LF)
    + _perhaps(_TERMINATED)
)  # fmt: skip

_STARTED = (
    rb"Started emerge on" + _REST + rb"(?P<STARTED>)"
    + _perhaps(
        _AT + rb" \*\*\* emerge (?P<started_command>[^\n]*)\n"
        + _perhaps(rb"(?:" + _QUIET + rb")*" + _time(b"idle_until") + rb" \*\*\* terminating\." + _LF)
    )
)  # fmt: skip

TOKEN: Final = re.compile(
    _any(
        _time(b"at")
        + _any(
            rb" " + _any(
                rb">>> " + _any(_START, _AUTOCLEAN, _REMOVED),
                _PHASE,
                _COMPLETED,
                _REPLACING,
                rb"\*\*\* " + _any(_ENDING, _COMMAND),
                _KEPT,
            ),
            _REMOVING,
            _STARTED,
        ),
        _any(rb"(?:" + _QUIET + rb")+", _REST) + rb"(?P<NOISE>)",
    )
)  # fmt: skip
"""One token, from the beginning of a line to the end of one."""


def _groups(names: str) -> tuple[int, ...]:
    return tuple(TOKEN.groupindex[name] for name in names.split())


STAMP: Final = TOKEN.groupindex["at"]

START: Final = _groups("start_root cleaning start_path")
"""Work on an item begins; perhaps also Cleaning; perhaps also Compiling."""
START_FIELDS: Final = _groups("at start_place start_cpv start_root cleaning start_path")

WHOLE: Final = TOKEN.groupindex["whole_done_at"]
"""All of an item, from its beginning to its completion."""
WHOLE_FIELDS: Final = _groups(
    "at start_place start_cpv start_root cleaning start_path"
    " whole_cp whole_old_at whole_old whole_gone_at whole_done_at"
)

PHASE: Final = TOKEN.groupindex["phase_path"]
"""An item gets to fetching, compiling or merging."""
PHASE_FIELDS: Final = _groups("phase_place phase phase_cpv phase_path")

PLACED: Final = _groups("placed_slot placed_gone_at")
"""Files are in place (AUTOCLEAN); perhaps also: the old instance was unmerged."""
PLACED_FIELDS: Final = _groups("placed_cp placed_slot placed_old_at placed_old placed_gone_at")

FINISHED: Final = TOKEN.groupindex["placed_root"]
"""`PLACED`, and the item is completed."""
FINISHED_FIELDS: Final = PLACED_FIELDS + _groups("placed_done_at placed_place placed_cpv placed_root")

REPLACING: Final = TOKEN.groupindex["replaced_cpv"]
"""A removal in favour of another version begins (` === Unmerging...`)."""
REPLACING_FIELDS: Final = _groups("at replaced_cpv")

REMOVING: Final = TOKEN.groupindex["removal_cpv"]
"""A removal in the manual form begins (`=== Unmerging...`, without the space in front)."""
REMOVING_FIELDS: Final = _groups("at removal_cpv")

REMOVED: Final = TOKEN.groupindex["removed_cpv"]
REMOVED_FIELDS: Final = _groups("at removed_cpv")

KEPT: Final = TOKEN.groupindex["kept_cpv"]
"""A removal failed."""

COMPLETED: Final = TOKEN.groupindex["completed_root"]
COMPLETED_FIELDS: Final = _groups("at completed_place completed_cpv completed_root")

STARTED: Final = _groups("STARTED started_command")
"""A process begins; perhaps also its command line."""
STARTED_FIELDS: Final = _groups("at started_command")

IDLE: Final = TOKEN.groupindex["idle_until"]
"""A process, from its beginning to its end, with nothing of note between."""
IDLE_FIELDS: Final = _groups("at idle_until")

COMMAND: Final = TOKEN.groupindex["command"]
COMMAND_FIELDS: Final = _groups("at command")

ENDING: Final = _groups("ending status terminated_at")
"""Finished, exiting, terminating or RESTARTING; perhaps also the exiting and terminating that follow."""
ENDING_FIELDS: Final = _groups("at ending exited_at status terminated_at")

NOISE: Final = TOKEN.groupindex["NOISE"]


# Fields ---------------------------------------------------------------------------------------------------

_REMEMBERED = 4096  # values of each field, before all are forgotten
_CPV_SIZE = 400  # bytes; no longer one can be valid

_INSTALLS_NOTHING = re.compile(rb"(?:^| )--(?:buildpkgonly|fetchonly|fetch-all-uri)(?: |\r?$)")
_COMMAND_SIZE = 1000  # bytes
_OPTION = re.compile(rb"(?<= )--[a-z-]+(?:=[0-9]+)?(?= |\r?$)")
_JOBS = re.compile(rb"(?:^| )--jobs(?:=([0-9]+))?(?: |\r?$)")


class Package(NamedTuple):
    """A CPV taken apart."""

    category: str
    name: str
    version: str
    key: bytes
    """CATEGORY/NAME as in the log."""


# What is asked of a command line as emerge logs it, options spelled out. Arguments are raw text of the user;
# one that spells an option inside a longer argument cannot be told from it, and only makes us more careful.


def options(command: bytes) -> bytes:
    """Return what of a command line has to be kept for the questions below."""
    return command if len(command) <= _COMMAND_SIZE else b" ".join(_OPTION.findall(command))[:_COMMAND_SIZE]


def installs(command: bytes) -> bool:
    """False with --fetchonly or --buildpkgonly: items begin and never complete, and none fails for us."""
    return _INSTALLS_NOTHING.search(command) is None


def is_serial(command: bytes) -> bool:
    """One item after the other: without --jobs, or with --jobs=1."""
    return jobs(command) == 1


def jobs(command: bytes) -> int:
    """Return how many items `--jobs` allows at a time: 1 without the option, 0 without limit."""
    match = _JOBS.search(command)
    return 1 if match is None else int(match[1] or 0)


_Value = TypeVar("_Value")


class Memory(dict[bytes, _Value]):
    """What `read` made of each text so far: `memory[text]` is a mere look-up for a text seen before."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[bytes], _Value]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, text: bytes) -> _Value:
        if len(self) >= _REMEMBERED:
            self.clear()
        value = self[text] = self._read(text)
        return value


def _read_place(text: bytes) -> tuple[int, int]:
    n, _, m = text[1:-1].partition(b" of ")
    return int(n), int(m)


def _read_package(text: bytes) -> Package | None:
    parts = split_cpv(text.decode("ascii")) if len(text) <= _CPV_SIZE else None
    return Package(*parts, text[: len(parts[0]) + 1 + len(parts[1])]) if parts else None


def _read_path(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


PLACES: Final = Memory(_read_place)
"""`(N of M)` → (N, M)."""

PACKAGES: Final = Memory(_read_package)
"""CPV → `Package`; None if it is no CPV, as `media-libs/libpng` or `app-misc/-MERGING-foo-1`."""

ROOTS: Final = Memory(_read_path)
"""ROOT → itself as text."""
