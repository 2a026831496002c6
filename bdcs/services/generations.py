# SPDX-License-Identifier: GPL-2.0-or-later
"""Generations: every publication makes one, and each stays what it was.

A build is in the generations [since, until) of its target; the builds of the newest generation are those that
the index lists. Whoever calls `advance` holds the target's lock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, or_, select, update

from bdcs.domain import builds as rules
from bdcs.domain.builds import Build, Difference
from bdcs.domain.targets import Cause, next_index_time
from bdcs.errors import FilesDeleted, NoSuchBuild, NoSuchGeneration
from bdcs.services import events
from bdcs.services.targets import Target
from bdcs.store.clock import agreed_time
from bdcs.store.slices import slices
from bdcs.store.tables import builds, generations, memberships, targets
from gentwoo_client.wire.records import format_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One state of a target's index."""

    number: int
    at: int
    """When it was made, Unix seconds."""
    cause: Cause
    note: str
    actor: str
    kept: bool
    """Its files are not deleted, so that one can come back to it."""
    added: int
    removed: int
    builds: int
    """How many are in it."""

    def to_json(self) -> dict[str, object]:
        """What `bdcs target log --json` prints of it."""
        return {
            "generation": self.number,
            "at": format_time(self.at),
            "cause": str(self.cause),
            "note": self.note,
            "actor": self.actor,
            "kept": self.kept,
            "added": self.added,
            "removed": self.removed,
            "builds": self.builds,
        }


def advance(
    connection: Connection,
    target: Target,
    added: Collection[int],
    removed: Collection[int],
    *,
    cause: Cause,
    actor: str,
    note: str = "",
    now: float | None = None,
) -> Generation:
    """Make the next generation: that of now with the builds `added` and without those `removed` (ids).

    Sets what is visible and when it was withdrawn, and the target's generation and TIMESTAMP. Neither may an
    added build be in the newest generation already, nor a removed one not be in it.
    """
    at = int(agreed_time(connection, now))
    before = current(connection, target)
    number = 1 if before is None else before.number + 1
    previous = connection.execute(select(targets.c.timestamp).where(targets.c.id == target.id)).scalar_one()
    timestamp = next_index_time(at, previous, at if before is None else before.at)
    connection.execute(
        generations.insert().values(
            target_id=target.id,
            number=number,
            at=at,
            cause=str(cause),
            note=note,
            actor=actor,
            kept=False,
            added=len(added),
            removed=len(removed),
            builds=(0 if before is None else before.builds) + len(added) - len(removed),
            timestamp=timestamp,
        )
    )
    _withdraw(connection, target, removed, number, at)
    _show(connection, target, added, number)
    events.index_changed(connection, target, added, removed, generation=number, at=at)
    connection.execute(
        update(targets).where(targets.c.id == target.id).values(generation=number, timestamp=timestamp)
    )
    return require(connection, target, number)


def redate(connection: Connection, target: Target, timestamp: int, now: float) -> None:
    """The newest generation is listed under another TIMESTAMP from now on, unless that is still to come.

    Until then the one before counts: it lists the same.
    """
    if timestamp <= now:
        connection.execute(
            update(generations)
            .where(generations.c.target_id == target.id, generations.c.number == target.generation)
            .values(timestamp=timestamp)
        )


def _withdraw(connection: Connection, target: Target, ids: Collection[int], number: int, at: int) -> None:
    done = 0
    for some in slices(ids):
        connection.execute(
            update(memberships)
            .where(memberships.c.build.in_(some), memberships.c.until.is_(None))
            .values(until=number)
        )
        done += connection.execute(
            update(builds)
            .where(builds.c.id.in_(some), _of(target), builds.c.visible)
            .values(visible=False, withdrawn_at=at)
        ).rowcount
    if done != len(ids):
        raise ValueError(f"{len(ids) - done} of the builds to withdraw are not in the newest generation")


