# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking the collector for packages, from the first question to the last package.

This needs the machine's key, so it runs as the owner of the state directory, with the terminal. What it
returns is JSON, for a process that may be root: see `privileges.do_as_owner`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TextIO

from gentwoo_client.binhost.binrepos import Credentials
from gentwoo_client.building import notifications
from gentwoo_client.building.notifications import Awaited
from gentwoo_client.building.plan_text import kept_lines, outcome_lines, plan_lines
from gentwoo_client.building.progress import display_on, watch
from gentwoo_client.building.request import Builds, new_key, until_listed
from gentwoo_client.building.wanting import Wanted
from gentwoo_client.building.watching import start_watcher
from gentwoo_client.collector_api import CollectorAPI
from gentwoo_client.errors import GentwooError, NotConfigured, UsageError
from gentwoo_client.machine_key import MachineKey
from gentwoo_client.registration import Registration, open_registration
from gentwoo_client.settings import Settings
from gentwoo_client.wire.build_messages import Access, BuildState, BuildWish


class Mode(Enum):
    """How far to go."""

    PLAN = "plan"
    """Only say what would be."""
    WAIT = "wait"
    LEAVE = "leave"
    """Ask, and be told later."""


class Outcome(Enum):
    """How it ended; the words stand in the returned JSON."""

    NOTHING = "nothing"
    """There was nothing to ask for."""
    PLANNED = "planned"
    DECLINED = "declined"
    """Somebody said no."""
    LEFT = "left"
    ENDED = "ended"
    """Everything is there, or never will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to ask for, and how."""

    wanted: Wanted
    mode: Mode
    yes: bool = False
    """Never ask: it is agreed."""
    non_interactive: bool = False
    """Never ask, also on a terminal: what somebody would have to agree to ends it."""
    retry: bool = False
    """Try again what failed not long ago."""
    installs: bool = False
    """emerge follows: it is asked whether to go on, and what is not built is compiled here."""
    quiet: bool = False
    """stdout is for a document; what is told goes to stderr."""
    silent: bool = False
    """Do not tell what the plan is."""
    config: str | None = None
    """`--config`, for the process that goes on waiting."""

    @property
    def stream(self) -> TextIO:
        """Where things are told."""
        return sys.stderr if self.quiet else sys.stdout


def carry_out(settings: Settings, order: Order) -> dict[str, Any]:
    """Do what `order` says: `{"outcome": …, "state": BuildState or None}`.

    Raises what `CollectorAPI` raises, `NotRegistered`, and `UsageError` where nobody can be asked.
    """
    registration, key = open_registration(settings)
    entry = order.wanted.entry
    if entry is not None and entry.collector != registration.collector:
        raise NotConfigured(
            f"Portage takes packages from {entry.collector}, but this machine is registered with"
            f" {registration.collector}",
            advice="only the collector that knows this machine builds for it: `gentwoo binhost setup`"
            f" --collector {registration.collector}",
        )
    if not order.wanted.specifications:
        if not order.silent:
            _tell(order, kept_lines(order.wanted.kept))
        return _result(Outcome.NOTHING if _may_go_on(order) else Outcome.DECLINED, None)
    _agree(settings, order, registration)
    return asyncio.run(_Errand(settings, order, registration, key).run())


def may_ask(order: Order) -> bool:
    """Whether somebody is there who can be asked, and wants to be."""
    return not order.yes and not order.non_interactive and sys.stdin.isatty()


