# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal: what happened on this machine, and how far the log was read, in one SQLite file.

A record, its `seq`, the position in the log after it and the open merges are committed in one transaction,
durably, so a crash at any moment neither loses nor repeats a record. Here is the reading side, synchronous;
`gentwoo_client.outbox` is the sending side on the same file.

Tables: `state` (key and value), `records` (everything that happened; `chain` and `seq` where it may be sent,
else `withheld` says why not) and `segments` (what was signed; see outbox).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from gentwoo_client.errors import JournalError, NoPermission, NotRegistered, journal_error
from gentwoo_client.wire.records import INSTALL, PackageStateChange

JOURNAL_NAME = "journal.sqlite"

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
        "CREATE TABLE records (id INTEGER PRIMARY KEY, chain INTEGER, seq INTEGER, withheld TEXT,"
        " recorded_at INTEGER NOT NULL, cpv TEXT NOT NULL, root TEXT, record TEXT NOT NULL,"
        " UNIQUE (chain, seq))",
        "CREATE INDEX records_cpv ON records (cpv)",
        "CREATE TABLE segments (chain INTEGER, first_seq INTEGER, last_seq INTEGER, prev TEXT,"
        " digest TEXT NOT NULL, created_at INTEGER, audience TEXT, compact BLOB, acknowledged INTEGER,"
        " PRIMARY KEY (chain, first_seq))",
    ),
)
"""What brings a journal from version N (`PRAGMA user_version`) to N + 1. Only ever extended."""

_BUSY_TIMEOUT = 30.0  # seconds; the sender's transactions are short
_CACHE = 512  # KiB of pages; the default of 2 MiB would stay in the resident daemon
_CHAIN = "coalesce((SELECT CAST(value AS INTEGER) FROM state WHERE key = 'chain'), 1)"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRecord:
    """One thing that happened."""

    change: PackageStateChange
    """Its `seq` is 0 before it is committed, and where it is withheld."""
    root: str | None
    """The ROOT that the log names."""
    withheld: str | None
    """Why it stays on this machine: a reason of `gentwoo_client.privacy`; None where it may be sent."""


