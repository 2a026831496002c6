# SPDX-License-Identifier: GPL-2.0-or-later
"""A store of millions of records, soon: some simulated machines, each told again by many, at other times.

`benchmarks.fleet` simulates and signs each machine, which takes a minute for a million records. Here some
machines are simulated, on `PACKAGES` packages instead of the few that one log has most often, and all others
are copies of these: each begins at another time, builds at another speed and lacks some of the packages. What
is stored is stored by the collector's own code, in segments of `SIZE` that come from many machines in turn;
only evidence and signatures are random bytes, which `benchmarks.storage` is there to measure.
"""

import os
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import chain, compress, count, islice, zip_longest
from pathlib import Path
from random import Random
from typing import Final

from sqlalchemy import Connection

from bdcs.domain.machines import State
from bdcs.services import machines
from bdcs.services.ingest import Accepted, SegmentWriter
from bdcs.services.opening import Arrived
from bdcs.store import engine as engines
from bdcs.store import schema
from bdcs.store.evidence import EvidenceCodec
from bdcs.store.names import Names
from bdcs.store.places import Place
from benchmarks.fleet import DAY, Package, Repository, packages_of_the_log, simulated
from gentwoo_client.wire.columns import Columns
from gentwoo_client.wire.identity import machine_uuid

PACKAGES: Final = 10_000
CORE: Final = 150
"""Packages that almost everybody has; of the others each is had by so many as its rank says (Zipf)."""
SIMULATED: Final = 120
IN_TURN: Final = 120
"""Machines whose segments are mixed."""
SIZE: Final = 25  # records of a segment
SEGMENTS_AT_ONCE: Final = 1_000  # in a transaction
CACHE: Final = 1024 * 1024  # KiB of pages that are kept while the store is filled
LATEST: Final = 25 * DAY
"""A copy begins at most so much later."""
LACKING: Final = 0.06
"""How much of the packages a copy does not have."""

_FIELDS: Final = tuple(field.name for field in fields(Columns))


def load_wide_store(
    place: Place, audience: str, records: int, seed: int, until: int, *, arriving: int = 1
) -> tuple[int, int]:
    """Fill the store at `place`; return how many machines and how many records that were.

    They arrive one after the other in the last `arriving` seconds.
    """
    random = Random(seed)
    lives = _lives(Repository(wide_packages(random, until)), random, seed, until)
    engine = engines.create_writer(place)
    with engine.begin() as connection:
        schema.upgrade(connection)
        dictionary = EvidenceCodec.load(connection).dictionary_id
        if isinstance(place, Path):
            connection.exec_driver_sql(f"PRAGMA cache_size = -{CACHE}")
    machines_made = stored = 0
    writer = SegmentWriter(Names(), lambda: until - arriving + arriving * stored // records)
    while stored < records:
        with engine.begin() as connection:
            group = [_Machine(connection, next(lives), audience, dictionary, until) for _ in range(IN_TURN)]
        machines_made += len(group)
        turns = chain.from_iterable(zip_longest(*(machine.segments() for machine in group)))
        coming = (segment for segment in turns if segment is not None)
        while stored < records and (batch := list(islice(coming, SEGMENTS_AT_ONCE))):
            with engine.begin() as connection:
                outcomes = writer.store(connection, batch)
            writer.names.committed()
            assert all(isinstance(outcome, Accepted) for outcome in outcomes), outcomes
            stored += sum(len(each.records) for each in batch)
    engine.dispose()
    return machines_made, stored


def wide_packages(random: Random, until: int) -> list[Package]:
    """As many packages as a fleet has: those of the log, each under many names."""
    known = packages_of_the_log(random, until)
    made = []
    for rank in range(PACKAGES):
        number, place = divmod(rank, len(known))
        like = known[place]
        later = random.randrange(20 * DAY) if number else 0
        releases = tuple(replace(each, at=each.at + later) for each in like.releases)
        made.append(
            replace(
                like,
                key=(like.key[0], f"{like.key[1]}_{number}" if number else like.key[1]),
                popularity=min(0.98, CORE / (rank + 1)),
                releases=releases,
                times=tuple(each.at for each in releases),
            )
        )
    return made


def _lives(repository: Repository, random: Random, seed: int, until: int) -> Iterator[Columns]:
    """Yield what one machine after the other did, without end."""
    told: list[Columns] = []
    for number in range(SIMULATED):
        told.append(Columns.of(simulated(repository, seed, number, until)))
        yield told[-1]
    for number in count():
        yield _copy(told[number % SIMULATED], random, until)


def _copy(life: Columns, random: Random, until: int) -> Columns:
    """The same life, elsewhere."""
    later, speed = random.randrange(1, LATEST), random.lognormvariate(0, 0.6)
    names = list(zip(life.category, life.name, strict=True))
    has = {name: random.random() >= LACKING for name in sorted(set(names))}
    keeps = [has[name] and at + later <= until for name, at in zip(names, life.recorded_at, strict=True)]
    kept = {name: tuple(compress(getattr(life, name), keeps)) for name in _FIELDS}
    kept["seq"] = tuple(range(1, sum(keeps) + 1))
    kept["recorded_at"] = tuple(at + later for at in kept["recorded_at"])
    kept["time_delta"] = tuple(seconds and max(1, round(seconds * speed)) for seconds in kept["time_delta"])
    return Columns(**kept)


class _Machine:
    """A machine that is registered, and its chain."""

    def __init__(
        self, connection: Connection, life: Columns, audience: str, dictionary: int, until: int
    ) -> None:
        key = os.urandom(32)
        self._uuid = machine_uuid(key)
        machines.enrol(connection, self._uuid, key, State.APPROVED, now=until)
        self._life = life
        self._audience = audience
        self._dictionary = dictionary

    def segments(self) -> Iterator[Arrived]:
        """Yield its segments in their order."""
        prev = None
        for start in range(0, len(self._life), SIZE):
            digest = os.urandom(32)
            yield Arrived(
                machine=self._uuid,
                first_seq=start + 1,
                prev=prev,
                digest=digest,
                audience=self._audience,
                dictionary_id=self._dictionary,
                form=0,
                signature=os.urandom(64),
                evidence=os.urandom(8 * SIZE),
                records=Columns(
                    **{name: getattr(self._life, name)[start : start + SIZE] for name in _FIELDS}
                ),
            )
            prev = digest
