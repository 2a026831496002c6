# SPDX-License-Identifier: GPL-2.0-or-later
"""The index of a target follows from its rows: who changed them writes it, and a keeper sees to that.

    with holding(engine, files):
        ...  # commit a generation
        write_index(connection, target, files, changed)

`connection` begins its transaction after that commit. A publication whose TIMESTAMP is too far ahead of the
clock waits for others (`packages_index.is_due`); the keeper writes them together. It also repairs what was
left by a process that died between commit and index, by a full disk, or by a power failure, since index files
are not synced.

Where several collectors share the store, each has index files of its own, which follow from the same rows.
Before one serves an index, `services.following` sees that it is at least as new as what any other may have
served: the newest generation that is due by the clock of the store, which need not be the newest there is.
"""

from __future__ import annotations

import hashlib
import logging
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, or_, select, update

from bdcs.blobs.index_files import Fresh, IndexFiles, Kept, Layout, Source
from bdcs.blobs.target_lock import target_lock, target_lock_if_free
from bdcs.domain import packages_index
from bdcs.domain.packages_index import LEAD, STEP, block, is_due, starts_chunk
from bdcs.errors import IndexNotWritten, InvalidHeader, NoSuchTarget, StoreUnavailable
from bdcs.services import generations, targets
from bdcs.services.generations import Generation
from bdcs.services.regular_work import regularly
from bdcs.services.targets import Target
from bdcs.store import tables
from bdcs.store.clock import agreed_time, is_shared
from bdcs.store.store import Store

log = logging.getLogger(__name__)