def _show(connection: Connection, target: Target, ids: Collection[int], number: int) -> None:
    if not ids:
        return
    connection.execute(memberships.insert(), [{"build": build, "since": number} for build in ids])
    done = 0
    for some in slices(ids):
        done += connection.execute(
            update(builds)
            .where(builds.c.id.in_(some), _of(target), ~builds.c.visible)
            .values(visible=True, withdrawn_at=None)
        ).rowcount
    if done != len(ids):
        raise ValueError(f"{len(ids) - done} of the builds to add cannot be added")


def _of(target: Target) -> ColumnElement[bool]:
    """Whether a build is the target's, so put that SQLite goes by ids and not through all of the target."""
    return builds.c.target_id + 0 == target.id


def current(connection: Connection, target: Target) -> Generation | None:
    """Return the newest generation, or None before the first."""
    row = connection.execute(
        select(generations)
        .where(generations.c.target_id == target.id)
        .order_by(generations.c.number.desc())
        .limit(1)
    ).first()
    return None if row is None else _generation(row)


def require(connection: Connection, target: Target, number: int) -> Generation:
    """Return the generation of that number. Raises `NoSuchGeneration`."""
    row = connection.execute(
        select(generations).where(generations.c.target_id == target.id, generations.c.number == number)
    ).first()
    if row is None:
        raise NoSuchGeneration(target.name, number)
    return _generation(row)


def log(connection: Connection, target: Target, limit: int | None = None) -> list[Generation]:
    """Return the newest `limit` generations (None: all), the newest first."""
    rows = connection.execute(
        select(generations)
        .where(generations.c.target_id == target.id)
        .order_by(generations.c.number.desc())
        .limit(limit)
    )
    return [_generation(row) for row in rows]


def members(connection: Connection, target: Target, number: int) -> list[Build]:
    """Return the builds of a generation; none where `number` is 0. Raises `NoSuchGeneration`."""
    if number:
        require(connection, target, number)
    return [build_of(row) for row in connection.execute(_builds_where(target, is_in(number)))]


def visible(connection: Connection, target: Target) -> list[Build]:
    """Return the builds of the newest generation."""
    return [build_of(row) for row in connection.execute(_builds_where(target, builds.c.visible))]


def diff(connection: Connection, target: Target, before: int, after: int) -> Difference:
    """Return how generation `after` differs from `before`; 0 is the empty one before the first.

    Raises `NoSuchGeneration`.
    """
    for number in filter(None, (before, after)):
        require(connection, target, number)
    only_before = and_(is_in(before), ~is_in(after))
    only_after = and_(is_in(after), ~is_in(before))
    return rules.compare(
        *(
            [build_of(row) for row in connection.execute(_builds_where(target, which))]
            for which in (only_before, only_after)
        )
    )


def rollback(
    connection: Connection,
    target: Target,
    number: int,
    *,
    actor: str,
    note: str = "",
    now: float | None = None,
) -> Generation:
    """Make a generation with the builds of generation `number`.

    Raises `NoSuchGeneration`, `FilesDeleted` where files of it are gone for ever.
    """
    require(connection, target, number)
    lost = deleted_of(connection, target, number)
    if lost:
        raise FilesDeleted(number, [str(build) for build in lost])
    ids = select(builds.c.id).where(builds.c.target_id == target.id)
    added = connection.scalars(ids.where(is_in(number), ~builds.c.visible)).all()
    removed = connection.scalars(ids.where(builds.c.visible, ~is_in(number))).all()
    return advance(
        connection,
        target,
        added,
        removed,
        cause=Cause.ROLLBACK,
        actor=actor,
        note=note or f"to generation {number}",
        now=now,
    )


def named(connection: Connection, target: Target, names: Iterable[str]) -> list[Build]:
    """Return the builds of the newest generation that `names` mean, each CPV or CPV-BUILD_ID.

    Raises `NoSuchBuild`.
    """
    found: dict[int, Build] = {}
    by_name: defaultdict[str, list[Build]] = defaultdict(list)
    for build in visible(connection, target):
        for name in {build.cpv, str(build)}:
            by_name[name].append(build)
    for name in names:
        if name not in by_name:
            raise NoSuchBuild(target.name, name)
        found.update((build.id, build) for build in by_name[name])
    return sorted(found.values(), key=rules.order_key)


