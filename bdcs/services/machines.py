# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines: who is registered, in which state, and how far its chain has come."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, delete, func, select, update

from bdcs.domain.machines import State
from bdcs.errors import NoSuchMachine, StoreDamaged
from bdcs.services import events, figures
from bdcs.store.listed import Listed
from bdcs.store.store import Store
from bdcs.store.tables import machines, quarantines, secrets, tombstones
from gentwoo_client.wire import base64url
from gentwoo_client.wire.errors import Forgotten, Unregistered

KEYS_REMEMBERED: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One registered machine."""

    id: int
    uuid: UUID
    public_key: bytes
    state: State
    registered_at: int
    """Unix seconds."""
    head_seq: int
    """0 before the first record."""
    head_digest: bytes | None

    @property
    def head_segment(self) -> str | None:
        """Digest of the last segment, as the protocol writes it."""
        return None if self.head_digest is None else base64url.encode(self.head_digest)

    def to_document(self) -> dict[str, object]:
        """Return what the machine itself is told (`wire.messages.MachineState`)."""
        return {
            "machine": str(self.uuid),
            "state": str(self.state),
            "head": {"seq": self.head_seq, "segment": self.head_segment},
        }


class Keys:
    """Public keys of machines, remembered: a UUID's key can never change, since it follows from it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[UUID, bytes] = OrderedDict()

    async def of(self, machine: UUID) -> bytes:
        """Return the machine's raw public key. Raises `Unregistered`, `Forgotten`."""
        key = self._known.get(machine)
        if key is None:
            key = (await self._store.read(lambda connection: require(connection, machine))).public_key
            self._known[machine] = key
            if len(self._known) > KEYS_REMEMBERED:
                self._known.popitem(last=False)
        return key

    def known(self, machine: UUID) -> bytes | None:
        """Return the machine's raw public key where it is remembered."""
        return self._known.get(machine)

    def drop(self, machine: UUID) -> None:
        """Forget the key of an erased machine."""
        self._known.pop(machine, None)


def find(connection: Connection, machine: UUID) -> Machine | None:
    """Return the machine, or None."""
    row = _THIS.execute(connection, uuid=str(machine)).first()
    return None if row is None else _machine(row)


_THIS: Final = Listed(
    f"SELECT {', '.join(column.name for column in machines.c)} FROM machines WHERE uuid = :uuid"
)


def require(connection: Connection, machine: UUID) -> Machine:
    """Return the machine. Raises `Forgotten` where it was erased, else `Unregistered`."""
    found = find(connection, machine)
    if found is None:
        raise absent(connection, machine)
    return found


def absent(connection: Connection, machine: UUID) -> Forgotten | Unregistered:
    """Return the error that says why `machine` is not there."""
    mark = tombstone(connection, machine)
    if connection.execute(select(tombstones.c.hash).where(tombstones.c.hash == mark)).first() is not None:
        return Forgotten()
    return Unregistered()


def tombstone(connection: Connection, machine: UUID) -> bytes:
    """Return the keyed hash that stays of an erased machine."""
    return hmac.digest(secret(connection, "tombstones"), machine.bytes, sha256)


def secret(connection: Connection, name: str) -> bytes:
    """Return the store's secret of that name."""
    value: bytes = connection.execute(select(secrets.c.value).where(secrets.c.name == name)).scalar_one()
    return value


def enrol(connection: Connection, machine: UUID, public_key: bytes, state: State, *, now: float) -> Machine:
    """Make a machine known that is not, and return it."""
    connection.execute(
        machines.insert().values(
            uuid=str(machine),
            public_key=public_key,
            state=str(state),
            registered_at=int(now),
            head_seq=0,
            head_digest=None,
        )
    )
    events.machine_registered(connection, machine, state, now)
    return require(connection, machine)


def listed(connection: Connection, visit: Callable[[Machine], None]) -> int:
    """Call `visit` for every machine in order of registration; return how many there are."""
    count = 0
    for row in connection.execution_options(yield_per=500).execute(select(machines).order_by(machines.c.id)):
        visit(_machine(row))
        count += 1
    return count


def set_state(connection: Connection, machine: UUID, state: State) -> None:
    """Put the machine into `state`. Raises `NoSuchMachine`."""
    found = find(connection, machine)
    if found is None:
        raise NoSuchMachine(str(machine))
    connection.execute(update(machines).where(machines.c.id == found.id).values(state=str(state)))
    connection.execute(delete(quarantines).where(quarantines.c.machine_id == found.id))
    if found.state is not state:
        events.machine_changed(connection, machine, state)
    if (found.state is State.APPROVED) != (state is State.APPROVED):
        figures.machine_changes(connection, found.id)


def count_by_state(connection: Connection) -> dict[str, int]:
    """Return how many machines are in each state."""
    rows = connection.execute(select(machines.c.state, func.count()).group_by(machines.c.state))
    return {row[0]: row[1] for row in rows}


def _machine(row: Row[*tuple[Any, ...]]) -> Machine:
    number, uuid, public_key, state, registered_at, head_seq, head_digest = row
    try:
        return Machine(
            id=number,
            uuid=UUID(uuid),
            public_key=public_key,
            state=State(state),
            registered_at=registered_at,
            head_seq=head_seq,
            head_digest=head_digest,
        )
    except ValueError as error:
        raise StoreDamaged(f"machine {number} in the table: {error}") from error
