# SPDX-License-Identifier: GPL-2.0-or-later
"""A simulated fleet: machines with sets of packages, habits, speeds and failures derived from a real log.

Which packages there are, their versions, how often they are updated and how long they build comes from
`tests/data/emerge-logs/emlop-10000.log`; how machines differ is drawn by chance, the same for the same seed.
Each machine has a real key, and its segments are really signed, so that a store filled with them is as good
as one that a fleet pushed into:

    python -m benchmarks.fleet --machines 1000 --store DIRECTORY --audience https://collector.example.org
    python -m benchmarks.fleet --machines 30 --collector http://127.0.0.1:8642
"""

import argparse
import hashlib
import math
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cmp_to_key, lru_cache, partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bdcs.domain import evidence
from bdcs.domain.machines import State
from bdcs.services import machines
from bdcs.services.ingest import Accepted, SegmentWriter
from bdcs.services.opening import Arrived
from bdcs.store import engine as engines
from bdcs.store import schema
from bdcs.store.evidence import EvidenceCodec
from bdcs.store.names import Names
from benchmarks.load import drive, push_request, real_changes
from gentwoo_client.wire import base64url, json_text
from gentwoo_client.wire.columns import Columns
from gentwoo_client.wire.identity import machine_uuid
from gentwoo_client.wire.jws import sign
from gentwoo_client.wire.records import BACKFILL, PackageStateChange
from gentwoo_client.wire.segments import SEGMENT_TYPE, Segment, digest, split_segment
from gentwoo_client.wire.version import compare_versions
from tests.peer import Peer

DAY: Final = 86_400
SPAN: Final = 400 * DAY
"""How long ago the first machine begins."""
PACKAGES: Final = 160
"""Of the log, those that were merged most often."""
RECORDS: Final = 400  # of a segment
TOLD_AT_ONCE: Final = 50
"""Machines that one process tells of, and whose segments are stored in one transaction."""
CONNECTIONS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A version of a package, and when it came into the repository."""

    version: str
    at: int
    failing: float
    """How likely a machine fails to build it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package as all machines see it."""

    key: tuple[str, str]
    """Category and name."""
    seconds: float
    """To build it on an average machine."""
    popularity: float
    releases: tuple[Release, ...]
    times: tuple[int, ...]
    """When each of the releases came."""


class Repository:
    """The packages, and in which order their releases came."""

    def __init__(self, packages: Sequence[Package]) -> None:
        self.packages = packages
        releases = [(at, place) for place, package in enumerate(packages) for at in package.times]
        releases.sort()
        self._times = [at for at, _ in releases]
        self._released = [packages[place] for _, place in releases]

    def released(self, since: int, until: int) -> list[Package]:
        """The packages that had a release after `since`, and no later than `until`."""
        return self._released[bisect_right(self._times, since) : bisect_right(self._times, until)]


@dataclass(slots=True)
class SimulatedMachine:
    """One machine: what it is like, and what it has done."""

    random: Random
    speed: float
    eagerness: float
    """Days from one update to the next."""
    binaries: float
    """How likely it takes a binary package."""
    installed: dict[tuple[str, str], str] = field(default_factory=dict)
    records: list[PackageStateChange] = field(default_factory=list)
    now: int = 0

    def merge(self, package: Package, release: Release) -> None:
        """Install a version in place of the one that is there; it may fail."""
        old = self.installed.get(package.key)
        is_binary = self.random.random() < self.binaries
        seconds = max(1, round(package.seconds * self.speed * self.random.lognormvariate(0, 0.25)))
        if not is_binary and self.random.random() < release.failing:
            self.now += seconds // 2 + 1
            self._add(
                package,
                release.version,
                event="failure",
                cause="build",
                install_type="source",
                time_delta=seconds // 2 + 1,
                concurrency=1.0,
            )
            return
        seconds = max(2, seconds // 40) if is_binary else seconds
        self.now += seconds
        if old is not None:
            self._add(package, old, event="uninstall", cause="replaced")
        self._add(
            package,
            release.version,
            event="install",
            install_type="binary" if is_binary else "source",
            replaces=old,
            time_delta=seconds,
            concurrency=1.0,
        )
        self.installed[package.key] = release.version

    def remove(self, package: Package) -> None:
        """Remove a package by hand."""
        version = self.installed.pop(package.key, None)
        if version is not None:
            self._add(package, version, event="uninstall", cause="manual")

    def _add(self, package: Package, version: str, *, event: str, **fields: Any) -> None:
        values: dict[str, Any] = {
            "install_type": None,
            "cause": None,
            "replaces": None,
            "time_delta": None,
            "concurrency": None,
            **fields,
        }
        self.records.append(
            PackageStateChange(
                seq=len(self.records) + 1,
                event=event,
                category=package.key[0],
                name=package.key[1],
                version=version,
                repository="guru" if package.popularity < 0.1 else "gentoo",
                recorded_at=self.now,
                observed=BACKFILL,
                clock="unknown",
                **values,
            )
        )


def packages_of_the_log(random: Random, until: int) -> list[Package]:
    """The packages that the log's machine merges most often, with releases spread over `SPAN`."""
    merged: dict[tuple[str, str], list[PackageStateChange]] = defaultdict(list)
    for change in real_changes():
        if change.event == "install":
            merged[change.category, change.name].append(change)
    changes = [change for each in merged.values() for change in each]
    first = min(change.recorded_at for change in changes)
    stretch = SPAN / (max(change.recorded_at for change in changes) - first + 1)
    chosen = sorted(merged, key=lambda key: (-len(merged[key]), key))[:PACKAGES]
    made = []
    for rank, key in enumerate(chosen):
        times = [change.time_delta for change in merged[key] if change.time_delta]
        releases = _releases(random, merged[key], until, first, stretch)
        made.append(
            Package(
                key=key,
                seconds=median(times) if times else 30.0,
                popularity=0.98 * math.exp(-rank / (PACKAGES / 3)),
                releases=releases,
                times=tuple(each.at for each in releases),
            )
        )
    return made


