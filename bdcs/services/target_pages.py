# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pages show of a target's newest generation: its packages, and the builds of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, or_, select, tuple_

from bdcs.domain.builds import effective_use
from bdcs.services.targets import Target
from bdcs.store.tables import builds
from gentwoo_client.wire.version import Version

PAGE: Final = 50
"""Packages of a list before the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRow:
    """A package of which the target has builds."""

    category: str
    name: str
    newest: str
    """The newest version that is built."""
    builds: int
    size: int
    """Bytes of all builds."""
    published_at: int
    """When the last of them was published, Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRows:
    """One page of packages."""

    rows: tuple[PackageRow, ...]
    after: str | None
    """What the next page has to be asked with; None on the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRow:
    """One build of a package."""

    version: str
    build_id: int | None
    slot: str
    repository: str
    enabled: tuple[str, ...]
    """Flags of its IUSE that it was built with."""
    disabled: tuple[str, ...]
    size: int
    installed_size: int
    built_at: int
    """BUILD_TIME, Unix seconds."""
    published_at: int
    actor: str
    """Who published it: `admin`, or the UUID of a builder."""
    signed_by: str | None
    path: str
    license: str
    keywords: str
    cflags: str


def packages(connection: Connection, target: Target, *, search: str = "", after: str = "") -> PackageRows:
    """Return the packages with every word of `search` in CATEGORY/NAME, in order, those behind `after`."""
    statement = (
        select(
            builds.c.category,
            builds.c.name,
            func.count().label("builds"),
            func.sum(builds.c.size).label("size"),
            func.max(builds.c.published_at).label("published_at"),
        )
        .where(builds.c.target_id == target.id, builds.c.visible)
        .group_by(builds.c.category, builds.c.name)
        .order_by(builds.c.category, builds.c.name)
        .limit(PAGE + 1)
    )
    for word in search.split():
        cp = builds.c.category + "/" + builds.c.name
        statement = statement.where(cp.contains(word, autoescape=True))
    if after:
        category, _, name = after.partition("/")
        statement = statement.where(tuple_(builds.c.category, builds.c.name) > (category, name))
    found = connection.execute(statement).all()
    newest = _newest(connection, target, ((row.category, row.name) for row in found[:PAGE]))
    rows = tuple(PackageRow(newest=newest[row.category, row.name], **row._mapping) for row in found[:PAGE])
    more = len(found) > PAGE
    return PackageRows(rows=rows, after=f"{rows[-1].category}/{rows[-1].name}" if more else None)


def _newest(
    connection: Connection, target: Target, names: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    wanted = [(builds.c.category == category) & (builds.c.name == name) for category, name in names]
    if not wanted:
        return {}
    versions: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    rows = connection.execute(
        select(builds.c.category, builds.c.name, builds.c.version)
        .where(builds.c.target_id == target.id, builds.c.visible, or_(*wanted))
        .distinct()
    )
    for category, name, version in rows:
        versions[category, name].append(version)
    return {package: max(found, key=Version.parse) for package, found in versions.items()}


def builds_of(connection: Connection, target: Target, category: str, name: str) -> list[BuildRow]:
    """Return the builds of a package, the newest version first, and of a version the newest build."""
    rows = connection.execute(
        select(builds).where(
            builds.c.target_id == target.id,
            builds.c.visible,
            builds.c.category == category,
            builds.c.name == name,
        )
    )
    return sorted(map(_build, rows), key=lambda row: (Version.parse(row.version), row.built_at), reverse=True)


def _build(row: Row[*tuple[Any, ...]]) -> BuildRow:
    enabled = effective_use(row.use, row.iuse)
    known = {flag.lstrip("+-") for flag in row.iuse.split()}
    return BuildRow(
        version=row.version,
        build_id=row.build_id,
        slot=row.slot or "0",
        repository=row.repository,
        enabled=tuple(sorted(enabled)),
        disabled=tuple(sorted(known - enabled)),
        size=row.size,
        installed_size=row.installed_size,
        built_at=row.build_time,
        published_at=row.published_at,
        actor=row.actor,
        signed_by=row.signed_by,
        path=row.path,
        license=row.license,
        keywords=row.keywords,
        cflags=row.cflags,
    )
