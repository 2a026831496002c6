# SPDX-License-Identifier: GPL-2.0-or-later
"""A builder's life: it registers, is approved, takes leases one after another in each slot, and leaves.

SIGTERM or SIGINT once: no more leases are taken, and what is being built ends. Once more, or after a while:
what is being built is given back, so that another builder begins with it at once. A builder that is killed
leaves directories at most, which are removed when it starts again; its leases end by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import random
import signal
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

from bdcs import service_manager
from bdcs.builder.attempt import Attempt, Stop
from bdcs.builder.building import ATTEMPTS, DISTFILES, KEYS, BuildRoot, Workshop, group_prefix
from bdcs.builder.collector import BuilderAPI
from bdcs.builder.keys import Keys
from bdcs.builder.limits import Limits, remove_groups
from bdcs.builder.metadata import MetadataMaker
from bdcs.builder.root import remove_tree
from bdcs.errors import EXIT_CONFIGURATION, EXIT_PERMISSION, BuilderStopped
from gentwoo_client.errors import CollectorRefused, GentwooError, NotRegistered, TryLater
from gentwoo_client.machine_key import KEY_NAME, MachineKey, create_key, load_key
from gentwoo_client.wire.build_messages import Claim, Lease
from gentwoo_client.wire.targets import Target

T = TypeVar("T")

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
"""Seconds between two attempts to reach a collector that cannot be reached."""
APPROVAL_PAUSE: Final = 2.0
"""Seconds between two questions whether it is approved."""
UNAPPROVED: Final = frozenset({"forbidden", "awaiting-approval"})
"""Refusals that an operator's approval ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything that a builder is told."""

    collector: str
    address: str | None
    """Where the collector is reached; None for its public_url."""
    name: str
    targets: tuple[str, ...]
    jobs: int
    build_root: BuildRoot
    data: Path
    limits: Limits
    patience: float
    """Seconds for which what is being built may go on after SIGTERM."""
    attended: bool
    """Whether to leave when standard input ends: whoever started this holds its other end."""


def work(configuration: Configuration) -> None:
    """Build until SIGTERM or SIGINT. Raises `BuilderStopped`, `BuildRootUnusable`."""
    try:
        with own_directory(configuration.data):
            asyncio.run(Worker(configuration, own_key(configuration.data)).run())
    except GentwooError as error:
        advice = error.advice or ""
        raise BuilderStopped(str(error), advice=advice, exit_code=error.exit_code) from error


def check(configuration: Configuration) -> None:
    """See that a builder could begin: a throw-away root can be made, and emerge is in it. Nothing is left.

    Raises `BuildRootUnusable`.
    """
    with tempfile.TemporaryDirectory(prefix="bdcs-builder-", dir="/var/tmp") as data:
        workshop = Workshop(configuration.build_root, Path(data), configuration.limits, make_jobs=1)
        asyncio.run(workshop.check())


@contextlib.contextmanager
def own_directory(data: Path) -> Iterator[None]:
    """Make the builder's directory, for nobody else; nobody else builds in it meanwhile.

    Our process id is in its lock, for who is to tell us to leave.
    What an earlier builder left of its attempts is removed. Raises `BuilderStopped`.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if data.stat().st_uid != os.geteuid():
        raise BuilderStopped(f"{data} is another user's", exit_code=EXIT_PERMISSION)
    with (data / "builder.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BuilderStopped(f"another builder works in {data}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        remove_tree(data / ATTEMPTS)
        remove_groups(group_prefix(data))
        for name in (ATTEMPTS, DISTFILES, KEYS):
            (data / name).mkdir(exist_ok=True)
        for draft in (data / KEYS).glob("*.new"):
            remove_tree(draft)
        yield


def own_key(data: Path) -> MachineKey:
    """Return the builder's key; it is made where there is none. Raises `KeyUnusable`, `NoPermission`."""
    try:
        return load_key(data / KEY_NAME)
    except NotRegistered:
        return create_key(data / KEY_NAME)


