# SPDX-License-Identifier: GPL-2.0-or-later
"""Only the log wakes the daemon: not its neighbours in /var/log, however busy they are."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gentwoo_client.log import watch as watch_module
from gentwoo_client.log.watch import LogWatch

SOON = 10.0  # seconds; what wakes does so at once, so none of the tests waits for it
A_MOMENT = 0.3  # seconds in which nothing may happen


def wakes(watch: LogWatch, timeout: float) -> bool:
    before = time.monotonic()
    watch.wait(timeout)
    return time.monotonic() - before < timeout * 0.9


def append(path: Path, text: str = "x\n") -> None:
    with path.open("a") as file:
        file.write(text)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "emerge.log"


def settle(watch: LogWatch) -> None:
    while wakes(watch, 0.05):
        pass


def test_a_line_in_the_log_wakes(log: Path) -> None:
    append(log)
    watch = LogWatch(log)
    append(log)
    assert wakes(watch, SOON)
    watch.close()


def test_lines_in_a_neighbour_do_not(log: Path, tmp_path: Path) -> None:
    neighbour = tmp_path / "messages"
    append(log)
    append(neighbour)
    watch = LogWatch(log)
    for _ in range(100):
        append(neighbour)
    assert not wakes(watch, A_MOMENT)
    watch.close()


def test_reading_the_log_does_not(log: Path) -> None:
    append(log)
    watch = LogWatch(log)
    log.read_text()
    assert not wakes(watch, A_MOMENT)
    watch.close()


def test_a_log_that_appears_wakes_and_is_then_watched(log: Path) -> None:
    watch = LogWatch(log)
    append(log)
    assert wakes(watch, SOON)
    settle(watch)
    append(log)
    assert wakes(watch, SOON)
    watch.close()


def test_after_rotation_the_new_file_is_watched_and_the_old_one_not(log: Path, tmp_path: Path) -> None:
    append(log)
    watch = LogWatch(log)
    rotated = tmp_path / "emerge.log.1"
    log.rename(rotated)
    append(log)
    assert wakes(watch, SOON)
    settle(watch)
    append(rotated)
    assert not wakes(watch, A_MOMENT)
    append(log)
    assert wakes(watch, SOON)
    watch.close()


def test_the_file_behind_a_symlink_is_watched(log: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "emerge.log"
    append(real)
    log.symlink_to(real)
    watch = LogWatch(log)
    append(real)
    assert wakes(watch, SOON)
    watch.close()


def test_a_directory_that_was_made_anew_is_watched(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    watch = LogWatch(directory / "emerge.log")
    directory.rmdir()
    settle(watch)
    directory.mkdir()
    watch.wait(0.0)  # the slow poll
    append(directory / "emerge.log")
    assert wakes(watch, SOON)
    watch.close()


def test_another_descriptor_wakes_and_is_named(log: Path) -> None:
    reading, writing = os.pipe()
    watch = LogWatch(log)
    os.write(writing, b"x")
    assert watch.wait(SOON, [reading]) == {reading}
    watch.close()
    os.close(reading)
    os.close(writing)


def test_without_pyinotify_the_log_is_polled(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyinotify", None)
    watch = LogWatch(log)
    assert watch.interval == watch_module.POLL_ALONE_INTERVAL
    assert "polled" in caplog.text
    assert not wakes(watch, 0.05)
    watch.close()
