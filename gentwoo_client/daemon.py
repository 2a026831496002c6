# SPDX-License-Identifier: GPL-2.0-or-later
"""The resident process: follows the log, and has a child send what it finds.

It is synchronous and imports little, for it stays: asyncio, aiohttp and pydantic would take memory that
Python never gives back. They live in a child, `gentwoo push --linger`, which is started when there is
something to send, is told of more through a pipe (one byte each time; the pipe's end asks it to finish) and
goes when nothing came for a while. Between merges nothing here runs but the slow poll.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from types import FrameType, TracebackType
from typing import Self

from gentwoo_client.errors import (
    LATER,
    NOT_CONFIGURED,
    GentwooError,
    JournalFull,
    NotConfigured,
    PushingStopped,
)
from gentwoo_client.follow import Follower, Progress
from gentwoo_client.journal import Journal
from gentwoo_client.locks import READER, exclusive_lock
from gentwoo_client.log.watch import LogWatch
from gentwoo_client.notify import ALIVE, READY, STOPPING, notify, reloading, watchdog_interval
from gentwoo_client.registration import current_registration
from gentwoo_client.settings import Settings
from gentwoo_client.wire.errors import AwaitingApproval

LINGER = 60
"""Seconds that the child waits for more."""

FINISH_WITHIN = 10.0
"""Seconds that the child has to finish what it sends when we leave; a second, shorter time after SIGTERM."""

TERMINATE_WITHIN = 2.0

QUIET_BEFORE_FLUSH = 2.0
"""Seconds without a new line after which the place in the log is stored although no record came of it."""

RETRY_JOURNAL = 10.0
"""Seconds between attempts to write a journal that has no space."""

ASK_AGAIN = 300.0
"""Seconds until a machine that waits for approval looks whether it has it."""

SHORTEST_DELAY = 1.0
LONGEST_DELAY = 300.0
"""Seconds between children that fail: full jitter below a ceiling that doubles between these."""

LONGEST_POSTPONEMENT = 3600.0
"""Seconds; a later time that the collector asked for is tried then, in case the clock was wrong."""

logger = logging.getLogger(__name__)


class _Leaving(Enum):
    STOP = auto()
    RELOAD = auto()


def run_daemon(settings: Settings, *, reload: Callable[[], Settings], options: Sequence[str]) -> None:
    """Follow the log until SIGTERM or SIGINT; SIGHUP reads the configuration again, through `reload`.

    `options` are those of `push` for the child. Raises `AlreadyRunning`, `NotConfigured` where somebody has
    to act (not registered, or the collector refused for good) and `JournalError`.
    """
    with exclusive_lock(settings.state_dir, READER), _Signals() as signals:
        while _run_once(settings, signals, options) is _Leaving.RELOAD:
            settings = _reloaded(settings, reload)
        notify(STOPPING)


def _run_once(settings: Settings, signals: _Signals, options: Sequence[str]) -> _Leaving:
    journal = Journal.open(settings.state_dir)
    try:
        registration = current_registration(journal.get, settings)
        follower = Follower(journal, registration.settings)
        watch = LogWatch(registration.settings.log)
        # -P: what lies in the directory that we were started in is not to be imported.
        sender = _Sender(
            [sys.executable, "-P", "-m", "gentwoo_client", "push", "--linger", str(LINGER), *options]
        )
        try:
            notify(READY)
            return _Daemon(journal, follower, watch, sender, signals).run()
        finally:
            sender.finish(signals)
            watch.close()
            follower.close()
    finally:
        journal.close()


def _reloaded(settings: Settings, reload: Callable[[], Settings]) -> Settings:
    notify(reloading())
    try:
        new = reload()
    except GentwooError as error:
        logger.error("the configuration stays as it was: %s", error)
        return settings
    if new.state_dir != settings.state_dir:
        logger.error("the configuration stays as it was: another state_dir needs a restart")
        return settings
    logging.getLogger().setLevel(new.log_level.upper())
    logger.info("the configuration was read again")
    return new


class _Daemon:
    """The loop, and when it has to wake up."""

    def __init__(
        self, journal: Journal, follower: Follower, watch: LogWatch, sender: _Sender, signals: _Signals
    ) -> None:
        self._journal = journal
        self._follower = follower
        self._watch = watch
        self._sender = sender
        self._signals = signals
        self._watchdog = watchdog_interval()
        self._acknowledged = journal.acknowledged()
        self._has_space = True
        self._is_trimmed = False

    def run(self) -> _Leaving:
        """Follow the log until a signal asks to leave."""
        if self._journal.unsent_count():
            self._sender.wake()
        while True:
            if (leaving := self._handle_signals()) is not None:
                return leaving
            progress = self._advance()
            if progress.sendable:
                self._sender.wake()
            if self._watchdog is not None:
                notify(ALIVE)
            self._sender.start_if_due()
            if progress.is_at_end:
                self._flush_if_quiet()
            self._watch.wait(self._timeout(progress), [self._signals.descriptor])

    def _handle_signals(self) -> _Leaving | None:
        taken = self._signals.take()
        if signal.SIGCHLD in taken and (code := self._sender.reap()) is not None:
            self._on_child_end(code)
        if signal.SIGTERM in taken or signal.SIGINT in taken:
            self._flush()
            return _Leaving.STOP
        return _Leaving.RELOAD if signal.SIGHUP in taken else None

    def _advance(self) -> Progress:
        try:
            progress = self._follower.advance()
        except JournalFull as error:
            self._say_full(error)
            return Progress(0, True)
        if not self._follower.has_uncommitted:
            self._say_space()
        if progress.is_at_end and not self._is_trimmed:
            self._is_trimmed = True
            _give_memory_back()
        return progress

    def _flush(self) -> None:
        try:
            self._follower.flush()
            self._say_space()
        except JournalFull as error:
            self._say_full(error)

    def _say_full(self, error: JournalFull) -> None:
        if self._has_space:
            logger.error("%s; trying again every %d s", error, RETRY_JOURNAL)
        self._has_space = False

    def _say_space(self) -> None:
        if not self._has_space:
            logger.info("the journal can be written again")
        self._has_space = True

    def _timeout(self, progress: Progress) -> float | None:
        """Seconds to sleep at most; None where only the slow poll is left."""
        if not progress.is_at_end:
            return 0.0
        candidates = [self._follower.retry_in, self._sender.due_in, self._watchdog]
        if not self._has_space:
            candidates.append(RETRY_JOURNAL)
        elif self._follower.has_uncommitted:
            candidates.append(self._quiet_left)
        return min((wait for wait in candidates if wait is not None), default=None)

    @property
    def _quiet_left(self) -> float:
        return max(0.0, self._follower.last_line_at + QUIET_BEFORE_FLUSH - time.monotonic())

    def _flush_if_quiet(self) -> None:
        if self._follower.has_uncommitted and not self._quiet_left:
            self._flush()

    def _on_child_end(self, code: int) -> None:
        if code == NOT_CONFIGURED:
            self._wait_for_approval()
        elif code == LATER:
            self._sender.postpone(self._asked_delay())
        elif code != 0:
            logger.warning("sending failed (%s); trying again", _describe(code))
            acknowledged = self._journal.acknowledged()
            if acknowledged > self._acknowledged:
                self._sender.forgive()
            self._acknowledged = acknowledged
            self._sender.postpone()
        elif self._journal.unsent_count():
            # It left just before we woke it. If that is all it does, not in a tight loop.
            self._sender.start_again()
        else:
            _give_memory_back()

    def _asked_delay(self) -> float | None:
        """Seconds until the time that the child left behind, if it did."""
        text = self._journal.get("retry_at")
        if text is None or not text.isdigit():
            return None
        return min(max(0.0, int(text) - time.time()), LONGEST_POSTPONEMENT)

    def _wait_for_approval(self) -> None:
        """Have a child started later where only that is missing; else raise why nothing can be sent."""
        if stopped := self._journal.get("stopped"):
            why = json.loads(stopped)
            if why["reason"] == AwaitingApproval.slug:
                minutes = ASK_AGAIN / 60
                logger.warning("waiting for approval: records are kept; asking again every %d min", minutes)
                self._sender.postpone(ASK_AGAIN)
                return
            raise PushingStopped(why["message"], reason=why["reason"], advice=why["advice"])
        raise NotConfigured(
            "nothing can be sent; what to do was said above", advice="see also `gentwoo status`"
        )


class _Sender:
    """The child that sends: started when there is something, told of more, not started too often."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._pid: int | None = None
        self._pipe: int | None = None
        self._failures = 0
        self._started_at = 0.0
        self._due_at: float | None = None  # when to start a child, monotonic

    @property
    def due_in(self) -> float | None:
        """Seconds until a child is to be started; None where none is."""
        return (
            None
            if self._due_at is None or self._pid is not None
            else max(0.0, self._due_at - time.monotonic())
        )

    def wake(self) -> None:
        """There are new records: tell the child, or have one started as soon as that makes sense."""
        if self._pipe is not None:
            try:
                os.write(self._pipe, b"\n")
            except BlockingIOError:
                pass  # it has many such bytes to read already
            except BrokenPipeError:
                self._due_at = time.monotonic()  # it is leaving; we shall hear of it
        elif self._due_at is None:
            self._due_at = time.monotonic()

    def start_if_due(self) -> None:
        """Start a child if there is none and it is time."""
        if self._pid is None and self._due_at is not None and self._due_at <= time.monotonic():
            self._due_at = None
            self._start()

    def reap(self) -> int | None:
        """Return the exit code of the child, negative for a signal, if it has ended; else None."""
        if self._pid is None:
            return None
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            return None
        self._pid = None
        self._close_pipe()
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            self._failures = 0
        return code

    def start_again(self) -> None:
        """Have another child started: at once, or later where this one did nothing."""
        if time.monotonic() - self._started_at < SHORTEST_DELAY:
            self.postpone()
        else:
            self._due_at = time.monotonic()

    def forgive(self) -> None:
        """Forget earlier failures: the child that ended had sent something."""
        self._failures = 0

    def postpone(self, delay: float | None = None) -> None:
        """Have a child started after `delay` seconds, or after the back-off of repeated failures."""
        if delay is None:
            self._failures += 1
            ceiling = min(SHORTEST_DELAY * 2.0**self._failures, LONGEST_DELAY)
            delay = max(SHORTEST_DELAY, ceiling * int.from_bytes(os.urandom(4)) / 2**32)
        self._due_at = time.monotonic() + delay

    def finish(self, signals: _Signals) -> None:
        """Ask the child to finish, wait for it, and end it where it takes too long."""
        self._close_pipe()
        for patience, number in ((FINISH_WITHIN, signal.SIGTERM), (TERMINATE_WITHIN, signal.SIGKILL)):
            if self._ended_within(patience, signals):
                return
            assert self._pid is not None
            os.kill(self._pid, number)
        if self._pid is not None:
            os.waitpid(self._pid, 0)
            self._pid = None

    def _ended_within(self, patience: float, signals: _Signals) -> bool:
        deadline = time.monotonic() + patience
        while self._pid is not None and self.reap() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            signals.wait_for_child(left)
        return True

    def _start(self) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(writing, False)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
        }
        self._started_at = time.monotonic()
        self._pid = os.posix_spawn(
            self._command[0],
            self._command,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0)],
            setpgroup=0,  # Ctrl-C is for us; the pipe tells the child
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD],
        )
        os.close(reading)
        self._pipe = writing

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


class _Signals:
    """Signals as something that `poll` can wait for."""

    HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

    def __init__(self) -> None:
        self.descriptor = -1
        self._writing = -1
        self._kept: set[int] = set()

    def __enter__(self) -> Self:
        self.descriptor, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _note) for number in self.HANDLED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._writing)

    def take(self) -> set[int]:
        """Return the signals that came since it was last called."""
        self._collect()
        taken, self._kept = self._kept, set()
        return taken

    def wait_for_child(self, timeout: float) -> None:
        """Sleep until any signal, at most `timeout` seconds; what came is left for `take`."""
        import select

        select.select([self.descriptor], [], [], timeout)
        self._collect()

    def _collect(self) -> None:
        try:
            while numbers := os.read(self.descriptor, 512):
                self._kept.update(numbers)
        except BlockingIOError:
            pass


def _note(number: int, frame: FrameType | None) -> None:
    """Handle a signal by nothing: the wake-up descriptor has it."""


def _describe(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _give_memory_back() -> None:
    """Return what a long log or the start took and is free now."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # musl has none
        ctypes.CDLL(None).malloc_trim(0)
