# SPDX-License-Identifier: GPL-2.0-or-later
"""From the log into the journal: the same records however often the reader is killed, wherever it stops."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gentwoo_client.errors import JournalFull
from gentwoo_client.follow import Follower
from gentwoo_client.journal import Journal, JournalRecord
from gentwoo_client.settings import Settings
from tests.faults import fill, real_log, small_disk
from tests.processes import environment

RUN = b"1795000000:  *** emerge app-misc/alpha\n"
START = b"%d:  >>> emerge (1 of 1) app-misc/alpha-1.0 to /\n"
COMPLETED = b"%d:  ::: completed emerge (1 of 1) app-misc/alpha-1.0 to /\n"
REMOVED = b"%d: === Unmerging... (app-misc/alpha-1.0)\n%d:  >>> unmerge success: app-misc/alpha-1.0\n"

READER = """
import sys
from pathlib import Path
from gentwoo_client import follow
from gentwoo_client.settings import Settings
follow.BATCH_SIZE = 4096
follow.read_to_end(Settings(state_dir=Path(sys.argv[1]), log=Path(sys.argv[2]), repositories=("*",)))
"""


class Machine:
    """A state directory, a log and a system below `path`, followed by readers that come and go."""

    def __init__(self, path: Path, **settings: object) -> None:
        self.state = path / "state"
        self.state.mkdir()
        self.log = path / "emerge.log"
        self.eprefix = path / "system"
        self.settings = Settings(
            state_dir=self.state,
            log=self.log,
            **{"repositories": ("*",), "eprefix": "", **settings},  # type: ignore[arg-type]
        )
        self.journal = Journal.open(self.state, create=True)

    def append(self, lines: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(lines)

    def follower(self) -> Follower:
        return Follower(self.journal, self.settings)

    def records(self) -> list[JournalRecord]:
        return list(self.journal.iter_records())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def undisturbed(records: list[JournalRecord]) -> list[JournalRecord]:
    """Without what depends on when a line was read."""
    return [replace(r, change=replace(r.change, observed="", clock="")) for r in records]


def test_what_was_there_is_backfill_and_what_comes_is_live(machine: Machine) -> None:
    machine.append(START % 1795000000 + COMPLETED % 1795000005)
    follower = machine.follower()
    assert follower.advance().sendable == 1
    machine.append(START % 1795000010 + COMPLETED % 1795000015)
    assert follower.advance().sendable == 1
    first, second = machine.records()
    assert (first.change.observed, first.change.clock) == ("backfill", "unknown")
    assert second.change.observed == "live"
    assert (second.change.seq, second.change.time_delta) == (2, 5)


def test_an_open_merge_survives_the_reader(machine: Machine) -> None:
    machine.append(START % 1795000000)
    first = machine.follower()
    first.advance()
    first.flush()
    machine.append(COMPLETED % 1795000007)
    machine.follower().advance()
    assert [r.change.time_delta for r in machine.records()] == [7]


def test_a_completion_without_start_counts_in_an_old_log(machine: Machine) -> None:
    machine.append(COMPLETED % 1795000000)
    assert machine.follower().advance().sendable == 1


@pytest.mark.parametrize("is_installed", [True, False])
@pytest.mark.parametrize("is_restarted", [True, False])
def test_afterwards_it_counts_only_if_the_package_is_there(
    tmp_path: Path, is_installed: bool, is_restarted: bool
) -> None:
    machine = Machine(tmp_path, eprefix=str(tmp_path / "system"))
    follower = machine.follower()
    follower.advance()
    if is_restarted:
        follower.close()
        follower = machine.follower()
    if is_installed:
        (tmp_path / "system/var/db/pkg/app-misc/alpha-1.0").mkdir(parents=True)
    machine.append((COMPLETED % 1795000000).replace(b"to /", f"to {tmp_path}/system/".encode()))
    follower.advance()
    assert [r.withheld for r in machine.records()] == [None if is_installed else "unconfirmed"]


def test_a_removal_of_what_is_still_here_was_in_another_root(tmp_path: Path) -> None:
    machine = Machine(tmp_path, eprefix=str(tmp_path / "system"))
    entry = tmp_path / "system/var/db/pkg/app-misc/alpha-1.0"
    entry.mkdir(parents=True)
    os.utime(entry, (1795000000, 1795000000))
    machine.append(REMOVED % (1795000100, 1795000101))
    follower = machine.follower()
    follower.advance()
    machine.append(REMOVED % (1795000200, 1795000201))
    follower.advance()
    entry.rmdir()
    machine.append(REMOVED % (1795000300, 1795000301))
    follower.advance()
    assert [r.withheld for r in machine.records()] == ["root", "root", None]


def test_read_late_what_was_installed_again_does_not_hide_its_removal(tmp_path: Path) -> None:
    machine = Machine(tmp_path, eprefix=str(tmp_path / "system"))
    entry = tmp_path / "system/var/db/pkg/app-misc/alpha-1.0"
    entry.mkdir(parents=True)
    os.utime(entry, (1795009999, 1795009999))
    machine.append(REMOVED % (1795000100, 1795000101))
    machine.follower().advance()
    assert [r.withheld for r in machine.records()] == [None]


def test_a_removed_package_is_of_the_repository_it_was_installed_from(tmp_path: Path) -> None:
    machine = Machine(tmp_path, repositories=("gentoo",))
    (tmp_path / "tree/profiles").mkdir(parents=True)
    (tmp_path / "tree/profiles/repo_name").write_text("secret\n")
    ebuild = f"{tmp_path}/tree/app-misc/alpha/alpha-1.0.ebuild".encode()
    phase = b"1795000001:  === (1 of 1) Compiling/Merging (app-misc/alpha-1.0::%s)\n" % ebuild
    machine.append(START % 1795000000 + phase + COMPLETED % 1795000005)
    machine.append(REMOVED % (1795000010, 1795000011))
    machine.follower().advance()
    assert [(r.change.repository, r.withheld) for r in machine.records()] == [("secret", "repository")] * 2


def test_the_past_stays_here_where_history_says_so(tmp_path: Path) -> None:
    machine = Machine(tmp_path, history="none")
    machine.append(START % 1795000000 + COMPLETED % 1795000005)
    follower = machine.follower()
    follower.advance()
    follower.close()
    machine.append(START % 1795000010 + COMPLETED % 1795000015)
    machine.follower().advance()
    assert [r.withheld for r in machine.records()] == ["history", None]


def test_killed_at_any_moment_the_journal_ends_up_the_same(tmp_path: Path) -> None:
    """The reader is a real process, killed while it reads and commits in small steps."""
    expected = Machine(tmp_path)
    expected.log.write_bytes(real_log())
    expected.follower().read_to_end()
    state = tmp_path / "killed"
    state.mkdir()
    Journal.open(state, create=True).close()
    chance = random.Random(2)
    kills = 0
    while True:
        reader = subprocess.Popen([sys.executable, "-c", READER, state, expected.log], env=environment())
        try:
            # The first is killed while it starts; later ones get further, on a slow machine as well.
            assert reader.wait(timeout=chance.uniform(0.05, 0.1 + 0.05 * kills)) == 0
            break
        except subprocess.TimeoutExpired:
            reader.send_signal(signal.SIGKILL)
            reader.wait()
            kills += 1
            assert kills < 200
    journal = Journal.open(state)
    assert undisturbed(list(journal.iter_records())) == undisturbed(expected.records())
    assert kills
    journal.close()


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with small_disk(tmp_path / "disk", size=2 * 1024 * 1024) as disk:
        machine = Machine(disk)
        machine.settings = machine.settings._replace(log=tmp_path / "emerge.log")
        machine.log = tmp_path / "emerge.log"
        lines = real_log().splitlines(keepends=True)[:2000]
        machine.log.write_bytes(b"".join(lines[:1000]))
        follower = machine.follower()
        follower.advance()
        before = len(machine.records())
        ballast = fill(disk)
        machine.append(b"".join(lines[1000:]))
        for _ in range(3):
            with pytest.raises(JournalFull):
                follower.advance()
        assert len(machine.records()) == before
        ballast.unlink()
        follower.advance()
        follower.flush()
        other = Machine(tmp_path / "one")
        other.log.write_bytes(b"".join(lines))
        other.follower().read_to_end()
        assert undisturbed(machine.records()) == undisturbed(other.records())
        follower.close()
        machine.journal.close()


def test_a_tracker_stored_in_another_format_is_forgotten(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.journal.put(tracker='{"format":0}')
    machine.append(START % 1795000000 + COMPLETED % 1795000005)
    follower = machine.follower()
    assert "format 0" in caplog.text
    follower.read_to_end()
    assert [record.change.event for record in machine.records()] == ["install"]
    follower.close()
