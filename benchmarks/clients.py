# SPDX-License-Identifier: GPL-2.0-or-later
"""Ten thousand machines connected at once: each keeps its connection and pushes signed records over it.

    python -m benchmarks clients [--store postgresql] [--through haproxy|nginx] [--machines N]

A real daemon connects when it has records, sends them, and keeps its connection for as long as more may come,
a minute after the last. Here all machines do so at once, each pushing every minute, which no fleet does:
10,000 machines that merge 100 packages a day push 12 times a second in all. Then faster and faster, until the
collector does not keep up. Meanwhile people read pages, and other machines ask for an index that they have.

Machines are put into the store beforehand, with their keys; segments are signed before the clock runs. The
times of pushes count from the moment at which they were to begin, so nothing that waits is left out. Client,
collector, engine and proxy share the machine. Both engines sync every commit.
"""

import argparse
import asyncio
import gc
import itertools
import json
import math
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import uvloop
from sqlalchemy import func, insert, select

from bdcs.store import engine as engines
from bdcs.store import tables
from bdcs.store.engine import Place
from bdcs.store.places import PostgreSQL
from bdcs.store.store import transaction
from benchmarks.live_ingest import handle, verifications
from benchmarks.load import chain, numbered, push_request, real_changes
from benchmarks.table import Row, print_table
from gentwoo_client.wire.records import PackageStateChange
from tests.deploy.proxied import Certificate, running
from tests.haproxy import reserved
from tests.peer import Peer, request
from tests.postgresql import running_postgresql
from tests.processes import LISTENING, Collector, Process
from tests.shelf import Shelf
from tests.waiting import until

MACHINES: Final = 10_000
EVERY: Final = 60
"""Seconds from one push of a machine to its next."""
SIZE: Final = 2  # records of a push
FASTER: Final = (2, 3, 4, 5, 6, 8)
"""… and then so many times as often, for `STEP` seconds each."""
STEP: Final = 8
PAGES: Final = 5.0
INDEXES: Final = 20.0
"""Pages, and questions for an index, a second; a machine that syncs twice a day asks for 0.2 in all."""
AT_ONCE: Final = 500
"""Connections that are being made at a time, as after a collector's restart."""
ADDRESSES: Final = 40
"""Addresses of loopback that machines come from: a proxy limits each."""
PATIENCE: Final = 60.0
LATE: Final = 1.0
"""Seconds; a push that takes longer means that the collector does not keep up."""
KEPT_UP: Final = 0.95
"""How much of what is to be pushed in a second is, where it keeps up."""
SLOWEST: Final = 0.25  # seconds, of 99 of 100 answers
MEMORY: Final = 512  # MiB of the collector with all connections
PATHS: Final = ("/", "/packages", "/packages/{package}", "/developers", "/builds", "/about/status")
PAGE: Final = (200, 404)
"""Answers of pages: a package that too few machines have is not found."""
INDEX: Final = "/binhost/amd64/Packages.gz"


class Failed(Exception):
    """An answer that is no success, or none."""


