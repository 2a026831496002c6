# SPDX-License-Identifier: GPL-2.0-or-later
"""Claims: 256 builders take one job after the other out of 100,000 that a hundred machines wait for.

    python -m benchmarks claims [--store postgresql] [--jobs N] [--builders N] [--seconds N]

First everything that the collector does of it in one process, from the token to the durable lease, without
HTTP; then over HTTP, from a real collector, with a connection for each builder. Tokens are made before. Twice
a second all that was leased is taken as built, by three statements; their time counts. Beside it, in one
run: how many bare rows a second the store makes durable for as many who wait at a time, by the same group
commit. Both engines sync every commit.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import tempfile
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Table, insert, select, update

from bdcs.blobs.attempt_logs import Logs
from bdcs.bus.memory import Bus
from bdcs.services import queueing, targets
from bdcs.services.answers import SignedRequest
from bdcs.services.attempting import Attempting
from bdcs.services.authentication import Authenticator
from bdcs.services.build_documents import BuildDocuments
from bdcs.services.machines import Keys
from bdcs.services.publishing import Publisher
from bdcs.services.waking import Transactions
from bdcs.store import engine as engines
from bdcs.store import schema, tables
from bdcs.store.bulk import insert_rows
from bdcs.store.engine import Place
from bdcs.store.places import PostgreSQL
from bdcs.store.store import Store, transaction
from benchmarks.load import drive
from benchmarks.table import Row, print_table
from gentwoo_client.wire.build_messages import Claim
from gentwoo_client.wire.identity import machine_uuid
from gentwoo_client.wire.tokens import make_token
from tests.builds import CHOST, specification
from tests.postgresql import running_postgresql
from tests.processes import Collector

JOBS: Final = 100_000
MACHINES: Final = 100
BUILDERS: Final = 256
TARGETS: Final = ("amd64", "arm64", "riscv")
SECONDS: Final = 8.0
TOKENS: Final = 1500  # that are made for each second
LIMIT: Final = 1000.0
"""Claims a second."""
AUDIENCE: Final = "https://collector.example.org"
PATH: Final = "/v1/attempts?wait=0"
AT_ONCE: Final = 10_000  # rows
BUILT: Final = 0.5  # seconds after which all that was leased is taken as built


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Who claims, for two of the targets."""

    machine: uuid.UUID
    key: Ed25519PrivateKey
    claim: Claim

    def signed(self, now: float, collector: str = AUDIENCE) -> SignedRequest:
        """A request for work that was not sent before."""
        body = json.dumps({"targets": self.claim.targets, "name": self.claim.name}).encode()
        url = f"{collector}{PATH}"
        token = make_token(
            self.key, machine=self.machine, audience=collector, method="POST", url=url, body=body, now=now
        )
        return SignedRequest(token=token, method="POST", url=url, body=body)

    def request(self, now: float, collector: str) -> bytes:
        """The bytes of that, as HTTP."""
        signed = self.signed(now, collector)
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {urlsplit(collector).netloc}\r\n"
            f"Authorization: Bearer {signed.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(signed.body)}\r\n\r\n"
        )
        return head.encode() + signed.body


