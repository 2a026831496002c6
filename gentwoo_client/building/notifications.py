# SPDX-License-Identifier: GPL-2.0-or-later
"""What this machine waits for and does not stand waiting for, and what became of it.

Two files in the state directory: `builds.json`, which is written under a lock; and `news`, lines for people,
which is there exactly as long as there is something that the next `gentwoo` command has to tell. So a command
that has nothing to tell pays for one look at a directory.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from gentwoo_client.errors import printable

FILE: Final = "builds.json"
NEWS: Final = "news"
_LOCK = "builds.lock"
_NEWS_SIZE = 64 << 10  # bytes that are told at once
_KEPT = 100  # notifications


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """A request that somebody left."""

    id: str
    collector: str
    target: str
    atoms: tuple[str, ...]
    since: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What became of one."""

    id: str
    atoms: tuple[str, ...]
    state: str
    """`published`, `incomplete`, `cancelled`, or `gone`: the collector does not know it any more."""
    at: int
    """Unix seconds."""
    text: str
    """One line."""


@dataclass(slots=True)
class Memory:
    """The content of `builds.json`."""

    agreed: list[str] = field(default_factory=list)
    """Collectors that may be told what is to be built."""
    awaited: dict[str, Awaited] = field(default_factory=dict)
    notifications: list[Notification] = field(default_factory=list)
    """The newest last."""

    def await_(self, request: Awaited) -> None:
        """Have what becomes of `request` told."""
        self.awaited[request.id] = request

    def ended(self, request: Awaited, notification: Notification | None) -> None:
        """`request` is over; nobody has to be told where there is no notification."""
        self.awaited.pop(request.id, None)
        if notification is not None:
            self.notifications = [*self.notifications, notification][-_KEPT:]


def read(state_dir: Path) -> Memory:
    """What is remembered; nothing where the file is missing or damaged."""
    try:
        document = json.loads((state_dir / FILE).read_bytes())
        return Memory(
            agreed=[str(url) for url in document["agreed"]],
            awaited={entry["id"]: Awaited(**_tuples(entry)) for entry in document["awaited"]},
            notifications=[Notification(**_tuples(entry)) for entry in document["notifications"]],
        )
    except FileNotFoundError:
        return Memory()
    except (ValueError, KeyError, TypeError):
        return Memory()  # what is lost is a reminder: requests themselves are at the collector


@contextmanager
def changing(state_dir: Path) -> Iterator[Memory]:
    """The memory, to be changed; written when the block ends well."""
    lock = os.open(state_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        memory = read(state_dir)
        before = json.dumps(_document(memory))
        known = {notification.id for notification in memory.notifications}
        yield memory
        after = json.dumps(_document(memory))
        if after != before:
            _write(state_dir / FILE, after)
        new = [entry.text for entry in memory.notifications if entry.id not in known]
        if new:
            _write(state_dir / NEWS, "".join(f"{line}\n" for line in [*_lines(state_dir / NEWS), *new]))
    finally:
        os.close(lock)


def take_news(state_dir: Path) -> list[str]:
    """The lines that are to be told now; they are not told again. Nothing where this user may not."""
    news = state_dir / NEWS
    taken = news.with_name(f".{NEWS}.{os.getpid()}")
    try:
        # First out of the way of whoever has more: nothing is lost between reading and removing.
        news.rename(taken)
        lines = _lines(taken)
        taken.unlink()
    except OSError:
        return []
    return lines


def _lines(path: Path) -> list[str]:
    """Root may read this in a directory of somebody else: a plain file, and only what can be printed."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                text = file.read(_NEWS_SIZE).decode(errors="replace")
                return [printable(line) for line in text.splitlines()]
    return []


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _document(memory: Memory) -> dict[str, object]:
    return {
        "agreed": memory.agreed,
        "awaited": [asdict(entry) for entry in memory.awaited.values()],
        "notifications": [asdict(entry) for entry in memory.notifications],
    }


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}


def now() -> int:
    """Unix seconds."""
    return int(time.time())