class Journal:
    """The reader's side. One at a time writes (`reader.lock`); any number may look."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, state_dir: Path, *, create: bool = False) -> Self:
        """Open the journal in `state_dir` and bring it up to date.

        Raises `NotRegistered` where there is none, unless `create`; `NoPermission`; `JournalError` where it
        is damaged or newer than this program.
        """
        path = state_dir / JOURNAL_NAME
        _prepare(path, create=create)
        with _ours(path):
            connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)
            try:
                connection.execute(f"PRAGMA cache_size=-{_CACHE}")
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                _migrate(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(connection)

    def close(self) -> None:
        self._connection.close()

    # State

    def get(self, key: str) -> str | None:
        """Return a value of the state, or None."""
        row = self._one("SELECT value FROM state WHERE key = ?", key)
        return None if row is None else row[0]

    def put(self, **values: str | None) -> None:
        """Store values of the state durably; None removes a key."""
        with self._transaction():
            self._put(values)

    # Records

    def commit(
        self,
        records: Iterable[JournalRecord],
        *,
        position: str | None,
        tracker: str,
        state: dict[str, str | None],
    ) -> int:
        """Add `records` in order, with where the log was read up to; return how many of them may be sent.

        All or nothing. Raises `JournalFull` where there is no space: the same call may be repeated.
        """
        sendable = 0
        with self._transaction():
            chain, seq = self._end_of_chain()
            for record in records:
                if record.withheld is None:
                    sendable += 1
                self._add(record, chain, seq + sendable)
            self._put({"position": position, "tracker": tracker, **state})
        return sendable

    def unsent_count(self) -> int:
        """Return how many records may be sent and are not acknowledged."""
        row = self._one(
            f"SELECT count(*) FROM records WHERE chain = {_CHAIN} AND seq > coalesce((SELECT max(last_seq)"
            f" FROM segments WHERE chain = {_CHAIN} AND acknowledged IS NOT NULL), 0)"
        )
        assert row is not None
        return int(row[0])

    def acknowledged(self) -> int:
        """Return the last number of the chain in use that the collector has; 0 before the first."""
        row = self._one(
            f"SELECT coalesce(max(last_seq), 0) FROM segments WHERE chain = {_CHAIN}"
            " AND acknowledged IS NOT NULL"
        )
        assert row is not None
        return int(row[0])

    def iter_records(self) -> Iterator[JournalRecord]:
        """Yield everything that happened, in the order of the log."""
        rows = self._connection.execute("SELECT seq, root, withheld, record FROM records ORDER BY id")
        with _ours():
            for seq, root, withheld, text in rows:
                # `from_json` knows no seq 0.
                change = PackageStateChange.from_json({"seq": seq or 1, **json.loads(text)})
                yield JournalRecord(change=replace(change, seq=seq or 0), root=root, withheld=withheld)

    def repository_of_last_install(self, cpv: str) -> str | None:
        """Return the repository that `cpv` was last installed from into our own root, as far as known."""
        row = self._one(
            "SELECT json_extract(record, '$.repository') FROM records WHERE cpv = ?"
            f" AND withheld IS NOT 'root' AND json_extract(record, '$.event') = '{INSTALL}'"
            " ORDER BY id DESC LIMIT 1",
            cpv,
        )
        return None if row is None else row[0]

    # SQL

    def _end_of_chain(self) -> tuple[int, int]:
        row = self._one(f"SELECT {_CHAIN}, coalesce(max(seq), 0) FROM records WHERE chain = {_CHAIN}")
        assert row is not None
        return row[0], row[1]

    def _add(self, record: JournalRecord, chain: int, seq: int) -> None:
        fields = record.change.to_json()
        del fields["seq"]
        may_be_sent = record.withheld is None
        self._connection.execute(
            "INSERT INTO records (chain, seq, withheld, recorded_at, cpv, root, record)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                chain if may_be_sent else None,
                seq if may_be_sent else None,
                record.withheld,
                record.change.recorded_at,
                str(record.change.cpv),
                record.root,
                json.dumps(fields, ensure_ascii=False, separators=(",", ":")),
            ),
        )

    def _put(self, values: dict[str, str | None]) -> None:
        for key, value in values.items():
            if value is None:
                self._connection.execute("DELETE FROM state WHERE key = ?", (key,))
            else:
                self._connection.execute(
                    "INSERT INTO state (key, value) VALUES (?, ?)"
                    " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    (key, value),
                )

    def _one(self, statement: str, *values: object) -> sqlite3.Row | None:
        with _ours():
            row: sqlite3.Row | None = self._connection.execute(statement, values).fetchone()
            return row

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _ours():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite itself rolls back after some errors, a full disk among them.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _prepare(path: Path, *, create: bool) -> None:
    """Make sure that the file exists and is ours alone: SQLite gives -wal and -shm the same mode."""
    try:
        if create:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        mode = path.stat().st_mode
        if mode & 0o077:
            path.chmod(0o600)
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError
    except FileNotFoundError:
        raise NotRegistered(
            f"this machine is not registered: there is no {path}", advice="run `gentwoo register`"
        ) from None
    except PermissionError:
        raise NoPermission(
            f"{path}: no permission", advice="run it as the owner of the state directory, or as root"
        ) from None


@contextmanager
def _ours(path: Path | None = None) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            raise JournalError(
                f"the journal{f' {path}' if path else ''} is damaged: {error}",
                advice="put a backup back, or move it away and run `gentwoo register --renew`",
            ) from error
        raise journal_error(error) from error


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    def version() -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    if version() == len(MIGRATIONS):
        return
    if version() > len(MIGRATIONS):
        raise JournalError(
            f"{path} was written by a newer version", advice="install that version of GenTwoo again"
        )
    connection.execute("BEGIN IMMEDIATE")  # another process may be doing the same
    try:
        for statements in MIGRATIONS[version() :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