def deleted_of(connection: Connection, target: Target, number: int) -> list[Build]:
    """Return the builds of a generation whose files are gone for ever."""
    which = and_(is_in(number), builds.c.deleted_at.is_not(None))
    return [build_of(row) for row in connection.execute(_builds_where(target, which))]


def keep(connection: Connection, target: Target, number: int, *, kept: bool = True) -> Generation:
    """Keep a generation's files from being deleted and pruned, or no longer. Raises `NoSuchGeneration`."""
    require(connection, target, number)
    connection.execute(
        update(generations)
        .where(generations.c.target_id == target.id, generations.c.number == number)
        .values(kept=kept)
    )
    return require(connection, target, number)


def kept_builds(connection: Connection, target: Target) -> dict[int, int]:
    """Return the builds in generations that are kept, each with the newest of these."""
    rows = connection.execute(
        select(memberships.c.build, func.max(generations.c.number))
        .join(builds, builds.c.id == memberships.c.build)
        .join(generations, and_(generations.c.target_id == builds.c.target_id, generations.c.kept, _SPAN))
        .where(builds.c.target_id == target.id)
        .group_by(memberships.c.build)
    )
    return {row[0]: row[1] for row in rows}


def expired(connection: Connection, target: Target, before: float) -> Sequence[tuple[int, str]]:
    """Return id and path of the files that nobody needs any more, and that may be deleted.

    They were withdrawn before `before`, are still there, and belong to no generation that is kept.
    """
    is_kept = exists().where(
        memberships.c.build == builds.c.id,
        generations.c.target_id == builds.c.target_id,
        generations.c.kept,
        _SPAN,
    )
    rows = connection.execute(
        select(builds.c.id, builds.c.path)
        .where(
            builds.c.target_id == target.id,
            ~builds.c.visible,
            builds.c.deleted_at.is_(None),
            builds.c.withdrawn_at < before,
            ~is_kept,
        )
        .order_by(builds.c.id)
    )
    return [(number, path) for number, path in rows]


def set_deleted(connection: Connection, ids: Collection[int], now: float) -> None:
    """Remember that the files of these builds are gone, so that no rollback shows them again."""
    for some in slices(ids):
        connection.execute(update(builds).where(builds.c.id.in_(some)).values(deleted_at=int(now)))


def build_of(row: Row[*tuple[Any, ...]]) -> Build:
    """Return the build that a row of `_COLUMNS` describes."""
    return Build(
        id=row.id,
        category=row.category,
        name=row.name,
        version=row.version,
        build_id=row.build_id,
        slot=rules.main_slot(row.slot),
        use=rules.effective_use(row.use, row.iuse),
        repository=row.repository,
        size=row.size,
        build_time=row.build_time,
        published_at=row.published_at,
    )


_SPAN: Final = and_(
    memberships.c.since <= generations.c.number,
    or_(memberships.c.until.is_(None), memberships.c.until > generations.c.number),
)
_COLUMNS: Final = (
    builds.c.id,
    builds.c.category,
    builds.c.name,
    builds.c.version,
    builds.c.build_id,
    builds.c.slot,
    builds.c.use,
    builds.c.iuse,
    builds.c.repository,
    builds.c.size,
    builds.c.build_time,
    builds.c.published_at,
)


def _builds_where(target: Target, which: ColumnElement[bool]) -> Any:
    return select(*_COLUMNS).where(builds.c.target_id == target.id, which).order_by(builds.c.id)


def is_in(number: int) -> ColumnElement[bool]:
    """Whether a build is in generation `number`."""
    return exists().where(
        memberships.c.build == builds.c.id,
        memberships.c.since <= number,
        or_(memberships.c.until.is_(None), memberships.c.until > number),
    )


def _generation(row: Row[*tuple[Any, ...]]) -> Generation:
    return Generation(
        number=row.number,
        at=row.at,
        cause=Cause(row.cause),
        note=row.note,
        actor=row.actor,
        kept=row.kept,
        added=row.added,
        removed=row.removed,
        builds=row.builds,
    )