INTERVAL: Final = 3.0  # seconds between two looks of the keeper
ROWS_AT_ONCE: Final = 1000
COMMITTING: Final = 5
"""Seconds that a generation may take from its TIMESTAMP to its commit, where others read meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """What an index is to be."""

    generation: Generation | None
    """None before the first."""
    timestamp: int
    is_newest: bool


class State(Enum):
    """What an index is, held against the rows."""

    CURRENT = auto()
    WAITING = auto()
    """Its TIMESTAMP is not due yet; others may join it."""
    BEHIND = auto()
    """To be written."""
    UNKNOWN = auto()
    """Clients may have seen this TIMESTAMP, or a later one, with other contents: it must be raised first."""


def write_index(
    connection: Connection,
    target: Target,
    files: IndexFiles,
    changed: Collection[str] | None,
    *,
    now: float | None = None,
) -> bool:
    """Make the index that of the newest generation; return False where that is left to the keeper.

    `changed` are the CPVs that came or went with this generation; None: whatever changed since the index was
    written. Settings and generation of `target` are read anew. The caller holds the lock of the target.
    `now`: another time to go by than that of the store. Raises `IndexNotWritten`; the old index is still
    there then.
    """
    return _bring_up(connection, target, files, changed, now)


def state_of(connection: Connection, target: Target, files: IndexFiles, now: float | None = None) -> State:
    """Return how the index stands to the target as its row is, by what the layout says of the files."""
    return _standing(connection, target, files, now)[0]


def may_be_served(target: Target, files: IndexFiles, state: State) -> bool:
    """Whether the index, which stands so to the rows as they are now, is as new as any that others served."""
    if state is State.WAITING:
        layout = files.layout()
        return layout is not None and layout.source.target == target.id
    return state is State.CURRENT or not (target.timestamp or files.timestamp())


def bring_up(connection: Connection, name: str, files: IndexFiles) -> bool:
    """Write the index if it is behind, waiting for who is at it; return whether it may be served then.

    The transaction of `connection` has not begun yet. Raises `NoSuchTarget`, `IndexNotWritten`.
    """
    with target_lock(files.directory):
        target = targets.require(connection, name)
        _bring_up(connection, target, files, None, None)
        return may_be_served(target, files, state_of(connection, target, files))


def lead_of(connection: Connection) -> float:
    """Return the seconds that the TIMESTAMP of an index may be ahead of the clock when it is written."""
    return LEAD - COMMITTING if is_shared(connection) else LEAD


def agrees(connection: Connection, target: Target, files: IndexFiles) -> bool:
    """Whether every byte of the index is what the rows say; reads all of both."""
    layout = files.layout()
    edition = _newest(connection, target)
    if layout is None or not _is_of(layout, target, edition):
        return False
    rows = _rows(connection, target, edition)
    return files.holds(layout, _header(target, edition, layout.entries), _chunks(rows))


def _standing(
    connection: Connection, target: Target, files: IndexFiles, now: float | None
) -> tuple[State, Edition | None]:
    """Return how the index stands, and where it is behind, what it is to be."""
    layout = files.layout()
    newest = _newest(connection, target)
    if layout is not None and _is_of(layout, target, newest):
        return State.CURRENT, None
    if newest.timestamp <= files.timestamp():
        return State.UNKNOWN, None
    lead, time_now = lead_of(connection), agreed_time(connection, now)
    if is_due(time_now, newest.timestamp, lead):
        return State.BEHIND, newest
    due = _newest_due(connection, target, time_now, lead)
    if due is None or due.timestamp <= files.timestamp():
        return State.WAITING, None
    return State.BEHIND, due


def _bring_up(
    connection: Connection,
    target: Target,
    files: IndexFiles,
    changed: Collection[str] | None,
    now: float | None,
) -> bool:
    target = targets.require(connection, target.name)
    state, edition = _standing(connection, target, files, now)
    if edition is None:
        return state is State.CURRENT
    _write(connection, target, edition, files, changed)
    return edition.is_newest


def _newest(connection: Connection, target: Target) -> Edition:
    newest = generations.current(connection, target)
    return Edition(generation=newest, timestamp=target.timestamp, is_newest=True)


def _newest_due(connection: Connection, target: Target, now: float, lead: float) -> Edition | None:
    """Return the newest generation whose index is to be out, where that of the newest of all is not."""
    times = tables.generations.c.timestamp
    row = connection.execute(
        select(tables.generations.c.number, times)
        .where(
            tables.generations.c.target_id == target.id,
            or_(times <= now + lead, times > now + LEAD + STEP),
        )
        .order_by(tables.generations.c.number.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    found = generations.require(connection, target, row.number)
    return Edition(generation=found, timestamp=row.timestamp, is_newest=row.number == target.generation)


def _is_of(layout: Layout, target: Target, edition: Edition) -> bool:
    return layout.timestamp == edition.timestamp and layout.source == _source(target, edition)


class IndexKeeper:
    """Sees to it that each target's index is what the rows say."""

    def __init__(self, store: Store, data: Path, now: Callable[[], float | None] = lambda: None) -> None:
        """`now` gives another time to go by than that of the store."""
        self._store = store
        self._data = data
        self._now = now
        self._checked: set[int] = set()
        """Targets whose files have been compared with the rows since this process began."""
        self._settled: dict[int, tuple[Target, object]] = {}
        """… which were current when row and files looked so."""
        self._failing: set[int] = set()
        """… whose index could not be written the last time."""

    async def run(self) -> None:
        """Compare every index with the rows, then look after them every few seconds until cancelled."""
        await regularly(
            self.look,
            name="indexes",
            seconds=INTERVAL,
            passing=StoreUnavailable,
            tell=partial(log.warning, "indexes were not looked after: %s"),
        )

    async def look(self) -> None:
        """Write what is to be written now. Raises `StoreUnavailable`."""
        for target in await self._store.read(self._in_need):
            files = IndexFiles.of(self._data, target.name)
            try:
                with target_lock_if_free(files.directory) as is_held:
                    if is_held:  # else somebody is at work on it
                        await self._keep(target, files)
            except NoSuchTarget:
                continue  # removed a moment ago
            except (IndexNotWritten, InvalidHeader, OSError) as error:
                if target.id not in self._failing:
                    log.error("the index of %s cannot be written; it stays as it was: %s", target.name, error)
                self._failing.add(target.id)
            else:
                self._failing.discard(target.id)

    def _in_need(self, connection: Connection) -> list[Target]:
        return [target for target in targets.listed(connection) if self._is_in_need(connection, target)]

    def _is_in_need(self, connection: Connection, target: Target) -> bool:
        files = IndexFiles.of(self._data, target.name)
        seen = (target, files.marks())
        if self._settled.get(target.id) == seen:
            return False
        if target.id not in self._checked:
            return True
        state = state_of(connection, target, files, self._now())
        if state is State.CURRENT:
            self._settled[target.id] = seen
        return state in (State.BEHIND, State.UNKNOWN)

    async def _keep(self, target: Target, files: IndexFiles) -> None:
        if target.id not in self._checked:
            await self._store.read(partial(self._check, target=target, files=files))
        state = await self._store.read(partial(self._state, target=target, files=files))
        if state is State.UNKNOWN or (state is State.BEHIND and not files.timestamp()):
            await self._store.write(partial(self._raise_timestamp, target=target, files=files))
        if state in (State.BEHIND, State.UNKNOWN):
            write = partial(_bring_up, target=target, files=files, changed=None, now=self._now())
            if await self._store.read(write):
                log.info("wrote the index of %s", target.name)

    def _check(self, connection: Connection, target: Target, files: IndexFiles) -> None:
        target = targets.require(connection, target.name)
        is_current = state_of(connection, target, files, self._now()) is State.CURRENT
        if is_current and not agrees(connection, target, files):
            log.warning("the index of %s is not what was published; it is written anew", target.name)
            files.forget()
        self._checked.add(target.id)

    def _state(self, connection: Connection, target: Target, files: IndexFiles) -> State:
        return state_of(connection, targets.require(connection, target.name), files, self._now())

    def _raise_timestamp(self, connection: Connection, target: Target, files: IndexFiles) -> None:
        """Give the index a TIMESTAMP that no client can have seen."""
        target = targets.require(connection, target.name)
        if target.timestamp and not files.timestamp() and is_shared(connection):
            return  # others have files, and serve them
        # Without files nobody knows what clients have seen: the store may be a backup, of months ago.
        now = int(agreed_time(connection, self._now()))
        timestamp = max(now, target.timestamp + STEP, files.timestamp() + STEP)
        connection.execute(
            update(tables.targets).where(tables.targets.c.id == target.id).values(timestamp=timestamp)
        )
        generations.redate(connection, target, timestamp, now)


