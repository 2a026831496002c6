# SPDX-License-Identifier: GPL-2.0-or-later
"""Which engine the suite runs on: SQLite, or PostgreSQL where `GENTWOO_TEST_STORE=postgresql` is set.

Tests name their stores by the path of a file. On PostgreSQL each such path stands for a database of its own,
the same for the same path, also in the processes that a test starts (`bdcs … --data DIRECTORY`). It is made
with the schema when it is first named, and dropped at the end of the test whose `tmp_path` it is below, else
at the end of the session. Each worker of pytest-xdist has its own server. What is done to the file itself is
done to the database by `copy` and `remove`. A module whose tests leave a store of SQLite fails: it would show
nothing of PostgreSQL.

    GENTWOO_TEST_STORE=postgresql .venv/bin/python -m pytest tests/integration/test_ingest.py
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bdcs.store.places import SQLITE_NAME, Place, PostgreSQL

if TYPE_CHECKING:  # the client's own tests run where the collector's libraries are not
    from sqlalchemy import Engine

    from tests.postgresql import Server

IS_POSTGRESQL: Final = os.environ.get("GENTWOO_TEST_STORE") == "postgresql"
"""Read when the tests begin: `tests.processes.environment` passes nothing of it on."""

SUFFIXES: Final = ("", "-wal", "-shm")
"""The files of a store of SQLite."""


class _Databases:
    """The database of each path."""

    def __init__(self) -> None:
        self._server: Server | None = None
        self._urls: dict[Path, str] = {}
        self._engines: dict[Place, list[Engine]] = {}

    def of(self, path: Path) -> PostgreSQL:
        """Return it; made if need be."""
        key = _absolute(path)
        if key not in self._urls:
            if self._server is None:
                from tests.postgresql import start_postgresql

                log = tempfile.TemporaryDirectory(prefix="gentwoo-log-")
                self._server = start_postgresql(Path(log.name))
                atexit.register(log.cleanup)
                atexit.register(self._server.stop)
            self._urls[key] = self._server.new_database()
        return PostgreSQL(self._urls[key])

    def note(self, place: Place, engine: Engine) -> None:
        """Hold an engine, which tests do not always let go: none goes with a connection that is open."""
        key = _absolute(place) if isinstance(place, Path) else place
        self._engines.setdefault(key, []).append(engine)

    def copy(self, source: Path, target: Path) -> None:
        """Make the database of `target` a copy of that of `source`, which no process may be connected to."""
        source_url, url = self.of(source).url, self.of(target).url
        self._let_go()
        assert self._server is not None
        self._server.copy_database(source_url, url)

    def drop(self, path: Path) -> None:
        """Have it gone, if it is there."""
        url = self._urls.pop(_absolute(path), None)
        if url is not None and self._server is not None:
            self._server.drop_database(url)

    def finish(self, directory: Path | None) -> None:
        """Let go of all connections; drop what lies below `directory`."""
        self._let_go()
        if directory is not None:
            for path in [path for path in self._urls if path.is_relative_to(directory)]:
                self.drop(path)
                self._engines.pop(path, None)

    def _let_go(self) -> None:
        for engine in itertools.chain.from_iterable(self._engines.values()):
            engine.dispose()


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


_DATABASES: Final = _Databases()


def place(path: Path) -> Place:
    """Return where the store is that a test calls `path`."""
    return _DATABASES.of(path) if IS_POSTGRESQL else path


def url(path: Path) -> str:
    """Return what `bdcs --store` and `place_of` call the store that a test calls `path`."""
    return _DATABASES.of(path).url if IS_POSTGRESQL else f"sqlite:{path}"


def copy(source: Path, target: Path) -> None:
    """Make the store at `target` what the one at `source` is; nobody may be at work on either."""
    if IS_POSTGRESQL:
        _DATABASES.copy(source, target)
        return
    remove(target)
    for suffix in SUFFIXES:
        if source.with_name(source.name + suffix).exists():
            shutil.copy(source.with_name(source.name + suffix), target.with_name(target.name + suffix))


def remove(path: Path) -> None:
    """Have the store at `path` be lost; who asks for it next begins with an empty one."""
    if IS_POSTGRESQL:
        _DATABASES.drop(path)
        return
    for suffix in SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def finish_test(directory: Path | None) -> None:
    """Called after each test, whose temporary directory this is."""
    _DATABASES.finish(directory)


def with_store(argv: Sequence[str | Path], env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` so that a `bdcs` command with `--data DIRECTORY`, or BDCS_DATA, finds its store.

    Unless it names one.
    """
    words = [str(word) for word in argv]
    data = words[words.index("--data") + 1] if "--data" in words else env.get("BDCS_DATA")
    if not IS_POSTGRESQL or data is None or "--store" in words or "BDCS_STORE" in env:
        return dict(env)
    return {**env, "BDCS_STORE": _DATABASES.of(Path(data) / SQLITE_NAME).url}


def require_postgresql(directory: Path) -> None:
    """Raise `AssertionError` if a process had a store of SQLite in what is new in `directory`."""
    new = [path for path in directory.iterdir() if not path.is_symlink() and path not in _LOOKED_AT]
    _LOOKED_AT.update(new)
    found = [at for path in new for at, _, files in os.walk(path) if SQLITE_NAME in files]
    assert not found, f"not on PostgreSQL: {', '.join(found)}"


_LOOKED_AT: Final[set[Path]] = set()


def use_postgresql() -> None:
    """Have every path that an engine is made for stand for a database."""
    from bdcs.store import engine as engines

    for name in ("create_appender", "create_writer", "create_reader", "lookups_of", "empty_log"):
        setattr(engines, name, _elsewhere(getattr(engines, name)))


def _elsewhere(function: Callable[[Place], Any]) -> Callable[[Place], Any]:
    def call(where: Place) -> Any:
        result = function(_DATABASES.of(where) if isinstance(where, Path) else where)
        if hasattr(result, "dispose"):  # an engine
            _DATABASES.note(where, result)
        return result

    return call
