# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding out what became of requests that somebody left: now, or in a process that waits for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import ExitStack

from gentwoo_client.building import notifications
from gentwoo_client.building.notifications import Awaited, Notification
from gentwoo_client.building.plan_text import news_line
from gentwoo_client.building.request import Builds, until_listed
from gentwoo_client.collector_api import CollectorAPI
from gentwoo_client.errors import CollectorRefused, TryLater
from gentwoo_client.locks import WATCHER, exclusive_lock
from gentwoo_client.machine_key import MachineKey
from gentwoo_client.registration import Registration
from gentwoo_client.settings import Settings
from gentwoo_client.wire.build_messages import BuildState

_LOOK = 5.0  # seconds after which a watcher looks for further requests


def start_watcher(settings: Settings, config: str | None) -> None:
    """Have a process in the background wait for what is awaited; it ends at once where there is one."""
    options = ["--state-dir", str(settings.state_dir), "--log-level", settings.log_level]
    if config is not None:
        options = ["--config", config, *options]
    process = subprocess.Popen(
        # -P: what lies in the directory that we were started in is not to be imported.
        [sys.executable, "-P", "-m", "gentwoo_client", "notifications", "--watch", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    process.returncode = 0  # it outlives us, and nobody waits for it


async def refresh(settings: Settings, registration: Registration, key: MachineKey) -> None:
    """See what became of what is awaited, and note what has ended. Raises what `CollectorAPI` raises."""
    for one in list(notifications.read(settings.state_dir).awaited.values()):
        await _settle(settings, registration, key, one, wait=False)


async def watch_all(settings: Settings, registration: Registration, key: MachineKey) -> None:
    """Wait until nothing is awaited any more, and note what ends.

    Raises `AlreadyRunning` where another process does that, and `CollectorRefused`.
    """
    tasks: dict[str, asyncio.Task[None]] = {}
    with ExitStack() as lock:
        lock.enter_context(exclusive_lock(settings.state_dir, WATCHER))
        while True:
            with notifications.changing(settings.state_dir) as memory:
                awaited = dict(memory.awaited)
                if not awaited:
                    # While nobody can add one: who adds the next finds the lock free.
                    lock.close()
                    return
            for number, one in awaited.items():
                if number not in tasks:
                    tasks[number] = asyncio.create_task(_settle(settings, registration, key, one, wait=True))
            done, _ = await asyncio.wait(tasks.values(), timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            tasks = {number: task for number, task in tasks.items() if task not in done}


async def _settle(
    settings: Settings, registration: Registration, key: MachineKey, one: Awaited, *, wait: bool
) -> None:
    if one.collector != registration.collector:
        return _note(settings, one, "gone", f"{' '.join(one.atoms)}: was asked for at {one.collector}")
    # A connection of its own: others may wait on theirs.
    async with CollectorAPI(registration.collector, key) as api:
        builds = Builds(api)
        try:
            state = await (_last(builds, one.id) if wait else builds.state(one.id))
        except CollectorRefused as error:
            if error.reason != "not-found":
                raise
            return _note(
                settings, one, "gone", f"{' '.join(one.atoms)}: the collector does not know it any more"
            )
    if state.state != "open" and (wait or not state.listed_in):
        _note(settings, one, state.state, news_line(state))
    return None


async def _last(builds: Builds, request: str) -> BuildState:
    def trouble(_: TryLater) -> None:
        """Nobody is here to be told."""

    async for state in builds.changes(request, trouble=trouble):
        last = state
    await until_listed(last)
    return last


def _note(settings: Settings, one: Awaited, state: str, text: str) -> None:
    with notifications.changing(settings.state_dir) as memory:
        if one.id in memory.awaited:  # somebody else may have noted it meanwhile
            notification = Notification(
                id=one.id, atoms=one.atoms, state=state, at=notifications.now(), text=text
            )
            memory.ended(one, notification)