class Line(asyncio.Protocol):
    """One connection: asks, and waits for the answer."""

    def __init__(self) -> None:
        self.is_open = False
        self._received = b""
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.is_open = cast(asyncio.Transport, transport), True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Failed("closed before it was answered"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        status = int(head[9:12])
        fields = head.lower()
        if b"transfer-encoding: chunked" in fields:
            is_whole = body.endswith(b"0\r\n\r\n")
        else:
            is_whole = len(body) >= int(fields.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if is_whole or status == 304:
            self._received = b""
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(status)

    async def ask(self, request: bytes) -> int:
        """Return the status of the answer. Raises `Failed`, `TimeoutError`."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._answer
        except TimeoutError:
            self.close()
            raise

    def close(self) -> None:
        """Close it."""
        self.is_open = False
        if self._transport is not None:
            self._transport.close()


@dataclass(slots=True)
class Machine:
    """One machine: its chain, and its connection."""

    number: int
    peer: Peer
    records: Iterator[PackageStateChange]
    line: Line | None = None
    ready: list[bytes] = field(default_factory=list)
    acknowledged: int = 0
    last: asyncio.Task[None] | None = None

    def sign(self, segments: int) -> None:
        """Make so many requests that continue the chain."""
        compacts = chain(self.peer, self.records, segments=segments, size=SIZE)
        self.ready += [push_request(self.peer, compact) for compact in compacts]


@dataclass(slots=True)
class Tally:
    """What came of requests of a kind."""

    seconds: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def quantile(self, share: float) -> float:
        """The time within which so many of them were answered, in seconds."""
        return sorted(self.seconds)[math.ceil(share * len(self.seconds)) - 1] if self.seconds else math.inf

    def told(self) -> str:
        """The times."""
        middle, slow = self.quantile(0.5) * 1000, self.quantile(0.99) * 1000
        return f"p50 {middle:,.0f} ms, p99 {slow:,.0f} ms of {len(self.seconds):,}"


@dataclass(slots=True)
class Fleet:
    """All machines, and what is known of how they fared."""

    url: str
    machines: list[Machine]
    reconnected: int = 0
    turn: int = 0

    async def connect(self, source: int) -> Line:
        """A new connection, from one of the addresses."""
        host, _, port = urlsplit(self.url).netloc.partition(":")
        _, line = await asyncio.get_running_loop().create_connection(
            Line, host, int(port), local_addr=(f"127.77.1.{1 + source % ADDRESSES}", 0)
        )
        return line

    async def connect_all(self) -> float:
        """Connect every machine; return the seconds it took."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def connect(machine: Machine) -> None:
            async with gate:
                machine.line = await self.connect(machine.number)

        began = time.perf_counter()
        await asyncio.gather(*map(connect, self.machines))
        return time.perf_counter() - began

    async def push(self, rate: float, seconds: float) -> tuple[Tally, float]:
        """Have machines push in turn, so many a second; return what came of it and how many were answered
        a second."""
        tally = Tally()
        began = time.perf_counter()
        tasks = []
        for number in range(int(rate * seconds)):
            due = began + number / rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            machine = self.machines[self.turn % len(self.machines)]
            self.turn += 1
            machine.last = asyncio.create_task(self._push(machine, due, tally, machine.last))
            tasks.append(machine.last)
        await asyncio.gather(*tasks)
        return tally, len(tally.seconds) / (time.perf_counter() - began)

    async def _push(
        self, machine: Machine, due: float, tally: Tally, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None and not before.done():
            await before
        try:
            if (
                machine.line is None or not machine.line.is_open
            ):  # idle for long: as the daemon, it comes again
                machine.line = await self.connect(machine.number)
                self.reconnected += 1
            request = machine.ready.pop(0)
            try:
                status = await machine.line.ask(request)
            except (
                Failed
            ):  # closed for having idled, just when it was used: the same again, as the uploader does
                machine.line = await self.connect(machine.number)
                self.reconnected += 1
                status = await machine.line.ask(request)
        except (OSError, TimeoutError, Failed) as error:
            tally.failed[type(error).__name__] += 1
            return
        if status == 200:
            machine.acknowledged += SIZE
            tally.seconds.append(time.perf_counter() - due)
        else:
            tally.failed[str(status)] += 1

    async def read(self, requests: Iterator[bytes], rate: float, tally: Tally, *wanted: int) -> None:
        """Ask for these in turn, so many a second, until cancelled."""
        began = time.perf_counter()
        tasks = set()
        lines: list[Line] = []
        for number in itertools.count():
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self._read(next(requests), due, tally, wanted, lines))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _read(
        self, request: bytes, due: float, tally: Tally, wanted: Sequence[int], idle: list[Line]
    ) -> None:
        try:
            line = idle.pop() if idle and idle[-1].is_open else await self.connect(0)
            status = await line.ask(request)
            idle.append(line)
        except (OSError, TimeoutError, Failed) as error:
            tally.failed[type(error).__name__] += 1
            return
        if status in wanted:
            tally.seconds.append(time.perf_counter() - due)
        else:
            tally.failed[str(status)] += 1

    def close(self) -> None:
        """Close all connections."""
        for machine in self.machines:
            if machine.line is not None:
                machine.line.close()


@dataclass(slots=True, kw_only=True)
class Found:
    """Everything that was measured."""

    connecting: float = 0.0
    connections: int = 0
    memory: list[float] = field(default_factory=list)
    """MiB of the collector: before, connected, pushing, at its limit."""
    processor: float = 0.0
    """Cores, while all push every minute."""
    steady: Tally = field(default_factory=Tally)
    pages: Tally = field(default_factory=Tally)
    indexes: Tally = field(default_factory=Tally)
    pages_at_limit: Tally = field(default_factory=Tally)
    rates: list[tuple[float, float, Tally]] = field(default_factory=list)
    """Wanted, answered, and how, a second."""
    kept: float = 0.0
    """The highest rate that it kept up with."""


async def measure(fleet: Fleet, pid: int, metrics: str) -> Found:
    """Do all of it."""
    found = Found()
    found.memory.append(resident(pid))
    found.connecting = await fleet.connect_all()
    loop = asyncio.get_running_loop()
    if metrics == fleet.url:
        found.connections = await loop.run_in_executor(None, connections, metrics, len(fleet.machines))
    else:  # a proxy has them, and passes on only requests
        found.connections = sum(
            machine.line is not None and machine.line.is_open for machine in fleet.machines
        )
    found.memory.append(resident(pid))

    rate = len(fleet.machines) / EVERY
    readers = [
        asyncio.create_task(fleet.read(pages(), PAGES, found.pages, *PAGE)),
        asyncio.create_task(fleet.read(itertools.repeat(asked()), INDEXES, found.indexes, 304)),
    ]
    computed, began = processor(pid), time.perf_counter()
    found.steady, answered = await fleet.push(rate, EVERY)
    found.processor = (processor(pid) - computed) / (time.perf_counter() - began)
    found.memory.append(resident(pid))
    found.kept = answered
    for reader in readers:
        reader.cancel()

    readers = [asyncio.create_task(fleet.read(pages(), PAGES, found.pages_at_limit, *PAGE))]
    for times in FASTER:
        tally, answered = await fleet.push(times * rate, STEP)
        found.rates.append((times * rate, answered, tally))
        if tally.failed or tally.quantile(0.99) > LATE or answered < KEPT_UP * times * rate:
            break
        found.kept = answered
    for reader in readers:
        reader.cancel()
    found.memory.append(resident(pid))
    return found


def pages() -> Iterator[bytes]:
    """Requests for one page after the other."""
    names = sorted({f"{change.category}/{change.name}" for change in real_changes()})
    for number in itertools.count():
        path = PATHS[number % len(PATHS)].format(package=names[number * 7 % len(names)])
        yield f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n\r\n".encode()


def asked() -> bytes:
    """The request of Portage for an index that it has."""
    since = formatdate(time.time() + 3600, usegmt=True)
    return f"GET {INDEX} HTTP/1.1\r\nHost: 127.0.0.1\r\nIf-Modified-Since: {since}\r\n\r\n".encode()


def connections(metrics: str, enough: int) -> int:
    """How many connections the collector says that it has, once these are enough or a minute is over."""

    def now() -> int:
        lines = request(metrics, "GET", "/metrics").body.decode().splitlines()
        return int(float(next(line for line in lines if line.startswith("bdcs_connections ")).split()[1]))

    deadline = time.monotonic() + PATIENCE
    while (count := now()) < enough and time.monotonic() < deadline:
        time.sleep(0.2)
    return count


def resident(pid: int) -> float:
    """MiB that a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS:")).split()[1]) / 1024


def processor(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def enrol(place: Place, url: str, count: int) -> list[Machine]:
    """Put machines into the store, as if they had registered."""
    changes = real_changes()
    machines = [
        Machine(number, Peer(url), numbered(changes, machine=number % len(changes)))
        for number in range(count)
    ]
    engine = engines.create_writer(place)
    with transaction(engine) as connection:
        rows = [
            {
                "uuid": str(machine.peer.machine),
                "public_key": machine.peer.public,
                "state": "approved",
                "registered_at": 0,
                "head_seq": 0,
            }
            for machine in machines
        ]
        connection.execute(insert(tables.machines), rows)
    engine.dispose()
    return machines


def stored(place: Place) -> tuple[int, int]:
    """How many records the store has, and up to which each machine has sent its own, added up."""
    engine = engines.create_reader(place)
    with transaction(engine) as connection:
        count = connection.scalar(select(func.count()).select_from(tables.package_state_changes))
        heads = connection.scalar(select(func.sum(tables.machines.c.head_seq)))
    engine.dispose()
    return int(count or 0), int(heads or 0)


async def peer_memory(url: str, pid: int, count: int) -> float:
    """KiB for each connection that a bare aiohttp handler has, each having been asked once."""
    fleet = Fleet(url, [Machine(number, Peer(url), iter(())) for number in range(count)])
    before = resident(pid)
    await fleet.connect_all()
    for machine in fleet.machines:
        assert machine.line is not None
        assert await machine.line.ask(asked()) == 304
    after = resident(pid)
    fleet.close()
    return (after - before) * 1024 / count


def limits(home: Path, count: int) -> tuple[float, float]:
    """Of a bare aiohttp handler: KiB for each connection, and the pushes that it would take a second if it
    also verified signatures."""
    command = [sys.executable, "-m", "benchmarks.limits", "handler"]
    with Process(command, log=home / "bare.log") as bare:
        url = bare.until_printed(LISTENING)[1]
        h = handle(url).rate
        memory = uvloop.run(peer_memory(url, bare.pid, count))
        bare.stop()
    return memory, 1 / (1 / h + 1 / verifications())


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A collector that serves, and what stands before and behind it."""

    collector: Collector
    place: Place
    url: str
    """Where machines find it."""


@contextmanager
def serving(home: Path, store: str, through: str | None) -> Iterator[Site]:
    """Run one with an index of one package."""
    with ExitStack() as stack:
        place: Place = home / "collector/data" / engines.SQLITE_NAME
        settings: dict[str, Any] = {"records_per_network": 1_000_000_000}
        if store == "postgresql":
            server = stack.enter_context(running_postgresql(home, is_durable=True))
            place = PostgreSQL(server.new_database(is_empty=True))
            settings["store"] = place.url
        if through is not None:
            port = stack.enter_context(reserved())
            settings |= {"public_url": f"http://127.0.0.1:{port}", "trusted_proxies": ["127.0.0.1/32"]}
        (home / "bdcs.toml").write_text(
            "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
        )
        collector = stack.enter_context(
            Collector(home / "collector", options=("--config", str(home / "bdcs.toml")))
        )
        shelf = Shelf(collector.data)
        shelf.engine = engines.create_writer(place)
        shelf.add_target("amd64")
        shelf.put("amd64", "app-misc/alpha-1.0", b"alpha")
        until(lambda: request(collector.url, "GET", INDEX).status == 200, what="an index")
        url = collector.url
        if through is not None:
            both = {"c1": collector.url, "c2": collector.url}
            certificate = Certificate.create(home)
            proxy = running(through, home / "proxy", both, certificate, port=port)
            url = stack.enter_context(proxy).url
        yield Site(collector=collector, place=place, url=url)


def rows_of(found: Found, fleet: Fleet, limit: float, bare: float, kept: tuple[int, int]) -> Iterator[Row]:
    """What is printed."""
    count = len(fleet.machines)
    failed = found.steady.failed + found.pages.failed + found.indexes.failed
    connected = found.connections >= count and not failed
    yield Row(
        what=f"{count:,} machines connected at once",
        target=f"{count:,} counted by the collector, or by themselves where a proxy has them; nothing fails",
        measured=f"{found.connections:,} in {found.connecting:.1f} s, {told(failed)} failed",
        is_met=connected,
    )
    yield Row(
        what="memory of the collector: started, connected, pushing, at its limit",
        target=f"<= {MEMORY} MiB",
        measured=", ".join(f"{each:,.0f}" for each in found.memory) + " MiB",
        ratio=max(found.memory) / MEMORY,
        is_met=max(found.memory) <= MEMORY,
    )
    each = (found.memory[1] - found.memory[0]) * 1024 / count
    yield Row(
        what="… for each connection",
        target="<= 2 of a bare aiohttp handler",
        measured=f"{each:.1f} KiB",
        beside=f"{bare:.1f} KiB",
        ratio=each / bare,
        is_met=each <= 2 * bare,
    )
    rate = count / EVERY
    for what, tally in (
        (f"{rate:,.0f} pushes/s, one of each machine in {EVERY} s", found.steady),
        (f"{PAGES:.0f} pages/s meanwhile", found.pages),
        (f"{INDEXES:.0f} times/s 304 for an index", found.indexes),
    ):
        slow = tally.quantile(0.99)
        yield Row(
            what=what,
            target=f"p99 <= {SLOWEST * 1000:.0f} ms",
            measured=tally.told(),
            ratio=slow / SLOWEST,
            is_met=slow <= SLOWEST,
        )
    yield Row(
        what="… processor of the collector",
        target="<= 1 core",
        measured=f"{found.processor:.2f} cores",
        ratio=found.processor,
        is_met=found.processor <= 1,
    )
    yield Row(
        what=f"most pushes a second, from {count:,} connections in turn",
        target=f">= {2 * rate:,.0f} pushes/s",
        measured=f"{found.kept:,.0f} pushes/s",
        beside=f"1/(1/h + 1/v): {limit:,.0f}/s",
        ratio=found.kept / limit,
        is_met=found.kept >= 2 * KEPT_UP * rate,
    )
    acknowledged = sum(machine.acknowledged for machine in fleet.machines)
    yield Row(
        what="records acknowledged",
        target="each stored once",
        measured=f"{acknowledged:,}",
        beside=f"{kept[0]:,} stored, heads at {kept[1]:,}",
        is_met=kept == (acknowledged, acknowledged),
    )


def told(failed: Counter[str]) -> str:
    """How many, and of what."""
    return ", ".join(f"{count} {kind}" for kind, count in failed.items()) or "none"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--through", choices=("haproxy", "nginx"))
    parser.add_argument("--machines", type=int, default=MACHINES)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        bare, limit = limits(home, options.machines)
        with serving(home, options.store, options.through) as site:
            fleet = Fleet(site.url, enrol(site.place, site.url, options.machines))
            rate = options.machines / EVERY
            pushes = rate * EVERY + sum(times * rate * STEP for times in FASTER)
            for machine in fleet.machines:
                machine.sign(math.ceil(pushes / options.machines))
            gc.collect()
            gc.freeze()
            load = os.getloadavg()[0]
            assert site.collector.process is not None
            found = uvloop.run(measure(fleet, site.collector.process.pid, site.collector.url))
            kept = stored(site.place)
            fleet.close()
            site.collector.stop()
    print_table(rows_of(found, fleet, limit, bare, kept))
    for wanted, answered, tally in found.rates:
        print(
            f"{wanted:,.0f} pushes/s wanted: {answered:,.0f}/s, {tally.told()}, {told(tally.failed)} failed"
        )
    print(f"pages meanwhile: {found.pages_at_limit.told()}, {told(found.pages_at_limit.failed)} failed")
    print(f"reconnected: {fleet.reconnected}; load: {load:.1f} before, {os.getloadavg()[0]:.1f} after\n")


if __name__ == "__main__":
    main()
