# SPDX-License-Identifier: GPL-2.0-or-later
"""How long packages take: fitted anew now and then from what machines recorded, and published by the rules.

What a package takes is shown when enough machines recorded it, and moves only when enough distinct machines
recorded it again since (`bdcs.domain.thresholds`). All is read beside the writer, which only puts the outcome
down. A machine that is erased counts in what is published until that may move.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, func, literal_column, select, tuple_, update

from bdcs.domain.codes import INSTALL, INSTALL_TYPE
from bdcs.domain.duration_fit import LATEST, Cell, Fit, alone, effect_of, fit
from bdcs.domain.machines import State
from bdcs.domain.thresholds import Cell as Counted
from bdcs.domain.thresholds import Thresholds, figure, may_publish
from bdcs.errors import StoreError
from bdcs.services.quarantine import is_shown
from bdcs.services.reader_process import ReaderProcess
from bdcs.services.regular_work import regularly
from bdcs.services.rollups import DEPARTURES
from bdcs.store.bulk import execute_rows
from bdcs.store.places import Place
from bdcs.store.slices import slices
from bdcs.store.store import Store
from bdcs.store.tables import (
    machines,
    package_state_changes,
    packages,
    predictions,
    quarantines,
    segments,
    sequences,
    versions,
)
from bdcs.store.upserts import upsert
from gentwoo_client.prediction.fleet import Effect, FleetTable, PackageEffects, major
from gentwoo_client.prediction.merges import TINY

log = logging.getLogger(__name__)

INTERVAL: Final = 60.0  # seconds between two looks at whether there is enough that is new
REMEMBERED: Final = 1.0  # seconds for which the table is believed to be what it was
OFTEN: Final = 6 * 3600  # seconds after which anything new is enough
FEW: Final = 100_000
"""Records that are read beside the server's other work: a second of computing."""
ENOUGH: Final = 10  # otherwise as many new records as a tenth of all there are
RECORDS: Final = 400
"""Records of a package, the latest, that are looked at."""
MACHINES: Final = 60
"""Machines of a package, those heard of last, that count: beyond ten little is gained."""

WHOLE: Final = ""
"""Stands for all versions where a major version could."""
_LOG_STEP: Final = 0.05
"""What is published is rounded to that: a single machine moves nothing."""

Stamp = tuple[Any, ...]
"""What tells one state of the table from another."""

Key = tuple[int, str]
"""Package, and major version or `WHOLE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The table as it is sent."""

    body: bytes
    packed: bytes
    """The same, as gzip."""
    etag: str


class _Row(NamedTuple):
    """What is published."""

    log: int
    spread: int
    machines: int
    as_of: int
    gone: int