def prepare(place: Place, count: int, builder_count: int = BUILDERS) -> list[Builder]:
    """Fill a store; return the builders that are approved there."""
    engine = engines.create_writer(place)
    with transaction(engine) as connection:
        schema.upgrade(connection)
        ids = [
            targets.add(connection, name, now=time.time(), chost=CHOST, profile="default").id
            for name in TARGETS
        ]
        wishers = [add_machine(connection, Ed25519PrivateKey.generate())[0] for _ in range(MACHINES)]
        builders = [add_builder(connection, number, ids) for number in range(builder_count)]
        add_jobs(connection, count, ids, wishers)
    with transaction(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")  # as autovacuum does before long
    engine.dispose()
    return builders


def add_machine(connection: Connection, key: Ed25519PrivateKey) -> tuple[int, uuid.UUID]:
    """A machine that is known; return its id and its name."""
    public = key.public_key().public_bytes_raw()
    name = machine_uuid(public)
    row = {"uuid": str(name), "public_key": public, "state": "approved", "registered_at": 0, "head_seq": 0}
    number: int = connection.execute(
        insert(tables.machines).values(row).returning(tables.machines.c.id)
    ).scalar_one()
    return number, name


def add_builder(connection: Connection, number: int, ids: Sequence[int]) -> Builder:
    """A builder for all targets but one."""
    key = Ed25519PrivateKey.generate()
    machine, name = add_machine(connection, key)
    left_out = number % len(ids)
    for index, target in enumerate(ids):
        if index != left_out:
            allowed = {"machine_id": machine, "target_id": target, "approved_at": 0}
            connection.execute(insert(tables.builder_targets).values(allowed))
    names = [target for index, target in enumerate(TARGETS) if index != left_out]
    return Builder(machine=name, key=key, claim=Claim(targets=names, name=f"builder{number}"))


def add_jobs(connection: Connection, count: int, ids: Sequence[int], wishers: Sequence[int]) -> None:
    """Queue jobs, each wanted by one machine, with a request for all that it wants of a target."""
    wanted = specification("app-misc/alpha-1.0", DEPEND="dev-libs/one >=dev-libs/two-2:0").to_json()
    common = {
        "cpv": "app-misc/alpha-1.0", "category": "app-misc", "name": "alpha", "version": "1.0",
        "repository": "gentoo", "specification": json.dumps(wanted), "state": "queued", "priority": 100,
        "origin": "request", "created_at": 0,
    }  # fmt: skip
    requests = [
        {
            "id": f"{machine}-{target}",
            "machine_id": machine,
            "target_id": target,
            "created_at": 0,
            "note": "[]",
        }
        for machine in wishers
        for target in ids
    ]
    connection.execute(insert(tables.requests), requests)
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, count))
        rows: list[dict[str, Any]] = [
            {"id": number + 1, "target_id": ids[number % len(ids)], "digest": str(number),
             "queued_at": number // 100, **common}
            for number in numbers
        ]  # fmt: skip
        members = [
            {"request_id": f"{wishers[number // len(ids) % len(wishers)]}-{row['target_id']}",
             "position": number, "cpv": row["cpv"], "digest": row["digest"], "job_id": row["id"],
             "answer": "queued", "state": "waiting"}
            for number, row in zip(numbers, rows, strict=True)
        ]  # fmt: skip
        insert_rows(connection, tables.jobs, _tuples(tables.jobs, rows))
        insert_rows(connection, tables.members, _tuples(tables.members, members))
        queueing.renew(connection, [row["id"] for row in rows])


def _tuples(table: Table, rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row.get(column.name) for column in table.columns) for row in rows]


def take_as_built(connection: Connection) -> None:
    """End all that is being built, without what publishing does besides."""
    jobs, members = tables.jobs, tables.members
    building = select(jobs.c.id).where(jobs.c.state == "building")
    connection.execute(
        update(members)
        .where(members.c.job_id.in_(building), members.c.state == "waiting")
        .values(state="published")
    )
    connection.execute(update(tables.attempts).where(_LEASED).values(state="published", finished_at=0))
    connection.execute(update(jobs).where(jobs.c.state == "building").values(state="published"))


_LEASED: Final = tables.attempts.c.state == "leased"


async def claims_a_second(
    store: Store, attempting: Attempting, builders: Sequence[Builder], most: int, seconds: float
) -> tuple[float, float]:
    """Have all claim; return how many leases there were a second, and the processor time of each in ms."""
    now = time.time()
    requests = [[each.signed(now) for _ in range(most)] for each in builders]
    leased: set[int] = set()

    def claiming(builder: Builder, signed: Iterator[SignedRequest]) -> Callable[[], Awaitable[None]]:
        async def once() -> None:
            answer = await attempting.claim(next(signed), builder.claim, wait=0)
            assert answer.status == 201, answer
            job = json.loads(answer.body)["job"]["job"]
            assert job not in leased
            leased.add(job)

        return once

    async def build() -> None:
        while True:
            await asyncio.sleep(BUILT)
            await store.write(take_as_built)

    works = [claiming(*each) for each in zip(builders, map(iter, requests), strict=True)]
    computed = time.process_time()
    building = asyncio.create_task(build())
    took = await repeat(works, seconds, most)
    computed = time.process_time() - computed
    building.cancel()
    return len(leased) / took, computed / len(leased) * 1000


