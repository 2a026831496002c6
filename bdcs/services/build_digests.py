# SPDX-License-Identifier: GPL-2.0-or-later
"""Specifications and digests of published builds, read from what their rows say of the packages.

Publishing fills the digest in. Builds that were published before there were digests get theirs from the
server, some at a time; who asks meanwhile computes what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update

from bdcs.domain.packages_index import parse_entry
from bdcs.store.tables import builds, targets
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.errors import InvalidSpecification

NONE: Final = ""
"""Stands for the digest of a build that has none: its metadata is not what PMS allows."""
AT_ONCE: Final = 500

COLUMNS: Final = tuple(
    builds.c[name] for name in ("id", "target_id", "cpv", "build_id", "path", "entry", "use", "digest")
)
"""What `specification_of` reads of a row."""


def digest_of(target: str, metadata: Mapping[str, str]) -> str:
    """Return the digest of the package with that metadata; `NONE` where it can have none."""
    try:
        return BuildSpecification.from_metadata(target, metadata).digest()
    except InvalidSpecification:
        return NONE


def specification_of(target: str, row: Any) -> BuildSpecification | None:
    """Return what a build is, by its row of `builds`; None where it has no specification."""
    # The index leaves out flags that are not in IUSE; the row has them, ARCH among them.
    metadata = {**parse_entry(row.entry), "USE": row.use}
    try:
        return BuildSpecification.from_metadata(target, metadata)
    except InvalidSpecification:
        return None


def missing(connection: Connection) -> bool:
    """Whether a build has not been looked at yet."""
    return connection.scalar(select(builds.c.id).where(builds.c.digest.is_(None)).limit(1)) is not None


def fill_in(connection: Connection) -> int:
    """Give some builds their digests; return how many these were."""
    rows = connection.execute(
        select(*COLUMNS, targets.c.name)
        .join(targets, targets.c.id == builds.c.target_id)
        .where(builds.c.digest.is_(None))
        .limit(AT_ONCE)
    ).all()
    found = []
    for row in rows:
        specification = specification_of(row.name, row)
        found.append({"b": row.id, "d": NONE if specification is None else specification.digest()})
    if found:
        connection.execute(
            update(builds).where(builds.c.id == bindparam("b")).values(digest=bindparam("d")), found
        )
    return len(found)
