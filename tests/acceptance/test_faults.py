# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever happens to log, disk, network and processes: afterwards the collector has what it should have.

Each test lets something go wrong, puts it right, and compares with a machine on which nothing ever did.
"""

import contextlib
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import faults
from tests.faults import Site, Trap, undisturbed
from tests.processes import Machine, without
from tests.store_access import copy_data, remove_data
from tests.waiting import until

DISK = 4 << 20  # bytes
NOT_CONFIGURED = 78
LATER = 75


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site.create(tmp_path / "site") as site:
        yield site


@pytest.fixture
def log() -> bytes:
    return faults.scenario_logs()


def halves(content: bytes) -> tuple[bytes, bytes]:
    """`content` in two parts, cut in the middle of a merge."""
    cut = content.index(b"\n", content.index(b" >>> emerge (", len(content) // 2)) + 1
    return content[:cut], content[cut:]


def assert_undisturbed(site: Site, content: bytes | None = None) -> None:
    """The collector has what it has of a machine that read `content` (all that was logged) in peace."""
    written = bytes(site.log.content) if content is None else content
    assert site.checked_changes() == undisturbed(written)


# The log --------------------------------------------------------------------------------------------------

ROTATIONS: dict[str, Callable[[faults.GrowingLog], None]] = {
    "rename": lambda log: log.rename(),
    "rename and compress": lambda log: log.rename(compress=True),
    "copytruncate": lambda log: log.copytruncate(),
}


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_rotation_while_the_daemon_runs(site: Site, log: bytes, rotation: str) -> None:
    site.start()
    for part in faults.quarters(log, 4):
        first, second = halves(part)
        site.log.append(first)
        ROTATIONS[rotation](site.log)
        site.log.append(second)
    site.drain()
    assert_undisturbed(site)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_rotations_while_the_daemon_is_away(site: Site, log: bytes, rotation: str) -> None:
    site.start()
    first, second, third, fourth = faults.quarters(log, 4)
    site.log.append(first)
    site.drain()
    assert site.daemon is not None
    assert site.daemon.stop() == 0
    site.log.append(second)
    ROTATIONS[rotation](site.log)
    site.log.append(third)
    ROTATIONS[rotation](site.log)
    site.log.append(fourth)
    site.start_daemon()
    site.drain()
    assert_undisturbed(site)


@pytest.mark.parametrize("running", [True, False])
def test_a_log_that_is_cut_down_goes_on(site: Site, log: bytes, running: bool) -> None:
    """What was read before stays, what is written afterwards counts."""
    site.start()
    first, second = faults.quarters(log, 2)
    site.log.append(first)
    site.drain()
    assert site.daemon is not None
    if not running:
        assert site.daemon.stop() == 0
    os.truncate(site.log.path, 0)
    site.log.append(second)
    if not running:
        site.start_daemon()
    site.drain()
    assert_undisturbed(site)


def test_a_log_that_is_replaced_goes_on(site: Site, log: bytes) -> None:
    """Removed and made anew, as after an editor or a deletion."""
    site.start()
    first, second = faults.quarters(log, 2)
    site.log.append(first)
    site.drain()
    site.log.path.unlink()
    site.log.append(second)
    site.drain()
    assert_undisturbed(site)


DAMAGE = (
    b"@\n",
    b"@l: nothing\n",
    b"@\0\0\0\0== (13 of 14) Post-Build Cleaning (a/b-1::/c)\n",
    b"\0" * 4096 + b"\n",
    b"@: >>> Syncing repository '\xff\xfe\x80 \xed\xa0\x80' into '\xc3\x28'...\n",
    b"\xc3\x28: \xe2\x82\n",
    b"@:  ::: completed emerge (3 of 3) media-libs/libpng to /\n",
    b"::: completed emerge (2of3) dev-libs/x-1\n",
    b"99999999999999999999999:  >>> emerge (1 of 1) app-misc/far-1 to /\n",
    b"\n",
    b"\r\n",
    b"x" * 100_000 + b"\n",
)
"""Lines to be skipped; @ is the stamp of the line before."""


def test_damaged_lines_cost_no_good_one(site: Site, log: bytes) -> None:
    damaged = bytearray()
    for number, line in enumerate(log.splitlines(keepends=True)):
        damaged += line
        if number % 7 == 0:
            damaged += DAMAGE[number // 7 % len(DAMAGE)].replace(b"@", line.partition(b":")[0])
    site.start()
    for part in faults.quarters(bytes(damaged), 8):
        site.log.append(part)
    site.drain()
    assert_undisturbed(site, log)


def test_nuls_without_an_end_do_not_fill_the_memory(site: Site, log: bytes) -> None:
    """Blocks of them, as after a power loss, and no newline in sight."""
    site.start()
    first, second = faults.quarters(log, 2)
    site.log.append(first)
    for _ in range(16):
        site.log.append(bytes(1 << 20))
    site.log.append(b"\n" + second)
    site.drain()
    assert_undisturbed(site, first + second)
    assert site.daemon is not None
    status = Path(f"/proc/{site.daemon.pid}/status").read_text()
    assert int(status.partition("VmHWM:")[2].split()[0]) < 64 << 10  # KiB


def test_clock_jumps_lose_nothing(site: Site, log: bytes) -> None:
    """Back by a year, forth by ten, to 1970, in the middle of merges."""
    year = 365 * 86_400
    pieces = []
    for part, offset in zip(faults.quarters(log, 4), (-year, 10 * year, -1_795_307_000, 0), strict=True):
        first, second = halves(part)
        pieces += [first, faults.shifted(second, offset)]
    site.start()
    for piece in pieces:
        site.log.append(piece)
    site.drain()
    assert_undisturbed(site)
    told = [(change["event"], change["name"], change["version"]) for change in undisturbed(log)]
    jumped = undisturbed(bytes(site.log.content))
    assert [(change["event"], change["name"], change["version"]) for change in jumped] == told


# Disks ----------------------------------------------------------------------------------------------------


def limit_files(pid: int, size: int) -> None:
    """Let no file of that process grow beyond `size` bytes: a full disk for who may not mount one."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@contextlib.contextmanager
