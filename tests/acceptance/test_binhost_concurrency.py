# SPDX-License-Identifier: GPL-2.0-or-later
"""Publishing while many clients read: whatever index they hold, everything that it lists is there.

Case 9 of reference/binhost.md §9: twenty light clients do in a loop what Portage does, three machines run
real `emerge`, and two publishers publish and withdraw all the while.
"""

import gzip
import hashlib
import http.client
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import pytest

from bdcs.services.publishing import Publisher
from bdcs.store.engine import SQLITE_NAME
from tests.binhost import Binhost, Taker, entries, running_binhost, timestamp

pytestmark = [pytest.mark.timeout(300)]

TARGET = "amd64"
CLIENTS = 20
MACHINES = 3
PUBLISHERS = 2
ROUNDS = 12
"""Publications of each publisher."""


@pytest.fixture(scope="module")
def binhost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binhost]:
    with running_binhost(tmp_path_factory.mktemp("binhost")) as binhost:
        binhost.add_target(TARGET)
        yield binhost
        assert binhost.collector.bdcs("check").returncode == 0


@dataclass(slots=True)
class LightClient:
    """What Portage does over HTTP: the index if it is new, then files that it lists."""

    url: str
    number: int
    held: list[dict[str, str]] = field(default_factory=list)
    seen: int = 0
    """TIMESTAMP of the index that it holds."""
    indexes: int = 0
    files: int = 0

    def run(self, over: Event) -> None:
        """Go on until `over`, and once more."""
        chance = random.Random(self.number)
        while not over.is_set():
            self.look(chance)
        self.look(chance)

    def look(self, chance: random.Random) -> None:
        address = urlsplit(self.url)
        with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)) as host:
            self._refresh(host, address.path)
            for entry in chance.sample(self.held, min(3, len(self.held))):
                self._take(host, f"{address.path}/{entry['PATH']}", entry, chance.choice(("GET", "HEAD")))

    def _refresh(self, host: http.client.HTTPConnection, path: str) -> None:
        since = {"If-Modified-Since": formatdate(self.seen + 5, usegmt=True)} if self.seen else {}
        host.request("GET", f"{path}/Packages.gz", headers=since)
        answer = host.getresponse()
        body = answer.read()
        if answer.status == 304:
            assert self.seen
            return
        assert answer.status == 200, body
        index = gzip.decompress(body).decode()
        assert timestamp(index) > self.seen
        self.held, self.seen = entries(index), timestamp(index)
        count = re.search(r"^PACKAGES: (\d+)$", index, re.MULTILINE)
        assert count
        assert int(count[1]) == len(self.held)
        assert index.endswith("\n\n")
        self.indexes += 1

    def _take(self, host: http.client.HTTPConnection, path: str, entry: dict[str, str], method: str) -> None:
        host.request(method, path)
        answer = host.getresponse()
        body = answer.read()
        assert answer.status == 200, (path, body)
        assert answer.headers["Content-Length"] == entry["SIZE"]
        if method == "GET":
            assert hashlib.md5(body).hexdigest() == entry["MD5"]
            assert hashlib.sha1(body).hexdigest() == entry["SHA1"]
        self.files += 1


def publisher(binhost: Binhost, machine: Taker, place: Path, number: int) -> None:
    """Publish again and again, each time one more; now and then an old one is published no more."""
    place.mkdir()
    chance = random.Random(-number)
    name = f"app-misc/published{number}"
    made = Publisher.of(store=binhost.data / SQLITE_NAME, data=binhost.data, signer=binhost.signer.socket)
    with closing(made) as publishes:
        for version in range(1, ROUNDS + 1):
            image = chance.randbytes(chance.randrange(1, 200_000))
            cpv = f"{name}-{version}"
            package = machine.package(place / f"{version}.gpkg.tar", cpv, image={machine.place(cpv): image})
            publishes.publish(TARGET, [package])
            if version % 4 == 0:
                binhost.collector.bdcs("target", "withdraw", TARGET, f"{name}-{version - 2}")


def test_readers_and_publishers(
    binhost: Binhost, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No index is torn or goes back, nothing that any of them lists is missing or differs."""
    machines = [
        Taker.create(tmp_path_factory.mktemp("machine") / "world", binhost.verify_home)
        for _ in range(MACHINES)
    ]
    first = machines[0].package(tmp_path / "first.gpkg.tar", "app-misc/published0-1")
    binhost.publish(TARGET, first)
    clients = [LightClient(binhost.url(TARGET), number) for number in range(CLIENTS)]
    over = Event()

    def emerge(machine: Taker) -> None:
        """Download the newest of something, again and again."""
        machine.use(binhost.url(TARGET))
        names = [f"app-misc/published{number}" for number in range(PUBLISHERS)]
        while not over.is_set():
            listed = {entry["CPV"].rpartition("-")[0] for entry in entries(binhost.index(TARGET))}
            machine.emerge("-G", "--fetchonly", *(name for name in names if name in listed))

    with ThreadPoolExecutor(CLIENTS + MACHINES + PUBLISHERS) as pool:
        readers = [pool.submit(client.run, over) for client in clients]
        readers += [pool.submit(emerge, machine) for machine in machines]
        writers = [
            pool.submit(publisher, binhost, machines[0], tmp_path / str(number), number)
            for number in range(PUBLISHERS)
        ]
        try:
            for writer in writers:
                writer.result()
            newest = timestamp(binhost.index(TARGET))
        finally:
            over.set()
        for reader in readers:
            reader.result()
    assert all(client.seen >= newest for client in clients)
    assert all(client.indexes > 1 and client.files > CLIENTS for client in clients)
    assert all(machine.taken() for machine in machines)
