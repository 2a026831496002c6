# SPDX-License-Identifier: GPL-2.0-or-later
"""Metadata that builders make of ebuilds whose repository has no cache entry of them.

The collector sources no ebuild: it names what it lacks, and a builder that has the very same ebuild, by its
MD5, has Portage make the entry in its sandbox. What comes back is checked as what lies in a repository is,
and counts as long as the ebuild stays what it was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, select

from bdcs.domain.md5_cache import read_entry, read_values
from bdcs.errors import InvalidCacheEntry, RepositoryUnusable
from bdcs.services.ebuild_trees import EbuildTree, Mark
from bdcs.services.repositories import Repository
from bdcs.store.slices import slices
from bdcs.store.tables import made_metadata
from bdcs.store.upserts import upsert
from gentwoo_client.wire.build_messages import MadeEntry
from gentwoo_client.wire.cpv import split_cpv
from gentwoo_client.wire.limits import EBUILDS_WANTED

DIGEST: Final = "_md5_"
"""The line of an entry that says of which ebuild it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An entry that a builder made."""

    content: bytes
    mark: Mark


def valid(
    connection: Connection, repository: Repository, tree: EbuildTree, paths: Collection[str]
) -> dict[str, Made]:
    """Return what was made of those of `paths` whose ebuilds are still the same, by CATEGORY/PF."""
    found: dict[str, Made] = {}
    for some in slices(paths):
        rows = connection.execute(
            select(made_metadata).where(
                made_metadata.c.repository_id == repository.id,
                made_metadata.c.path.in_(some),
            )
        )
        for row in rows:
            if tree.ebuild_md5(row.path) == row.ebuild_md5:
                mark = Mark(len(row.content), row.made_at_ns)
                found[row.path] = Made(content=row.content, mark=mark)
    return found


def wanted(connection: Connection, repository: Repository) -> list[tuple[str, str]]:
    """Return ebuilds, the first of many, that nothing is known of: CATEGORY/PF, and MD5.

    Raises `RepositoryUnusable` where the directory is no repository, or not the one of that name.
    """
    with EbuildTree(repository.location) as tree:
        if tree.name() != repository.name:
            raise RepositoryUnusable(f"{repository.location} is another repository")
        missing = tree.listing().missing
        lacking = sorted(missing - valid(connection, repository, tree, missing).keys())
        digests = ((path, tree.ebuild_md5(path)) for path in lacking[:EBUILDS_WANTED])
        return [(path, digest) for path, digest in digests if digest is not None]


def objections(repository: Repository, entries: Sequence[MadeEntry]) -> dict[str, str]:
    """Return why entries are not taken, by the CATEGORY/PF of these. Raises `RepositoryUnusable`."""
    with EbuildTree(repository.location) as tree:
        found = {entry.cpv: _objection(tree, entry) for entry in entries}
    return {cpv: reason for cpv, reason in found.items() if reason is not None}


def take(connection: Connection, repository: Repository, entries: Sequence[MadeEntry], at_ns: int) -> None:
    """Keep entries that nothing speaks against."""
    for entry in entries:
        values = {"ebuild_md5": entry.md5, "content": entry.text.encode(), "made_at_ns": at_ns}
        connection.execute(
            upsert(made_metadata)
            .values(repository_id=repository.id, path=entry.cpv, **values)
            .on_conflict_do_update(index_elements=["repository_id", "path"], set_=values)
        )


def forget_others(connection: Connection, repository: Repository, kept: Collection[str]) -> None:
    """Delete what was made for a repository but of `kept`: the rest is of no use any more."""
    of_it = made_metadata.c.repository_id == repository.id
    for path in set(connection.scalars(select(made_metadata.c.path).where(of_it))).difference(kept):
        connection.execute(delete(made_metadata).where(of_it, made_metadata.c.path == path))


def content_of(connection: Connection, repository: Repository, path: str) -> bytes:
    """Return the cache entry of CATEGORY/PF: the repository's own, or one that a builder made.

    Raises `InvalidCacheEntry`, `RepositoryUnusable`, `FileNotFoundError` where there is neither.
    """
    with EbuildTree(repository.location) as tree:
        try:
            return tree.entry(path)[0]
        except FileNotFoundError:
            made = valid(connection, repository, tree, [path])
            if path not in made:
                raise
            return made[path].content


def _objection(tree: EbuildTree, entry: MadeEntry) -> str | None:
    if split_cpv(entry.cpv) is None:
        return "its name is no CATEGORY/PF"
    if tree.ebuild_md5(entry.cpv) != entry.md5:
        return "the collector has another ebuild of that name, or none"
    content = entry.text.encode()
    try:
        read_entry(content)
        if read_values(content).get(DIGEST) != entry.md5:
            return "it was made of another ebuild"
    except InvalidCacheEntry as error:
        return str(error)
    return None
