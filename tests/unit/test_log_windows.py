# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of logs: both ends, the middle, and what is new, whatever the log looks like."""

from pathlib import Path

import pytest

from bdcs.blobs.attempt_logs import AttemptLogs
from bdcs.services import log_windows
from bdcs.services.log_windows import BATCH, HEAD, MOST, PIECE, TAIL, last_line, middle, news, window


@pytest.fixture
def logs(tmp_path: Path) -> AttemptLogs:
    return AttemptLogs(tmp_path)


def write(logs: AttemptLogs, text: str) -> None:
    size = logs.size(1)
    assert logs.append(1, size, text.encode()) == size + len(text.encode())


def numbered(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last + 1)]


def test_a_short_log_is_shown_whole(logs: AttemptLogs) -> None:
    write(logs, "one\ntwo\nthr")
    shown = window(logs, 1, is_over=False)
    assert shown
    assert (shown.head, shown.tail, shown.gap, shown.lines, shown.end) == (("one", "two"), (), None, 2, 8)
    over = window(logs, 1, is_over=True)
    assert over
    assert (over.head, over.lines, over.end) == (("one", "two", "thr"), 3, 11)


def test_there_may_be_nothing_yet(logs: AttemptLogs) -> None:
    assert window(logs, 1, is_over=True) is None
    write(logs, "no end of it")
    assert window(logs, 1, is_over=False) is None
    assert last_line(logs, 2) == ""


@pytest.mark.parametrize("lines", [HEAD, HEAD + 1, HEAD + TAIL, HEAD + TAIL + 1, 100_000])
def test_both_ends_of_a_long_log(logs: AttemptLogs, lines: int) -> None:
    write(logs, "\n".join(numbered(1, lines)) + "\n")
    shown = window(logs, 1, is_over=True)
    assert shown
    assert list(shown.head) == numbered(1, HEAD)
    assert shown.lines == lines
    assert shown.end == logs.size(1)
    assert list(shown.tail) == numbered(max(HEAD + 1, lines - TAIL + 1), lines)
    expected = (HEAD + 1, lines - TAIL) if lines > HEAD + TAIL else None
    assert shown.gap == expected


def test_the_middle_is_found_anywhere(logs: AttemptLogs) -> None:
    write(logs, "\n".join(numbered(1, 300_000)))
    assert logs.size(1) > 3 * PIECE
    for first in (1, 2, 5000, 123_456, 299_990, 300_000):
        last = min(300_000, first + TAIL - 1)
        assert list(middle(logs, 1, first)) == numbered(first, last)
    assert middle(logs, 1, 300_001) == ()


def test_lines_may_be_longer_than_anything(logs: AttemptLogs) -> None:
    write(logs, "x" * (MOST + 10) + "\n" + "short\n" + "y" * (MOST + 10) + "\n")
    shown = window(logs, 1, is_over=True)
    assert shown
    assert shown.lines == 3
    assert shown.gap is not None
    assert news(logs, 1, 0, is_over=False).lines[1] == "short"


def test_news_come_line_by_line_until_the_end(logs: AttemptLogs) -> None:
    write(logs, "one\ntwo\nthr")
    first = news(logs, 1, 0, is_over=False)
    assert (first.lines, first.end) == (("one", "two"), 8)
    assert news(logs, 1, first.end, is_over=False).lines == ()
    write(logs, "ee\n")
    assert news(logs, 1, first.end, is_over=False).lines == ("three",)
    write(logs, "the end")
    last = news(logs, 1, 14, is_over=True)
    assert (last.lines, last.end) == (("the end",), 21)
    assert news(logs, 1, last.end, is_over=True).lines == ()


def test_many_news_come_in_batches(logs: AttemptLogs) -> None:
    write(logs, "\n".join(numbered(1, 2 * BATCH + 3)) + "\nünd\n")
    end, found = 0, list[str]()
    while more := news(logs, 1, end, is_over=False).lines:
        assert len(more) <= BATCH
        found += more
        end = news(logs, 1, end, is_over=False).end
    assert found == [*numbered(1, 2 * BATCH + 3), "ünd"]
    assert end == logs.size(1)


def test_a_line_without_end_comes_in_pieces(logs: AttemptLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_windows, "PIECE", 100)
    write(logs, "z" * 250)
    assert news(logs, 1, 0, is_over=False).end == 100
    assert news(logs, 1, 200, is_over=False).lines == ()


def test_the_last_line_with_anything_in_it(logs: AttemptLogs) -> None:
    write(logs, "one\n" * 5000 + "[7/9] CXX\n\n  \n")
    assert last_line(logs, 1) == "[7/9] CXX"
