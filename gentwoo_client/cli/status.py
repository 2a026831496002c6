# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo status`: is this machine registered, is it pushing, and if not, what repairs it."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gentwoo_client.errors import DONE, NOT_CONFIGURED, GentwooError, NotConfigured, NotRegistered, TryLater
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.machine_key import MachineKey
    from gentwoo_client.outbox import Outbox

NAME = "status"
HELP = "tell whether this machine is registered and pushes, and what to do if not"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `status`."""
    parser.description = (
        "Tell whether this machine is registered, what the collector says about it, whether the daemon runs, "
        "how far the log was read, what was sent and what stays here; which installed packages are about to "
        "leave their repository; and if something stopped, what repairs it."
    )
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    parser.epilog = "Exits with 78 where somebody has to act, and with 0 otherwise."


@dataclass(kw_only=True)
class _Status:
    """What is told; None where it is not known."""

    registered: bool = False
    machine: str | None = None
    collector: str | None = None
    state: str | None = None
    """What the collector says of the machine, or said last."""
    answers: bool | None = None
    """Whether the collector answered just now."""
    daemon: int | None = None
    """Its pid; None where none runs."""
    log: str | None = None
    log_position: int | None = None
    """Bytes of the log that were read."""
    log_behind: int | None = None
    """Bytes of the log that were not read yet."""
    log_error: str | None = None
    """Why this user cannot read the log."""
    unsent: int = 0
    acknowledged: int = 0
    """The last `seq` that the collector has."""
    acknowledged_at: str | None = None
    withheld: dict[str, int] = field(default_factory=dict)
    retry_at: str | None = None
    """When the sender tries again, after it failed."""
    leaving: list[dict[str, str | None]] = field(default_factory=list)
    """Installed packages that are about to leave their repository: package, atom, day, reason."""
    stopped: dict[str, str] | None = None
    """Why nothing is sent until somebody acts: reason, message, and the advice that repairs it."""


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the status; return 0, or 78 where somebody has to act."""
    from gentwoo_client.privileges import enter_state_directory

    status = _Status(log=str(settings.log), collector=settings.collector)
    try:
        enter_state_directory(settings.state_dir)
        asyncio.run(_inquire(status, settings))
    except NotRegistered as error:
        _stop(status, error)
    if arguments.json:
        print(json.dumps(asdict(status)))
    else:
        _print(status)
    return NOT_CONFIGURED if status.stopped else DONE


async def _inquire(status: _Status, settings: Settings) -> None:
    from gentwoo_client.outbox import Outbox
    from gentwoo_client.registration import open_registration

    status.daemon = _reader(settings.state_dir)
    async with Outbox.open(settings.state_dir) as outbox:
        await _read_journal(status, outbox, settings)
        try:
            registration, key = open_registration(settings)
        except NotConfigured as error:
            _stop(status, error)
            return
        status.registered, status.machine = True, registration.machine
        status.collector = registration.collector
        await _ask_collector(status, registration.collector, key)
        await _look_for_leaving(status, registration.collector, settings)


def _reader(state_dir: Path) -> int | None:
    """The process that follows the log, if any; 0 where it is not known which."""
    import fcntl

    from gentwoo_client.locks import READER

    try:
        with (state_dir / READER).open() as file:
            content = file.read(32).strip()
            # Shared, and let go of at once: we only want to know whether somebody holds it.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return int(content) if content.isdecimal() else 0
    return None


async def _read_journal(status: _Status, outbox: Outbox, settings: Settings) -> None:
    from gentwoo_client.wire.records import format_time

    tally = await outbox.tally()
    status.unsent, status.acknowledged, status.withheld = tally.unsent, tally.acknowledged, tally.withheld
    if tally.acknowledged_at is not None:
        status.acknowledged_at = format_time(tally.acknowledged_at)
    retry_at = await outbox.get("retry_at")
    status.retry_at = format_time(int(retry_at)) if retry_at else None
    status.state = await outbox.get("registration")
    stopped = await outbox.get("stopped")
    status.stopped = json.loads(stopped) if stopped else None
    _measure_log(status, await outbox.get("position"), settings)


def _measure_log(status: _Status, position: str | None, settings: Settings) -> None:
    """How far the log was read; unknown where it was replaced since, or may not be read."""
    from gentwoo_client.log.position import Position

    read = Position.load(position) if position else None
    status.log_position = read.offset if read else 0
    try:
        found = settings.log.stat()
        if not os.access(settings.log, os.R_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        status.log_error = error.strerror
        return
    if read is None or read.inode == found.st_ino:
        status.log_behind = max(found.st_size - status.log_position, 0)


async def _ask_collector(status: _Status, collector: str, key: MachineKey) -> None:
    from gentwoo_client.collector_api import CollectorAPI, Patience

    async with CollectorAPI(collector, key, patience=Patience(connect=5, read=5, total=10)) as api:
        try:
            status.state = (await api.machine_state()).state
            status.answers = True
        except TryLater:
            status.answers = False
        except NotConfigured as error:
            status.answers = True
            _stop(status, error)


async def _look_for_leaving(status: _Status, collector: str, settings: Settings) -> None:
    """Compare what is installed with a list that is the same for everybody; the collector learns nothing."""
    from gentwoo_client.installed import InstalledPackages
    from gentwoo_client.leaving import leaving_here, newest_list

    entries = await newest_list(collector, settings.state_dir, ask=status.answers is True)
    status.leaving = [
        {
            "package": str(found.cpv),
            "atom": str(found.entry.atom),
            "leaves_on": found.entry.leaves_on,
            "reason": found.entry.reason,
        }
        for found in leaving_here(entries, InstalledPackages(settings.eprefix))
    ]


def _stop(status: _Status, error: GentwooError) -> None:
    reason = getattr(error, "reason", "not-registered" if isinstance(error, NotRegistered) else "key")
    status.stopped = {"reason": reason, "message": str(error), "advice": error.advice or ""}


def _print(status: _Status) -> None:
    answers = {True: "", False: " (does not answer now)", None: ""}[status.answers]
    behind = "" if status.log_behind is None else f", {status.log_behind:,} to go"
    if status.log_error is not None:
        behind = f"; it cannot be read now: {status.log_error}"
    withheld = ", ".join(f"{count:,} ({reason})" for reason, count in status.withheld.items())
    for label, text in (
        ("Machine", status.machine or "not registered"),
        ("Collector", f"{status.collector}{answers}" if status.collector else "none"),
        ("State there", status.state),
        ("Daemon", "does not run" if status.daemon is None else f"runs (pid {status.daemon})"),
        ("Log", f"{status.log}: {status.log_position or 0:,} bytes read{behind}"),
        ("Sent", f"{status.acknowledged:,} records" + _when(", last at ", status.acknowledged_at)),
        ("Waiting", f"{status.unsent:,} records" + _when("; next attempt at ", status.retry_at)),
        ("Stay here", f"{withheld} records" if withheld else None),
    ):
        if text:
            print(f"{label + ':':<13}{text}")
    for found in status.leaving:
        day = f" on {found['leaves_on']}" if found["leaves_on"] else ""
        reason = f": {found['reason']}" if found["reason"] else ""
        print(f"{'Leaving:':<13}{found['package']} leaves the repository{day}{reason}")
    if status.stopped:
        print(f"{'Stopped:':<13}{status.stopped['message']}")
        print(f"{'To repair:':<13}{status.stopped['advice']}")


def _when(words: str, time: str | None) -> str:
    return f"{words}{time}" if time else ""
