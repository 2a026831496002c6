# SPDX-License-Identifier: GPL-2.0-or-later
"""A target's lock that is lost, with its connection to PostgreSQL, while its holder goes on."""

import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pytest
from sqlalchemy import Connection

from bdcs.blobs.blobs import Blob, Placement
from bdcs.blobs.directory import Directory
from bdcs.domain.admission import Origin
from bdcs.domain.targets import Cause
from bdcs.errors import BlobsFull, StoreUnavailable
from bdcs.services import target_changes
from bdcs.services.intake import Source
from bdcs.services.publishing import Publisher
from bdcs.services.upkeep import Tidied
from bdcs.store.places import PostgreSQL
from tests.packages import make_gpkg
from tests.postgresql import Server, running_postgresql
from tests.publishing import Site
from tests.waiting import until

pytestmark = pytest.mark.engines

TARGET = "open"
PATH = "app-misc/alpha/alpha-1.0-1.gpkg.tar"
HOLDS = "FROM pg_stat_activity WHERE query LIKE 'INSERT INTO sequences%' AND state = 'idle'"
WAITS = (
    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO sequences%'"
)


class Blobs(Directory):
    """Package files, and what happens just after some were placed, and just before some are removed."""

    after_place: Callable[[], object] | None = None
    before_delete: Callable[[], object] | None = None
    before_list: Callable[[], object] | None = None
    before_opening: Mapping[str, Callable[[], object]] = MappingProxyType({})
    """What happens before anything is placed in a directory of that name."""

    @contextlib.contextmanager
    def _directory(self, target: str, path: str, *, make: bool = False, sync: bool = True) -> Iterator[int]:
        happens = self.before_opening.get(path.split("/")[1])
        if make and happens is not None:
            happens()
        with super()._directory(target, path, make=make, sync=sync) as directory:
            yield directory

    def place(self, placements: Sequence[Placement]) -> None:
        super().place(placements)
        if self.after_place is not None:
            self.after_place()

    def listed(self, target: str) -> Iterator[Blob]:
        if self.before_list is not None:
            self.before_list()
        yield from super().listed(target)

    def clear(self, target: str) -> None:
        if self.before_list is not None:
            self.before_list()
        super().clear(target)

    def delete(self, target: str, paths: Iterable[str]) -> None:
        if self.before_delete is not None:
            self.before_delete()
        super().delete(target, paths)


@dataclass
class Pair:
    """Two collectors with one store and the same package files."""

    server: Server
    database: str
    data: Path
    sites: list[Site] = field(default_factory=list)

    def add(self) -> tuple[Site, Blobs]:
        blobs = Blobs(self.data)
        publisher = Publisher.of(
            store=PostgreSQL(self.database), data=self.data, signer=self.data / "nobody-signs", blobs=blobs
        )
        self.sites.append(Site(self.data, publisher))
        return self.sites[-1], blobs

    def lose_locks(self) -> None:
        """End the connections that have locks; whoever has them does not know."""
        (row,) = self.execute(f"SELECT count(pg_terminate_backend(pid)) {HOLDS}")
        assert row[0] == 1
        until(lambda: not self.execute(f"SELECT 1 {HOLDS}"))

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        return self.server.execute(statement, self.database.rpartition("/")[2])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_postgresql(tmp_path_factory.mktemp("postgresql")) as started:
        yield started