def ask(question: str, *, default: bool) -> bool:
    """Ask on stderr; whether the answer is yes."""
    print(f"{question} {'[Y/n]' if default else '[y/N]'} ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    answer = line.strip().lower()
    return default if line and not answer else answer in ("y", "yes")


class _Errand:
    """One order, at the collector."""

    def __init__(self, settings: Settings, order: Order, registration: Registration, key: MachineKey) -> None:
        self._settings = settings
        self._order = order
        self._registration = registration
        self._key = key

    async def run(self) -> dict[str, Any]:
        async with CollectorAPI(self._registration.collector, self._key) as api:
            builds = Builds(api)
            plan = await builds.ask(self._wish(commit=False))
            order = self._order
            if not order.silent:
                _tell(order, plan_lines(plan, order.wanted.kept))
            if order.mode is Mode.PLAN:
                return _result(Outcome.PLANNED, plan)
            if not _may_go_on(order):
                return _result(Outcome.DECLINED, plan)
            if not any(package.answer in ("joined", "queued") for package in plan.packages):
                await self._until_listed(plan)
                return _result(Outcome.ENDED, plan)
            state = await builds.ask(self._wish(commit=True))
            if state.id is None or state.state != "open":
                return await self._ended(state)
            if order.mode is Mode.LEAVE:
                return self._left(state)
            return await self._wait(builds, state)

    def _wish(self, *, commit: bool) -> BuildWish:
        wanted = self._order.wanted
        credentials = None if wanted.entry is None else wanted.entry.credentials
        return BuildWish(
            target=wanted.target,
            packages=[specification.to_json() for specification in wanted.specifications],
            atoms=list(wanted.atoms),
            commit=commit,
            retry=self._order.retry,
            key=new_key() if commit else None,
            access=_access(credentials),
        )

    async def _wait(self, builds: Builds, state: BuildState) -> dict[str, Any]:
        assert state.id is not None
        leaving = f"Request {state.id}; Ctrl-C leaves it to go on without you."
        _tell(self._order, [leaving, self._page(state)])
        try:
            return await self._ended(await watch(builds, state.id, display_on(self._order.stream)))
        except asyncio.CancelledError:  # Ctrl-C
            self._await(state)
            print(f"gentwoo: {_LEFT}", file=sys.stderr)
            raise

    def _left(self, state: BuildState) -> dict[str, Any]:
        self._await(state)
        _tell(self._order, [f"Request {state.id}: {_LEFT}", self._page(state)])
        return _result(Outcome.LEFT, state)

    def _page(self, state: BuildState) -> str:
        return f"In a browser: {self._registration.collector}/builds/{state.id}"

    def _await(self, state: BuildState) -> None:
        assert state.id is not None
        with notifications.changing(self._settings.state_dir) as memory:
            memory.await_(
                Awaited(
                    id=state.id,
                    collector=self._registration.collector,
                    target=state.target,
                    atoms=tuple(state.atoms),
                    since=notifications.now(),
                )
            )
        start_watcher(self._settings, self._order.config)

    async def _ended(self, state: BuildState) -> dict[str, Any]:
        _tell(self._order, outcome_lines(state))
        await self._until_listed(state)
        missing = [package for package in state.packages if package.state != "published"]
        refused = [package for package in missing if package.answer == "refused"]
        if self._order.installs and len(missing) > len(refused):
            _ask_to_compile(self._order, len(missing))
        return _result(Outcome.ENDED, state)

    async def _until_listed(self, state: BuildState) -> None:
        """Wait for the index: whoever ran emerge before would compile what is published."""
        if state.listed_in:
            _tell(self._order, [f"The binhost's index lists it in {state.listed_in} s."])
        await until_listed(state)


_LEFT = "the next `gentwoo` command tells when it is there; `gentwoo builds` shows how far it is"


def _agree(settings: Settings, order: Order, registration: Registration) -> None:
    """Show what a collector is told, and ask, before it is told anything; once. Raises `UsageError`."""
    collector = registration.collector
    if collector in notifications.read(settings.state_dir).agreed:
        return
    first = order.wanted.specifications[0]
    repositories = registration.settings.repositories
    others = "" if repositories == ("*",) else f"; packages of repositories but {', '.join(repositories)}"
    _tell(
        order,
        [
            f"To say what is there, and to build the rest, {collector} has to be told",
            "of each package that emerge would merge here: version, repository, slot, keywords, licence, USE",
            "flags and dependencies as they are here, and which slots it would be linked against.",
            f"Never told: what else is installed, files, users, host name{others}.",
            f"The first of {len(order.wanted.specifications):,}:",
            json.dumps(first.to_json()),
        ],
    )
    if not order.yes:
        if not may_ask(order):
            raise UsageError(
                "nobody is here to agree to that", advice="with --yes it is taken for agreed, now and later"
            )
        if not ask("May it be told that, now and later?", default=True):
            raise GentwooError("not agreed; nothing was sent")
    with notifications.changing(settings.state_dir) as memory:
        memory.agreed.append(collector)


def _may_go_on(order: Order) -> bool:
    """Ask whether to go on, where emerge follows. Raises `UsageError` where nobody can be asked."""
    if not order.installs or order.yes:
        return True
    if not may_ask(order):
        raise UsageError(
            "nobody is here to say whether to go on",
            advice="add --yes; `gentwoo build --plan` only shows what is there and what would be built",
        )
    return ask("Go on?", default=True)


def _ask_to_compile(order: Order, count: int) -> None:
    what = f"{count:,} package{'s were' if count > 1 else ' was'} not built"
    if not may_ask(order) or not ask(f"{what}. Have emerge compile them here?", default=False):
        raise GentwooError(
            f"{what}; nothing was installed",
            advice="`emerge --getbinpkg` takes what is there, compiles the rest",
        )


def _access(credentials: Credentials | None) -> Access | None:
    return None if credentials is None else Access(name=credentials.user, token=credentials.token)


def _tell(order: Order, lines: Sequence[str]) -> None:
    for line in lines:
        print(line, file=order.stream, flush=True)


def _result(outcome: Outcome, state: BuildState | None) -> dict[str, Any]:
    return {
        "outcome": outcome.value,
        "state": None if state is None else state.model_dump(mode="json"),
    }
