# SPDX-License-Identifier: GPL-2.0-or-later
"""The autoscaler: looks who is there and what is to be done, decides (`domain.capacity`), and has it done.

Each round begins with nothing but the engines and the store, so it does not matter where the last one was
broken off. A builder that is to go is marked in the store first, and gets no more work from that moment;
only when it builds nothing it is dismissed, in this round or in a later one. Where the engine chooses who
goes, the number is lowered by those that are idle, and whoever it takes ends what he builds.

An engine that fails holds up its own pool alone, and is asked less and less often.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from bdcs.capacity.drivers import ChoosingDriver, Driver, Fleet
from bdcs.domain.capacity import Backlog, Decision, PoolStanding, decide
from bdcs.domain.capacity_pools import Pool
from bdcs.errors import EXIT_DONE, CapacityUnavailable, CollectorError
from bdcs.services import capacity_standing
from bdcs.store.store import Store

log = logging.getLogger(__name__)

LONGEST_PAUSE: Final = 600.0  # seconds for which an engine that fails is left alone
SILENCE: Final = 600
"""Seconds, and four times the start-up time, after which a member that is not heard of is given up."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a round found and did at one pool."""

    pool: Pool
    is_known: bool = False
    """Whether its engine answered."""
    wanted: int = 0
    """What the engine was told to have when the round began."""
    ready: int = 0
    starting: int = 0
    leaving: int = 0
    needed: int = 0
    backlog: Backlog = field(default_factory=Backlog)
    started: int = 0
    recalled: tuple[str, ...] = ()
    released: tuple[str, ...] = ()
    forgone: int = 0
    dismissed: tuple[str, ...] = ()
    trouble: CollectorError | None = None
    """Why it could not be looked, or not done."""

    @property
    def engine(self) -> str:
        """Who starts its builders."""
        return f"{self.pool.engine}:{self.pool.place}"

    @property
    def has_acted(self) -> bool:
        """Whether anything was to be done."""
        return bool(self.started or self.recalled or self.released or self.forgone or self.dismissed)


@dataclass(slots=True)
class _Trouble:
    """How an engine fails."""

    error: CollectorError
    pause: float
    until: float
    """By the monotonic clock."""


