# SPDX-License-Identifier: GPL-2.0-or-later
"""New versions of packages in use are queued by themselves: gathers what the rule needs, does what it says.

The rule is `domain.new_versions`. What is queued is specified as the last build of the same variant was: with
its USE, new flags as the ebuild has them by default, and bound to what the target has published. Where the
builder's Portage decides otherwise, its package is published as what it is.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, func, select, tuple_, update

from bdcs.domain.jobs import Answer, Origin, Refusal
from bdcs.domain.md5_cache import read_values
from bdcs.domain.new_versions import Choice, NewVersion, Variant, choose
from bdcs.errors import CollectorError
from bdcs.services import build_digests, catalogue, made_metadata, repositories, requests, targets
from bdcs.services.catalogue import CatalogueVersion
from bdcs.services.jobs import Jobs
from bdcs.services.regular_work import regularly
from bdcs.services.verdicts import Judge, Wish, wishes_of
from bdcs.services.waking import Transactions
from bdcs.store import tables
from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.builds import BINDING, BuildSpecification
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.dependencies import parse, reduce, words
from gentwoo_client.wire.errors import ProtocolError
from gentwoo_client.wire.version import Version

log = logging.getLogger(__name__)

INTERVAL: Final = 5.0  # seconds between two looks for new versions
AT_ONCE: Final = 200
"""New versions that are looked at in one transaction."""
PATIENCE: Final = 7 * 86_400
"""Seconds that a new version waits for somebody who builds for its target."""
DAY: Final = 86_400

Name = tuple[str, str]
"""Category and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be queued."""

    looked_at: tuple[int, ...]
    """Numbers of the new versions that this follows from."""
    wishes: Mapping[str, Sequence[Wish]]
    """By target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersions:
    """Queues them, in the server."""

    transactions: Transactions
    days: int
    """For so long after a machine asked for a package its new versions are built; 0: none are."""

    async def run(self) -> None:
        """Look for new versions until cancelled."""
        await regularly(
            self.look,
            name="new-versions",
            seconds=INTERVAL,
            passing=CollectorError,
            tell=partial(log.warning, "new versions were not looked at: %s"),
        )

    async def look(self) -> int:
        """Queue what is to be built; return how many packages that is. Raises `StoreUnavailable`."""
        plan = await self.transactions.store.read(self._plan)
        if plan is None:
            return 0
        queued = await self.transactions.write(lambda book: _queue(book, plan))
        for cpv, target in queued:
            log.info("queued %s for %s: a new version", cpv, target)
        return len(queued)

    def _plan(self, connection: Connection) -> Plan | None:
        new = catalogue.new_versions(connection, AT_ONCE)
        if not new:
            return None
        used_since = int(self.transactions.now()) - self.days * DAY
        builds = _Builds.of(connection, {version.cpv[:2] for version in new}) if self.days else None
        choices = [] if builds is None else choose(_described(new), builds.variants, used_since=used_since)
        specifications = defaultdict(list)
        for choice in choices:
            assert builds is not None
            try:
                specification = specify(connection, choice, builds.enabled[choice.model.digest()])
            except (CollectorError, ProtocolError, OSError) as error:
                log.warning("new version %s cannot be built: %s", choice.version.cpv, error)
                continue
            specifications[choice.model.target].append(specification)
        wishes = {target: wishes_of(wished) for target, wished in specifications.items()}
        return Plan(looked_at=tuple(version.id for version in new), wishes=wishes)


def _queue(book: Jobs, plan: Plan) -> list[tuple[CPV, str]]:
    """Queue what is neither published nor in flight, and have nobody look at these versions again.

    What nobody can build yet is looked at again for a week.
    """
    connection = book.connection
    queued: list[tuple[CPV, str]] = []
    waiting: set[CPV] = set()
    for name, wishes in plan.wishes.items():
        target = targets.find(connection, name)
        if target is None:
            continue
        judge = Judge(connection=connection, target=target, machine_id=None, now=book.now)
        verdicts = judge.verdicts(wishes)
        wanted = [verdict for verdict in verdicts if verdict.answer is Answer.QUEUED]
        if wanted:
            atoms = [f"={verdict.wish.specification.cpv}" for verdict in wanted]
            requests.commit(book, target, wanted, machine_id=None, atoms=atoms, origin=Origin.NEW_VERSION)
            queued += [(verdict.wish.specification.cpv, name) for verdict in wanted]
        waiting |= {
            verdict.wish.specification.cpv for verdict in verdicts if verdict.refusal is Refusal.NO_BUILDER
        }
    _settle(connection, plan.looked_at, waiting, book.now - PATIENCE)
    return queued


def _settle(connection: Connection, looked_at: Collection[int], waiting: set[CPV], since: int) -> None:
    table = tables.catalogue_versions
    kept = {
        version.id
        for version in catalogue.new_versions(connection, AT_ONCE)
        if version.cpv in waiting and version.added_at > since
    }
    done = [number for number in looked_at if number not in kept]
    connection.execute(update(table).where(table.c.id.in_(done)).values(is_new=False))