def no_space(directory: Path, pid: int) -> Iterator[None]:
    """No process can write to `directory` (a small file system where we are root) within the block."""
    if os.geteuid() == 0:
        ballast = faults.fill(directory)
        yield
        ballast.unlink()
    else:
        limit_files(pid, 0)
        yield
        limit_files(pid, resource.RLIM_INFINITY)


@contextlib.contextmanager
def own_disk(directory: Path) -> Iterator[None]:
    """Put `directory` on a small file system, if we are root."""
    with faults.small_disk(directory, size=DISK) if os.geteuid() == 0 else contextlib.nullcontext():
        yield


def test_a_full_disk_under_the_journal(site: Site, log: bytes) -> None:
    with own_disk(site.state_dir):
        site.start()
        first, second = halves(log)
        site.log.append(first)
        site.drain()
        assert site.daemon is not None
        before = len(site.daemon.output)
        with no_space(site.state_dir, site.daemon.pid):
            for part in faults.quarters(second, 4):
                site.log.append(part)
            told = until(lambda: complaints(site, before), what="what the daemon says about its full disk")
            assert site.daemon.is_running()
        site.drain(timeout=150)
        assert len(complaints(site, before)) == len(told) == 1, site.daemon.output
        assert_undisturbed(site)
        stop_daemon(site)


def complaints(site: Site, start: int) -> list[str]:
    """What the daemon said about space since it had printed `start` characters."""
    assert site.daemon is not None
    return re.findall(
        r"(?im)^.*(?:disk is full|disk full|no space|journal.*full).*$", site.daemon.output[start:]
    )


def stop_daemon(site: Site) -> None:
    assert site.daemon is not None
    assert site.daemon.stop() == 0


@pytest.mark.sqlite  # of another disk, tests/engines/test_postgresql_store.py knows what the engine says
def test_a_full_disk_under_the_collector(site: Site, log: bytes) -> None:
    site.collector.home.mkdir(parents=True)
    with own_disk(site.collector.data):
        site.start()
        first, second = halves(log)
        site.log.append(first)
        site.drain()
        assert site.collector.process is not None
        with no_space(site.collector.data, site.collector.process.pid):
            site.log.append(second)
            until(lambda: "retry_at" in site.journal().state, what="a refusal for want of space")
            assert site.collector.process.is_running()
        site.drain(timeout=150)
        assert_undisturbed(site)
        assert site.collector.stop() == 0


# Network and processes ------------------------------------------------------------------------------------


def test_a_collector_that_is_away_for_a_while(site: Site, log: bytes) -> None:
    site.start()
    parts = faults.quarters(log, 4)
    site.log.append(parts[0])
    site.drain()
    site.kill_collector()
    for part in parts[1:]:
        site.log.append(part)
    until(lambda: site.journal().has_read(site.log), what="the rest of the log in the journal")
    assert site.journal().unsent
    site.start_collector()
    site.drain()
    assert_undisturbed(site)


def test_a_push_says_when_the_collector_is_away(site: Site, log: bytes) -> None:
    site.start_collector()
    site.machine.register()
    site.kill_collector()
    site.log.append(log)
    done = site.machine.gentwoo("push", check=False)
    assert done.returncode == LATER, done
    site.start_collector()
    site.machine.gentwoo("push")
    assert_undisturbed(site)


@pytest.mark.parametrize("moment", faults.MOMENTS)
def test_a_collector_killed_in_a_large_backfill(site: Site, moment: faults.Moment) -> None:
    content = faults.real_log()
    site.log.append(content)
    site.start_collector()
    site.machine.register()
    trap = Trap(moment, site.kill_collector)
    site.relay.arm(trap)
    site.start_daemon()
    assert trap.sprung.wait(30)
    assert site.journal().unacknowledged
    site.start_collector()
    site.drain()
    assert_undisturbed(site)


