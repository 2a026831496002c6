# SPDX-License-Identifier: GPL-2.0-or-later
"""What is to be sent: the journal as the sender sees it.

The journal (`gentwoo_client.journal`, whose schema this uses) gives each record that may be sent its `seq`.
Here they become segments: signed once, stored durably before they are first sent, and kept byte for byte
until the collector has acknowledged them. Afterwards only the digest is kept; since Ed25519 is deterministic,
the exact bytes can be made again from the records should the collector have lost them.

A *chain* is the history of one identity; `renew` begins another, and carries over what was not sent.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import aiosqlite

from gentwoo_client.errors import JournalError, journal_error
from gentwoo_client.journal import JOURNAL_NAME, Journal
from gentwoo_client.machine_key import MachineKey
from gentwoo_client.privacy import HISTORY
from gentwoo_client.settings import history_since
from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import ProtocolError
from gentwoo_client.wire.records import PackageStateChange
from gentwoo_client.wire.segments import Segment, digest, leading_records_that_fit, open_segment, sign_segment

_BUSY_TIMEOUT = 30.0  # seconds; the daemon's transactions last as long as one fsync


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSegment:
    """A segment of the chain in use. `compact` is None once it was acknowledged."""

    first_seq: int
    last_seq: int
    prev: str | None
    digest: str
    created_at: int
    audience: str
    compact: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How much there is, for people."""

    unsent: int
    """Records that may be sent and were not acknowledged."""
    acknowledged: int
    """The last `seq` of this chain that the collector has; 0 before the first."""
    acknowledged_at: int | None
    """Unix time of the last acknowledgement."""
    withheld: dict[str, int]
    """Records that stay on the machine, by reason."""


