# SPDX-License-Identifier: GPL-2.0-or-later
"""A pushed segment becomes durable records, or is refused with the reason.

What a segment has to pass, in this order; the numbers stand again where each is done:

 (1) its size, as received and after Content-Encoding is undone;
 (2) its form: a compact JWS whose header names the machine of the address;
 (3) that machine is registered here: its key is known;
 (4) the signature, over the bytes as received;
 (5) the payload: only now parsed, every record checked, numbered without gaps, of that same machine;
 (6) it was made for this collector;
 (7) the machine may send now: approved, neither quarantined nor erased meanwhile;
 (8) it continues the machine's chain, or is one that was accepted before.

(1) to (6) need no lock and happen as pushes arrive, all but (3) in `services.opening`; (7) and (8) happen
inside the transaction that stores it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, count, repeat
from operator import attrgetter, itemgetter
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, bindparam, delete, literal_column, select, update

from bdcs import measures
from bdcs.domain import codes, installations
from bdcs.domain.machines import State
from bdcs.errors import StoreDamaged
from bdcs.services.machines import Keys, absent
from bdcs.services.opening import Arrived, Opener, Pushed
from bdcs.store import partitions, tables
from bdcs.store.bulk import execute_row, execute_rows, execute_together, goes_together, insert_rows, insertion
from bdcs.store.evidence import EvidenceCodec
from bdcs.store.installed import IS_IT, KEY
from bdcs.store.listed import TEXTS, Listed
from bdcs.store.names import CURRENT_EDITION, Names
from bdcs.store.store import Store
from bdcs.store.upserts import upsert
from gentwoo_client.wire import base64url
from gentwoo_client.wire.columns import Columns
from gentwoo_client.wire.errors import (
    AwaitingApproval,
    Fork,
    Gap,
    ProtocolError,
    Quarantined,
    Refused,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The answer: everything up to this is durable."""

    seq: int
    segment: str
    records: int
    """How many the segment has."""
    repeated: bool
    """Whether it had been accepted before."""


