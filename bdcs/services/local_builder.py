# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector's own builder: `bdcs builder` as a child of `bdcs serve`.

It is a builder like any other, with a key of its own, and speaks HTTP with us over loopback; only that nobody
has to approve it. It builds for the targets that were named, or for those that Portage of this host would
build for; when these become others it is started anew, once it has ended what it builds. If it dies it is
started again. What it lacks is said, and the collector goes on without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from bdcs.builder import worker
from bdcs.domain.machines import State
from bdcs.domain.targets import EVERY_FITTING
from bdcs.errors import CollectorError, LocalBuilderMissing
from bdcs.services import builders, machines, portage_settings, targets
from bdcs.services.machines import Machine
from bdcs.services.portage_settings import PortageSettings
from bdcs.services.targets import Target
from bdcs.store.store import Store
from gentwoo_client.wire.errors import Forgotten

log = logging.getLogger(__name__)

NAME: Final = "local"  # what people call it
DIRECTORY: Final = "builder"  # below the collector's
LOOK: Final = 2.0  # seconds between two looks at the targets
DRAIN: Final = 10.0  # seconds that what is being built may go on when the collector stops
GIVE_BACK: Final = 5.0  # … and then to tell us that it is given back
PATIENCE: Final = 7 * 24 * 3600  # seconds: when it leaves, and how, is decided here
SHORTEST_PAUSE: Final = 1.0  # seconds before it is started again; doubles with each death
LONGEST_PAUSE: Final = 60.0
NICENESS: Final = 10  # builds give way to the collector (setpriority(2))
OPEN_FILES: Final = 1024  # programs loop over all that they may have
_NOT_PASSED_ON: Final = ("BDCS_", "NOTIFY_SOCKET", "WATCHDOG_")
"""Of the environment: settings of the collector, and what makes it systemd's to watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """What a local builder is started with."""

    wanted: tuple[str, ...]
    """Names of targets, and `EVERY_FITTING`."""
    eprefix: Path | None
    """The Gentoo Prefix to build in; None for this system."""
    options: tuple[str, ...]
    """Further ones of `bdcs builder`."""
    data: Path
    """The collector's directory."""
    public_url: str
    address: str
    """Where the collector is reached from this host, without leaving it."""
    log_level: str
    name: str = NAME
    place: Path = Path(DIRECTORY)
    """Its directory, below the collector's."""
    is_attended: bool = True
    """Whether it leaves when who started it has gone."""

    @property
    def directory(self) -> Path:
        """The builder's directory."""
        return self.data.absolute() / self.place

    @property
    def portage_bin(self) -> Path | None:
        """Where Portage's commands are; None where there are none."""
        if self.eprefix is not None:
            found = shutil.which(self.eprefix / "usr/bin/emerge")
        else:
            found = shutil.which("emerge")
        return None if found is None else Path(found).parent

    def command(self, names: Iterable[str]) -> list[str]:
        """Return the command line of a builder for these targets."""
        prefix = () if self.eprefix is None else ("--eprefix", str(self.eprefix))
        return [
            *(sys.executable, "-P", "-m", "bdcs", "builder", "--name", self.name),
            *("--collector", self.public_url, "--address", self.address, "--insecure"),
            *(word for name in names for word in ("--target", name)),
            *("--data", str(self.directory), "--hide", str(self.data.absolute()), *prefix),
            *(("--attended",) if self.is_attended else ()),
            *("--patience", str(PATIENCE), "--log-level", self.log_level),
            *self.options,
        ]


def check(starting: Starting) -> None:
    """See that a builder can be started on this host. Raises `LocalBuilderMissing`."""
    if shutil.which("bwrap") is None:
        raise LocalBuilderMissing("there is no bubblewrap (bwrap)")
    if "--root" in starting.options:
        if EVERY_FITTING in starting.wanted:
            raise LocalBuilderMissing("which targets fit another --root is not known; name them")
        return
    if starting.portage_bin is None:
        where = "on PATH" if starting.eprefix is None else f"in {starting.eprefix}/usr/bin"
        raise LocalBuilderMissing(f"there is no Portage: no emerge {where}")
    if starting.eprefix is None and os.geteuid() != 0:
        raise LocalBuilderMissing("an ordinary user can build in a Gentoo Prefix only (builder_eprefix)")


def admit(
    connection: Connection,
    starting: Starting,
    machine: UUID,
    public_key: bytes,
    names: Iterable[str],
    now: float,
) -> Machine:
    """Let a builder of ours upload to the targets, where nobody has to say so; return what it is known as.

    Raises `LocalBuilderMissing` where it was forgotten.
    """
    known = machines.find(connection, machine)
    if known is None:
        if isinstance(machines.absent(connection, machine), Forgotten):
            raise LocalBuilderMissing(
                f"{machine} was forgotten: remove {starting.directory} for a builder with a new key"
            )
        known = machines.enrol(connection, machine, public_key, State.APPROVED, now=now)
    for name in names:
        target = targets.find(connection, name)
        if target is not None:
            builders.approve(connection, target, machine, now=now)
    return known


