# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon with a real collector and its real child: it starts, sends, reloads, and leaves in order."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import Site, wait_a_moment
from tests.processes import Process, environment
from tests.waiting import until

STAMP = 1_795_000_000


def merge(number: int) -> bytes:
    return b"".join(
        b"%d:  %s (1 of 1) app-misc/alpha-%d to /\n" % (STAMP + number, text, number)
        for text in (b">>> emerge", b"::: completed emerge")
    )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site.create(tmp_path) as site:
        site.start_collector()
        site.machine.register()
        yield site


def versions(site: Site) -> list[str]:
    return [record["version"] for record in site.checked_changes()]


def daemon(site: Site, **env: str) -> Process:
    """Start the daemon with more in its environment."""
    site.daemon = Process(site.machine.argv("daemon"), log=site.home / "daemon.log", env=environment(**env))
    return site.daemon


def end_of_log_reached(site: Site) -> bool:
    return site.journal().state.get("caught_up") == "1"


def test_without_registration_it_refuses_and_says_what_to_run(tmp_path: Path) -> None:
    with Site.create(tmp_path) as site:
        for options in ((), ("--detach",)):
            done = site.machine.gentwoo("daemon", *options, check=False)
            assert done.returncode == 78
            assert "gentwoo register" in done.stderr


def test_a_second_daemon_is_refused_and_told_of_the_first(site: Site) -> None:
    site.start_daemon()
    assert site.daemon
    until(lambda: end_of_log_reached(site))
    done = site.machine.gentwoo("daemon", check=False)
    assert done.returncode == 1
    assert str(site.daemon.pid) in done.stderr


def test_records_arrive_and_a_signal_ends_it_with_its_child(site: Site) -> None:
    site.start_daemon()
    assert site.daemon
    until(lambda: end_of_log_reached(site))
    for number in range(5):
        site.log.append(merge(number))
    site.drain()
    child = until(site.sender)
    assert site.daemon.stop() == 0
    assert not Path(f"/proc/{child}").exists()
    assert versions(site) == [str(number) for number in range(5)]
    assert {record["observed"] for record in site.collector.export()} == {"live"}


def test_a_child_that_dies_is_replaced(site: Site) -> None:
    site.start_daemon()
    site.log.append(merge(1))
    site.drain()
    first = until(site.sender)
    site.kill_sender()
    until(lambda: site.sender() != first)
    site.log.append(merge(2))
    site.drain()
    assert versions(site) == ["1", "2"]


def test_when_the_collector_refuses_for_good_it_says_why_and_ends(site: Site) -> None:
    site.start_daemon()
    assert site.daemon
    site.log.append(merge(1))
    site.drain()
    site.machine.gentwoo("forget", "--yes", check=False)
    site.log.append(merge(2))
    until(lambda: not site.daemon or not site.daemon.is_running())
    assert site.daemon.wait() == 78
    assert "register" in site.daemon.output


def test_reload_takes_a_new_configuration_and_survives_a_bad_one(site: Site, tmp_path: Path) -> None:
    site.start_daemon()
    assert site.daemon
    site.log.append(merge(1))
    site.drain()
    text = site.machine.config.read_text()
    site.machine.config.write_text(text + "no_such_setting = 1\n")
    site.daemon.process.send_signal(signal.SIGHUP)
    site.daemon.until_printed("stays as it was.*no_such_setting")
    site.machine.config.write_text(text.replace(str(site.log.path), str(tmp_path / "log" / "other.log")))
    site.daemon.process.send_signal(signal.SIGHUP)
    site.daemon.until_printed("configuration was read again")
    (tmp_path / "log" / "other.log").write_bytes(merge(2))
    until(lambda: versions(site) == ["1", "2"])


def test_the_service_manager_hears_of_start_reload_life_and_end(site: Site, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(address)
        channel.settimeout(30)

        def hear(message: str) -> None:
            while not channel.recv(200).decode().startswith(message):
                pass

        process = daemon(site, NOTIFY_SOCKET=address, WATCHDOG_USEC="400000")
        hear("READY=1")
        hear("WATCHDOG=1")
        hear("WATCHDOG=1")
        process.process.send_signal(signal.SIGHUP)
        hear("RELOADING=1\nMONOTONIC_USEC=")
        hear("READY=1")
        process.process.send_signal(signal.SIGTERM)
        hear("STOPPING=1")
        assert process.wait() == 0


def test_messages_carry_priorities_where_the_journal_reads_them(site: Site) -> None:
    log = site.home / "daemon.log"
    log.touch()
    status = log.stat()
    process = daemon(site, JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}")
    process.until_printed("(?m)^<6>.*does not exist yet")


def test_detached_it_works_on_and_is_ended_by_its_pid(site: Site) -> None:
    done = site.machine.gentwoo("daemon", "--detach")
    assert done.returncode == 0
    lock = site.state_dir / "reader.lock"
    pid = int(until(lambda: lock.exists() and lock.read_text().strip()) or "0")
    try:
        until(lambda: end_of_log_reached(site))
        pid = int(lock.read_text())
        assert Path(f"/proc/{pid}/fd/0").resolve() == Path("/dev/null")
        site.log.append(merge(1))
        until(lambda: versions(site) == ["1"])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        commands = [Path(f"/proc/{child}/cmdline").read_text().split("\0") for child in children]
        assert all("--syslog" in command and "-P" in command for command in commands)
        assert len(commands) == 1
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_at_rest_it_does_not_wake_though_a_neighbour_is_busy(site: Site, tmp_path: Path) -> None:
    site.start_daemon()
    assert site.daemon
    site.log.append(merge(1))
    site.drain()
    neighbour = tmp_path / "log" / "messages"
    neighbour.touch()
    pid = site.daemon.pid

    def switches() -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("voluntary_ctxt")).split()[1])

    def is_calm() -> bool:
        before = switches()
        wait_a_moment(0.5)
        return switches() == before

    until(is_calm)
    before = switches()
    with neighbour.open("ab", buffering=0) as file:
        for _ in range(1000):
            file.write(b"something\n")
    wait_a_moment(1.0)
    assert switches() == before


def test_it_takes_little_memory_at_rest(site: Site) -> None:
    site.start_daemon()
    assert site.daemon
    site.log.append(b"".join(map(merge, range(5000))))
    site.drain()
    lines = Path(f"/proc/{site.daemon.pid}/smaps_rollup").read_text().splitlines()
    pss = int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    assert pss <= 20 * 1024


def test_a_time_to_try_again_is_honoured(site: Site) -> None:
    site.start_daemon()
    until(lambda: end_of_log_reached(site))
    site.kill_collector()
    site.log.append(merge(1))
    until(lambda: site.journal().state.get("retry_at"))
    site.start_collector()
    before = time.monotonic()
    site.drain()
    assert time.monotonic() - before < 60
    assert json.dumps(versions(site)) == '["1"]'