def identity(data: Path) -> tuple[UUID, bytes]:
    """Return the UUID and the public key of the builder with that directory; both are made if need be.

    For whoever starts one and is to know it before it comes. Raises `BuilderStopped`.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = own_key(data)
    except GentwooError as error:
        raise BuilderStopped(str(error), advice=error.advice or "", exit_code=error.exit_code) from error
    return key.machine, key.public


class Worker:
    """Takes leases, in as many slots as it is told, each with its own connections."""

    def __init__(self, configuration: Configuration, key: MachineKey) -> None:
        self._configuration = configuration
        self._key = key
        self._workshop = Workshop(
            configuration.build_root,
            configuration.data,
            configuration.limits,
            make_jobs=max(1, len(os.sched_getaffinity(0)) // configuration.jobs),
        )
        self._keys = Keys(configuration.data / KEYS)
        self._claiming = asyncio.Lock()
        self._leaving = asyncio.Event()
        self._attempts: set[Attempt] = set()
        self._has_asked = False

    async def run(self) -> None:
        """Work until told to leave, or until the collector wants nothing of it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.leave)
        if self._configuration.attended:
            loop.add_reader(sys.stdin.fileno(), self._see_whether_attended)
        alive = asyncio.create_task(service_manager.keep_alive())
        try:
            await self._work()
        finally:
            alive.cancel()

    async def _work(self) -> None:
        async with self._calls() as calls:
            await self._until_leaving(self._begin(calls))
            if self._leaving.is_set():
                return
            slots = [asyncio.create_task(self._slot()) for _ in range(self._configuration.jobs)]
            beside = asyncio.create_task(self._make_metadata())
            try:
                await asyncio.gather(*slots)
            finally:
                for task in (*slots, beside):
                    task.cancel()
                await asyncio.gather(*slots, beside, return_exceptions=True)
            with contextlib.suppress(GentwooError):
                await calls.leave(self._claim(draining=True))

    def leave(self) -> None:
        """Take no more leases; told once more, give back what is being built."""
        if not self._leaving.is_set():
            log.info("leaving: %d attempts end first", len(self._attempts))
            self._leaving.set()
            service_manager.stopping()
            asyncio.get_running_loop().call_later(self._configuration.patience, self._give_back)
        else:
            self._give_back()

    def _see_whether_attended(self) -> None:
        """Leave at once where nobody holds the other end of standard input any more.

        Whoever comes after him starts a builder of his own, which can begin only when this one has gone.
        """
        fd = sys.stdin.fileno()
        if not os.read(fd, 4096):
            asyncio.get_running_loop().remove_reader(fd)
            log.warning("whoever started this is gone")
            self.leave()
            self._give_back()

    def _give_back(self) -> None:
        for attempt in self._attempts:
            attempt.stop(Stop.RELEASED)

    def _calls(self) -> BuilderAPI:
        """Return a connection of its own to the collector."""
        return BuilderAPI(self._configuration.collector, self._key, address=self._configuration.address)

    # Beginning.

    async def _begin(self, calls: BuilderAPI) -> None:
        """See that we can build, register, and see what is to be built for.

        Raises `BuildRootUnusable`, `BuilderStopped`, `CollectorRefused`.
        """
        await self._workshop.check()
        service_manager.ready()  # that the collector is away is no reason to fail
        pause = _Pause()
        while True:
            try:
                await calls.register()
                targets = await calls.public_targets(self._configuration.targets)
                break
            except TryLater as error:
                await pause.after(error)
        for target in targets:
            check_profile(self._configuration.build_root, target)
        log.info(
            "builder %s (%s) builds for %s",
            self._configuration.name,
            self._key.machine,
            ", ".join(self._configuration.targets),
        )

    # Working.

    async def _slot(self) -> None:
        """Take leases, one after another, until we leave. Raises `CollectorRefused`."""
        async with self._calls() as calls, self._calls() as beats:
            pause = _Pause()
            while not self._leaving.is_set():
                try:
                    lease = await self._until_leaving(self._lease(calls))
                except TryLater as error:
                    await self._until_leaving(pause.after(error))
                    continue
                pause = _Pause()
                if lease is not None:
                    await self._do(Attempt(lease, self._workshop, self._keys, calls, beats))

    async def _make_metadata(self) -> None:
        """Make metadata of ebuilds that have none, for as long as we work."""
        async with self._calls() as calls:
            await MetadataMaker(self._workshop, calls).run()

    async def _lease(self, calls: BuilderAPI) -> Lease | None:
        """Wait for a lease; None where there is no work yet. Of the free slots one asks at a time."""
        async with self._claiming:
            while True:
                try:
                    return await calls.claim(self._claim())
                except CollectorRefused as error:
                    if error.reason not in UNAPPROVED:
                        raise
                    self._ask_for_approval(error)
                await asyncio.sleep(APPROVAL_PAUSE)

    async def _do(self, attempt: Attempt) -> None:
        self._attempts.add(attempt)
        try:
            await attempt.run()
        finally:
            self._attempts.discard(attempt)

    def _ask_for_approval(self, error: CollectorRefused) -> None:
        """Say once what the collector's operator has to do."""
        if self._has_asked:
            return
        self._has_asked = True
        commands = [
            f"bdcs admin builders approve {self._key.machine} --target {name}"
            for name in self._configuration.targets
        ]
        log.warning("waiting for approval (%s); there, run: %s", error, "; ".join(commands))

    def _claim(self, *, draining: bool = False) -> Claim:
        configuration = self._configuration
        return Claim(targets=list(configuration.targets), name=configuration.name, draining=draining)

    async def _until_leaving(self, action: Coroutine[None, None, T]) -> T | None:
        """Do `action` and return its result; it is given up when we leave."""
        task = asyncio.create_task(action)
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            leaving.cancel()
            await asyncio.gather(task, leaving, return_exceptions=True)


def check_profile(build_root: BuildRoot, target: Target) -> None:
    """See that what is built in the build root is for that target. Raises `BuilderStopped`."""
    link = build_root.source / "etc/portage/make.profile"
    try:
        profile = os.readlink(link)
    except OSError:
        return
    if not profile.endswith(f"profiles/{target.profile}"):
        raise BuilderStopped(
            f"{link} is {profile}, and {target.name} is for {target.profile}",
            advice="give this builder a build root with the target's profile, or another target",
            exit_code=EXIT_CONFIGURATION,
        )


class _Pause:
    """Waiting for a collector that cannot be reached: longer each time, and never all builders at once."""

    def __init__(self) -> None:
        self._longest = FIRST_PAUSE

    async def after(self, error: TryLater) -> None:
        log.warning("%s", error)
        await asyncio.sleep(error.retry_after or random.uniform(FIRST_PAUSE / 2, self._longest))
        self._longest = min(LONGEST_PAUSE, 2 * self._longest)
