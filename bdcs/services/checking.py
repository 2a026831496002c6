# SPDX-License-Identifier: GPL-2.0-or-later
"""Replay the evidence and compare it with the tables.

Of each machine: every segment can be rebuilt byte for byte, was signed by the machine's key, continues the
one before and ends at the head; its records are those of the tables; what they leave installed likewise.
What figures carry on is compared with what is installed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, func, select

from bdcs.domain import codes, installations
from bdcs.domain.evidence import Envelope, Form, unpack
from bdcs.errors import EvidenceDamaged, StoreDamaged
from bdcs.services import checking_figures
from bdcs.services.differences import Differences
from bdcs.services.machines import Machine, find
from bdcs.store import tables
from bdcs.store.evidence import EvidenceCodec
from bdcs.store.records import stored_changes
from bdcs.store.store import transaction
from gentwoo_client.wire import base64url
from gentwoo_client.wire.errors import ProtocolError
from gentwoo_client.wire.records import PackageStateChange
from gentwoo_client.wire.segments import assemble, open_segment

Package = tuple[str, str]
Present = dict[tuple[int, Package, str], tuple[int, str | None]]
"""Of machine, package and version: when it arrived, and from which repository."""


@dataclass(slots=True)
class Report(Differences):
    """What was looked at and what was found."""

    machines: int = 0
    segments: int = 0
    records: int = 0
    installations: int = 0


def check(engine: Engine, progress: Callable[[int, int], None]) -> Report:
    """Compare everything; `progress` is told how many machines are done, and of how many.

    Each machine is seen in one state of the store, so this may run beside a server.
    """
    report = Report()
    with transaction(engine) as connection:
        codec = EvidenceCodec.load(connection)
        uuids = list(connection.scalars(select(tables.machines.c.uuid).order_by(tables.machines.c.id)))
        _check_totals(connection, report)
        for difference in checking_figures.differing(connection).told():
            report.differ(difference)
    for done, uuid in enumerate(uuids):
        progress(done, len(uuids))
        with transaction(engine) as connection:
            try:
                machine = find(connection, UUID(uuid))
            except (ValueError, StoreDamaged) as error:
                report.differ(f"machine {uuid}: {error}")
                continue
            if machine is not None:  # it may just have been erased
                _MachineCheck(connection, codec, machine, report).run()
    progress(len(uuids), len(uuids))
    return report


def segment_bytes(row: Any, machine: str, prev: bytes | None, codec: EvidenceCodec) -> bytes:
    """Return the compact form of the segment in `row`, byte for byte. Raises `EvidenceDamaged`."""
    envelope = Envelope(machine=machine, audience=row.audience, first_seq=row.first_seq, prev=prev)
    kept = codec.decompress(row.dictionary_id, row.evidence)
    header, payload = unpack(envelope, Form(row.form), kept)
    return assemble(header, payload, row.signature)


def _check_totals(connection: Connection, report: Report) -> None:
    changes = connection.scalar(select(func.count()).select_from(tables.package_state_changes)) or 0
    evidence = connection.scalar(select(func.coalesce(func.sum(tables.segments.c.records), 0))) or 0
    if changes != evidence:
        report.differ(f"{changes} changes in the table, {evidence} in the evidence")
    known = select(tables.machines.c.id)
    for table in (tables.segments, tables.installations):
        orphans = connection.scalar(
            select(func.count()).select_from(table).where(table.c.machine_id.not_in(known))
        )
        if orphans:
            report.differ(f"{orphans} rows of {table.name} belong to no machine")


@dataclass(slots=True)
class _MachineCheck:
    """The comparison of one machine."""

    connection: Connection
    codec: EvidenceCodec
    machine: Machine
    report: Report
    present: Present = field(default_factory=dict)

    def run(self) -> None:
        """Compare chain, records, head and installations."""
        seq, digest = 0, None
        for row in self._segments():
            if not _is_sound(row):
                self._differ(f"segment at seq {row.first_seq}: its row holds what cannot be")
                continue
            if row.first_seq != seq + 1:
                self._differ(f"a segment begins with seq {row.first_seq} where {seq + 1} is due")
            records = self._records_of(row, digest)
            self._compare_records(row, records)
            self._install(records)
            seq, digest = row.first_seq + row.records - 1, row.digest
            self.report.segments += 1
            self.report.records += row.records
        if (seq, digest) != (self.machine.head_seq, self.machine.head_digest):
            self._differ(f"the head is at seq {self.machine.head_seq}, the evidence ends with {seq}")
        self._compare_installations()
        self.report.machines += 1

    def _segments(self) -> Iterator[Any]:
        segments = tables.segments
        query = (
            select(segments, tables.audiences.c.url.label("audience"))
            .outerjoin(tables.audiences, tables.audiences.c.id == segments.c.audience_id)
            .where(segments.c.machine_id == self.machine.id)
            .order_by(segments.c.first_seq)
        )
        yield from self.connection.execution_options(yield_per=200).execute(query)

    def _records_of(self, row: Any, prev: bytes | None) -> tuple[PackageStateChange, ...]:
        """Return the records that the evidence proves; none where it proves nothing."""
        try:
            compact = segment_bytes(row, str(self.machine.uuid), prev, self.codec)
            opened = open_segment(compact, self.machine.public_key)
        except (ProtocolError, EvidenceDamaged) as error:
            self._differ(f"segment at seq {row.first_seq}: {error}")
            return ()
        if hashlib.sha256(compact).digest() != row.digest:
            self._differ(f"segment at seq {row.first_seq}: its digest is another")
        segment = opened.segment
        if segment.first_seq != row.first_seq or len(segment.records) != row.records:
            self._differ(f"segment at seq {row.first_seq}: its row tells another number of records")
        if segment.prev != (None if prev is None else base64url.encode(prev)):
            self._differ(f"segment at seq {row.first_seq}: it does not continue the one before")
        if segment.audience != row.audience:
            self._differ(f"segment at seq {row.first_seq}: its row names another collector")
        return segment.records

    def _compare_records(self, row: Any, records: tuple[PackageStateChange, ...]) -> None:
        last = row.first_change + row.records - 1
        stored = dict(stored_changes(self.connection, row.first_change, last))
        for number, record in enumerate(records, row.first_change):
            change = stored.get(number)
            if number not in stored:
                self._differ(f"seq {record.seq}: change {number} is missing in the table")
            elif change is None:
                self._differ(f"seq {record.seq}: change {number} is no record")
            elif change.record != record or change.machine != str(self.machine.uuid):
                self._differ(f"seq {record.seq}: change {number} says something else than the evidence")
            elif change.created_at != row.created_at:
                self._differ(
                    f"seq {record.seq}: change {number} has another time of receipt than its segment"
                )

    def _install(self, records: tuple[PackageStateChange, ...]) -> None:
        changes = (
            (
                codes.EVENT[record.event],
                self.machine.id,
                (record.category, record.name),
                record.version,
                record.replaces,
                record.repository,
                record.recorded_at,
            )
            for record in records
        )
        for key, arrival in installations.effects(changes).items():
            if arrival is None:
                self.present.pop(key, None)
            else:
                self.present[key] = arrival

    def _compare_installations(self) -> None:
        table = tables.installations
        query = (
            select(
                tables.packages.c.category,
                tables.packages.c.name,
                tables.versions.c.text,
                table.c.installed_at,
                tables.repositories.c.name.label("repository"),
            )
            .select_from(table)
            .outerjoin(tables.packages, tables.packages.c.id == table.c.package_id)
            .outerjoin(tables.versions, tables.versions.c.id == table.c.version_id)
            .outerjoin(tables.repositories, tables.repositories.c.id == table.c.repository_id)
            .where(
                table.c.machine_id == self.machine.id,
                table.c.flags.bitwise_and(installations.PRESENT) != 0,
            )
        )
        stored: Present = {
            (self.machine.id, (row.category, row.name), row.text): (row.installed_at, row.repository)
            for row in self.connection.execute(query)
        }
        for key in sorted(stored.keys() | self.present.keys(), key=repr):
            if stored.get(key) != self.present.get(key):
                _, (category, name), version = key
                self._differ(
                    f"{category}/{name}-{version} is installed by table or evidence, not alike by both"
                )
        self.report.installations += len(stored)

    def _differ(self, text: str) -> None:
        self.report.differ(f"machine {self.machine.uuid}: {text}")


def _is_sound(row: Any) -> bool:
    """Whether the row of a segment holds numbers and bytes where these belong; SQLite takes anything."""
    numbers = (row.first_seq, row.records, row.first_change, row.created_at, row.dictionary_id, row.form)
    return all(isinstance(number, int) for number in numbers) and all(
        isinstance(octets, bytes) for octets in (row.digest, row.signature, row.evidence)
    )
