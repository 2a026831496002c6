# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of builds: what a target has, which BUILD_IDs it gave out, and how a build is written down.

Whoever adds rows holds the target's lock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, func, select

from bdcs.domain.gpkg.reading import Package
from bdcs.services.targets import Target
from bdcs.store.slices import slices
from bdcs.store.tables import build_numbers, builds, sequences
from bdcs.store.upserts import upsert

BUILDS: Final = "build"
"""The sequence behind which the numbers of a version begin that the store knows nothing of; 0 but for a store
that was restored (`services.restoring`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A build that was published, as far as a file is compared with it."""

    id: int
    cpv: str
    path: str
    build_id: int | None
    size: int
    md5: str
    sha1: str
    source: str | None
    signed_by: str | None
    visible: bool
    deleted_at: int | None

    def is_of(self, package: Package) -> bool:
        """Whether `package` is what it was made from, or what was made of it; and its file is there."""
        return self.deleted_at is None and (self.is_file_of(package) or self.source == package.sha512)

    def is_file_of(self, package: Package) -> bool:
        """Whether `package` was read from the file of this build."""
        return (self.size, self.md5, self.sha1) == (package.size, package.md5, package.sha1)


def of_cpvs(connection: Connection, target: Target, cpvs: Collection[str]) -> Mapping[str, list[Known]]:
    """Return all builds of these CPVs that the target has or had, by CPV."""
    found: defaultdict[str, list[Known]] = defaultdict(list)
    columns = [builds.c[name] for name in Known.__dataclass_fields__]
    for some in slices(cpvs):
        query = select(*columns).where(
            builds.c.target_id == target.id, builds.c.visible.in_((True, False)), builds.c.cpv.in_(some)
        )
        for row in connection.execute(query):
            found[row.cpv].append(Known(**row._mapping))
    return found


def reserve(
    connection: Connection, target: Target, cpvs: Sequence[str], kept: Iterable[tuple[str, int]]
) -> list[int]:
    """Give out one BUILD_ID for each of `cpvs`, in their order; none is ever given out again.

    `kept` are CPVs with numbers that packages brought along: these count as given out from now on.
    """
    kept = list(kept)
    first = connection.scalar(select(sequences.c.value).where(sequences.c.name == BUILDS)) or 0
    last = _last_numbers(connection, target, {*cpvs, *(cpv for cpv, _ in kept)})
    for cpv, number in kept:
        last[cpv] = max(last.get(cpv, 0), number)
    given = []
    for cpv in cpvs:
        last[cpv] = last.get(cpv, first) + 1
        given.append(last[cpv])
    _note(connection, target, last)
    return given


def add(
    connection: Connection, target: Target, rows: Sequence[Mapping[str, Any]], **common: Any
) -> list[int]:
    """Write down new builds, which `advance` is to make visible; return their ids.

    `rows` are made by `values_of`, `common` is what all of them share.
    """
    if not rows:
        return []
    first = connection.scalar(select(func.coalesce(func.max(builds.c.id), 0) + 1)) or 1
    ids = list(range(first, first + len(rows)))
    hidden = {"target_id": target.id, "visible": False, "withdrawn_at": None, "deleted_at": None}
    connection.execute(
        builds.insert(),
        [{"id": number, **hidden, **common, **row} for number, row in zip(ids, rows, strict=True)],
    )
    return ids


def values_of(
    package: Package,
    *,
    path: str,
    build_id: int | None,
    mtime: int,
    entry: str,
    source: str,
    signed_by: str | None,
    digest: str,
) -> dict[str, Any]:
    """Return what the row of a build says of its file."""
    metadata = package.metadata
    return {
        "category": package.cpv.category,
        "name": package.cpv.name,
        "version": package.cpv.version,
        "cpv": str(package.cpv),
        "build_id": build_id,
        "path": path,
        "size": package.size,
        "mtime": mtime,
        "build_time": int(metadata.get("BUILD_TIME", "0")),
        "md5": package.md5,
        "sha1": package.sha1,
        "slot": metadata.get("SLOT", "0"),
        "repository": metadata.get("repository", ""),
        "use": metadata.get("USE", ""),
        "iuse": metadata.get("IUSE", ""),
        "keywords": metadata.get("KEYWORDS", ""),
        "license": metadata.get("LICENSE", ""),
        "chost": metadata.get("CHOST", ""),
        "cflags": metadata.get("CFLAGS", ""),
        "installed_size": package.image.size,
        "entry": entry,
        "source": source,
        "signed_by": signed_by,
        "digest": digest,
    }


def _last_numbers(connection: Connection, target: Target, cpvs: Collection[str]) -> dict[str, int]:
    last: dict[str, int] = {}
    for some in slices(cpvs):
        query = select(build_numbers.c.cpv, build_numbers.c.last).where(
            build_numbers.c.target_id == target.id, build_numbers.c.cpv.in_(some)
        )
        last.update((cpv, number) for cpv, number in connection.execute(query))
    return last


def _note(connection: Connection, target: Target, last: Mapping[str, int]) -> None:
    if not last:
        return
    statement = upsert(build_numbers)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["target_id", "cpv"], set_={"last": statement.excluded.last}
        ),
        [{"target_id": target.id, "cpv": cpv, "last": number} for cpv, number in last.items()],
    )
