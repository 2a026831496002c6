# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets: the trees of the binhost, each with packages for one CHOST, profile, set of flags and toolchain.

Whoever changes one holds its lock (`blobs.target_lock`) and writes its index afterwards
(`services.target_changes` does both for commands).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, select, update

from bdcs.domain import targets as rules
from bdcs.domain.targets import Signatures
from bdcs.errors import NoSuchTarget, StoreDamaged, TargetExists, TargetNotEmpty, TargetRefused
from bdcs.store import tables
from gentwoo_client.wire.records import format_time

TEXTS: Final = ("chost", "profile", "cflags", "cpu", "toolchain", "description")
IN_THE_INDEX: Final = frozenset({"chost", "profile", "header"})
"""Settings that the header of the index repeats: when one changes, the index does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One binhost tree."""

    id: int
    name: str
    chost: str
    profile: str
    cflags: str
    cpu: str
    toolchain: str
    description: str
    signatures: Signatures
    private: bool
    """Index and packages are only for holders of a token (`services.tokens`)."""
    bindist: bool
    """Packages that must not be redistributed (RESTRICT of bindist or fetch) are taken too."""
    header: Mapping[str, str]
    """Keys of the index's header that say how packages were built (`domain.targets.HEADER_KEYS`)."""
    created_at: int
    timestamp: int
    """TIMESTAMP of the newest generation's index; 0 before the first generation."""
    generation: int
    """The newest; 0 before the first."""

    def to_json(self) -> dict[str, object]:
        """What `bdcs target list --json` prints of it."""
        return {
            "name": self.name,
            "chost": self.chost,
            "profile": self.profile,
            "cflags": self.cflags,
            "cpu": self.cpu,
            "toolchain": self.toolchain,
            "description": self.description,
            "signatures": str(self.signatures),
            "private": self.private,
            "bindist": self.bindist,
            "header": dict(self.header),
            "created_at": format_time(self.created_at),
            "timestamp": self.timestamp,
            "generation": self.generation,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """How much is in the newest generation of a target."""

    builds: int = 0
    size: int = 0
    """Bytes."""


def add(connection: Connection, name: str, *, now: float, **settings: Any) -> Target:
    """Make a target without packages and return it.

    Of the settings (fields of `Target`) CHOST and profile must be given; others are empty or false, save that
    signatures are required. Raises `TargetRefused`, `TargetExists`.
    """
    rules.check("name", name)
    if find(connection, name) is not None:
        raise TargetExists(name)
    defaults = {
        **dict.fromkeys(TEXTS, ""),
        "signatures": Signatures.REQUIRED,
        "private": False,
        "bindist": False,
        "header": {},
    }
    values = _row_values({**defaults, **settings})
    connection.execute(
        tables.targets.insert().values(name=name, created_at=int(now), timestamp=0, generation=0, **values)
    )
    return require(connection, name)


def find(connection: Connection, name: str) -> Target | None:
    """Return the target, or None."""
    row = connection.execute(select(tables.targets).where(tables.targets.c.name == name)).first()
    return None if row is None else _target(row)


def require(connection: Connection, name: str) -> Target:
    """Return the target. Raises `NoSuchTarget`, which names those that are there."""
    found = find(connection, name)
    if found is None:
        raise NoSuchTarget(name, [target.name for target in listed(connection)])
    return found


def listed(connection: Connection) -> list[Target]:
    """Return all targets in order of their names."""
    return [
        _target(row) for row in connection.execute(select(tables.targets).order_by(tables.targets.c.name))
    ]


def change(connection: Connection, target: Target, *, now: float, **settings: Any) -> Target:
    """Give the target other settings and return it as it is then.

    Where the index's header repeats a changed one and an index is there, it gets a new TIMESTAMP, since
    clients must fetch it again. Raises `TargetRefused`.
    """
    changed = {name: value for name, value in settings.items() if value != getattr(target, name)}
    if not changed:
        return target
    values = _row_values(changed)
    if IN_THE_INDEX & changed.keys() and target.generation:
        values["timestamp"] = rules.next_index_time(int(now), target.timestamp, int(now))
    connection.execute(update(tables.targets).where(tables.targets.c.id == target.id).values(**values))
    return require(connection, target.name)


def remove(connection: Connection, target: Target, *, force: bool = False) -> None:
    """Remove the target with all that rows say of it: generations, builds, uploads, requests, jobs, keys, ….

    Its files are not touched. Raises `TargetNotEmpty` unless it never had a package, or with `force`.
    """
    files = connection.scalar(
        select(func.count())
        .select_from(tables.builds)
        .where(tables.builds.c.target_id == target.id, tables.builds.c.deleted_at.is_(None))
    )
    if files and not force:
        raise TargetNotEmpty(target.name, files)
    builds = select(tables.builds.c.id).where(tables.builds.c.target_id == target.id)
    connection.execute(delete(tables.memberships).where(tables.memberships.c.build.in_(builds)))
    jobs = select(tables.jobs.c.id).where(tables.jobs.c.target_id == target.id)
    requests = select(tables.requests.c.id).where(tables.requests.c.target_id == target.id)
    connection.execute(delete(tables.attempts).where(tables.attempts.c.job_id.in_(jobs)))
    connection.execute(delete(tables.job_dependencies).where(tables.job_dependencies.c.job_id.in_(jobs)))
    connection.execute(delete(tables.members).where(tables.members.c.request_id.in_(requests)))
    cells = select(tables.prebuild_cells.c.id).where(tables.prebuild_cells.c.target_id == target.id)
    connection.execute(delete(tables.prebuild_counted).where(tables.prebuild_counted.c.cell_id.in_(cells)))
    proposals = select(tables.target_proposals.c.id).where(tables.target_proposals.c.target_id == target.id)
    connection.execute(
        delete(tables.target_proposers).where(tables.target_proposers.c.proposal_id.in_(proposals))
    )
    for table in _OF_A_TARGET:
        connection.execute(delete(table).where(table.c.target_id == target.id))
    connection.execute(delete(tables.targets).where(tables.targets.c.id == target.id))


_OF_A_TARGET: Final = (
    tables.scanned_files,
    tables.uploads,
    tables.builds,
    tables.generations,
    tables.build_numbers,
    tables.builder_targets,
    tables.tokens,
    tables.trusted_keys,
    tables.requests,
    tables.jobs,
    tables.queue,
    tables.prebuild_cells,
    tables.target_proposals,
)


def contents(connection: Connection) -> dict[int, Contents]:
    """Return what the newest generation of each target holds, by the target's id; empty ones are left out."""
    builds = tables.builds
    rows = connection.execute(
        select(builds.c.target_id, func.count(), func.sum(builds.c.size))
        .where(builds.c.visible)
        .group_by(builds.c.target_id)
    )
    return {number: Contents(builds=count, size=size) for number, count, size in rows}


def unsigned(connection: Connection, target: Target) -> int:
    """Return how many builds of the newest generation bear no signature."""
    which = (tables.builds.c.target_id == target.id) & tables.builds.c.visible
    query = select(func.count()).select_from(tables.builds)
    return connection.scalar(query.where(which, tables.builds.c.signed_by.is_(None))) or 0


def header_settings(pairs: Iterable[str]) -> dict[str, str]:
    """Return what KEY=VALUE words say. Raises `TargetRefused`."""
    settings = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise TargetRefused(f"{pair!r} is not KEY=VALUE")
        settings[key] = value
    return settings


def _row_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands in the table for `settings`. Raises `TargetRefused`."""
    values = dict(settings)
    for name in TEXTS:
        if name in values:
            values[name] = rules.check(name, values[name])
    if "header" in values:
        values["header"] = json.dumps(dict(rules.check_header(values["header"])), sort_keys=True)
    if "signatures" in values:
        values["signatures"] = str(Signatures(values["signatures"]))
    return values


def _target(row: Row[*tuple[Any, ...]]) -> Target:
    values = dict(row._mapping)
    try:
        values["signatures"] = Signatures(values["signatures"])
        header = json.loads(values["header"])
        values["header"] = MappingProxyType({str(key): str(value) for key, value in header.items()})
    except (ValueError, AttributeError, TypeError) as error:
        raise StoreDamaged(f"target {values['name']} in the table: {error}") from error
    return Target(**values)
