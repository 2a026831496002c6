# SPDX-License-Identifier: GPL-2.0-or-later
"""One holder at a time, named to the other; and messages to the service manager; and the clock."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from gentwoo_client.clock import boot_time, clock_state
from gentwoo_client.errors import AlreadyRunning
from gentwoo_client.locks import READER, SENDER, exclusive_lock, exclusive_locks
from gentwoo_client.notify import READY, notify, watchdog_interval
from gentwoo_client.wire.records import CLOCKS


def test_a_second_holder_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path, READER):
        with (
            pytest.raises(AlreadyRunning, match=str(os.getpid())) as caught,
            exclusive_lock(tmp_path, READER),
        ):
            pass
        assert caught.value.pid == os.getpid()
        with exclusive_lock(tmp_path, SENDER):
            pass
        with pytest.raises(AlreadyRunning), exclusive_locks(tmp_path):
            pass
    with exclusive_locks(tmp_path):
        pass


def test_what_a_dead_holder_left_behind_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / READER).write_text("1\n")
    with exclusive_lock(tmp_path, READER):
        assert (tmp_path / READER).read_text() == f"{os.getpid()}\n"


def test_the_service_manager_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(
            ""
        )  # the kernel chooses a name; a path in a deep directory would be too long for a socket
        address = "@" + channel.getsockname()[1:].decode()
        channel.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify(READY)
        assert channel.recv(100) == b"READY=1"
    notify(READY)  # nobody listens any more: no error
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify(READY)


def test_the_watchdog_is_fed_twice_as_often_as_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "120000000")
    assert watchdog_interval() == 60.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_interval() is None


def test_the_clock_is_asked() -> None:
    assert clock_state() in CLOCKS
    assert 0 < boot_time() <= time.time()
