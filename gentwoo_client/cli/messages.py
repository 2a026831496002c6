# SPDX-License-Identifier: GPL-2.0-or-later
"""Where messages go: to stderr, with priorities where systemd's journal reads it, or to syslog.

Both what is logged and what a command says as it fails take this way, so that a daemon in the background does
not keep to itself why it ended.
"""

from __future__ import annotations

import logging
import os
import sys


def start(level: str) -> None:
    """Log from now on what is of `level` or above."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_WithPriority() if _is_journal() else logging.Formatter(_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("aiosqlite", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def to_syslog() -> None:
    """Send all further messages to syslog: nobody reads stderr."""
    logging.getLogger().handlers[:] = [_Syslog()]


def fail(lines: list[str]) -> None:
    """Say why a command fails, to whoever reads its messages."""
    if any(isinstance(handler, _Syslog) for handler in logging.getLogger().handlers):
        logging.error("%s", "; ".join(lines))
        return
    prefix = "<3>" if _is_journal() else ""
    for line in lines:
        print(f"{prefix}gentwoo: {line}", file=sys.stderr)


_FORMAT = "%(levelname)s: %(message)s"


def _is_journal() -> bool:
    """Whether systemd's journal reads stderr (systemd.exec(5), $JOURNAL_STREAM)."""
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


class _WithPriority(logging.Formatter):
    """`<N>` before each message, as sd-daemon(3) has it."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_priority(record)}>{super().format(record)}"


class _Syslog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        import syslog

        syslog.openlog("gentwoo", syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(_priority(record), self.format(record))


def _priority(record: logging.LogRecord) -> int:
    """The priority of syslog(3) that belongs to a level."""
    if record.levelno >= logging.ERROR:
        return 3
    if record.levelno >= logging.WARNING:
        return 4
    return 6 if record.levelno >= logging.INFO else 7
