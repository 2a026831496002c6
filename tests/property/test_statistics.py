# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics follow from the records: neither from their order or batches, nor from who was forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, select

from bdcs.domain.statistics import WEEK, Topic
from bdcs.services import forgetting, machines
from bdcs.services.checking import segment_bytes
from bdcs.store import tables
from gentwoo_client.wire.records import PackageStateChange
from tests.statistics_stores import CODEC, chain, empty_store, publish, store_all
from tests.wire_samples import NOW, machine, record

seeds = st.integers(min_value=0, max_value=2**32)


def history(random: Random, packages: int = 3) -> list[PackageStateChange]:
    """What one machine may have done in some weeks."""
    now = NOW - 20 * WEEK + random.randrange(WEEK)
    installed: dict[str, str] = {}
    made: list[PackageStateChange] = []

    def add(**fields: object) -> None:
        made.append(record(seq=len(made) + 1, recorded_at=now, **fields))

    for _ in range(random.randint(3, 12)):
        now += random.randrange(2 * WEEK)
        name, version = f"alpha{random.randrange(packages)}", f"{random.randint(1, 3)}.0"
        what = random.choice(["merge", "merge", "merge", "fail", "remove"])
        if what == "fail":
            add(name=name, version=version, event="failure", cause="build", replaces=None)
        elif what == "remove" and name in installed:
            gone = installed.pop(name)
            add(
                name=name,
                version=gone,
                event="uninstall",
                cause="manual",
                replaces=None,
                install_type=None,
                time_delta=None,
                concurrency=None,
            )
        elif what == "merge":
            add(
                name=name,
                version=version,
                replaces=installed.get(name),
                install_type=random.choice(["source", "binary"]),
                time_delta=random.randint(1, 4000),
                repository=random.choice(["gentoo", "guru", None]),
            )
            installed[name] = version
    return made


def statistics(connection: Connection) -> dict[str, object]:
    """All that there is of statistics, by names rather than numbers."""
    packages = dict(iter(connection.execute(select(tables.packages.c.id, tables.packages.c.name))))
    versions = {0: "any", **dict(iter(connection.execute(select(tables.versions))))}
    repositories = {0: "unknown", **dict(iter(connection.execute(select(tables.repositories))))}
    uuids = dict(iter(connection.execute(select(tables.machines.c.id, tables.machines.c.uuid))))
    cells = {}
    for row in connection.execute(select(tables.statistic_cells)):
        bucket = repositories[row.bucket] if row.topic == Topic.REPOSITORY else row.bucket
        cells[packages[row.package_id], Topic(row.topic), versions[row.version_id], bucket] = row.published
    return {
        "cells": cells,
        "dates": {
            (packages[row.package_id], versions[row.version_id]): row[2:]
            for row in connection.execute(select(tables.version_dates))
        },
        "packages": {
            packages[row.package_id]: (row.records, row.machines, row.earlier, row.seconds)
            for row in connection.execute(select(tables.package_statistics))
        },
        "machines": {
            (uuids[row.machine_id], row.week): (row.merges, row.seconds)
            for row in connection.execute(select(tables.machine_weeks))
        },
        "weeks": {
            row.week: (row.machines, row.merges, row.seconds, row.saved)
            for row in connection.execute(select(tables.fleet_weeks))
        },
    }


def ones() -> Iterator[int]:
    while True:
        yield 1000


def sizes(random: Random) -> Iterator[int]:
    while True:
        yield random.randint(1, 4)


def shuffled(random: Random, chains: Sequence[Sequence[bytes]]) -> list[list[bytes]]:
    """All segments in batches, each machine's in order, but otherwise mixed."""
    waiting = [list(each) for each in chains]
    order = [place for place, each in enumerate(waiting) for _ in each]
    random.shuffle(order)
    batches: list[list[bytes]] = [[]]
    for place in order:
        if random.random() < 0.4:
            batches.append([])
        batches[-1].append(waiting[place].pop(0))
    return [batch for batch in batches if batch]


def fleet(random: Random, count: int) -> dict[int, list[PackageStateChange]]:
    return {number: made for number in range(1, count + 1) if (made := history(random))}


@settings(max_examples=6, deadline=None, derandomize=True)  # each is two stores of its own
@given(seeds, seeds)
def test_any_order_and_any_batches_give_the_same(seed: int, mixing: int) -> None:
    made = fleet(Random(seed), 14)
    with empty_store(list(made)) as connection:
        store_all(connection, [chain(number, each, ones()) for number, each in made.items()])
        publish(connection)
        expected = statistics(connection)
    assert expected["cells"]
    random = Random(mixing)
    numbers = list(made)
    random.shuffle(numbers)
    with empty_store(numbers) as connection:
        chains = [chain(number, made[number], sizes(random)) for number in numbers]
        store_all(connection, shuffled(random, chains))
        publish(connection)
        assert statistics(connection) == expected


@settings(max_examples=3, deadline=None, derandomize=True)
@given(seeds)
def test_the_evidence_replayed_gives_the_same(seed: int) -> None:
    random = Random(seed)
    made = fleet(random, 12)
    with empty_store(list(made)) as connection:
        store_all(connection, shuffled(random, [chain(each, made[each], sizes(random)) for each in made]))
        publish(connection)
        expected = statistics(connection)
        kept = [list(evidence_of(connection, number)) for number in made]
    with empty_store(list(made)) as connection:
        store_all(connection, kept)
        publish(connection)
        assert statistics(connection) == expected


def evidence_of(connection: Connection, number: int) -> Iterator[bytes]:
    """Each segment of a machine, rebuilt from what is kept."""
    found = machines.find(connection, machine(number))
    assert found is not None
    query = (
        select(tables.segments, tables.audiences.c.url.label("audience"))
        .join(tables.audiences)
        .where(tables.segments.c.machine_id == found.id)
        .order_by(tables.segments.c.first_seq)
    )
    prev = None
    for row in connection.execute(query):
        yield segment_bytes(row, str(machine(number)), prev, CODEC)
        prev = row.digest


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seeds, st.booleans())
def test_to_be_forgotten_is_never_to_have_been_there(seed: int, published_before: bool) -> None:
    random = Random(seed)
    made = fleet(random, 18)
    leaving = set(random.sample(sorted(made), 6))
    with empty_store([each for each in made if each not in leaving]) as connection:
        store_all(connection, [chain(each, made[each], ones()) for each in made if each not in leaving])
        publish(connection)
        expected = statistics(connection)
    with empty_store(list(made)) as connection:
        store_all(connection, shuffled(random, [chain(each, made[each], sizes(random)) for each in made]))
        if published_before:
            publish(connection)
        for number in leaving:
            found = machines.find(connection, machine(number))
            assert found is not None
            forgetting.forget(connection, found)
        if published_before:  # what was published may stay until a crowd moves it: begin with nothing
            publish_anew(connection)
        else:
            publish(connection)
        assert statistics(connection) == expected


def publish_anew(connection: Connection) -> None:
    """Forget what was published, and what was folded in, then do both again."""
    made_of_records = (
        tables.statistic_cells,
        tables.version_dates,
        tables.package_statistics,
        tables.machine_weeks,
        tables.fleet_weeks,
    )
    for table in made_of_records:
        connection.execute(delete(table))
    connection.execute(delete(tables.sequences).where(tables.sequences.c.name.like("statistics%")))
    publish(connection)