class Ingest:
    """Takes segments. One object for the whole process, since it remembers keys and names."""

    def __init__(
        self, store: Store, keys: Keys, codec: EvidenceCodec, audience: str, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._keys = keys
        self._opener = Opener(codec, audience)
        self._writer = SegmentWriter(Names(), now)
        store.mirror(self._writer.names)

    async def accept(self, machine: UUID, body: bytes, encoding: str | None) -> Accepted:
        """Store the segment in `body`; return once it is durable.

        Raises `TooLarge`, `UnsupportedMedia`, `Malformed`, `WrongMachine`, `Unregistered`, `Forgotten`,
        `BadSignature`, `WrongAudience`, `AwaitingApproval`, `Quarantined`, `Refused`, `Gap`, `Fork`;
        `StoreUnavailable`.
        """
        # (3) The machine is known.
        public_key = await self._keys.of(machine)
        arrived = await self._opener.open(Pushed(machine, public_key, body, encoding))
        accepted: Accepted = await self._store.write_grouped(
            self._writer.store, arrived, len(arrived.records)
        )
        if not accepted.repeated and arrived.records.observed[-1] == "live":
            measures.RECORD_DELAY.observe(time.time() - arrived.records.recorded_at[-1])
        return accepted


class SegmentWriter:
    """Stores segments that arrived, many in one transaction."""

    def __init__(self, names: Names, now: Callable[[], float] = time.time) -> None:
        self.names = names
        self._now = now

    def store(self, connection: Connection, waiting: Sequence[Arrived]) -> list[Accepted | ProtocolError]:
        """Return, for each of `waiting` in order, what became of it."""
        uuids = [str(arrived.machine) for arrived in waiting]
        heads = _Heads(connection, uuids)
        outcomes = list(map(heads.place, uuids, waiting))
        if heads.fresh:
            self._insert(connection, heads.fresh, heads.moved())
        return outcomes

    def _insert(
        self, connection: Connection, fresh: Sequence[tuple[int, Arrived]], moved: Sequence[MovedHead]
    ) -> None:
        created_at = int(self._now())
        origins = [(machine_id, arrived.records) for machine_id, arrived in fresh]
        sizes = [len(records) for _, records in origins]
        first_change, edition = reserve(connection, sum(sizes), created_at)
        self.names.refresh_to(edition)
        self.names.audiences.learn(connection, (arrived.audience for _, arrived in fresh))
        audiences = self.names.audiences.known
        segments = [
            (
                None,
                machine_id,
                arrived.first_seq,
                size,
                change_id,
                created_at,
                audiences[arrived.audience],
                arrived.dictionary_id,
                arrived.form,
                arrived.digest,
                arrived.signature,
                arrived.evidence,
            )
            for (machine_id, arrived), size, change_id in zip(
                fresh, sizes, accumulate(sizes, initial=first_change), strict=False
            )
        ]
        rows = change_rows(connection, self.names, origins, first_change, created_at)
        if goes_together(connection, len(rows)):
            _write_together(connection, segments, rows, moved)
            return
        insert_rows(connection, tables.segments, segments)
        insert_rows(connection, tables.package_state_changes, rows)
        update_installations(connection, rows)
        execute_rows(connection, _MOVE_HEAD, _HEAD, moved)


MovedHead = tuple[int, bytes | None, int]
"""Last seq, digest of the last segment, the machine's number."""


@dataclass(slots=True)
class _Head:
    """A machine, and where its chain stands."""

    machine_id: int
    state: str
    seq: int
    digest: bytes | None


class _Heads:
    """Where each machine's chain stands while a batch is stored."""

    def __init__(self, connection: Connection, uuids: Iterable[str]) -> None:
        self._connection = connection
        rows = _HEADS.rows(connection, uuids=list(set(uuids)))
        self._heads = {uuid: _Head(*head) for uuid, *head in rows}
        self._placed: dict[tuple[int, int], bytes] = {}
        self._moved: dict[int, _Head] = {}
        self.fresh: list[tuple[int, Arrived]] = []
        """What continues a chain, and the machine's number."""

    def place(self, uuid: str, arrived: Arrived) -> Accepted | ProtocolError:
        """Return the answer for `arrived`, of the machine `uuid`; move the head if it continues the chain."""
        # (7) The machine may send now.
        head = self._heads.get(uuid)
        if head is None:
            return absent(self._connection, arrived.machine)
        if head.state != State.APPROVED:
            return _refusal(head)
        # (8) It continues the chain …
        first_seq = arrived.first_seq
        if first_seq == head.seq + 1 and arrived.prev == head.digest:
            head.seq, head.digest = arrived.last_seq, arrived.digest
            self._placed[head.machine_id, first_seq] = arrived.digest
            self._moved[head.machine_id] = head
            self.fresh.append((head.machine_id, arrived))
            return _accepted(arrived, repeated=False)
        # … or was accepted before …
        if first_seq <= head.seq and self._is_known(head, arrived):
            return _accepted(arrived, repeated=True)
        # … or does neither.
        segment = None if head.digest is None else base64url.encode(head.digest)
        due = head.seq + 1
        if first_seq > due:
            return Gap(f"this begins with {first_seq}, and {due} is due", seq=head.seq, segment=segment)
        return Fork(f"there is another history at {first_seq}", seq=head.seq, segment=segment)

    def moved(self) -> list[MovedHead]:
        """Return the heads that moved, for `_MOVE_HEAD`."""
        return [(head.seq, head.digest, head.machine_id) for head in self._moved.values()]

    def _is_known(self, head: _Head, arrived: Arrived) -> bool:
        placed = self._placed.get((head.machine_id, arrived.first_seq))
        if placed is not None:
            return placed == arrived.digest
        segments = tables.segments.c
        known = self._connection.execute(
            select(segments.digest).where(
                segments.machine_id == head.machine_id, segments.first_seq == arrived.first_seq
            )
        ).scalar()
        return known == arrived.digest


_HEADS: Final = Listed(
    "SELECT uuid, id, state, head_seq, head_digest FROM machines WHERE uuid {uuids}", uuids=TEXTS
)
_REFUSALS: Final[Mapping[str, type[ProtocolError]]] = {
    State.AWAITING_APPROVAL: AwaitingApproval,
    State.QUARANTINED: Quarantined,
    State.REFUSED: Refused,
}


def _refusal(head: _Head) -> ProtocolError:
    refusal = _REFUSALS.get(head.state)
    if refusal is None:
        raise StoreDamaged(f"machine {head.machine_id} in the table: there is no state {head.state!r}")
    return refusal()


_HEAD: Final = ("new_seq", "new_digest", "number")
_MOVE_HEAD: Final = (
    update(tables.machines)
    .where(tables.machines.c.id == bindparam("number"))
    .values(head_seq=bindparam("new_seq"), head_digest=bindparam("new_digest"))
)


def _accepted(arrived: Arrived, *, repeated: bool) -> Accepted:
    return Accepted(
        seq=arrived.last_seq,
        segment=base64url.encode(arrived.digest),
        records=len(arrived.records),
        repeated=repeated,
    )


def reserve(connection: Connection, changes: int, created_at: int) -> tuple[int, int | None]:
    """Reserve `changes` consecutive change ids, never given out again, and room for changes of that time.

    Return the first id, and the present `CURRENT_EDITION` of names.
    """
    values = (changes, partitions.room_for(created_at))
    taken = execute_row(connection, _TAKE, _TAKING, values)
    if taken is None:
        connection.execute(_SEQUENCE.insert().values(name=_CHANGE, value=0))
        taken = execute_row(connection, _TAKE, _TAKING, values)
        assert taken is not None
    last, edition, has_room = taken
    if not has_room:
        partitions.make_room(connection, [created_at])
    return last - changes + 1, edition


_CHANGE: Final = "change"
_SEQUENCE: Final = tables.sequences
_TAKING: Final = ("count", "room")
_TAKE: Final = (
    update(_SEQUENCE)
    .where(_SEQUENCE.c.name == literal_column(f"'{_CHANGE}'"))
    .values(value=_SEQUENCE.c.value + bindparam("count"))
    .returning(_SEQUENCE.c.value, CURRENT_EDITION, partitions.HAS_ROOM)
)


ChangeRow = tuple[Any, ...]
"""Values in the order of the columns of `package_state_changes`."""


Origin = tuple[int, Columns]
"""A machine's number, and records of it."""


def change_rows(
    connection: Connection, names: Names, origins: Sequence[Origin], first_id: int, created_at: int
) -> list[ChangeRow]:
    """Return the rows of all records, numbered from `first_id`; new names get their numbers."""
    try:
        return _rows(names, origins, first_id, created_at)
    except KeyError:  # a name that is not remembered, or not even known
        columns = [records for _, records in origins]
        names.learn(
            connection,
            packages=chain.from_iterable(zip(each.category, each.name, strict=True) for each in columns),
            versions=_known(chain.from_iterable((*each.version, *each.replaces) for each in columns)),
            repositories=_known(chain.from_iterable(each.repository for each in columns)),
        )
        return _rows(names, origins, first_id, created_at)


def _known(values: Iterable[str | None]) -> Iterator[str]:
    return (value for value in values if value is not None)


def _rows(names: Names, origins: Sequence[Origin], first_id: int, created_at: int) -> list[ChangeRow]:
    package, version = names.packages.known.__getitem__, names.versions.known.__getitem__
    repository = names.repositories.known.__getitem__
    machines = (repeat(machine_id, len(records)) for machine_id, records in origins)
    segments = [records for _, records in origins]

    def all_of(field: str) -> Iterator[Any]:
        return chain.from_iterable(map(attrgetter(field), segments))

    return list(
        zip(
            count(first_id),
            chain.from_iterable(machines),
            all_of("seq"),
            map(package, zip(all_of("category"), all_of("name"), strict=True)),
            map(version, all_of("version")),
            _each(repository, all_of("repository")),
            map(codes.EVENT.__getitem__, all_of("event")),
            map(codes.INSTALL_TYPE.__getitem__, all_of("install_type")),
            map(codes.CAUSE.__getitem__, all_of("cause")),
            _each(version, all_of("replaces")),
            all_of("recorded_at"),
            repeat(created_at),
            all_of("time_delta"),
            _each(_hundredths, all_of("concurrency")),
            map(codes.OBSERVED.__getitem__, all_of("observed")),
            map(codes.CLOCK.__getitem__, all_of("clock")),
            map(_json, all_of("extra")),
        )
    )


def _each(function: Callable[[Any], int], values: Iterable[Any]) -> list[int | None]:
    """Return what `function` makes of each of `values`, and None of None."""
    return [None if value is None else function(value) for value in values]


def _hundredths(concurrency: float) -> int:
    return round(concurrency * 100)


def _json(extra: Mapping[str, object]) -> str | None:
    return json.dumps(extra, separators=(",", ":"), ensure_ascii=False) if extra else None


EFFECT: Final = itemgetter(6, 1, 3, 4, 9, 5, 10)
"""Takes of a change's row what `installations.effects` wants."""


def update_installations(connection: Connection, rows: Sequence[ChangeRow]) -> None:
    """Bring `installations` to what `rows` say, in the same transaction."""
    here, gone = _arrived_and_left(rows)
    if execute_rows(connection, _DELETE, KEY, gone) < len(gone):
        execute_rows(connection, _LEAVE, KEY, gone)
    execute_rows(connection, _ARRIVE, _ARRIVAL, here)


def _arrived_and_left(rows: Sequence[ChangeRow]) -> tuple[list[Any], list[Any]]:
    """Return what is installed after `rows`, as `_ARRIVE` takes it, and the keys of what is not."""
    outcome = installations.effects(map(EFFECT, rows))
    here = [(*key, arrival[1], arrival[0]) for key, arrival in outcome.items() if arrival is not None]
    return here, [key for key, arrival in outcome.items() if arrival is None]


def _write_together(
    connection: Connection,
    segments: Sequence[tuple[Any, ...]],
    rows: Sequence[ChangeRow],
    moved: Sequence[MovedHead],
) -> None:
    """Write few segments with everything that belongs to them."""
    here, gone = _arrived_and_left(rows)
    execute_together(
        connection,
        [
            (*insertion(tables.segments), [segment[1:] for segment in segments]),
            (*insertion(tables.package_state_changes), rows),
            (_DELETE, KEY, gone),
            (_LEAVE_COUNTED, KEY, gone),
            (_ARRIVE, _ARRIVAL, here),
            (_MOVE_HEAD, _HEAD, moved),
        ],
    )


_ARRIVAL: Final = (*KEY, "repository", "at")
_TABLE: Final = tables.installations
_COUNTED: Final = _TABLE.c.flags.bitwise_and(literal_column(str(installations.COUNTED)))
_PRESENT: Final[ColumnElement[int]] = literal_column(str(installations.PRESENT))
_DELETE: Final = delete(_TABLE).where(IS_IT & (literal_column("0") == _COUNTED))
_LEAVE: Final = update(_TABLE).where(IS_IT).values(flags=_COUNTED)
_LEAVE_COUNTED: Final = _LEAVE.where(literal_column("0") != _COUNTED)
_NEW: Final = upsert(_TABLE).values(
    machine_id=bindparam("machine"),
    package_id=bindparam("package"),
    version_id=bindparam("version"),
    repository_id=bindparam("repository"),
    installed_at=bindparam("at"),
    flags=_PRESENT,
)
_ARRIVE: Final = _NEW.on_conflict_do_update(
    index_elements=[_TABLE.c.machine_id, _TABLE.c.package_id, _TABLE.c.version_id],
    set_={
        "repository_id": _NEW.excluded.repository_id,
        "installed_at": _NEW.excluded.installed_at,
        "flags": _TABLE.c.flags.bitwise_or(_PRESENT),
    },
)