@pytest.fixture
def pair(server: Server, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(server, server.new_database(), tmp_path / "data")
    made.data.mkdir()
    made.add()[0].add_target(TARGET, signatures="optional")
    yield made
    for site in made.sites:
        site.publisher.close()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_gpkg(tmp_path / "alpha-1.0-1.gpkg.tar")


def test_nobody_sweeps_what_is_being_listed(pair: Pair, package: Path) -> None:
    """The lock goes when it was just looked at, and the next holder waits for what relies on it."""
    one, other = pair.sites[0], pair.add()[0]
    sweeping: list[Future[Tidied]] = []
    with ThreadPoolExecutor(1) as thread:

        def lose(_connection: Connection, _builds: object) -> None:
            pair.lose_locks()
            sweeping.append(thread.submit(other.upkeep().tidy))
            until(lambda: sweeping[0].done() or pair.execute(WAITS))

        with one.publisher.begin(
            TARGET, actor="admin", origin=Origin.PUBLISH, cause=Cause.PUBLISH
        ) as publication:
            published = publication.commit([publication.take(Source.of(package))], also=lose)
        assert sweeping[0].result(60) == Tidied()
    assert published.is_new
    assert one.paths(TARGET) == [PATH]
    one.assert_consistent()


def test_what_two_publish_is_there_once(pair: Pair, package: Path) -> None:
    """The lock goes between placing and listing, and the next holder is quicker."""
    one, blobs = pair.add()
    other = pair.sites[0]

    def lose() -> None:
        pair.lose_locks()
        assert other.publisher.publish(TARGET, [package]).is_new

    blobs.after_place = lose
    with pytest.raises(StoreUnavailable, match="was lost"):
        one.publisher.publish(TARGET, [package])
    blobs.after_place = None
    assert not one.publisher.publish(TARGET, [package]).is_new
    assert len(one.builds(TARGET)) == 1
    one.assert_consistent()


def test_a_late_removal_hits_nothing_that_was_listed_since(pair: Pair, package: Path) -> None:
    """The lock goes when all is decided; who comes next has to do without that name for a while."""
    sweeper, blobs = pair.add()
    other = pair.sites[0]
    orphan = other.file(TARGET, PATH)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"of a process that died")

    def refused() -> None:
        with pytest.raises(StoreUnavailable, match="about to remove"):
            other.publisher.publish(TARGET, [package])

    def lose() -> None:
        pair.lose_locks()
        refused()  # while the old file is there
        orphan.unlink()
        refused()  # … and when it was removed, for all that is known by somebody else
        assert other.upkeep().tidy().orphans == 0  # two need not remove the same
        raise KeyboardInterrupt  # as if killed

    blobs.before_delete = lose
    with pytest.raises(KeyboardInterrupt):
        sweeper.upkeep().tidy()
    refused()
    pair.execute("UPDATE removals SET until = 0")
    assert other.publisher.publish(TARGET, [package]).is_new
    assert pair.execute("SELECT * FROM removals") == []
    other.assert_consistent()


def test_who_has_the_lock_removes(pair: Pair) -> None:
    site = pair.sites[0]
    orphan = site.file(TARGET, PATH)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"of a process that died")
    assert site.upkeep().tidy().orphans == 1
    assert not orphan.exists()
    assert pair.execute("SELECT * FROM removals") == []


def test_who_cannot_place_all_takes_back_nothing_of_others(pair: Pair, package: Path, tmp_path: Path) -> None:
    """The lock goes when the first file is placed; the second one finds no room."""
    one, blobs = pair.add()
    other = pair.sites[0]

    def lose() -> None:
        pair.lose_locks()
        assert other.publisher.publish(TARGET, [package]).is_new
        raise OSError(errno.ENOSPC, "no room")

    blobs.before_opening = {"beta": lose}
    with pytest.raises(BlobsFull):
        one.publisher.publish(TARGET, [package, make_gpkg(tmp_path / "beta.gpkg.tar", cpv="app-misc/beta-1")])
    assert one.paths(TARGET) == [PATH]
    one.assert_consistent()


def test_who_cannot_place_all_leaves_nothing(pair: Pair, package: Path, tmp_path: Path) -> None:
    one, blobs = pair.add()

    def fail() -> None:
        raise OSError(errno.ENOSPC, "no room")

    blobs.before_opening = {"beta": fail}
    with pytest.raises(BlobsFull):
        one.publisher.publish(TARGET, [package, make_gpkg(tmp_path / "beta.gpkg.tar", cpv="app-misc/beta-1")])
    assert one.files() == []


def test_a_target_that_is_made_anew_keeps_its_files(pair: Pair, package: Path) -> None:
    """The lock goes when the old one is removed, and only its files are left to be."""
    one, blobs = pair.add()
    other = pair.sites[0]
    one.publisher.publish(TARGET, [package])

    def lose() -> None:
        pair.lose_locks()
        other.add_target(TARGET, signatures="optional")
        assert other.publisher.publish(TARGET, [package]).is_new

    blobs.before_list = lose
    with pytest.raises(StoreUnavailable, match="was lost"):
        target_changes.remove(one.publisher.writer, one.data, blobs, TARGET, force=True)
    assert one.paths(TARGET) == [PATH]
    one.assert_consistent()
