# SPDX-License-Identifier: GPL-2.0-or-later
"""Sleep until the log may have changed, or something else wants attention; with next to no cost at rest.

The kernel's inotify (through pyinotify) wakes us: for changes of the log itself, and for files that come, go
or are renamed in its directory, so that a busy neighbour in /var/log wakes nobody however much it writes.
Events are hints only: whoever is woken looks at the files. Beside it the log is polled slowly, since events
can overflow, and network file systems have none; without pyinotify, or where the directory may not be
watched, polling is all there is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import warnings
from collections.abc import Iterable
from typing import Any

POLL_INTERVAL = 60.0
"""Seconds between looks at the log where inotify works."""

POLL_ALONE_INTERVAL = 5.0
"""Seconds between looks at the log where it does not."""

_EVENTS_SIZE = 64 * 1024  # bytes read at once; the content is not looked at

logger = logging.getLogger(__name__)


class LogWatch:
    """Wakes for changes of `path`, which need not exist."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._inotify = _open_inotify()
        self._poll = select.poll()
        self._directories: dict[str, int] = {}
        self._file: tuple[int, tuple[int, int]] | None = None  # watch, and what it is on
        self._complaint: str | None = None
        if self._inotify is not None:
            self._poll.register(self._inotify.get_fd(), select.POLLIN)
        self._renew()

    @property
    def interval(self) -> float:
        """Seconds after which `wait` returns at the latest, so that the log is looked at."""
        return POLL_INTERVAL if self._directories else POLL_ALONE_INTERVAL

    def wait(self, timeout: float | None = None, also: Iterable[int] = ()) -> set[int]:
        """Sleep until the log may have changed, one of the descriptors `also` is readable, or time is up.

        Returns which of `also` are readable. Seconds; None: `interval`, and never longer than that.
        """
        limit = self.interval if timeout is None else min(timeout, self.interval)
        registered = list(also)
        for descriptor in registered:
            self._poll.register(descriptor, select.POLLIN)
        try:
            ready = {descriptor for descriptor, _ in self._poll.poll(max(0.0, limit) * 1000)}
        finally:
            for descriptor in registered:
                self._poll.unregister(descriptor)
        if self._inotify is not None and self._inotify.get_fd() in ready:
            self._drain(self._inotify.get_fd())
        self._renew()
        return ready.intersection(registered)

    def close(self) -> None:
        """Stop watching."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _drain(self, descriptor: int) -> None:
        try:
            while os.read(descriptor, _EVENTS_SIZE):
                pass
        except BlockingIOError:
            pass

    def _renew(self) -> None:
        """Watch what is there now: the log may be another file, its directory another one."""
        if self._inotify is None:
            return
        self._renew_file()
        self._renew_directories()

    def _renew_file(self) -> None:
        try:
            status = os.stat(self._path)
            identity = (status.st_dev, status.st_ino)
        except OSError:
            identity = None
        if self._file is not None and self._file[1] == identity:
            return
        if self._file is not None:
            self._forget(self._file[0])
            self._file = None
        if identity is not None and (watch := self._add(self._path, _file_events())) is not None:
            self._file = (watch, identity)

    def _renew_directories(self) -> None:
        # Where the log is a symlink, it may be exchanged, and what it leads to may be rotated.
        wanted = {os.path.dirname(find(self._path)) for find in (os.path.abspath, os.path.realpath)}
        for directory in wanted:
            # Adding a watch again changes nothing where there is one, and renews one that the kernel dropped.
            watch = self._add(directory, _directory_events())
            if watch is None:
                self._directories.pop(directory, None)
            else:
                self._directories[directory] = watch
        for directory in self._directories.keys() - wanted:
            self._forget(self._directories.pop(directory))

    def _add(self, path: str, events: int) -> int | None:
        assert self._inotify is not None
        try:
            watch = self._inotify.add_watch(path, events, quiet=False)[path]
        except _inotify_error() as error:
            # A missing log or directory is usual, and the reader tells of it.
            if os.path.exists(path):
                self._complain(f"{path} cannot be watched; looking at it every now and then ({error})")
            return None
        return int(watch)

    def _forget(self, watch: int) -> None:
        assert self._inotify is not None
        with contextlib.suppress(_inotify_error()):  # the kernel drops watches by itself
            self._inotify.rm_watch(watch, quiet=False)
        self._inotify.del_watch(watch)

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            logger.warning("%s", complaint)
        self._complaint = complaint


def _open_inotify() -> Any:
    """Return a pyinotify.WatchManager, or None where there can be none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it imports asyncore, deprecated until 3.11 and from PyPI since
            import pyinotify

        inotify = pyinotify.WatchManager()
    except ImportError as error:
        logger.warning("pyinotify cannot be imported, so the log is polled: %s", error)
        return None
    except OSError as error:
        logger.warning("inotify cannot be used, so the log is polled: %s", error)
        return None
    # It is opened without O_CLOEXEC and O_NONBLOCK.
    os.set_inheritable(inotify.get_fd(), False)
    os.set_blocking(inotify.get_fd(), False)
    return inotify


def _inotify_error() -> type[Exception]:
    import pyinotify

    error: type[Exception] = pyinotify.WatchManagerError
    return error


def _file_events() -> int:
    import pyinotify

    return int(pyinotify.IN_MODIFY)


def _directory_events() -> int:
    from pyinotify import IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF, IN_MOVED_FROM, IN_MOVED_TO

    return int(IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF)