def _write(
    connection: Connection,
    target: Target,
    edition: Edition,
    files: IndexFiles,
    changed: Collection[str] | None,
) -> None:
    source = _source(target, edition)
    layout = files.layout()
    if layout is not None and _leads_to(connection, layout.source, source):
        if changed is None or layout.source.generation != source.generation - 1:
            changed = _changed_since(connection, target, layout.source.generation)
        parts = _parts(connection, target, edition, layout, changed)
        entries = sum(_entries_of(layout, part) for part in parts)
        if entries == source.builds:
            files.update(layout, source, edition.timestamp, _header(target, edition, entries), parts)
            return
    chunks = _chunks(_rows(connection, target, edition))
    files.write(source, edition.timestamp, _header(target, edition, source.builds), chunks)


def _source(target: Target, edition: Edition) -> Source:
    of = edition.generation
    return Source(
        target=target.id,
        generation=0 if of is None else of.number,
        at=0 if of is None else of.at,
        builds=0 if of is None else of.builds,
        header=hashlib.sha256(packages_index.header(_fields(target), 0, 0).encode()).hexdigest(),
    )


def _leads_to(connection: Connection, old: Source, new: Source) -> bool:
    """Whether `old` is a generation that `new` came from, not one of a store that was since restored."""
    if old.target != new.target or old.generation > new.generation:
        return False
    if old.generation == 0:
        return True
    known = select(tables.generations.c.at).where(
        tables.generations.c.target_id == old.target, tables.generations.c.number == old.generation
    )
    return connection.scalar(known) == old.at