def claims_over_http(home: Path, place: Place, builders: Sequence[Builder], most: int) -> tuple[float, float]:
    """The same from a collector in a process of its own, with the processor time of that process."""
    (home / "bdcs.toml").write_text("")
    collector = Collector(home, options=["--store", place.url] if isinstance(place, PostgreSQL) else [])
    done = threading.Event()

    def build() -> None:
        engine = engines.create_writer(place)
        while not done.wait(BUILT):
            with transaction(engine) as connection:
                take_as_built(connection)
        engine.dispose()

    with collector, ThreadPoolExecutor(1) as thread:
        now = time.time()
        queues = [[each.request(now, collector.url) for _ in range(most)] for each in builders]
        assert collector.process is not None
        computed = _processor_time(collector.process.pid)
        building = thread.submit(build)
        try:
            rate = drive(collector.url, queues, status=201).rate
        finally:
            done.set()
        computed = _processor_time(collector.process.pid) - computed
        building.result()
        collector.stop()
    return rate, computed / (most * len(builders)) * 1000


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def rows_a_second(store: Store, count: int, seconds: float) -> float:
    """Have as many wait for a bare row; return how many were durable a second."""
    written = 0

    def put(connection: Connection, items: Sequence[str]) -> list[None]:
        connection.execute(insert(tables.sequences), [{"name": item, "value": 1} for item in items])
        return [None] * len(items)

    async def once() -> None:
        nonlocal written
        await store.write_grouped(put, str(uuid.uuid4()), 1)
        written += 1

    took = await repeat([once] * count, seconds)
    return written / took


async def repeat(works: Sequence[Callable[[], Awaitable[None]]], seconds: float, most: int = 10**9) -> float:
    """Do each again and again, all at once; return the seconds that it took."""
    started = time.perf_counter()

    async def again(work: Callable[[], Awaitable[None]]) -> None:
        for _ in range(most):
            await work()
            if time.perf_counter() - started > seconds:
                break

    await asyncio.gather(*map(again, works))
    return time.perf_counter() - started


async def measured(
    place: Place, builders: Sequence[Builder], most: int, seconds: float
) -> tuple[float, float, float]:
    """Return claims a second, the milliseconds that each computed, and bare rows a second."""
    store = Store(place)
    attempting = Attempting(
        transactions=Transactions(store=store, bus=Bus(), now=time.time),
        authenticator=Authenticator(keys=Keys(store), audience=AUDIENCE, now=time.time),
        documents=BuildDocuments(public_url=AUDIENCE),
        logs=cast(Logs, None),
        publisher=cast(Publisher, None),
        now=time.time,
    )
    claims, computed = await claims_a_second(store, attempting, builders, most, seconds)
    rows = await rows_a_second(store, len(builders), seconds / 4)
    attempting.close()
    await store.close()
    return claims, computed, rows


def check(place: Place) -> None:
    """See that no job was given to two, and that the queue says what is so."""
    engine = engines.create_reader(place)
    with engine.connect() as connection:
        assert queueing.wrong(connection) == []
        assert _leased_twice(connection) == []
    engine.dispose()


def _leased_twice(connection: Connection) -> list[Any]:
    jobs = list(connection.scalars(select(tables.attempts.c.job_id)))
    return [] if len(set(jobs)) == len(jobs) else jobs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--builders", type=int, default=BUILDERS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for which they claim")
    options = parser.parse_args()
    most = min(int(TOKENS * options.seconds), options.jobs // 4) // options.builders
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place: Place = home / "data" / engines.SQLITE_NAME
        engine = f"SQLite {sqlite3.sqlite_version}"
        if options.store == "postgresql":
            server = stack.enter_context(running_postgresql(home, is_durable=True))
            place, engine = PostgreSQL(server.new_database(is_empty=True)), "PostgreSQL"
        builders = prepare(place, options.jobs, options.builders)
        claims, computed, rows = asyncio.run(measured(place, builders, most, options.seconds))
        over_http, computed_over_http = claims_over_http(home, place, builders, most // 2)
        check(place)
    what = f"{options.builders} builders claim of {options.jobs:,} jobs of {MACHINES} machines, {engine}"

    def row(how: str, claims: float, computed: float) -> Row:
        return Row(
            what=f"{what}, {how}",
            target=f">= {LIMIT:,.0f} claims/s",
            measured=f"{claims:,.0f} claims/s ({computed:.2f} ms computing each)",
            beside=f"bare durable rows: {rows:,.0f}/s",
            ratio=claims / rows,
            is_met=claims >= LIMIT,
        )

    print_table([row("in one process", claims, computed), row("over HTTP", over_http, computed_over_http)])
    print(f"load: {os.getloadavg()[0]:.1f}\n")


if __name__ == "__main__":
    main()