def _releases(
    random: Random, changes: Sequence[PackageStateChange], until: int, first: int, stretch: float
) -> tuple[Release, ...]:
    """Each version once, when the log has it first; one in nine has a fault."""
    seen: dict[str, int] = {}
    for change in changes:
        seen.setdefault(change.version, round(until - SPAN + (change.recorded_at - first) * stretch))
    times = sorted(seen.values())
    times[0] = until - SPAN - DAY  # something was there before
    ordered = sorted(
        seen, key=cmp_to_key(compare_versions)
    )  # the log's slots and downgrades make no sense here
    return tuple(
        Release(version=version, at=at, failing=random.choice([0.004] * 8 + [0.22]))
        for version, at in zip(ordered, times, strict=True)
    )


def simulated(repository: Repository, seed: int, number: int, until: int) -> list[PackageStateChange]:
    """What machine `number` did until now."""
    random = Random(f"{seed}/{number}")
    machine = SimulatedMachine(
        random=random,
        speed=random.lognormvariate(0, 0.6),
        eagerness=random.choice([2, 7, 7, 14, 30, 90]),
        binaries=random.choice([0.0, 0.0, 0.0, 0.3, 0.85]),
    )
    start = until - SPAN + round(random.random() ** 2 * SPAN * 0.9)
    wanted = {each.key: each for each in repository.packages if random.random() < each.popularity}
    machine.now = start
    for package in wanted.values():
        machine.merge(package, _newest(package, start))
    outdated = dict(wanted)
    synced = start
    while machine.now < until:
        machine.now += round(random.expovariate(1 / (machine.eagerness * DAY))) + 3600
        if machine.now < until:
            now = machine.now
            outdated |= {each.key: each for each in repository.released(synced, now) if each.key in wanted}
            synced = now
            _update(machine, outdated)
            _try_or_remove(machine, repository.packages, wanted)
            outdated = {
                key: each
                for key, each in outdated.items()
                if key in wanted and machine.installed.get(key) != _newest(each, now).version
            }
    return [record for record in machine.records if record.recorded_at <= until]


def _update(machine: SimulatedMachine, outdated: Mapping[tuple[str, str], Package]) -> None:
    """Bring almost everything up to date; of a version that fails often, some go back."""
    random = machine.random
    for package in outdated.values():
        newest = _newest(package, machine.now)
        if machine.installed.get(package.key) != newest.version and random.random() < 0.9:
            machine.merge(package, newest)
            if newest.failing > 0.1 and random.random() < 0.12 and len(package.releases) > 1:
                machine.now += 1800
                machine.merge(package, package.releases[max(package.releases.index(newest) - 1, 0)])


def _try_or_remove(
    machine: SimulatedMachine, packages: Sequence[Package], wanted: dict[tuple[str, str], Package]
) -> None:
    """Now and then try something new, or remove something."""
    random = machine.random
    if random.random() < 0.25:
        tried = random.choice(packages)
        if tried.key not in wanted:
            machine.merge(tried, _newest(tried, machine.now))
            if random.random() < 0.4:
                machine.now += random.randrange(7200)
                machine.remove(tried)
            else:
                wanted[tried.key] = tried
    if random.random() < 0.05 and len(wanted) > 5:
        machine.remove(wanted.pop(random.choice(list(wanted))))


def _newest(package: Package, now: int) -> Release:
    """The newest release at a time; the first is older than everything."""
    return package.releases[max(bisect_right(package.times, now) - 1, 0)]


