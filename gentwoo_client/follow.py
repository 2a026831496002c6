# SPDX-License-Identifier: GPL-2.0-or-later
"""From the log into the journal: what the daemon does all the time, and a one-shot `push` once.

    LogTail → MergeTracker → what the machine adds (repository, clock) → privacy → Journal.commit

The outcome depends on the log, not on when it was read or how often the reader was killed: only `observed`
and `clock` tell the difference, and the repository of a binary package that was gone before it was read.
"""

from __future__ import annotations

import logging
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gentwoo_client.clock import boot_time, clock_state
from gentwoo_client.installed import InstalledPackages
from gentwoo_client.journal import Journal, JournalRecord
from gentwoo_client.log.position import Position
from gentwoo_client.log.tail import LogTail
from gentwoo_client.log.tracker import LoggedChange, MergeTracker
from gentwoo_client.privacy import HISTORY, INVALID, REPOSITORY, ROOT, UNCONFIRMED, Privacy
from gentwoo_client.repositories import Repositories
from gentwoo_client.wire.errors import ProtocolError
from gentwoo_client.wire.records import (
    BACKFILL,
    INSTALL,
    LIVE,
    MANUAL,
    UNINSTALL,
    UNKNOWN,
    PackageStateChange,
)

if TYPE_CHECKING:
    from gentwoo_client.settings import Settings

BATCH_SIZE = 512 * 1024
"""Bytes of the log that are read at most before what they say is committed."""

