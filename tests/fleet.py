# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet of machines that speak the protocol by hand, so that public figures have something to count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.records import format_time
from gentwoo_client.wire.segments import digest
from tests.peer import Peer, record

START = 1_763_771_625
"""When the first merge of every machine ended, in Unix seconds."""


@dataclass(slots=True)
class Member:
    """One machine, and the time by its clock."""

    peer: Peer
    now: int = START
    installed: dict[str, str] = field(default_factory=dict)

    def merge(
        self, *cpvs: str, seconds: int = 60, install_type: str = "source", repository: str = "gentoo"
    ) -> None:
        """Install each of `cpvs`, `category/name-version`, in place of the version that is there."""
        records: list[dict[str, object]] = []
        for cpv in map(CPV.parse, cpvs):
            replaces = self.installed.get(cpv.cp)
            if replaces is not None:
                records.append(
                    self._record(records, cpv, event="uninstall", version=replaces, cause="replaced")
                )
            self.now += seconds
            records.append(
                self._record(
                    records,
                    cpv,
                    replaces=replaces,
                    time_delta=seconds,
                    concurrency=1.0,
                    install_type=install_type,
                    repository=repository,
                )
            )
            self.installed[cpv.cp] = cpv.version
        self.push(records)

    def unmerge(self, *packages: str) -> None:
        """Remove each of `packages`, `category/name`."""
        records: list[dict[str, object]] = []
        for package in packages:
            cpv = CPV.parse(f"{package}-{self.installed.pop(package)}")
            records.append(self._record(records, cpv, event="uninstall", cause="manual"))
        self.push(records)

    def fail(self, cpv: str, cause: str = "build", seconds: int = 30) -> None:
        """Try to merge `cpv` in vain."""
        self.now += seconds
        parsed = CPV.parse(cpv)
        self.push(
            [
                self._record(
                    [], parsed, event="failure", cause=cause, install_type="source", time_delta=seconds
                )
            ]
        )

    def push(self, records: Sequence[dict[str, object]]) -> None:
        """Send one segment with `records`."""
        compact = self.peer.signed(self.peer.payload(records=records))
        answer = self.peer.send(compact)
        assert answer.status == 200, answer
        self.peer.seq += len(records)
        self.peer.prev = digest(compact)

    def _record(self, before: Sequence[object], cpv: CPV, **changes: object) -> dict[str, object]:
        fields: dict[str, object] = {
            "category": cpv.category,
            "name": cpv.name,
            "version": cpv.version,
            "install_type": None,
            "time_delta": None,
            "concurrency": None,
            "recorded_at": format_time(self.now),
            "clock": "unknown",
            **changes,
        }
        return record(self.peer.seq + len(before) + 1, **fields)


def join(collector: str, count: int) -> list[Member]:
    """Register `count` machines at the collector of that URL."""
    members = [Member(Peer(collector)) for _ in range(count)]
    for member in members:
        answer = member.peer.register()
        assert answer.status == 201, answer
    return members


def all_merge(members: Iterable[Member], *cpvs: str) -> None:
    """Have each of `members` install all of `cpvs`."""
    for member in members:
        member.merge(*cpvs)
