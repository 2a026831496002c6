# SPDX-License-Identifier: GPL-2.0-or-later
"""Two collectors on one PostgreSQL and one S3, with no proxy and no bus: any of them takes any request."""

import contextlib
import gzip
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from bdcs.blobs.directory import Directory
from bdcs.errors import StoreUnavailable
from bdcs.services.stored_logs import StoredLogs
from bdcs.store.engine import create_reader, create_writer
from bdcs.store.places import PostgreSQL
from bdcs.store.session_locks import session_lock
from bdcs.store.store import transaction
from tests import warm
from tests.builds import TARGET, HandBuilder, specification
from tests.peer import Answer, request
from tests.postgresql import Server, running_postgresql
from tests.processes import BDCS, Collector
from tests.s3 import REGION, RunningS3, running_s3
from tests.waiting import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

PUBLIC = "http://gentwoo.example"
WAITS_FOR_A_LOCK = (
    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO sequences%'"
)
ADD = ("target", "add", TARGET, "--chost=x86_64-pc-linux-gnu", "--arch=amd64", "--cflags=-O2")


class Guest(HandBuilder):
    """A machine that goes to one collector or the other, and knows both by their public name alone."""

    def at(self, collector: Collector) -> Self:
        """Go there from now on."""
        self.collector = collector.url
        return self

    def token(self, method: str, path: str, body: bytes = b"", /, **changes: Any) -> str:
        return super().token(method, path, body, audience=PUBLIC, url=PUBLIC + path, **changes)

    def payload(self, count: int = 1, /, **changes: object) -> dict[str, Any]:
        return super().payload(count, audience=PUBLIC, **changes)


