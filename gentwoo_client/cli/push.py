# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo push`: read the log to its end and send what is new; or, for the daemon, send at each wake-up."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from gentwoo_client.errors import DONE, NoPermission
from gentwoo_client.settings import Settings, is_loopback

if TYPE_CHECKING:
    from gentwoo_client.machine_key import MachineKey
    from gentwoo_client.outbox import Tally
    from gentwoo_client.registration import Registration

NAME = "push"
HELP = "read the log to its end and send what is new (for cron or a timer)"

PATIENCE = 30.0  # seconds that one pass waits for a collector that is away; cron comes again
LINGERING_PATIENCE = 10.0  # seconds; then the daemon starts another child when it is time
LARGE_LOG = 20_000_000  # bytes; reading it takes longer than a moment
PROGRESS_AFTER = 2.0  # seconds
PROGRESS_EVERY = 0.2  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `push`."""
    parser.description = (
        "Read emerge.log from where it was left to its end, and send what is new to the collector. Nothing "
        "is lost when it fails: run it again. Beside a running daemon, which does the same by itself, it "
        "refuses."
    )
    parser.add_argument("--log", metavar="FILE", help="the log (default: the setting)")
    parser.add_argument(
        "--linger",
        metavar="SECONDS",
        type=float,
        help="for the daemon: do not read the log, but send at once and then for every byte that arrives on"
        " standard input; end when none came for so long, or at its end",
    )
    parser.add_argument("--syslog", action="store_true", help="messages go to syslog, not to stderr")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Push; return 0. Errors say whether later (75) or somebody must act (77, 78)."""
    from gentwoo_client.privileges import enter_state_directory

    if arguments.syslog:
        from gentwoo_client.cli import messages

        messages.to_syslog()
    enter_state_directory(settings.state_dir)
    if arguments.linger is None:
        _push_once(settings)
    else:
        _linger(settings, arguments.linger)
    return DONE


def _push_once(settings: Settings) -> None:
    from gentwoo_client.follow import read_to_end
    from gentwoo_client.locks import exclusive_locks
    from gentwoo_client.registration import open_registration

    with exclusive_locks(settings.state_dir):
        registration, key = open_registration(settings)
        if sys.stderr.isatty() and settings.log.exists() and settings.log.stat().st_size > LARGE_LOG:
            print(f"reading {settings.log}", file=sys.stderr)
        may_read = read_to_end(registration.settings)
        _run(registration.collector, _send_all(registration, key))
    if not may_read:
        raise NoPermission(
            f"{settings.log}: this user may not read it; what was read before is sent",
            advice="it belongs to group portage: have the state directory's user become a member of it",
        )


def _linger(settings: Settings, seconds: float) -> None:
    from gentwoo_client.locks import SENDER, exclusive_lock
    from gentwoo_client.registration import open_registration

    with exclusive_lock(settings.state_dir, SENDER):
        registration, key = open_registration(settings)
        _run(registration.collector, _send_as_woken(registration, key, seconds))


def _run(collector: str, sending: Coroutine[object, object, None]) -> None:
    """Run `sending`, without TLS where nobody can read on the way.

    aiohttp reads all certificates of the system as soon as it is imported, which takes a quarter of the time
    until the first record is sent; where `ssl` cannot be imported, it and asyncio do without.
    """
    if collector.startswith("http:") and is_loopback(collector):
        sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # so that importing it fails
    import asyncio

    asyncio.run(sending)


async def _send_all(registration: Registration, key: MachineKey) -> None:
    from gentwoo_client.collector_api import CollectorAPI
    from gentwoo_client.outbox import Outbox
    from gentwoo_client.uploader import Uploader

    async with (
        Outbox.open(registration.settings.state_dir) as outbox,
        CollectorAPI(registration.collector, key) as collector,
    ):
        progress = _Progress(await outbox.tally())
        try:
            await Uploader(outbox, collector, key, progress=progress.sent).send(patience=PATIENCE)
        finally:
            progress.finish()


async def _send_as_woken(registration: Registration, key: MachineKey, seconds: float) -> None:
    from gentwoo_client.collector_api import CollectorAPI
    from gentwoo_client.outbox import Outbox
    from gentwoo_client.uploader import Uploader, Wakes, linger

    async with (
        Outbox.open(registration.settings.state_dir) as outbox,
        CollectorAPI(registration.collector, key) as collector,
    ):
        uploader = Uploader(outbox, collector, key)
        await linger(uploader, Wakes(sys.stdin.fileno()), seconds=seconds, patience=LINGERING_PATIENCE)


class _Progress:
    """One line on a terminal that says how far sending has come, once it takes longer than a moment."""

    def __init__(self, tally: Tally) -> None:
        self._before = tally.acknowledged
        self._total = tally.unsent
        self._next = time.monotonic() + PROGRESS_AFTER
        self._is_shown = False

    def sent(self, seq: int) -> None:
        """The collector has everything up to `seq`."""
        now = time.monotonic()
        if now < self._next or not sys.stderr.isatty():
            return
        self._next = now + PROGRESS_EVERY
        self._is_shown = True
        line = f"\rsent {seq - self._before:,} of {self._total:,} records"
        print(line, end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """End the line, so that what follows begins on its own."""
        if self._is_shown:
            print(file=sys.stderr)