def key_of(seed: int, number: int) -> Ed25519PrivateKey:
    """The key of machine `number`, which anybody can make who knows the seed."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"fleet/{seed}/{number}".encode()).digest())


def signed(
    key: Ed25519PrivateKey, audience: str, records: Sequence[PackageStateChange]
) -> Iterator[tuple[Segment, bytes]]:
    """A machine's chain; unlike a client this does not look through what it made."""
    machine, prev = machine_uuid(key.public_key().public_bytes_raw()), None
    for first in range(0, len(records), RECORDS):
        batch = tuple(records[first : first + RECORDS])
        segment = Segment(
            machine=machine,
            audience=audience,
            first_seq=batch[0].seq,
            prev=prev,
            created_at=batch[-1].recorded_at,
            records=batch,
        )
        compact = sign(json_text.dump(segment.to_json()), key, kind=SEGMENT_TYPE)
        prev = digest(compact)
        yield segment, compact


def load_store(data: Path, audience: str, count: int, seed: int, until: int) -> int:
    """Fill the store in the directory `data`, on all cores; return how many records that were."""
    engine = engines.create_writer(data / engines.SQLITE_NAME)
    with engine.begin() as connection:
        schema.upgrade(connection)
        for number in range(count):
            raw = key_of(seed, number).public_key().public_bytes_raw()
            machines.enrol(connection, machine_uuid(raw), raw, State.APPROVED, now=until)
    writer = SegmentWriter(Names(), lambda: until)
    some = [range(first, min(first + TOLD_AT_ONCE, count)) for first in range(0, count, TOLD_AT_ONCE)]
    stored = 0
    with ProcessPoolExecutor() as pool:
        for batch in pool.map(partial(_told, data, audience, seed, until), some):
            with engine.begin() as connection:
                outcomes = writer.store(connection, batch)
            writer.names.committed()
            assert all(isinstance(outcome, Accepted) for outcome in outcomes), outcomes
            stored += sum(len(each.records) for each in batch)
    engine.dispose()
    return stored


def _told(data: Path, audience: str, seed: int, until: int, numbers: range) -> list[Arrived]:
    """The segments of these machines."""
    repository, codec = _known(data, seed, until)
    return [
        arrived(segment, compact, codec)
        for number in numbers
        for segment, compact in signed(
            key_of(seed, number), audience, simulated(repository, seed, number, until)
        )
    ]


@lru_cache(maxsize=1)
def _known(data: Path, seed: int, until: int) -> tuple[Repository, EvidenceCodec]:
    """What a process needs for every machine."""
    engine = engines.create_reader(data / engines.SQLITE_NAME)
    with engine.connect() as connection:
        codec = EvidenceCodec.load(connection)
    engine.dispose()
    return Repository(packages_of_the_log(Random(seed), until)), codec


def arrived(segment: Segment, compact: bytes, codec: EvidenceCodec) -> Arrived:
    """A segment as it is once all checks were passed."""
    parts = split_segment(compact)
    prev = None if segment.prev is None else base64url.decode(segment.prev)
    envelope = evidence.Envelope(
        machine=str(segment.machine), audience=segment.audience, first_seq=segment.first_seq, prev=prev
    )
    form, kept = evidence.pack(envelope, parts.header, parts.payload)
    return Arrived(
        machine=segment.machine,
        first_seq=segment.first_seq,
        prev=prev,
        digest=hashlib.sha256(compact).digest(),
        audience=segment.audience,
        dictionary_id=codec.dictionary_id,
        form=int(form),
        signature=parts.signature,
        evidence=codec.compress(kept),
        records=Columns.of(segment.records),
    )


def push(collector: str, count: int, seed: int, until: int) -> int:
    """Register the fleet at a collector and push through its API; return how many records that were."""
    repository = Repository(packages_of_the_log(Random(seed), until))
    queues: list[list[bytes]] = [[] for _ in range(min(CONNECTIONS, count))]
    pushed = 0
    for number in range(count):
        peer = Peer(collector, key=key_of(seed, number))
        answer = peer.register()
        assert answer.status in (200, 201), answer
        records = simulated(repository, seed, number, until)
        pushed += len(records)
        queues[number % len(queues)] += [
            push_request(peer, compact) for _, compact in signed(peer.key, collector, records)
        ]
    drive(collector, queues)
    return pushed


def main() -> None:
    """Make the fleet and say how long it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--machines", type=int, default=1000, help="how many (default: 1,000)")
    parser.add_argument("--seed", type=int, default=1, help="the same gives the same fleet")
    parser.add_argument("--until", type=int, default=int(time.time()), help="Unix seconds; default: now")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--store", type=Path, help="data directory of a collector that does not run")
    where.add_argument("--collector", help="URL of one that does")
    parser.add_argument("--audience", default="http://127.0.0.1:8642", help="its public URL, with --store")
    given = parser.parse_args()
    start = time.perf_counter()
    if given.store:
        given.store.mkdir(parents=True, exist_ok=True)
        records = load_store(given.store, given.audience, given.machines, given.seed, given.until)
    else:
        records = push(given.collector, given.machines, given.seed, given.until)
    print(f"{given.machines:,} machines, {records:,} records in {time.perf_counter() - start:,.1f} s")


if __name__ == "__main__":
    main()