@dataclass(slots=True, kw_only=True)
class Autoscaler:
    """Looks after pools."""

    store: Store
    drivers: Mapping[Pool, Driver]
    patience: int
    """Seconds that builds may take longer than they need."""
    total: int | None
    """Builders of all pools."""
    now: Callable[[], float] = time.time
    _troubles: dict[Pool, _Trouble] = field(default_factory=dict)
    _silent: dict[tuple[Pool, str], float] = field(default_factory=dict)
    """Since when a member of an engine is not heard of, by the monotonic clock."""

    async def run(self, interval: float) -> None:
        """Do rounds until cancelled."""
        while True:
            try:
                for outcome in await self.round(pause=interval):
                    _tell(outcome)
            except CollectorError as error:
                log.warning("nothing was decided: %s", error)
            await asyncio.sleep(interval)

    async def round(self, *, is_dry: bool = False, pause: float = 0.0) -> list[Outcome]:
        """Look, decide and act; return what came of it at each pool.

        `is_dry`: only look and decide. `pause`: seconds for which an engine is left alone that fails, twice
        as long each time. Raises `StoreError`.
        """
        outcomes = {pool: Outcome(pool=pool) for pool in self.drivers}
        fleets = await self._fleets(outcomes)
        now = int(self.now())
        found = await self.store.read(partial(capacity_standing.standings, fleets=fleets, now=now))
        decisions = decide(found.values(), patience=self.patience, total=await self._allowed(fleets), now=now)
        for pool, standing in found.items():
            _fill_in(outcomes[pool], standing, decisions[pool.name])
        if is_dry:
            return list(outcomes.values())
        await asyncio.gather(
            *(
                self._act(outcomes[pool], fleets[pool], standing, decisions[pool.name])
                for pool, standing in found.items()
            )
        )
        self._note_troubles(outcomes, pause)
        await self.store.write(partial(self._write_down, outcomes=list(outcomes.values()), now=now))
        return list(outcomes.values())

    def _write_down(self, connection: Connection, outcomes: Sequence[Outcome], now: int) -> None:
        """Say how the pools stand, for pages and metrics, and that somebody looks after them."""
        capacity_standing.keep_only(connection, [outcome.pool.name for outcome in outcomes])
        for outcome in outcomes:
            if outcome.is_known:
                capacity_standing.note(connection, _row(outcome, now))
            else:
                capacity_standing.note_trouble(connection, outcome.pool.name, str(outcome.trouble))

    async def close(self) -> None:
        """End connections to engines."""
        for driver in self.drivers.values():
            await driver.close()

    # Looking.

    async def _fleets(self, outcomes: Mapping[Pool, Outcome]) -> dict[Pool, Fleet]:
        """Ask all engines at once; those that fail are left out."""

        async def look(pool: Pool, driver: Driver) -> tuple[Pool, Fleet] | None:
            trouble = self._troubles.get(pool)
            if trouble is not None and time.monotonic() < trouble.until:
                outcomes[pool].trouble = trouble.error
                return None
            try:
                return pool, await driver.look()
            except CollectorError as error:
                outcomes[pool].trouble = error
            except Exception:  # whatever an engine answers, it holds up its own pool alone
                log.exception("pool %s", pool.name)
                outcomes[pool].trouble = CapacityUnavailable("its engine answered what nobody expected")
            return None

        found = await asyncio.gather(*(look(pool, driver) for pool, driver in self.drivers.items()))
        return dict(one for one in found if one is not None)

    async def _allowed(self, fleets: Mapping[Pool, Fleet]) -> int | None:
        """Return how many builders the pools that answered may have together."""
        if self.total is None:
            return None
        silent = [pool.name for pool in self.drivers if pool not in fleets]
        elsewhere = await self.store.read(partial(capacity_standing.last_wanted, names=silent))
        return max(0, self.total - elsewhere)

    # Acting.

    async def _act(self, outcome: Outcome, fleet: Fleet, standing: PoolStanding, decision: Decision) -> None:
        driver = self.drivers[outcome.pool]
        try:
            await driver.tend()
            if decision.recall:
                await self.store.write(partial(capacity_standing.recall, names=decision.recall))
            if decision.start:
                await driver.resize(fleet.wanted + decision.start)
            if isinstance(driver, ChoosingDriver) and fleet.members is not None:
                await self._dismiss(driver, outcome, fleet.members, standing, decision)
            elif decision.release or decision.forgo:
                fewer = fleet.wanted - len(decision.release) - decision.forgo
                await driver.resize(max(0, fewer), decision.release)
        except CollectorError as error:
            outcome.trouble = error
        except Exception:
            log.exception("pool %s", outcome.pool.name)
            outcome.trouble = CapacityUnavailable("its engine answered what nobody expected")

    async def _dismiss(
        self,
        driver: ChoosingDriver,
        outcome: Outcome,
        members: frozenset[str],
        standing: PoolStanding,
        decision: Decision,
    ) -> None:
        """Mark who is to go, and dismiss who was marked and builds nothing, and who never came."""

        def mark(connection: Connection) -> list[str]:
            capacity_standing.release(connection, decision.release)
            return capacity_standing.may_go(connection, members)

        leaving = await self.store.write(mark) if decision.release or standing.leaving else []
        unheard = sorted(members - {builder.name for builder in standing.builders})
        absent = unheard[: decision.forgo]
        lost = self._lost(outcome.pool, unheard)
        going = [*leaving, *absent, *(name for name in lost if name not in absent)]
        if going:
            await driver.dismiss(going)
            outcome.dismissed = tuple(going)
        if decision.forgo > len(absent):
            await driver.resize(standing.wanted - len(going) - (decision.forgo - len(absent)))

    def _lost(self, pool: Pool, unheard: Sequence[str]) -> list[str]:
        """Return members that are there for the engine only, for too long."""
        now = time.monotonic()
        for key in [key for key in self._silent if key[0] == pool and key[1] not in unheard]:
            del self._silent[key]
        patience = max(SILENCE, 4 * pool.limits.startup)
        return [name for name in unheard if now - self._silent.setdefault((pool, name), now) > patience]

    def _note_troubles(self, outcomes: Mapping[Pool, Outcome], pause: float) -> None:
        for pool, outcome in outcomes.items():
            before = self._troubles.get(pool)
            if outcome.trouble is None:
                self._troubles.pop(pool, None)
            elif before is None or outcome.trouble is not before.error:
                longer = pause if before is None else min(LONGEST_PAUSE, 2 * before.pause)
                self._troubles[pool] = _Trouble(outcome.trouble, longer, time.monotonic() + longer)


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return what a command ends with after a round: that of the worst trouble."""
    return min(
        (outcome.trouble.exit_code for outcome in outcomes if outcome.trouble is not None), default=EXIT_DONE
    )


def document_of(outcome: Outcome) -> dict[str, Any]:
    """Return what is told of an outcome to programs."""
    backlog = outcome.backlog
    return {
        "pool": outcome.pool.name,
        "targets": list(outcome.pool.targets),
        "engine": outcome.engine,
        "needed": outcome.needed,
        "wanted": outcome.wanted,
        "ready": outcome.ready,
        "starting": outcome.starting,
        "leaving": outcome.leaving,
        "jobs": backlog.jobs,
        "work_seconds": backlog.work,
        "chain_seconds": backlog.chain,
        "waited_seconds": backlog.waited,
        "start": outcome.started,
        "recall": list(outcome.recalled),
        "release": list(outcome.released),
        "forgo": outcome.forgone,
        "dismissed": list(outcome.dismissed),
        "trouble": None if outcome.trouble is None else str(outcome.trouble),
    }


def line_of(outcome: Outcome) -> str:
    """Return what people are told of an outcome: how many are needed and why, who is there, what is done."""
    head = f"{outcome.pool.name} ({outcome.engine})"
    if outcome.trouble is not None and not outcome.is_known:
        return f"{head}: {outcome.trouble}"
    backlog = outcome.backlog
    why = (
        f"{backlog.jobs} job{'' if backlog.jobs == 1 else 's'}, {_time(backlog.work)} of work, at best"
        f" {_time(backlog.chain)}; the first waits {_time(backlog.waited)}"
        if backlog.jobs
        else "no work"
    )
    there = f"{outcome.ready} ready, {outcome.starting} starting, {outcome.leaving} leaving"
    does = [
        f"starts {outcome.started}" if outcome.started else "",
        f"keeps {', '.join(outcome.recalled)} after all" if outcome.recalled else "",
        f"lets {', '.join(outcome.released)} go" if outcome.released else "",
        f"gives up {outcome.forgone} that did not come yet" if outcome.forgone else "",
        f"dismisses {', '.join(outcome.dismissed)}" if outcome.dismissed else "",
        f"but {outcome.trouble}" if outcome.trouble is not None else "",
    ]
    done = "; ".join(part for part in does if part) or "nothing to do"
    return f"{head}: {outcome.needed} needed ({why}); {there}: {done}"


def _tell(outcome: Outcome) -> None:
    """Log what was done, and what could not be."""
    if outcome.trouble is not None:
        log.warning("%s", line_of(outcome))
    elif outcome.has_acted:
        log.info("%s", line_of(outcome))
    else:
        log.debug("%s", line_of(outcome))


def _fill_in(outcome: Outcome, standing: PoolStanding, decision: Decision) -> None:
    outcome.is_known = True
    outcome.wanted = standing.wanted
    outcome.ready = len(standing.ready)
    outcome.starting = standing.starting
    outcome.leaving = len(standing.builders) - len(standing.ready)
    outcome.needed = decision.needed
    outcome.backlog = decision.backlog
    outcome.started = decision.start
    outcome.recalled = decision.recall
    outcome.released = decision.release
    outcome.forgone = decision.forgo


def _row(outcome: Outcome, now: int) -> dict[str, Any]:
    """Return what is written down of an outcome."""
    return {
        "name": outcome.pool.name,
        "targets": json.dumps(outcome.pool.targets),
        "engine": outcome.pool.engine,
        "looked_at": now,
        "most": outcome.pool.limits.most,
        "needed": outcome.needed,
        "wanted": outcome.wanted + outcome.started,
        "ready": outcome.ready,
        "leaving": outcome.leaving,
        "work": outcome.backlog.work,
        "trouble": None if outcome.trouble is None else str(outcome.trouble),
    }


def _time(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