def fits(portage: PortageSettings, target: Target) -> bool:
    """Whether Portage with these settings builds what that target holds."""
    same_system = (portage.chost, portage.profile) == (target.chost, target.profile)
    return same_system and _flags(portage.cflags) == _flags(target.cflags)


def _flags(cflags: str) -> set[str]:
    """What counts of the flags: not how the compiler's parts talk to each other."""
    return {*cflags.split()} - {"-pipe"}


@dataclass(slots=True, kw_only=True)
class LocalBuilder:
    """Keeps one builder at work."""

    store: Store
    starting: Starting
    now: Callable[[], float] = time.time
    _portage: PortageSettings | None = None
    _seen: tuple[tuple[int, str, str, str], ...] = ()
    """What Portage's settings were last held against."""
    _said: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Keep a builder at work until cancelled; it is told to leave then, and gone when this ends."""
        try:
            check(self.starting)
        except LocalBuilderMissing as error:
            log.warning("no builder is run here: %s; the collector goes on without one", error)
            return
        pause = SHORTEST_PAUSE
        while True:
            began = time.monotonic()
            try:
                if await self._live():
                    pause = SHORTEST_PAUSE
                    continue
            except (CollectorError, OSError) as error:
                log.warning("the builder cannot be started: %s", error)
            if time.monotonic() - began > LONGEST_PAUSE:
                pause = SHORTEST_PAUSE
            log.info("the builder is started again in %g s", pause)
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    async def _live(self) -> bool:
        """Run one builder to its end; return whether we ended it, since its targets are others now.

        Raises `CollectorError`, `OSError`.
        """
        while not (names := await self._targets()):
            self._say("no builder yet: there is no target that Portage here builds for")
            await asyncio.sleep(LOOK)
        machine, public_key = await asyncio.to_thread(worker.identity, self.starting.directory)
        await self.store.write(
            lambda connection: admit(connection, self.starting, machine, public_key, names, self.now())
        )
        log.info("the builder %s builds here for %s", machine, ", ".join(names))
        process = await asyncio.create_subprocess_exec(
            *self.starting.command(names),
            stdin=asyncio.subprocess.PIPE,  # while we hold the other end, it is attended
            env=_environment(os.environ),
            start_new_session=True,  # a terminal's Ctrl-C is for us, who tell it
        )
        told = False
        try:
            _restrain(process.pid)
            while not await _ended(process, LOOK):
                if not told and await self._are_others(names):
                    log.info("targets changed: the builder leaves when it has built what it builds")
                    process.terminate()
                    told = True
        finally:
            await _end(process)
        if not told:
            log.warning("the builder ended, with exit code %s", process.returncode)
        return told

    async def _are_others(self, names: tuple[str, ...]) -> bool:
        """Whether other targets than these are to be built for, as far as that can be told now."""
        try:
            return await self._targets() != names
        except CollectorError as error:
            self._say(f"whether the builder's targets changed is not known: {error}")
            return False

    async def _targets(self) -> tuple[str, ...]:
        """Return the names of the targets to build for, sorted. Raises `CollectorError`."""
        found = tuple(await self.store.read(targets.listed))
        wanted = self.starting.wanted
        for name in sorted({*wanted} - {target.name for target in found} - {EVERY_FITTING}):
            self._say(f"no builder for target {name} yet: there is none of that name")
        chosen = {target.name for target in found if target.name in wanted}
        if EVERY_FITTING in wanted and found:
            portage = await self._settings(found)
            chosen |= {target.name for target in found if fits(portage, target)}
            for target in found:
                if target.name not in chosen:
                    self._say(
                        f"target {target.name} is not built for here: it is not what Portage of this host"
                        f" builds ({portage.chost}, {portage.profile}, {portage.cflags or 'no CFLAGS'})"
                    )
        return tuple(sorted(chosen))

    async def _settings(self, found: Sequence[Target]) -> PortageSettings:
        """Return what Portage builds with here; it is asked again when targets change.

        Raises `PortageFailed`, `LocalBuilderMissing`.
        """
        seen = tuple((target.id, target.chost, target.profile, target.cflags) for target in found)
        if self._portage is None or seen != self._seen:
            portage_bin = self.starting.portage_bin
            if portage_bin is None:
                raise LocalBuilderMissing("Portage is gone")
            self._portage = await asyncio.to_thread(portage_settings.portage_settings, portage_bin)
            self._seen = seen
        return self._portage

    def _say(self, text: str) -> None:
        """Log it, once."""
        if text not in self._said:
            self._said.add(text)
            log.info("%s", text)


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(_NOT_PASSED_ON)}


def _restrain(pid: int) -> None:
    """Let the builder give way to us, and have no more open files than programs expect."""
    with contextlib.suppress(OSError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
        _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (OPEN_FILES, most))


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> bool:
    """Wait at most so long for the end of `process`; return whether it has ended."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await process.wait()
    return process.returncode is not None


async def _end(process: asyncio.subprocess.Process) -> None:
    """Have the builder leave: what it builds may end for a while, then it is given back."""
    for seconds in (DRAIN, GIVE_BACK):
        if process.returncode is None:
            process.terminate()
            await _ended(process, seconds)
    if process.returncode is None:
        log.warning("the builder does not leave: it is killed")
        process.kill()
        await process.wait()