def _changed_since(connection: Connection, target: Target, generation: int) -> list[str]:
    """Return the CPVs of which anything came or went after that generation."""
    builds, memberships = tables.builds, tables.memberships
    return list(
        connection.scalars(
            select(builds.c.cpv)
            .join(memberships, memberships.c.build == builds.c.id)
            .where(
                builds.c.target_id == target.id,
                or_(memberships.c.since > generation, memberships.c.until > generation),
            )
            .distinct()
        )
    )


def _parts(
    connection: Connection, target: Target, edition: Edition, layout: Layout, changed: Collection[str]
) -> list[Fresh | Kept]:
    """Return what the index consists of where these CPVs have changed: chunks that stay, and others."""
    parts: list[Fresh | Kept] = []
    done = 0
    for start, end in _touched(layout, changed):
        if done < start:
            parts.append(Kept(start=done, end=start))
        since = layout.chunks[start].first if start else None
        before = layout.chunks[end].first if end < len(layout.chunks) else None
        parts += _chunks(_rows(connection, target, edition, since, before))
        done = end
    if done < len(layout.chunks):
        parts.append(Kept(start=done, end=len(layout.chunks)))
    return parts


def _touched(layout: Layout, changed: Collection[str]) -> Iterator[tuple[int, int]]:
    """Yield runs of chunks, from a number to before another, in which something changes."""
    firsts = [chunk.first for chunk in layout.chunks]
    numbers = set()
    for cpv in changed:
        number = max(bisect_right(firsts, cpv) - 1, 0)
        numbers.add(number)
        if firsts and firsts[number] == cpv:
            numbers.add(max(number - 1, 0))  # without its first CPV the chunk is part of the one before
    run: list[int] = []
    for number in sorted(numbers):
        if run and number > run[-1] + 1:
            yield run[0], run[-1] + 1
            run = []
        run.append(number)
    if run:
        yield run[0], min(run[-1] + 1, len(firsts))


def _entries_of(layout: Layout, part: Fresh | Kept) -> int:
    if isinstance(part, Fresh):
        return part.entries
    return sum(chunk.entries for chunk in layout.chunks[part.start : part.end])


def _rows(
    connection: Connection,
    target: Target,
    edition: Edition,
    since: str | None = None,
    before: str | None = None,
) -> Iterator[tuple[str, str]]:
    """Return CPV and entry of what the index lists, in Portage's order: that of the CPV's text."""
    builds = tables.builds
    number = 0 if edition.generation is None else edition.generation.number
    query = (
        select(builds.c.cpv, builds.c.entry)
        .where(
            builds.c.target_id == target.id,
            builds.c.visible if edition.is_newest else generations.is_in(number),
        )
        .order_by(builds.c.cpv, builds.c.id)
    )
    if since is not None:
        query = query.where(builds.c.cpv >= since)
    if before is not None:
        query = query.where(builds.c.cpv < before)
    rows = connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE})
    return ((row.cpv, row.entry) for row in rows)


def _chunks(rows: Iterable[tuple[str, str]]) -> Iterator[Fresh]:
    chunk: list[str] = []
    first = ""
    for cpv, same in groupby(rows, key=itemgetter(0)):
        if chunk and starts_chunk(cpv):
            yield _chunk(first, chunk)
            chunk = []
        if not chunk:
            first = cpv
        chunk += (entry for _, entry in same)
    if chunk:
        yield _chunk(first, chunk)


def _chunk(first: str, entries: Sequence[str]) -> Fresh:
    return Fresh(first=first, entries=len(entries), text="".join(map(block, entries)).encode())


def _fields(target: Target) -> dict[str, str]:
    """Return the fields of the header that are the target's."""
    return {**target.header, "CHOST": target.chost, "PROFILE": target.profile}


def _header(target: Target, edition: Edition, entries: int) -> str:
    return packages_index.header(_fields(target), entries, edition.timestamp)
