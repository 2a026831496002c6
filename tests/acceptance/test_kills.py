# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing is lost and nothing comes twice, whoever is killed whenever.

A real log is written piece by piece, with rotations in between, while SIGKILL hits the daemon, its push
child, both, or the collector; each time what was killed is started again. At the end the collector must have
what it has from a machine that nothing ever happened to. GENTWOO_TEST_SEED repeats the choices of a run.
"""

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests import faults
from tests.faults import MOMENTS, JournalView, Site, Trap, wait_a_moment
from tests.waiting import until

VICTIMS: Final = ("daemon", "sender", "both", "collector")
ORDEALS: Final = 4
KILLS: Final = 26
LONG_ORDEALS: Final = 50
LONG_KILLS: Final = 100

PATIENCE: Final = 20.0  # seconds until a push must have come by
LONGEST_READ: Final = 0.003  # seconds after a write within which the daemon is killed
LONGEST_PUSH: Final = 0.15  # … and the others, where no push is waited for


class Ordeal:
    """One machine's way through kills. All choices come from `seed`, not the moments they meet."""

    def __init__(self, site: Site, content: bytes, *, kills: int, seed: str) -> None:
        self._site = site
        self._random = random.Random(seed)
        self._lines = content.splitlines(keepends=True)
        self._per_kill = max(len(self._lines) // (2 * kills), 1)
        self.proven: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()

    def run(self, kills: int) -> None:
        """Kill so many times, then write the rest of the log and let everything arrive."""
        self._site.start()
        for _ in range(kills):
            self._maybe_rotate()
            if self._random.random() < 0.85:  # else it is still busy with what the last kill left behind
                self._site.drain()
            victim = self._random.choice(VICTIMS)
            self._kill_daemon() if victim == "daemon" else self._kill_pusher(victim)
            self.kills[victim] += 1
            self._recover(victim)
        self._write(len(self._lines))
        self._site.drain()

    def _kill_daemon(self) -> None:
        """Kill the resident process a moment after a write: it reads, or commits, or has just done so."""
        self._write_share()
        wait_a_moment(self._random.uniform(0, LONGEST_READ))
        self._site.kill_daemon()
        if not self._site.journal().has_read(self._site.log):
            self.proven["read"] += 1

    def _kill_pusher(self, victim: str) -> None:
        """Kill in the middle of a push, or at any time."""
        strike = self._strike(victim)
        if self._random.random() < 0.2:
            self._write_share()
            broken = self._site.relay.broken
            wait_a_moment(self._random.uniform(0, LONGEST_PUSH))
            strike()
            self._count_push(met=self._site.relay.broken > broken)
            return
        trap = Trap(self._random.choice(MOMENTS), strike)
        self._site.relay.arm(trap)
        self._write_share()
        if not trap.sprung.wait(PATIENCE):
            self._site.relay.disarm()
            strike()
        self._count_push(met=trap.sprung.is_set())

    def _count_push(self, *, met: bool) -> None:
        """A push was under way if the wire says so and the journal holds what was never acknowledged."""
        if met and self._site.journal().unacknowledged:
            self.proven["push"] += 1

    def _strike(self, victim: str) -> Callable[[], None]:
        site = self._site
        if victim == "collector":
            return site.kill_collector

        def kill() -> None:
            site.kill_sender()
            if victim == "both":
                site.kill_daemon()

        return kill

    def _recover(self, victim: str) -> None:
        """Start again what was killed; sometimes only after more was written."""
        if self._random.random() < 0.3:
            self._write_share()
            self._maybe_rotate()
        if victim == "collector":
            self._site.start_collector()
        elif victim != "sender":
            self._site.start_daemon()

    def _write_share(self) -> None:
        """Write some of the log, with at least one change in it."""
        changes = self._site.log.changes
        while self._lines and self._site.log.changes == changes:
            self._write(self._random.randint(1, self._per_kill))

    def _write(self, count: int) -> None:
        """Write lines, in one or several writes, of which one may end in the middle of a line."""
        content, self._lines = b"".join(self._lines[:count]), self._lines[count:]
        cut = self._random.randrange(len(content) + 1)
        for part in (content[:cut], content[cut:]):
            if part:
                self._site.log.append(part)

    def _maybe_rotate(self) -> None:
        choice = self._random.random()
        if not self._site.log.size:
            return
        if choice < 0.12:
            self._site.log.rename(compress=choice < 0.06)
        elif choice < 0.2:
            if self._site.daemon is not None and self._site.daemon.is_running():
                # truncating loses what nobody had the time to look at
                until(self._site.is_read, 60, what=f"all of the log read\n{self._site.told()}")
            self._site.log.copytruncate()


def endure(tmp_path: Path, content: bytes, *, kills: int, number: int) -> None:
    """Let a site suffer `kills`; then compare it with one that was left in peace."""
    seed = f"{os.environ.get('GENTWOO_TEST_SEED') or random.randrange(1 << 32)}-{number}"
    print(f"GENTWOO_TEST_SEED={seed.split('-')[0]}")
    with Site.create(tmp_path / "site") as site:
        ordeal = Ordeal(site, content, kills=kills, seed=seed)
        ordeal.run(kills)
        assert site.checked_changes() == faults.undisturbed(content)
        assert JournalView.of(site.state_dir).unsent == 0
    print(f"kills: {dict(ordeal.kills)}, proven under way: {dict(ordeal.proven)}")
    assert ordeal.kills.total() == kills
    assert ordeal.proven.total() * 2 >= kills, f"too few kills met a transaction or push: {ordeal.proven}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(ORDEALS))
def test_no_kill_loses_or_repeats_a_record(tmp_path: Path, number: int) -> None:
    content = faults.quarters(faults.real_log() + faults.scenario_logs(), ORDEALS)[number]
    endure(tmp_path, content, kills=KILLS, number=number)


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("number", range(LONG_ORDEALS))
def test_thousands_of_kills_lose_and_repeat_nothing(tmp_path: Path, number: int) -> None:
    endure(tmp_path, faults.real_log() + faults.scenario_logs(), kills=LONG_KILLS, number=number)
