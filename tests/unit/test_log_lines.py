# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of logs: nothing that a build prints commands a browser, and what matters is seen."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdcs.web.log_lines import LONGEST, phases, read_lines


def shown(text: str) -> str:
    (line,) = read_lines([text], 1)
    return str(line.html)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("plain", "plain"),
        ("a <b> & 'c'", "a &lt;b&gt; &amp; &#39;c&#39;"),
        ("\x1b[31mred\x1b[0m not", '<b class="r">red</b> not'),
        ("\x1b[1;92mgood\x1b[22m less", '<b class="g h">good</b><b class="g"> less</b>'),
        ("\x1b[38;5;196mpalette\x1b[38;2;31;32;33mtrue\x1b[39m", "palettetrue"),
        ("\x1b[33myellow\x1b[39m none", '<b class="y">yellow</b> none'),
        ("\x1b[2Jclear\x1b[10;10Hmove\x1b]0;title\x07\x1b(B\x1b=end", "clearmoveend"),
        ("10 %\r50 %\r100 %", "100 %"),
        ("done\r", "done"),
        ("bell\x07null\x00\x9bc1", "bellnullc1"),
        ("over\u202eridden", "overridden"),
        ("tab\tstays", "tab\tstays"),
        ("\x1b[", ""),
        ("", ""),
    ],
)
def test_what_is_shown_of_a_line(printed: str, expected: str) -> None:
    assert shown(printed) == expected


def test_a_line_may_be_too_long() -> None:
    assert shown("x" * (LONGEST + 1)) == "x" * LONGEST + "…"
    assert shown("x" * LONGEST) == "x" * LONGEST
    assert shown(f"\x1b[31m{'x' * LONGEST}\x1b[0my") == f'<b class="r">{"x" * LONGEST}</b>…'


def test_a_line_that_would_be_searched_for_hours() -> None:
    """… by an expression that backtracks: a package may print it, and anybody look at it."""
    for begin in (">>> Emerging (1 of 1) ", ""):
        (line,) = read_lines([begin + "a::" * 200_000 + "\tWarning " * 100_000], 1)
        assert line.phase == ("a, 1 of 1" if begin else None)
        assert line.kind == ""


@given(st.text(alphabet=st.sampled_from("\x1b[]0;1m<>&\"'ab\r\x07\x9b38 ")))
def test_nothing_but_our_own_markup_comes_out(printed: str) -> None:
    text = re.sub(r'<b class="[rgybmc]?(?: ?h)?">|</b>', "", shown(printed))
    assert not set(text) & set("<>\x1b\r\x07\x9b")
    assert set(html.unescape(text)) <= set(printed) | {"…"}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("x.c:4:1: error: expected a ;", "err"),
        ("x.c:4:1: fatal error: no such file", "err"),
        (" * ERROR: app-misc/alpha-1.0::gentoo failed (compile phase):", "err"),
        ("!!! Error fetching binhost package info", "err"),
        ("FAILED: source/x.cc.o", "err"),
        ("make[2]: *** [Makefile:3: all] Error 1", "err"),
        ("\x1b[31mx.c:1: error: coloured\x1b[0m", "err"),
        ("error[E0308]: mismatched types", ""),
        ("x.c:3:1: warning: unused variable", "wrn"),
        ("CMake Warning at CMakeLists.txt:1240 (message):", "wrn"),
        (" * QA Notice: command not found", "wrn"),
        ("compiling error_handling.c", ""),
        ("checking for error... no", ""),
    ],
)
def test_errors_and_warnings_are_known(line: str, kind: str) -> None:
    (read,) = read_lines([line], 1)
    assert read.kind == kind


def test_lines_come_in_the_phases_of_emerge() -> None:
    lines = [
        "before",
        ">>> builder: building, without network",
        "Calculating dependencies ... done!",
        ">>> Emerging (1 of 2) app-misc/alpha-1.0::gentoo",
        ">>> Unpacking source...",
        ">>> Source unpacked in /x",
        ">>> Compiling source in /x ...",
        "x.c: error: no",
        ">>> Install app-misc/alpha-1.0 into /x",
        ">>> /usr/share/alpha",
    ]
    found = phases(read_lines(lines, 7), name="begin")
    assert [(phase.name, len(phase.lines), phase.has_errors) for phase in found] == [
        ("begin", 1, False),
        ("plan", 2, False),
        ("app-misc/alpha-1.0, 1 of 2", 1, False),
        ("unpack", 2, False),
        ("compile", 2, True),
        ("install", 2, False),
    ]
    assert found[-1].lines[-1].number == 16
    assert phases([], name="begin") == []