def _described(new: Sequence[CatalogueVersion]) -> Iterator[NewVersion]:
    for version in new:
        yield NewVersion(
            cpv=version.cpv,
            repository=version.repository,
            slot=version.slot.partition("/")[0],
            keywords=version.keywords,
            is_live=version.is_live,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Builds:
    """Builds of some packages at all targets."""

    variants: tuple[Variant, ...]
    enabled: Mapping[str, tuple[str, ...]]
    """All flags that a build was made with, also those outside IUSE, by its digest."""

    @classmethod
    def of(cls, connection: Connection, names: Collection[Name]) -> _Builds:
        """Read what was built of `names`, and how it is used."""
        builds = tables.builds
        popular = _popular(connection, names)
        rows = connection.execute(
            select(
                *build_digests.COLUMNS,
                builds.c.visible,
                builds.c.category,
                builds.c.name,
                tables.targets.c.name.label("target"),
                _last_use().label("used_at"),
            )
            .join(tables.targets, tables.targets.c.id == builds.c.target_id)
            .where(tuple_(builds.c.category, builds.c.name).in_(names))
        )
        variants, enabled = [], {}
        for row in rows:
            specification = build_digests.specification_of(row.target, row)
            if specification is None:
                continue
            is_popular = row.visible and (row.category, row.name) in popular
            variants.append(Variant(specification=specification, used_at=row.used_at, is_popular=is_popular))
            enabled[specification.digest()] = tuple(row.use.split())
        return cls(variants=tuple(variants), enabled=enabled)


def _last_use() -> Any:
    """When a machine last asked for a build, by itself or through the job that made it."""
    members, asked = tables.members, tables.requests
    return (
        select(func.max(asked.c.created_at))
        .join(members, members.c.request_id == asked.c.id)
        .where(members.c.build_id == tables.builds.c.id, asked.c.machine_id.is_not(None))
        .correlate(tables.builds)
        .scalar_subquery()
    )


def _popular(connection: Connection, names: Collection[Name]) -> set[Name]:
    """Those that so many machines have installed that their number is public."""
    packages, figures = tables.packages, tables.figures
    rows = connection.execute(
        select(packages.c.category, packages.c.name)
        .join(figures, figures.c.package_id == packages.c.id)
        .where(figures.c.version_id.is_(None), figures.c.published > 0)
        .where(tuple_(packages.c.category, packages.c.name).in_(names))
    )
    return {(category, name) for category, name in rows}


def specify(connection: Connection, choice: Choice, enabled: Sequence[str]) -> BuildSpecification:
    """Return what the new version is when it is built as its model was.

    Raises `ProtocolError` for what its ebuild says wrongly, `CollectorError`, `OSError`.
    """
    version, model = choice.version, choice.model
    repository = repositories.require(connection, version.repository)
    content = made_metadata.content_of(connection, repository, str(version.cpv))
    metadata = {**read_values(content), "repository": version.repository}
    defaults = {flag[1:] for flag in metadata.get("IUSE", "").split() if flag.startswith("+")}
    use = {*enabled, *(defaults - set(model.iuse))}
    bound = _bound(connection, model.target, metadata, use)
    return BuildSpecification.from_wish(model.target, str(version.cpv), metadata, use=use, bound=bound)


def _bound(
    connection: Connection, target: str, metadata: Mapping[str, str], use: Collection[str]
) -> dict[str, str]:
    """Return what `:=` of its dependencies finds among what the target has published."""
    eapi = metadata.get("EAPI") or "0"
    found: dict[str, str] = {}
    for name in BINDING:
        for word in words(reduce(parse(metadata.get(name.upper(), "")), use, eapi=eapi)):
            atom = Atom.parse(word)
            if atom.slot_operator == "=" and not atom.blocker:
                slot = published_slot(connection, target, atom)
                if slot is not None:
                    found[word] = slot
    return found


def published_slot(connection: Connection, target: str, atom: Atom) -> str | None:
    """SLOT/SUBSLOT of the newest version that `atom` matches."""
    builds = tables.builds
    rows = connection.execute(
        select(builds.c.version, builds.c.slot)
        .join(tables.targets, tables.targets.c.id == builds.c.target_id)
        .where(tables.targets.c.name == target, builds.c.visible)
        .where(builds.c.category == atom.category, builds.c.name == atom.name)
    )
    matching = [
        row
        for row in rows
        if atom.matches(CPV(str(atom.category), atom.name, row.version), slot=row.slot or "0")
    ]
    if not matching:
        return None
    slot, _, subslot = (max(matching, key=lambda row: Version.parse(row.version)).slot or "0").partition("/")
    return f"{slot}/{subslot or slot}"
