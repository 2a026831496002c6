# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong in the client, and with which exit code the command then ends.

GentwooError                     1   refused or failed
├── AlreadyRunning               1   another process of ours holds the lock
├── BinhostRefused               1   a target, a key or a file of Portage's is not what taking packages needs
├── InvalidEvidence              1   a segment whose signature, digest or chain does not hold
├── JournalError                 1   the journal cannot be used
│   └── JournalFull             75   … because there is no space; nothing is lost, the log is read again later
├── ProposalWaits               75   an administrator decides whether there will be a target that fits
├── UsageError                   2   the command line contradicts itself
├── TryLater                    75   the same command may succeed later
│   ├── CollectorUnreachable    75   no connection, a time-out, or it broke off
│   ├── CollectorBusy           75   429 or 503, with the time it asked for
│   └── CollectorBroken         75   an answer that is not the protocol's
├── NoPermission                77   this user may not read or write the state, the key or the log
└── NotConfigured               78   somebody has to act before it can work
    ├── SettingsError           78   a setting that is unknown, of the wrong type or not allowed
    ├── NotRegistered           78   there is no key, or no collector knows it
    ├── KeyUnusable             78   the machine's key is damaged, or others could read it
    └── PushingStopped          78   the collector refused; `reason` says why, `advice` how to repair it

Errors of the protocol itself (a malformed CPV, a bad signature) are in `gentwoo_client.wire.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

DONE = 0
FAILED = 1
USAGE = 2
LATER = 75
NO_PERMISSION = 77
NOT_CONFIGURED = 78

EXIT_CODES = {
    DONE: "done",
    FAILED: "refused or failed",
    USAGE: "wrong usage",
    LATER: "try again later; nothing is lost",
    NO_PERMISSION: "no permission",
    NOT_CONFIGURED: "not registered, or bad configuration",
}
"""Every exit code of every command, as the help texts explain it (after sysexits.h)."""


class GentwooError(Exception):
    """Something expected went wrong. `advice` says what to do about it."""

    exit_code = FAILED

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        self.advice = advice


class AlreadyRunning(GentwooError):
    """Another process holds the lock; `pid` is its number where it is known."""

    def __init__(self, message: str, *, pid: int | None = None, advice: str | None = None) -> None:
        super().__init__(message, advice=advice)
        self.pid = pid


class BinhostRefused(GentwooError):
    """Packages are not taken so: no target fits, a key is another one, a file is not ours to change."""


class InvalidEvidence(GentwooError):
    """A segment is not what it claims to be."""


class JournalError(GentwooError):
    """The journal cannot be opened, read or written."""


class JournalFull(JournalError):
    """There is no space to write the journal."""

    exit_code = LATER


class UsageError(GentwooError):
    """Options that do not go together."""

    exit_code = USAGE


class TryLater(GentwooError):
    """Not now. `retry_after` is what the collector asked for, in seconds, or None."""

    exit_code = LATER

    def __init__(self, message: str, *, retry_after: float | None = None, advice: str | None = None) -> None:
        super().__init__(message, advice=advice)
        self.retry_after = retry_after


class CollectorUnreachable(TryLater):
    """No answer came; whether the request arrived is unknown."""


class CollectorBusy(TryLater):
    """The collector asked to come back later."""


class CollectorBroken(TryLater):
    """Something answered, but not as a collector does."""


class ProposalWaits(GentwooError):
    """An administrator of the collector has to decide whether there will be a target for this machine."""

    exit_code = LATER


class NoPermission(GentwooError):
    """This user may not do that; `advice` names the command that may."""

    exit_code = NO_PERMISSION


class NotConfigured(GentwooError):
    """Somebody has to act first."""

    exit_code = NOT_CONFIGURED


class SettingsError(NotConfigured):
    """A setting is unknown or its value is not allowed."""


class NotRegistered(NotConfigured):
    """This machine has no identity at a collector yet."""


class KeyUnusable(NotConfigured):
    """The machine's key cannot be used safely."""


class PushingStopped(NotConfigured):
    """Nothing more may be sent before somebody acted; `reason` is one word for programs."""

    def __init__(self, message: str, *, reason: str, advice: str) -> None:
        super().__init__(message, advice=advice)
        self.reason = reason


class CollectorRefused(PushingStopped):
    """The collector said no, and the same request would get the same answer."""


def printable(text: str) -> str:
    """Return foreign text for a message: without what could command a terminal, and a few lines at most."""
    return "".join(c if c.isprintable() else " " for c in text[:500]).strip()


def journal_error(error: sqlite3.Error) -> JournalError:
    """Our error for what SQLite reports about the journal."""
    if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
        return JournalFull("there is no space to write the journal", advice="nothing is lost; make room")
    return JournalError(f"the journal cannot be used: {error}")