class Outbox:
    """The sender's side of the journal. Use as an async context manager; one at a time (`sender.lock`)."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, state_dir: Path, *, create: bool = False) -> AsyncIterator[Self]:
        """Open the journal in `state_dir`. Raises `NotRegistered` where there is none, unless `create`."""
        path = state_dir / JOURNAL_NAME
        # The journal's owner makes it, and brings an older one up to date.
        Journal.open(state_dir, create=create).close()
        try:
            connection = await aiosqlite.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)
        except sqlite3.Error as error:
            raise journal_error(error) from error
        try:
            await connection.execute("PRAGMA synchronous=FULL")
            yield cls(connection)
        finally:
            await connection.close()

    # State -----------------------------------------------------------------------------------------------

    async def get(self, key: str) -> str | None:
        """Return the value of `key` in the journal's state, or None."""
        row = await self._one("SELECT value FROM state WHERE key = ?", key)
        return None if row is None else row[0]

    async def put(self, **values: str | int | None) -> None:
        """Store values in the journal's state, all at once and durably; None removes a key."""
        async with self._transaction():
            await self._put(values)

    async def chain(self) -> int:
        """Number of the chain in use."""
        return int(await self.get("chain") or 1)

    async def tally(self) -> Tally:
        """Count what was sent, what was not, and what never will be."""
        row = await self._one(
            "SELECT coalesce(max(last_seq), 0), max(acknowledged) FROM segments"
            f" WHERE chain = {_CHAIN} AND acknowledged IS NOT NULL"
        )
        assert row is not None
        unsent = await self._one(f"SELECT count(*) FROM records WHERE chain = {_CHAIN} AND seq > ?", row[0])
        assert unsent is not None
        withheld = await self._all(
            "SELECT withheld, count(*) FROM records WHERE withheld IS NOT NULL GROUP BY withheld ORDER BY 1"
        )
        return Tally(
            unsent=unsent[0],
            acknowledged=row[0],
            acknowledged_at=row[1],
            withheld={str(reason): int(count) for reason, count in withheld},
        )

    # Segments --------------------------------------------------------------------------------------------

    async def next_unacknowledged(self) -> StoredSegment | None:
        """Return the first segment that the collector has not acknowledged, or None."""
        return await self._segment("acknowledged IS NULL ORDER BY first_seq LIMIT 1")

    async def segment_ending(self, seq: int) -> StoredSegment | None:
        """Return the segment whose last record is number `seq`, or None."""
        return await self._segment("last_seq = ? LIMIT 1", seq)

    async def last_sealed(self) -> StoredSegment | None:
        """Return the newest segment of the chain, or None."""
        return await self._segment("true ORDER BY first_seq DESC LIMIT 1")

    async def seal(self, key: MachineKey, *, audience: str) -> StoredSegment | None:
        """Sign the next records as a segment and store it durably; None where there are none."""
        last = await self.last_sealed()
        records = await self._records(0 if last is None else last.last_seq, limits.RECORDS_PER_SEGMENT)
        if not records:
            return None
        records = records[: leading_records_that_fit(records, audience=audience)]
        created_at = int(time.time())
        compact = _sign(
            key,
            audience=audience,
            prev=None if last is None else last.digest,
            created_at=created_at,
            records=records,
        )
        stored = StoredSegment(
            first_seq=records[0].seq,
            last_seq=records[-1].seq,
            prev=None if last is None else last.digest,
            digest=digest(compact),
            created_at=created_at,
            audience=audience,
            compact=compact,
        )
        await self._write(
            f"INSERT INTO segments (chain, {_COLUMNS}) VALUES ({_CHAIN}, ?, ?, ?, ?, ?, ?, ?)",
            stored.first_seq,
            stored.last_seq,
            stored.prev,
            stored.digest,
            stored.created_at,
            stored.audience,
            stored.compact,
        )
        return stored

    async def rebuild(self, stored: StoredSegment, key: MachineKey) -> bytes | None:
        """Return the exact bytes of a segment whose compact form was dropped, or None if they differ now."""
        if stored.compact is not None:
            return stored.compact
        records = await self._records(stored.first_seq - 1, stored.last_seq - stored.first_seq + 1)
        if not records or (records[0].seq, records[-1].seq) != (stored.first_seq, stored.last_seq):
            return None
        compact = _sign(
            key,
            audience=stored.audience,
            prev=stored.prev,
            created_at=stored.created_at,
            records=records,
        )
        return compact if digest(compact) == stored.digest else None

    async def preview(self, key: MachineKey, *, audience: str) -> AsyncIterator[Segment]:
        """Yield all that waits, as the segments that would be sent; those not signed yet as of now."""
        last = await self._segment("acknowledged IS NOT NULL ORDER BY first_seq DESC LIMIT 1")
        after, prev = (0, None) if last is None else (last.last_seq, last.digest)
        while (stored := await self._segment("first_seq = ?", after + 1)) is not None:
            compact = await self.rebuild(stored, key)
            if compact is None:
                raise JournalError("the journal no longer has the records that were signed")
            yield open_segment(compact, key.public).segment
            after, prev = stored.last_seq, stored.digest
        while records := await self._records(after, limits.RECORDS_PER_SEGMENT):
            records = records[: leading_records_that_fit(records, audience=audience)]
            compact = _sign(key, audience=audience, prev=prev, created_at=int(time.time()), records=records)
            yield open_segment(compact, key.public).segment
            after, prev = records[-1].seq, digest(compact)

    async def acknowledge(self, seq: int) -> None:
        """Note that the collector has everything up to `seq` (the last record of a segment).

        Not flushed to the disk: were it lost, the segments would be sent again, and answered the same.
        """
        await self._connection.execute("PRAGMA synchronous=NORMAL")
        try:
            await self._write(
                "UPDATE segments SET acknowledged = ?, compact = NULL"
                f" WHERE chain = {_CHAIN} AND last_seq <= ? AND acknowledged IS NULL",
                int(time.time()),
                seq,
            )
        finally:
            await self._connection.execute("PRAGMA synchronous=FULL")

    async def rewind(self, seq: int) -> None:
        """Note that the collector has nothing after `seq`, whatever was acknowledged before."""
        await self._write(
            f"UPDATE segments SET acknowledged = NULL WHERE chain = {_CHAIN} AND first_seq > ?", seq
        )

    # Identities ------------------------------------------------------------------------------------------

    async def renew(
        self,
        *,
        carry: Literal["unsent", "everything"],
        history: str | None,
        state: dict[str, str | int | None],
    ) -> int:
        """Begin another chain and return how many records it starts with; store `state` along with it.

        Records that were not acknowledged are numbered anew for it; with `carry="everything"`, all that may
        be sent, since the collector has forgotten the earlier chains. To a new identity all of them are the
        past: `history` decides which of them may be sent; None leaves that as it was decided when they were
        read. One transaction: a crash leaves the old chain or the new one.
        """
        async with self._transaction():
            old = await self.chain()
            row = await self._one(
                "SELECT coalesce(max(last_seq), 0) FROM segments"
                " WHERE chain = ? AND acknowledged IS NOT NULL",
                old,
            )
            assert row is not None
            rows = await self._all(
                "SELECT id, recorded_at FROM records"
                f" WHERE withheld IS NULL AND (chain = ? AND seq > ? OR ?) OR withheld = '{HISTORY}' AND ?"
                " ORDER BY id",
                old,
                row[0],
                carry == "everything",
                history is not None,
            )
            if carry == "everything":
                await self._connection.execute("DELETE FROM segments")
            else:
                await self._connection.execute(
                    "DELETE FROM segments WHERE chain = ? AND acknowledged IS NULL", (old,)
                )
            since = 0 if history is None else history_since(history)
            count = await self._renumber(rows, chain=old + 1, since=since)
            await self._put({**state, "chain": old + 1})
        return count

    async def _renumber(self, rows: Iterable[sqlite3.Row], *, chain: int, since: int | None) -> int:
        updates: list[tuple[int | None, int | None, str | None, int]] = []
        count = 0
        for record_id, recorded_at in rows:
            if since is None or recorded_at < since:
                updates.append((None, None, HISTORY, record_id))
            else:
                count += 1
                updates.append((chain, count, None, record_id))
        await self._connection.executemany(
            "UPDATE records SET chain = ?, seq = ?, withheld = ? WHERE id = ?", updates
        )
        return count

    # SQL -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        try:
            await self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                await self._connection.execute("COMMIT")
            except BaseException:
                # SQLite itself rolls back after some errors, a full disk among them.
                if self._connection.in_transaction:
                    await self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise journal_error(error) from error

    async def _write(self, statement: str, *values: object) -> None:
        """Do one statement, which is a transaction by itself."""
        try:
            await self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise journal_error(error) from error

    async def _put(self, values: dict[str, str | int | None]) -> None:
        for key, value in values.items():
            if value is None:
                await self._connection.execute("DELETE FROM state WHERE key = ?", (key,))
            else:
                await self._connection.execute(
                    "INSERT INTO state (key, value) VALUES (?, ?)"
                    " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    (key, str(value)),
                )

    async def _segment(self, condition: str, *values: int) -> StoredSegment | None:
        row = await self._one(
            f"SELECT {_COLUMNS} FROM segments WHERE chain = {_CHAIN} AND {condition}", *values
        )
        return None if row is None else StoredSegment(**dict(zip(_COLUMN_NAMES, row, strict=True)))

    async def _records(self, after: int, limit: int) -> list[PackageStateChange]:
        rows = await self._all(
            f"SELECT seq, record FROM records WHERE chain = {_CHAIN} AND seq > ? ORDER BY seq LIMIT ?",
            after,
            limit,
        )
        try:
            return [PackageStateChange.from_json({"seq": seq, **json.loads(record)}) for seq, record in rows]
        except (ProtocolError, ValueError) as error:
            raise JournalError(f"a record of the journal cannot be sent: {error}") from error

    async def _one(self, statement: str, *values: object) -> sqlite3.Row | None:
        rows = await self._all(statement, *values)
        return rows[0] if rows else None

    async def _all(self, statement: str, *values: object) -> list[sqlite3.Row]:
        try:
            return list(await self._connection.execute_fetchall(statement, values))
        except sqlite3.Error as error:
            raise journal_error(error) from error


_CHAIN = "coalesce((SELECT CAST(value AS INTEGER) FROM state WHERE key = 'chain'), 1)"
_COLUMN_NAMES = ("first_seq", "last_seq", "prev", "digest", "created_at", "audience", "compact")
_COLUMNS = ", ".join(_COLUMN_NAMES)


def _sign(
    key: MachineKey, *, audience: str, prev: str | None, created_at: int, records: list[PackageStateChange]
) -> bytes:
    segment = Segment(
        machine=key.machine,
        audience=audience,
        first_seq=records[0].seq,
        prev=prev,
        created_at=created_at,
        records=tuple(records),
    )
    return sign_segment(segment, key.private)
