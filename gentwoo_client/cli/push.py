# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo push`: read the log to its end and send what is new; or, for the daemon, send at each wake-up."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING

from gentwoo_client.errors import DONE
from gentwoo_client.settings import Settings

if TYPE_CHECKING:
    from gentwoo_client.outbox import Tally

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


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Push; return 0. Errors say whether later (75) or somebody must act (78)."""
    from gentwoo_client.privileges import enter_state_directory

    enter_state_directory(settings.state_dir)
    if arguments.linger is None:
        return asyncio.run(_one_pass(settings))
    return asyncio.run(_linger(settings, arguments.linger))


def catch_up(settings: Settings) -> None:
    """Read the log to its end into the journal. Whoever calls holds `reader.lock`."""
    from gentwoo_client.follow import Follower
    from gentwoo_client.journal import Journal

    if sys.stderr.isatty() and settings.log.exists() and settings.log.stat().st_size > LARGE_LOG:
        print(f"reading {settings.log}", file=sys.stderr)
    with (
        closing(Journal.open(settings.state_dir)) as journal,
        closing(Follower(journal, settings)) as follower,
    ):
        follower.read_to_end()


async def _one_pass(settings: Settings) -> int:
    from gentwoo_client.collector_api import CollectorAPI
    from gentwoo_client.locks import exclusive_locks
    from gentwoo_client.outbox import Outbox
    from gentwoo_client.registration import open_registration
    from gentwoo_client.uploader import Uploader

    async with AsyncExitStack() as stack:
        stack.enter_context(exclusive_locks(settings.state_dir))
        outbox = await stack.enter_async_context(Outbox.open(settings.state_dir))
        registration, key = await open_registration(outbox, settings.state_dir, settings)
        catch_up(registration.settings)
        progress = _Progress(await outbox.tally())
        collector = await stack.enter_async_context(CollectorAPI(registration.collector, key))
        try:
            await Uploader(outbox, collector, key, progress=progress.sent).send(patience=PATIENCE)
        finally:
            progress.finish()
    return DONE


async def _linger(settings: Settings, seconds: float) -> int:
    from gentwoo_client.collector_api import CollectorAPI
    from gentwoo_client.locks import SENDER, exclusive_lock
    from gentwoo_client.outbox import Outbox
    from gentwoo_client.registration import open_registration
    from gentwoo_client.uploader import Uploader, Wakes, linger

    async with AsyncExitStack() as stack:
        stack.enter_context(exclusive_lock(settings.state_dir, SENDER))
        outbox = await stack.enter_async_context(Outbox.open(settings.state_dir))
        registration, key = await open_registration(outbox, settings.state_dir, settings)
        collector = await stack.enter_async_context(CollectorAPI(registration.collector, key))
        uploader = Uploader(outbox, collector, key)
        wakes = Wakes(sys.stdin.fileno())
        await linger(uploader, wakes, seconds=seconds, patience=LINGERING_PATIENCE)
    return DONE


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
