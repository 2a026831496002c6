# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of a build's log as they stand on a page: escaped, coloured by classes, in the phases of emerge.

Whatever a build prints is data. Of terminal control sequences (ECMA-48) colours and bold become classes, all
others are dropped; of a line that was written over (`\\r`) the last state is kept; characters that would
change the direction of what follows are dropped. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

LONGEST: Final = 2000
"""Characters of a line that are shown; the whole log has them all."""

_SEQUENCE: Final = re.compile(
    r"\x1b\[([0-?]*)[ -/]*([@-~])"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC and other strings
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
_COLOURS: Final = {1: "r", 2: "g", 3: "y", 4: "b", 5: "m", 6: "c"}
_PHASES: Final[Sequence[tuple[re.Pattern[str], str]]] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r">>> builder: fetching", "fetch"),
        (r">>> builder: building", "plan"),
        (r">>> builder: ", "builder"),
        (r">>> Emerging (?:binary )?\((\d+ of \d+)\) ([^\s:]+)", r"\2, \1"),
        (r">>> Unpacking source\.", "unpack"),
        (r">>> Preparing source ", "prepare"),
        (r">>> Configuring source ", "configure"),
        (r">>> Compiling source ", "compile"),
        (r">>> Test phase", "test"),
        (r">>> Install \S+ into ", "install"),
        (r">>> Creating binpkg|>>> Building package ", "package"),
        (r">>> Installing \(", "merge"),
        (r" \* Messages for package ", "messages"),
    )
)
_ERROR: Final = re.compile(
    r"^ \* ERROR: |^!!! |\berror(?: [A-Z]*\d+)?: |\bError: |^FAILED: "
    r"|^ninja: build stopped|^make(?:\[\d+\])?: \*\*\*"
    r"|undefined reference to |^\S*: command not found|^Traceback \(most recent"
)
_WARNING: Final = re.compile(r"\bwarning: |\bWarning\b.*: |CMake Warning|^ \* QA Notice|^WARNING: ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line as it is shown."""

    number: int
    """In the log, from 1."""
    kind: str
    """`err`, `wrn` or nothing."""
    html: Markup
    phase: str | None
    """The phase that begins with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Lines that belong together."""

    name: str
    lines: tuple[Line, ...]

    @property
    def has_errors(self) -> bool:
        """Whether some line tells of an error."""
        return any(line.kind == "err" for line in self.lines)


def read_lines(texts: Iterable[str], first: int) -> Iterator[Line]:
    """Yield lines as they are shown; `first` is the number of the first."""
    for number, text in enumerate(texts, first):
        seen = _last_state(text)
        plain = _SEQUENCE.sub("", seen)[:LONGEST]  # what is not shown does not count
        yield Line(number=number, kind=_kind(plain), html=_coloured(seen), phase=_phase(plain))


def phases(lines: Iterable[Line], *, name: str) -> list[Phase]:
    """Return lines in their phases; `name` is that of lines before the first."""
    found: list[Phase] = []
    gathered: list[Line] = []
    for line in lines:
        if line.phase is not None:
            if gathered:
                found.append(Phase(name=name, lines=tuple(gathered)))
            name, gathered = line.phase, []
        gathered.append(line)
    if gathered:
        found.append(Phase(name=name, lines=tuple(gathered)))
    return found


def _last_state(text: str) -> str:
    """Return what of a line is seen in the end."""
    return next((part for part in reversed(text.split("\r")) if part), "")


def _kind(plain: str) -> str:
    if _ERROR.search(plain):
        return "err"
    return "wrn" if _WARNING.search(plain) else ""


def _phase(plain: str) -> str | None:
    if not plain.startswith((">>> ", " * M")):
        return None
    for pattern, name in _PHASES:
        if (match := pattern.match(plain)) is not None:
            return match.expand(name)[:200]
    return None


def _coloured(text: str) -> Markup:
    html, classes, start, room = Markup(), "", 0, LONGEST
    for match in _SEQUENCE.finditer(text):
        html += _piece(text[start : match.start()][:room], classes)
        room -= min(room, match.start() - start)
        start = match.end()
        if match[2] == "m":
            classes = _classes(classes, match[1])
    html += _piece(text[start:][:room], classes)
    return html + "…" if len(text) - start > room else html


def _piece(text: str, classes: str) -> Markup:
    if not classes or not text:
        return escape(text)
    return Markup('<b class="{}">{}</b>').format(classes, text)


def _classes(before: str, parameters: str) -> str:
    """Return what is in force after SGR (ECMA-48 §8.3.117): one of the eight colours, and bold (`h`)."""
    bold = "h" in before
    colour = before.replace("h", "").strip()
    codes = iter(int(code) if code.isdigit() else 0 for code in parameters.split(";"))
    for code in codes:
        if code == 0:
            colour, bold = "", False
        elif code in (1, 22):
            bold = code == 1
        elif code in (38, 48):  # another palette: what follows belongs to it
            for _ in range({5: 1, 2: 3}.get(next(codes, 0), 0)):
                next(codes, None)
        elif 30 <= code <= 39:
            colour = _COLOURS.get(code - 30, "")
        elif 90 <= code <= 97:
            colour = _COLOURS.get(code - 90, "")
    return " ".join(filter(None, (colour, "h" if bold else "")))