@pytest.mark.parametrize("moment", faults.MOMENTS)
def test_sigterm_during_a_push_ends_in_order(site: Site, log: bytes, moment: faults.Moment) -> None:
    site.start()
    daemon = site.daemon
    assert daemon is not None
    trap = Trap(moment, lambda: daemon.process.send_signal(signal.SIGTERM))
    site.relay.arm(trap)
    site.log.append(log)
    assert trap.sprung.wait(30)
    assert daemon.wait() == 0
    site.start_daemon()
    site.drain()
    assert_undisturbed(site)


# Copies ---------------------------------------------------------------------------------------------------


def as_clone(site: Site, log: Path) -> Machine:
    """A machine that was made by copying another's disk; `log` is its own."""
    state = site.home / "clone-state"
    shutil.copytree(site.state_dir, state)
    toml = site.machine.config.read_text().replace(str(site.state_dir), str(state))
    return Machine(site.home / "clone", toml.replace(str(site.log.path), str(log)))


def assert_stops_until_renewed(machine: Machine) -> None:
    """`push` and `daemon` exit with 78 and name the repair, which then works."""
    stopped = machine.gentwoo("push", check=False)
    assert stopped.returncode == NOT_CONFIGURED, stopped
    assert "gentwoo register --renew" in stopped.stderr
    with machine.daemon() as daemon:
        assert daemon.wait() == NOT_CONFIGURED
        assert "gentwoo register --renew" in daemon.output
    machine.gentwoo("register", "--renew", "--non-interactive")
    machine.gentwoo("push")


def of_machine(records: list[dict[str, Any]], machine: str) -> list[dict[str, Any]]:
    """The records of one machine, but for what two runs over the same log may differ in."""
    return without([each for each in records if each["machine"] == machine], *faults.OUTSIDE_THE_CHAIN)


def test_a_cloned_machine_stops_and_can_be_renewed(site: Site, log: bytes) -> None:
    parts = faults.quarters(log, 3)
    site.log.append(parts[0])
    site.start_collector()
    site.machine.register()
    site.machine.gentwoo("push")
    original = site.collector.export()[0]["machine"]
    log_of_clone = site.home / "clone.log"
    shutil.copyfile(site.log.path, log_of_clone)
    clone = as_clone(site, log_of_clone)
    site.log.append(parts[1])
    site.machine.gentwoo("push")
    with log_of_clone.open("ab") as file:
        file.write(parts[2])

    assert_stops_until_renewed(clone)

    site.checked_changes()
    records = site.collector.export()
    expected = undisturbed(parts[0] + parts[1])
    assert of_machine(records, original) == expected
    (renewed,) = {record["machine"] for record in records} - {original}
    elsewhere = undisturbed(parts[0] + parts[2])
    sent = of_machine(records, renewed)
    tail = [
        {**record, "seq": record["seq"] - (len(elsewhere) - len(sent))} for record in elsewhere[-len(sent) :]
    ]
    assert sent == tail
    site.log.append(log)
    site.machine.gentwoo("push")  # and the original has not noticed


def test_a_restored_state_directory_stops_and_can_be_renewed(site: Site, log: bytes) -> None:
    parts = faults.quarters(log, 3)
    site.start_collector()
    site.machine.register()
    site.log.append(parts[0])
    site.machine.gentwoo("push")
    shutil.copytree(site.state_dir, site.home / "backup")
    site.log.append(parts[1])
    site.machine.gentwoo("push")
    shutil.rmtree(site.state_dir)
    shutil.copytree(site.home / "backup", site.state_dir)
    site.log.append(parts[2])

    assert_stops_until_renewed(site.machine)
    site.checked_changes()


def test_a_collector_restored_from_an_older_copy_gets_the_rest_again(site: Site, log: bytes) -> None:
    parts = faults.quarters(log, 6)
    site.start_collector()
    site.machine.register()
    for number, part in enumerate(parts):
        site.log.append(part)
        site.machine.gentwoo("push")
        if number == 2:
            assert site.collector.stop() == 0
            copy_data(site.collector.data, site.home / "backup")
            site.start_collector()
        if number == 4:
            assert site.collector.stop() == 0
            remove_data(site.collector.data)
            copy_data(site.home / "backup", site.collector.data)
            site.start_collector()
    assert_undisturbed(site)


def test_a_collector_that_lost_everything_gets_all_of_it_again(site: Site, log: bytes) -> None:
    """Nothing is sent to a collector that does not know the machine, until it is registered there again."""
    first, second = halves(log)
    site.start_collector()
    site.machine.register()
    site.log.append(first)
    site.machine.gentwoo("push")
    assert site.collector.stop() == 0
    remove_data(site.collector.data)
    site.start_collector()
    site.log.append(second)
    refused = site.machine.gentwoo("push", check=False)
    assert refused.returncode == NOT_CONFIGURED, refused
    assert "gentwoo register" in refused.stderr
    site.machine.register()
    site.machine.gentwoo("push")
    assert_undisturbed(site)