@dataclass(slots=True)
class _Seen:
    """What machines recorded of a package, or of a major version of it."""

    logs: dict[int, list[float]] = field(default_factory=dict)
    newest: dict[int, int] = field(default_factory=dict)
    """The last record of each machine."""

    def add(self, machine: int, change: int, value: float) -> None:
        """Take a record; the latest come first."""
        if machine not in self.logs:
            if len(self.logs) >= MACHINES:
                return
            self.logs[machine], self.newest[machine] = [], change
        if len(self.logs[machine]) < LATEST:
            self.logs[machine].append(value)

    def cell(self, thresholds: Thresholds, before: _Row | None) -> Counted:
        """Return what the rules for publishing ask for."""
        as_of = 0 if before is None else before.as_of
        return Counted(
            present=len(self.logs),
            joined=sum(change > as_of for change in self.newest.values()),
            left=0,
            gone=0 if before is None else before.gone,
            published=None if before is None else before.machines,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    departures: int
    put: list[tuple[Any, ...]]


class PredictionTable:
    """The table in force, as it is sent; whether it still is, is looked up when `REMEMBERED` is over."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._served: Served | None = None
        self._stamp: Stamp | None = None
        self._read_at = float("-inf")

    async def served(self) -> Served:
        """Return the table. Raises `StoreUnavailable`."""
        if self._served is None or time.monotonic() - self._read_at > REMEMBERED:
            started = time.monotonic()
            served, self._stamp = await self._store.read(self._read)
            self._served, self._read_at = served, started
            return served
        return self._served

    def _read(self, connection: Connection) -> tuple[Served, Stamp]:
        stamp = _stamp(connection)
        if self._served is not None and stamp == self._stamp:
            return self._served, stamp
        return _serve(_table(connection, None)), stamp


class PredictionKeeper:
    """Renews the table."""

    def __init__(
        self, store: Store, thresholds: Thresholds, now: Callable[[], float], place: Place | None = None
    ) -> None:
        """`place` is where the store is: with it, much is read in a process of its own."""
        self._store = store
        self._thresholds = thresholds
        self._now = now
        self._place = place
        self._fitted_to = 0
        self._fitted_at = float("-inf")

    async def run(self) -> None:
        """Renew the table until cancelled."""
        await regularly(
            self._look,
            name="predictions",
            seconds=INTERVAL,
            passing=StoreError,
            tell=partial(log.warning, "predictions were not renewed: %s"),
        )

    async def refresh(self) -> None:
        """Fit anew, and publish what may be published. Raises `StoreUnavailable`."""
        last = await self._store.read(_last_change)
        reading = partial(_plan, thresholds=self._thresholds, now=self._now())
        if self._place is None or last <= FEW:
            plan = await self._store.read(reading)
        else:
            async with ReaderProcess(self._place) as process:
                plan = await process.read(reading)
        if await self._store.write(lambda connection: _put(connection, plan)):
            self._fitted_to, self._fitted_at = last, self._now()

    async def _look(self) -> None:
        if await self._is_due():
            await self.refresh()

    async def _is_due(self) -> bool:
        last = await self._store.read(_last_change)
        new = last - self._fitted_to
        if new <= 0:
            return False
        if self._now() - self._fitted_at >= OFTEN or new * ENOUGH >= last:
            return True
        return await self._store.read(_is_empty)


def table_of(connection: Connection, names: Iterable[tuple[str, str]]) -> FleetTable:
    """Return what the published table says of some packages, each category and name."""
    return _table(connection, names)


def machine_leaves(connection: Connection, machine: int) -> None:
    """Prepare predictions for the erasure of a machine, whose records must still be there."""
    first: dict[Key, int] = {}
    spans = connection.execute(
        select(segments.c.first_change, segments.c.records).where(segments.c.machine_id == machine)
    ).all()
    for start, records in spans:
        rows = connection.execute(_SPAN, {"first": start, "last": start + records - 1})
        for package, version, change in rows:
            for key in ((package, WHOLE), (package, major(version))):
                first[key] = min(change, first.get(key, change))
    execute_rows(connection, _LEAVE, ("package", "version", "change"), [(*key, first[key]) for key in first])


def _counts() -> tuple[Any, ...]:
    changes = package_state_changes.c
    return (
        changes.event == INSTALL,
        changes.install_type == INSTALL_TYPE["source"],
        changes.time_delta >= TINY,
    )


def _last_change(connection: Connection) -> int:
    found = select(sequences.c.value).where(sequences.c.name == "change")
    return connection.scalar(found) or 0


def _is_empty(connection: Connection) -> bool:
    return connection.scalar(select(predictions.c.package_id).limit(1)) is None


def _departures(connection: Connection) -> int:
    return connection.scalar(select(sequences.c.value).where(sequences.c.name == DEPARTURES)) or 0


# Fitting --------------------------------------------------------------------------------------------------


def _plan(connection: Connection, thresholds: Thresholds, now: float) -> _Plan:
    """Return what is to be published, by what stands in the store."""
    departures, last = _departures(connection), _last_change(connection)
    published = {
        (row.package_id, row.major): _Row(row.log, row.spread, row.machines, row.as_of, row.gone)
        for row in connection.execute(select(predictions))
    }
    seen = dict(_seen(connection, thresholds, published))
    fitted = fit(
        [
            Cell(package, machine, median(logs))
            for (package, version), each in seen.items()
            if version == WHOLE and len(each.logs) >= thresholds.machines
            for machine, logs in each.logs.items()
        ]
    )
    put = []
    for key in seen.keys() | published.keys():
        each, before = seen.get(key, _Seen()), published.get(key)
        cell = each.cell(thresholds, before)
        if not may_publish(cell, thresholds):
            continue
        middle, spread = (0.0, 0.0)
        if cell.present >= thresholds.machines:
            middle, spread = _effect(each, fitted)
        machines_shown = figure(cell.present, thresholds)
        put.append((*key, _stepped(middle), round(100 * spread), machines_shown, last, 0, int(now)))
    return _Plan(departures=departures, put=sorted(put))


def _seen(
    connection: Connection, thresholds: Thresholds, published: Collection[Key]
) -> Iterator[tuple[Key, _Seen]]:
    """Yield what is known of packages and their major versions, those left out that too few recorded.

    Major versions are told apart where crowds recorded two: a few machines must not be what parts them.
    """
    known = {package for package, _ in published}
    for package in connection.scalars(select(packages.c.id).where(is_shown(packages.c.id))).all():
        rows = connection.execute(_RECORDS, {"package": package}).all()
        if len({row[0] for row in rows}) < thresholds.machines and package not in known:
            continue
        found: dict[str, _Seen] = {WHOLE: _Seen()}
        for machine, change, version, seconds, concurrency in rows:
            value = alone(seconds, None if concurrency is None else concurrency / 100)
            found[WHOLE].add(machine, change, value)
            found.setdefault(major(version), _Seen()).add(machine, change, value)
        crowds = sum(len(each.logs) >= thresholds.machines for each in found.values())  # with the whole
        for version, each in found.items():
            if version == WHOLE or crowds > 2 or (package, version) in published:
                yield (package, version), each


_CHANGES: Final = package_state_changes.c
_SPAN: Final = (
    select(_CHANGES.package_id, versions.c.text, _CHANGES.id)
    .join(versions, versions.c.id == _CHANGES.version_id)
    .where(_CHANGES.id.between(bindparam("first"), bindparam("last")), *_counts())
)
_ONE: Final[ColumnElement[int]] = literal_column("1")  # a value would be one more parameter
_LEAVE: Final = (
    update(predictions)
    .where(
        predictions.c.package_id == bindparam("package"),
        predictions.c.major == bindparam("version"),
        predictions.c.as_of >= bindparam("change"),
    )
    .values(gone=predictions.c.gone + _ONE)
)
_RECORDS: Final = (
    select(_CHANGES.machine_id, _CHANGES.id, versions.c.text, _CHANGES.time_delta, _CHANGES.concurrency)
    .join(versions, versions.c.id == _CHANGES.version_id)
    .join(machines, machines.c.id == _CHANGES.machine_id)
    .where(_CHANGES.package_id == bindparam("package"), *_counts(), machines.c.state == State.APPROVED)
    .order_by(_CHANGES.id.desc())
    .limit(RECORDS)
)


def _effect(seen: _Seen, fitted: Fit) -> tuple[float, float]:
    return effect_of(
        fitted.machines[machine].scaled(median(logs)) if machine in fitted.machines else median(logs)
        for machine, logs in seen.logs.items()
    )


def _stepped(value: float) -> int:
    """Return hundredths, rounded to `_LOG_STEP`."""
    return round(value / _LOG_STEP) * round(100 * _LOG_STEP)


_COLUMNS: Final = ("package", "version", "log", "spread", "machines", "as_of", "gone", "at")
_NEW: Final = upsert(predictions).values(
    package_id=bindparam("package"),
    major=bindparam("version"),
    log=bindparam("log"),
    spread=bindparam("spread"),
    machines=bindparam("machines"),
    as_of=bindparam("as_of"),
    gone=bindparam("gone"),
    published_at=bindparam("at"),
)
_PUT: Final = _NEW.on_conflict_do_update(
    index_elements=["package_id", "major"],
    set_={
        name: _NEW.excluded[name] for name in ("log", "spread", "machines", "as_of", "gone", "published_at")
    },
)


def _put(connection: Connection, plan: _Plan) -> bool:
    """Publish. False where a machine left or came back meanwhile: what was read is then no use."""
    if _departures(connection) != plan.departures:
        return False
    execute_rows(connection, _PUT, _COLUMNS, plan.put)
    return True


def _stamp(connection: Connection) -> Stamp:
    published = predictions.c
    row = connection.execute(
        select(func.count(), func.max(published.as_of), func.max(published.published_at))
    ).one()
    aside = connection.scalar(select(func.max(quarantines.c.id)))
    return (*row, aside, connection.scalar(select(func.count()).select_from(quarantines)))


# The table ------------------------------------------------------------------------------------------------


def _table(connection: Connection, names: Iterable[tuple[str, str]] | None) -> FleetTable:
    query = (
        select(packages.c.category, packages.c.name, predictions)
        .join(packages, packages.c.id == predictions.c.package_id)
        .where(predictions.c.machines > 0, is_shown(packages.c.id))
        .order_by(packages.c.category, packages.c.name, predictions.c.major)
    )
    wholes: dict[str, Effect] = {}
    majors: dict[str, dict[str, Effect]] = {}
    published_at = 0
    for rows in _rows(connection, query, names):
        for row in rows:
            cp = f"{row.category}/{row.name}"
            effect = Effect(log=row.log / 100, spread=row.spread / 100, machines=row.machines)
            if row.major == WHOLE:
                wholes[cp] = effect
            else:
                majors.setdefault(cp, {})[row.major] = effect
            published_at = max(published_at, row.published_at)
    return FleetTable(
        fitted_at=published_at,
        machines=max((effect.machines for effect in wholes.values()), default=0),
        packages={cp: PackageEffects(whole=whole, majors=majors.get(cp, {})) for cp, whole in wholes.items()},
    )


def _rows(connection: Connection, query: Any, names: Iterable[tuple[str, str]] | None) -> Iterator[Any]:
    if names is None:
        yield connection.execute(query)
        return
    for some in slices(names):
        these = tuple_(packages.c.category, packages.c.name).in_(some)
        yield connection.execute(query.where(these))


def _serve(found: FleetTable) -> Served:
    document: Mapping[str, object] = found.to_json()
    body = json.dumps(document, separators=(",", ":")).encode()
    return Served(
        body=body,
        packed=gzip.compress(body, mtime=0),
        etag=hashlib.sha256(body).hexdigest()[:32],
    )