CLOCK_TOLERANCE = 2
"""Seconds by which a time stamp of the log and one of the file system may differ: the log rounds."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """What one `Follower.advance` did."""

    sendable: int
    """Records committed that may be sent."""
    is_at_end: bool
    """Whether there is nothing more to read now."""


class Follower:
    """Reads the log into the journal, block by block. Holds `reader.lock`, or whoever calls it does."""

    def __init__(self, journal: Journal, settings: Settings) -> None:
        """Begin where the journal says that reading ended. `settings` with the choices of registration."""
        self._journal = journal
        self._tail = LogTail(settings.log, _stored_position(journal))
        self._tracker = _stored_tracker(journal)
        self._tracker.boot(boot_time())
        self._installed = InstalledPackages(settings.eprefix)
        self._repositories = Repositories(settings.eprefix)
        self._privacy = Privacy(
            own_root=settings.eprefix,
            allowed=settings.repositories,
            since=settings.history_since,
            repositories=self._repositories,
        )
        self._is_live = False  # this process has once reached the end of the log
        self._has_caught_up = journal.get("caught_up") is not None  # some process has, since the last gap
        self._is_caught_up_stored = self._has_caught_up
        self._is_past = journal.get("reached_end") is None  # none ever has
        self._records: list[JournalRecord] = []
        self._uncommitted = 0  # bytes of the log
        self.last_line_at = 0.0
        """When lines were last read, by the monotonic clock."""

    @property
    def has_uncommitted(self) -> bool:
        """Whether lines were read that brought no record; `flush` stores the place after them."""
        return self._uncommitted > 0

    @property
    def is_denied(self) -> bool:
        """Whether this user may not read the log, as of the last `advance`."""
        return self._tail.is_denied

    @property
    def retry_in(self) -> float | None:
        """Seconds after which to call `advance` although the log did not change; None: no need."""
        return self._tail.retry_in

    def advance(self) -> Progress:
        """Read what there is, at most `BATCH_SIZE` bytes, and commit what it says.

        Raises `JournalFull` where there is no space; what was read is kept, and the next call tries again.
        """
        is_at_end = False
        while self._uncommitted < BATCH_SIZE and not is_at_end:
            is_at_end = not self._read_block()
        if self._records or not is_at_end or self._has_caught_up != self._is_caught_up_stored:
            return Progress(self._commit(), is_at_end)
        return Progress(0, is_at_end)

    def flush(self) -> None:
        """Commit how far the log was read. Raises `JournalFull`, as `advance`."""
        if self._uncommitted:
            self._commit()

    def read_to_end(self) -> int:
        """Read until there is nothing more; return how many records may be sent. Raises `JournalFull`."""
        sendable = 0
        while True:
            progress = self.advance()
            sendable += progress.sendable
            if not progress.is_at_end:
                continue
            if self.retry_in is None:
                break
            time.sleep(self.retry_in)
        self.flush()
        return sendable

    def close(self) -> None:
        self._tail.close()

    def _read_block(self) -> bool:
        block = self._tail.read()
        if self._tail.has_gap:
            self._tail.has_gap = False
            self._has_caught_up = False
        if block is None:
            if self._tail.at_end:
                self._is_live = self._has_caught_up = True
                self._is_past = False
            return False
        self._uncommitted += len(block.lines)
        self.last_line_at = time.monotonic()
        changes = self._tracker.feed(block.lines)
        if changes:
            clock = clock_state() if self._is_live else UNKNOWN
            self._records.extend(self._record(change, clock) for change in changes)
        return True

    def _commit(self) -> int:
        position = self._tail.position
        state: dict[str, str | None] = {"caught_up": "1" if self._has_caught_up else None}
        if not self._is_past:
            state["reached_end"] = "1"
        sendable = self._journal.commit(
            self._records,
            position=None if position is None else position.dump(),
            tracker=self._tracker.dump(),
            state=state,
        )
        self._is_caught_up_stored = self._has_caught_up
        self._records = []
        self._uncommitted = 0
        return sendable

    # One change

    def _record(self, logged: LoggedChange, clock: str) -> JournalRecord:
        is_elsewhere = not self._privacy.is_own(logged.root) or self._is_removal_elsewhere(logged)
        repository = None if is_elsewhere else self._repository(logged)
        change = PackageStateChange(
            seq=0,
            event=logged.event,
            category=logged.category,
            name=logged.name,
            version=logged.version,
            repository=repository,
            install_type=logged.install_type,
            cause=logged.cause,
            replaces=logged.replaces,
            recorded_at=logged.at,
            time_delta=logged.time_delta,
            concurrency=logged.concurrency,
            observed=LIVE if self._is_live else BACKFILL,
            clock=clock,
        )
        withheld = ROOT if is_elsewhere else self._why_withheld(logged, change)
        return JournalRecord(change=change, root=logged.root, withheld=withheld)

    def _why_withheld(self, logged: LoggedChange, change: PackageStateChange) -> str | None:
        if not self._is_confirmed(logged):
            logger.warning("%s: completed without having begun, and not installed: not counted", change.cpv)
            return UNCONFIRMED
        if not self._privacy.may_name(change.repository, change.category, change.name, change.version):
            return REPOSITORY
        if not self._privacy.may_tell(change.recorded_at, is_past=self._is_past):
            return HISTORY
        try:
            PackageStateChange.from_json({**change.to_json(), "seq": 1})
        except ProtocolError:
            return INVALID
        return None

    def _is_confirmed(self, logged: LoggedChange) -> bool:
        """Whether a completion is to be believed. Anyone in group portage can write whole lines.

        Without its start it is believed in old logs, which may have been cut, and afterwards only where the
        package is there.
        """
        if logged.event != INSTALL or logged.start_seen or not self._has_caught_up:
            return True
        return self._installed.since(logged.category, _pf(logged)) is not None

    def _is_removal_elsewhere(self, logged: LoggedChange) -> bool:
        """Whether a manual removal, whose line names no ROOT, was not from ours: the package is still here.

        Read late, it may have been installed again since; then the entry is not older than the removal.
        """
        if logged.event != UNINSTALL or logged.cause != MANUAL:
            return False
        since = self._installed.since(logged.category, _pf(logged))
        return since is not None and (self._is_live or since < logged.at - CLOCK_TOLERANCE)

    def _repository(self, logged: LoggedChange) -> str | None:
        cpv = f"{logged.category}/{_pf(logged)}"
        if logged.event == UNINSTALL:
            return self._repository_before(cpv)
        if logged.ebuild is not None and (name := self._repositories.of_ebuild(logged.ebuild)):
            return name
        if logged.event == INSTALL and self._is_still_as_installed(logged):
            return self._installed.repository(logged.category, _pf(logged))
        return None

    def _repository_before(self, cpv: str) -> str | None:
        for record in reversed(self._records):
            if record.change.event == INSTALL and record.withheld != ROOT and str(record.change.cpv) == cpv:
                return record.change.repository
        return self._journal.repository_of_last_install(cpv)

    def _is_still_as_installed(self, logged: LoggedChange) -> bool:
        """Whether the database's entry is of this merge, and not of a later one."""
        since = self._installed.since(logged.category, _pf(logged))
        return since is not None and (self._is_live or since <= logged.at + CLOCK_TOLERANCE)


def read_to_end(settings: Settings) -> bool:
    """Read the log into the journal to its end, once; return False where this user may not read the log.

    The caller holds `reader.lock`. Raises `JournalError`.
    """
    with (
        closing(Journal.open(settings.state_dir)) as journal,
        closing(Follower(journal, settings)) as follower,
    ):
        follower.read_to_end()
        return not follower.is_denied


def _pf(logged: LoggedChange) -> str:
    return f"{logged.name}-{logged.version}"


def _stored_tracker(journal: Journal) -> MergeTracker:
    stored = journal.get("tracker")
    if not stored:
        return MergeTracker()
    try:
        return MergeTracker.load(stored)
    except ValueError as error:
        # Of another version of this program. What was being merged when it stopped has lost its beginning.
        logger.warning("merges that were under way are forgotten: %s", error)
        return MergeTracker()


def _stored_position(journal: Journal) -> Position | None:
    text = journal.get("position")
    return None if text is None else Position.load(text)
