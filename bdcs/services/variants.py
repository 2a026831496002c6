# SPDX-License-Identifier: GPL-2.0-or-later
"""Which USE flags of a job may be told to whom.

A choice of flags that few have can point at who asked. It is told to everybody once nobody learns anything by
it: the package is published with it, or an earlier one is; it is what the ebuild has by itself; or a crowd
asked for it. Until then it is "a variant", and only who asked sees it, and who may read a private target.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select, tuple_

from bdcs.domain.builds import effective_use
from bdcs.domain.jobs import JobState
from bdcs.store.slices import slices
from bdcs.store.tables import (
    builds,
    catalogue_packages,
    catalogue_repositories,
    catalogue_versions,
    jobs,
    members,
    requests,
)

COLUMNS: Final = (
    jobs.c.id,
    jobs.c.target_id,
    jobs.c.category,
    jobs.c.name,
    jobs.c.version,
    jobs.c.repository,
    jobs.c.specification,
    jobs.c.state,
)
"""What `variants` has to know of a job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """USE of a job, as its reader may know it."""

    is_hidden: bool
    """Only that there are flags may be told; all else here is empty then."""
    has_default: bool
    """Whether the ebuild's own choice is known, which `enabled` and `disabled` differ from."""
    enabled: tuple[str, ...]
    """Flags that are on: those that are not by default, else all."""
    disabled: tuple[str, ...]
    flags: Mapping[str, bool]
    """All flags, in order of their names, and whether they are on."""


_HIDDEN: Final = Variant(is_hidden=True, has_default=False, enabled=(), disabled=(), flags={})
_Package = tuple[int, str, str]


def variants(
    connection: Connection,
    rows: Sequence[Row[*tuple[Any, ...]]],
    *,
    crowd: int,
    may_know: Callable[[int], bool] = lambda _job: False,
) -> dict[int, Variant]:
    """Return what may be told of each job. `crowd` machines are one; `may_know` says of which all may be."""
    defaults = _defaults(connection, rows)
    published = _published(connection, rows)
    wanted = _wanted_by_a_crowd(connection, [row.id for row in rows], crowd)
    found = {}
    for row in rows:
        specification = json.loads(row.specification)
        use, iuse = frozenset(specification["use"]), specification["iuse"]
        default = defaults.get((row.category, row.name, row.version, row.repository))
        is_known = (
            not iuse
            or row.state == JobState.PUBLISHED
            or use == default
            or use in published.get((row.target_id, row.category, row.name), ())
            or row.id in wanted
            or may_know(row.id)
        )
        found[row.id] = described(iuse, use, default) if is_known else _HIDDEN
    return found


def described(iuse: Sequence[str], use: Collection[str], default: Collection[str] | None) -> Variant:
    """Return all there is to tell of a choice of flags; `default` is the ebuild's own, where it is known."""
    flags = {flag: flag in use for flag in sorted(iuse)}
    other = {flag: is_on for flag, is_on in flags.items() if default is None or is_on != (flag in default)}
    return Variant(
        is_hidden=False,
        has_default=default is not None,
        enabled=tuple(flag for flag, is_on in other.items() if is_on),
        disabled=tuple(flag for flag, is_on in other.items() if not is_on),
        flags=flags,
    )


def _defaults(
    connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]
) -> dict[tuple[str, str, str, str], frozenset[str]]:
    """Return what ebuilds that the catalogue has enable by themselves."""
    package, version, repository = catalogue_packages.c, catalogue_versions.c, catalogue_repositories.c
    found = {}
    for some in slices({(row.category, row.name) for row in rows}):
        query = (
            select(package.category, package.name, version.version, repository.name, version.iuse)
            .join(catalogue_versions, version.package_id == package.id)
            .join(catalogue_repositories, repository.id == version.repository_id)
            .where(tuple_(package.category, package.name).in_(some))
        )
        for category, name, number, source, iuse in connection.execute(query):
            enabled = frozenset(flag[1:] for flag in iuse.split() if flag.startswith("+"))
            found[category, name, number, source] = enabled
    return found


def _published(
    connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]
) -> dict[_Package, set[frozenset[str]]]:
    """Return the choices of USE with which packages are published."""
    found: defaultdict[_Package, set[frozenset[str]]] = defaultdict(set)
    for some in slices({(row.target_id, row.category, row.name) for row in rows}):
        query = select(
            builds.c.target_id, builds.c.category, builds.c.name, builds.c.use, builds.c.iuse
        ).where(tuple_(builds.c.target_id, builds.c.category, builds.c.name).in_(some), builds.c.visible)
        for target, category, name, use, iuse in connection.execute(query):
            found[target, category, name].add(effective_use(use, iuse))
    return found


def _wanted_by_a_crowd(connection: Connection, ids: Collection[int], crowd: int) -> set[int]:
    machines = func.count(requests.c.machine_id.distinct())
    found: set[int] = set()
    for some in slices(ids):
        query = (
            select(members.c.job_id)
            .join(requests, requests.c.id == members.c.request_id)
            .where(members.c.job_id.in_(some))
            .group_by(members.c.job_id)
            .having(machines >= crowd)
        )
        found.update(number for number in connection.scalars(query) if number is not None)
    return found