@dataclass(frozen=True, slots=True)
class Pair:
    """The collectors, and what they share."""

    a: Collector
    b: Collector
    database: str
    postgresql: Server

    def machine(self) -> Guest:
        """One that has registered."""
        guest = Guest(self.a.url)
        assert guest.register().status == 201
        return guest

    def builder(self, name: str) -> Guest:
        """… and may build, and was seen: a target without any builder takes no wishes."""
        guest = Guest(self.a.url, name=name)
        assert guest.register().status == 201
        self.b.bdcs("admin", "builders", "approve", str(guest.machine), "--target", TARGET)
        assert guest.claim() is None
        return guest

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        return self.postgresql.execute(statement, self.database.rpartition("/")[2])

    def leader(self) -> Collector:
        """Whoever does the periodic work now."""

        def found() -> Collector | None:
            rows = self.rows("SELECT holder FROM leases WHERE until > extract(epoch FROM now()) * 1000")
            for collector in (self.a, self.b):
                assert collector.process is not None
                if rows and f":{collector.process.pid}:" in str(rows[0][0]):
                    return collector
            return None

        return until(found)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    with running_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_postgresql(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


@pytest.fixture(scope="module")
def pair(postgresql: Server, s3: RunningS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home, database = tmp_path_factory.mktemp("pair"), postgresql.new_database(is_empty=True)
    configuration = home / "bdcs.toml"
    configuration.write_text(
        f'store = "{database}"\nblobs = "s3://{s3.new_bucket()}/some"\ns3_endpoint = "{s3.url}"\n'
        f's3_region = "{REGION}"\npublic_url = "{PUBLIC}"\nregistrations_per_network = 1000\n'
    )
    command = (*BDCS, "--config", configuration)
    with contextlib.ExitStack() as leaving:
        a = leaving.enter_context(Collector(home / "a", command=command))
        with warm.anew():  # so that its hashes of texts are others, as on another host
            b = leaving.enter_context(Collector(home / "b", command=command))
        a.bdcs(*ADD, "--profile=default/linux/amd64/23.0", "--signatures=optional")
        yield Pair(a, b, database, postgresql)
        for collector in (a, b):
            assert "Traceback" not in (collector.home / "bdcs.log").read_text()
        assert "no differences" in a.bdcs("check").stdout


def test_a_machine_goes_from_one_to_the_other(pair: Pair) -> None:
    guest = pair.machine()
    for collector in (pair.b, pair.a, pair.b):
        guest.at(collector).push(2)
    for collector in (pair.a, pair.b):
        state = guest.at(collector).authorized("GET", guest.path).document
        assert state["head"] == {"seq": 6, "segment": guest.prev}


def test_a_request_that_is_repeated_elsewhere_gets_the_same_answer(pair: Pair) -> None:
    guest = Guest(pair.a.url)
    body = guest.registration()
    token = guest.token("POST", "/v1/machines", body)
    first = guest.authorized("POST", "/v1/machines", body, token=token)
    again = guest.at(pair.b).authorized("POST", "/v1/machines", body, token=token)
    assert (first.status, first.body) == (201, again.body)
    assert again.status == 201
    compact = guest.signed(guest.payload())
    pushed = [guest.at(collector).send(compact).document for collector in (pair.a, pair.b, pair.a)]
    assert pushed == [pushed[0]] * 3


def test_what_an_administrator_decides_holds_everywhere(pair: Pair) -> None:
    guest = pair.machine()
    guest.at(pair.b).push()
    pair.a.bdcs("admin", "machines", "quarantine", str(guest.machine))
    assert guest.at(pair.b).send(guest.signed(guest.payload())).slug == "quarantined"
    pair.b.bdcs("admin", "machines", "release", str(guest.machine))
    guest.at(pair.a).push()


def test_who_is_forgotten_at_one_is_forgotten_at_the_other(pair: Pair) -> None:
    guest = pair.machine()
    for collector in (pair.a, pair.b):
        guest.at(collector).push()
    assert guest.at(pair.a).authorized("DELETE", guest.path).status == 204
    for collector in (pair.b, pair.a):
        assert guest.at(collector).send(guest.signed(guest.payload())).status == 410
        assert guest.authorized("GET", guest.path).status == 410
        assert guest.wish(specification("app-misc/gone-1.0")).status == 410


def test_a_build_goes_through_both(pair: Pair) -> None:
    guest, builder = pair.machine(), pair.builder("both")
    number = guest.at(pair.a).ask(specification("app-misc/shared-1.0"))["id"]
    lease = builder.at(pair.b).claim()
    assert lease is not None
    job = lease["job"]["job"]

    assert builder.at(pair.a).act(lease, "log", offset=0, text="one\n").document["size"] == 4
    assert log_at(guest.at(pair.b), job, 0) == "one\n"
    with ThreadPoolExecutor(1) as thread:
        reader = Guest(pair.b.url, key=guest.key)
        following = thread.submit(log_at, reader, job, 4)
        assert builder.at(pair.a).act(lease, "log", offset=4, text="two\n").document["size"] == 8
        assert following.result() == "two\n"
    assert builder.at(pair.b).act(lease, "log", offset=0, text="one\ntwo\nthree\n").document["size"] == 14

    content = package("app-misc/shared-1.0")
    upload = builder.at(pair.a).upload("app-misc/shared-1.0", content)
    published = builder.at(pair.b).act(lease, "publish", uploads=[upload])
    assert (published.status, published.document["state"]) == (200, "published")
    repeated = builder.at(pair.a).act(lease, "publish", uploads=[upload])
    assert repeated.document["generation"] == published.document["generation"]
    assert guest.at(pair.a).state(number)["state"] == "published"
    assert log_at(guest.at(pair.a), job, 0) == "one\ntwo\nthree\n"

    texts = {name: [index(each, name) for each in (pair.a, pair.b)] for name in ("Packages", "Packages.gz")}
    for at_a, at_b in texts.values():
        assert "app-misc/shared/shared-1.0-1.gpkg.tar" in at_a
        assert at_a == at_b
    for collector in (pair.a, pair.b):
        place = f"/binhost/{TARGET}/app-misc/shared/shared-1.0-1.gpkg.tar"
        assert request(collector.url, "GET", place).status == 307


def test_an_exact_hit_is_known_to_the_other_at_once(pair: Pair) -> None:
    guest, builder = pair.machine(), pair.builder("hits")
    wish = specification("app-misc/hit-1.0")
    guest.at(pair.a).ask(wish)
    assert builder.at(pair.b).build(builder.claim() or {}).status == 200
    collectors = [pair.a, pair.b] * 5
    for here, there in zip(collectors, [*collectors[1:], pair.a], strict=True):
        number = guest.at(here).ask(wish)["id"]
        assert guest.at(there).state(number)["state"] == "published"
    keyed = [guest.at(collector).ask(wish, key="asked-only-once-of-both")["id"] for collector in collectors]
    assert len(set(keyed)) == 1


def test_no_index_is_older_than_one_that_was_served_before(pair: Pair) -> None:
    """… also while publications come faster than their TIMESTAMPs may, and wait for each other."""
    guest, builder = pair.machine(), pair.builder("many")
    ended = threading.Event()
    seen: list[tuple[int, str]] = []

    def read() -> None:
        while not ended.is_set():
            for collector in (pair.a, pair.b):
                text = index(collector)
                seen.append((timestamp(text), hashlib.sha256(text.encode()).hexdigest()))

    count = 6
    # As if nine had just been published.
    ahead = int(time.time()) + 54
    pair.rows(
        f"BEGIN; UPDATE targets SET timestamp = {ahead};"
        f" UPDATE generations SET timestamp = {ahead} WHERE number = (SELECT generation FROM targets); COMMIT"
    )
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read)
        try:
            for number in range(count):
                publisher, other = (pair.a, pair.b) if number % 2 else (pair.b, pair.a)
                guest.at(other).ask(specification(f"app-misc/many-{number}"))
                lease = builder.at(publisher).claim()
                assert lease is not None
                assert builder.build(lease).status == 200
            for collector in (pair.a, pair.b):
                until(lambda at=collector: index(at).count("CPV: app-misc/many-") == count)  # type: ignore[misc]
        finally:
            ended.set()
        reading.result()
    times = [at for at, _ in seen]
    assert times == sorted(times)
    assert len(set(seen)) == len(set(times))
    assert index(pair.a) == index(pair.b)


def test_the_other_takes_over_when_one_is_killed(pair: Pair) -> None:
    guest, builder = pair.machine(), pair.builder("orphan")
    leader = pair.leader()
    other = pair.b if leader is pair.a else pair.a
    guest.at(leader).ask(specification("app-misc/orphan-1.0"))
    lease = builder.claim()
    assert lease is not None
    assert builder.act(lease, "log", offset=0, text="begun\n").status == 200
    upload = builder.upload("app-misc/orphan-1.0", package("app-misc/orphan-1.0"))
    leader.kill()
    published = builder.at(other).act(lease, "publish", uploads=[upload])
    assert published.document["state"] == "published"
    assert log_at(guest.at(other), lease["job"]["job"], 0) == "begun\n"
    until(lambda: "orphan-1.0" in index(other), 120)  # an index is served when its TIMESTAMP is due
    until(lambda: pair.leader() is other)
    leader.start()
    assert "orphan-1.0" in index(leader)

    assert other.stop() == 0
    until(lambda: pair.leader() is leader)
    other.start()


def test_package_files_on_one_host_are_for_one_collector(
    pair: Pair, postgresql: Server, tmp_path: Path
) -> None:
    options = ("--store", pair.database, "--listen", "127.0.0.1:0")
    refused = Collector(tmp_path / "refused").bdcs("serve", *options, check=False)
    assert refused.returncode == 78
    assert "s3://BUCKET/PREFIX" in refused.stderr
    alone = ("--store", postgresql.new_database())
    with Collector(tmp_path / "first", options=alone) as first:
        second = Collector(tmp_path / "second").bdcs("serve", *alone, "--listen", "127.0.0.1:0", check=False)
        assert second.returncode == 78
        first.kill()
        first.start()


def test_a_lock_holds_until_its_connection_ends(postgresql: Server) -> None:
    place = PostgreSQL(postgresql.new_database())
    reader, writer = create_reader(place), create_writer(place)
    entered = threading.Event()

    def enter() -> None:
        with session_lock(reader, "target amd64"):
            entered.set()

    with ThreadPoolExecutor(1) as thread:
        with session_lock(reader, "target amd64") as lock, session_lock(reader, "target arm64"):
            waiting = thread.submit(enter)
            with transaction(writer) as connection:
                lock.require(connection)
            assert not entered.is_set()
        waiting.result(60)
        with session_lock(reader, "target amd64") as lock:
            postgresql.execute(f"SELECT pg_terminate_backend({lock.session})")
            entered.clear()
            with transaction(writer) as connection:
                lock.require(connection)  # nobody else had it, nor has before this is done
                waiting = thread.submit(enter)
                until(lambda: postgresql.execute(WAITS_FOR_A_LOCK))
                assert not entered.is_set()
            waiting.result(60)
            with pytest.raises(StoreUnavailable, match="was lost"), transaction(writer) as connection:
                lock.require(connection)
    reader.dispose()
    writer.dispose()


def test_pieces_of_a_log_that_come_twice_at_once_are_there_once(postgresql: Server, tmp_path: Path) -> None:
    place = PostgreSQL(postgresql.new_database())
    logs = StoredLogs.of(place, Directory(tmp_path))
    lines = [f"line {number}\n".encode() for number in range(100)]
    together = threading.Barrier(4)

    def send() -> None:
        offset = 0
        for line in lines:
            together.wait(60)
            logs.append(1, offset, line)
            offset += len(line)

    with ThreadPoolExecutor(4) as threads:
        for sending in [threads.submit(send) for _ in range(4)]:
            sending.result()
    assert logs.read(1, 0, 1 << 20) == b"".join(lines)
    logs.close()


def index(collector: Collector, name: str = "Packages.gz") -> str:
    """The text of the index as that collector serves it now."""
    answer = served(collector, name)
    return (gzip.decompress(answer.body) if name.endswith(".gz") else answer.body).decode()


def served(collector: Collector, name: str) -> Answer:
    answer = request(collector.url, "GET", f"/binhost/{TARGET}/{name}")
    assert answer.status == 200, answer
    return answer


def timestamp(text: str) -> int:
    found = re.search(r"^TIMESTAMP: (\d+)$", text, re.MULTILINE)
    assert found
    return int(found[1])


def log_at(guest: Guest, job: int, offset: int) -> str:
    """The next part of a job's log, once there is any."""
    answer = guest.send_json("GET", f"/v1/jobs/{job}/log?offset={offset}&wait=30")
    assert answer.status == 200, answer
    return answer.body.decode()


def package(cpv: str) -> bytes:
    """What a builder makes of the wish for it."""
    from tests.builds import metadata
    from tests.packages import gpkg

    return gpkg(cpv=cpv, metadata=metadata())
