# SPDX-License-Identifier: GPL-2.0-or-later
"""The index, as real `emerge` takes it: fetched once, asked for again, never missed, never behind.

Cases 1 to 6, 8, 10 and 12 to 14 of reference/binhost.md §9. Case 7 is in test_binhost_access, 11 in
test_index_like_portage.
"""

import gzip
import itertools
import re
import shutil
import time
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

import pytest
from pkgcore.binpkg.remote import PackagesCacheV0

from bdcs.store.engine import SQLITE_NAME
from tests import index_rows, stores
from tests.binhost import UP_TO_DATE, Binhost, Taker, entries, running_binhost, timestamp
from tests.front import Exchange, Front
from tests.index_rows import IndexRows, made
from tests.waiting import until

pytestmark = [pytest.mark.timeout(240)]

ALPHA, OMEGA = "app-misc/alpha-1.0", "virtual/omega-2.0-r1"
INDEXES = ("Packages.gz", "Packages")
MANY = 50_000


@pytest.fixture(scope="module")
def binhost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binhost]:
    with running_binhost(tmp_path_factory.mktemp("binhost")) as binhost:
        yield binhost
        assert binhost.collector.bdcs("check").returncode == 0


@pytest.fixture(scope="module")
def machine(binhost: Binhost, tmp_path_factory: pytest.TempPathFactory) -> Taker:
    machine = Taker.create(tmp_path_factory.mktemp("machine") / "world", binhost.verify_home)
    for cpv in (ALPHA, OMEGA):
        machine.world.ebuild(cpv, iuse="+ssl gtk", rdepend="gtk? ( app-misc/gtk )")
    return machine


@pytest.fixture(scope="module")
def built(machine: Taker) -> list[Path]:
    """Two packages that emerge built."""
    return machine.build(ALPHA, OMEGA)


@pytest.fixture(scope="module")
def target(binhost: Binhost, built: list[Path]) -> str:
    """A target with these two, which no test changes."""
    binhost.add_target("small")
    binhost.publish("small", *built)
    return "small"


@pytest.fixture
def front(binhost: Binhost, machine: Taker) -> Iterator[Front]:
    """A recording front; the machine has not heard of anything yet."""
    machine.forget()
    with Front(binhost.collector.url) as front:
        yield front


def binaries(output: str) -> list[str]:
    """What emerge would install."""
    return re.findall(r"^\[binary .*\] (\S+)", output, re.MULTILINE)


def look(machine: Taker, *packages: str) -> list[str]:
    """What `emerge -pG` says that it would install."""
    return binaries(machine.pretend("--getbinpkgonly", *(packages or ("app-misc/alpha", "virtual/omega"))))


def asked(front: Front) -> Exchange:
    """The only request since the last look."""
    (exchange,) = front.taken()
    return exchange


@pytest.mark.parametrize("way", ["PORTAGE_BINHOST", "binrepos.conf"])
def test_the_second_run_is_told_304(
    front: Front, binhost: Binhost, machine: Taker, target: str, way: str
) -> None:
    """Case 1."""
    url = f"{front.url}/binhost/{target}"
    if way == "PORTAGE_BINHOST":
        machine.use(url)
    else:
        machine.use_repository("gentwoo", f"{url}/", priority="10")
    first = look(machine)
    assert sorted(first) == ["app-misc/alpha-1.0-1::gentoo", "virtual/omega-2.0-r1-1::gentoo"]
    exchange = asked(front)
    assert (exchange.method, exchange.file, exchange.status) == ("GET", "Packages.gz", 200)
    assert "if-modified-since" not in exchange.headers

    assert look(machine) == first
    exchange = asked(front)
    assert (exchange.file, exchange.status, exchange.sent) == ("Packages.gz", 304, 0)
    since = timestamp(binhost.index(target)) + 5
    assert exchange.headers["if-modified-since"] == formatdate(since, usegmt=True)


@pytest.mark.parametrize(
    ("missing", "answers"),
    [("Packages.gz", [("Packages.gz", 404), ("Packages", 200)]), ("Packages", [("Packages.gz", 200)])],
)
def test_one_of_the_two_files_is_enough(
    front: Front, machine: Taker, target: str, missing: str, answers: list[tuple[str, int]]
) -> None:
    """Case 2: the packed one first, the plain one after a 404."""
    front.missing = frozenset({missing})
    machine.use(f"{front.url}/binhost/{target}")
    assert len(look(machine)) == 2
    assert [(exchange.file, exchange.status) for exchange in front.taken()] == answers


def test_both_files_are_the_same_and_dated_alike(binhost: Binhost, target: str) -> None:
    """Cases 2 to 4, as Portage would ask."""
    packed, plain = (
        binhost.get(f"{target}/{name}", Accept_Encoding="bzip2,gzip,deflate") for name in INDEXES
    )
    assert gzip.decompress(packed.body) == plain.body
    assert "Content-Encoding" not in packed.headers
    time = timestamp(plain.body.decode())
    for name, answer in zip(INDEXES, (packed, plain), strict=True):
        assert answer.headers["Content-Length"] == str(len(answer.body))
        assert parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp() == time
        assert (binhost.data / "binhost" / target / name).stat().st_mtime_ns == time * 10**9


def test_no_publication_is_missed_however_soon_it_follows(
    front: Front, binhost: Binhost, machine: Taker, tmp_path: Path
) -> None:
    """Case 5: Portage asks for what changed five seconds after the index that it has."""
    binhost.add_target("quick")
    machine.use(f"{front.url}/binhost/quick")
    for version in range(1, 5):
        cpv = f"app-misc/quick-{version}"
        binhost.publish("quick", machine.package(tmp_path / f"{version}.gpkg.tar", cpv))
        assert look(machine, "app-misc/quick") == [f"{cpv}-1::gentoo"]
        assert asked(front).status == 200
    assert look(machine, "app-misc/quick") == ["app-misc/quick-4-1::gentoo"]
    assert asked(front).status == 304


def test_what_is_withdrawn_is_gone_at_once(
    front: Front, binhost: Binhost, machine: Taker, tmp_path: Path
) -> None:
    """Case 5, the other way; what was listed stays there for who has an older index."""
    binhost.add_target("fading")
    machine.use(f"{front.url}/binhost/fading")
    packages = [machine.package(tmp_path / f"{n}.gpkg.tar", f"app-misc/fading-{n}") for n in (1, 2)]
    files = binhost.publish("fading", *packages)
    assert look(machine, "app-misc/fading") == ["app-misc/fading-2-1::gentoo"]
    binhost.collector.bdcs("target", "withdraw", "fading", "app-misc/fading-2")
    assert look(machine, "app-misc/fading") == ["app-misc/fading-1-1::gentoo"]
    assert binhost.get(f"fading/{files[1]['path']}").status == 200


def test_time_to_live_and_frozen(front: Front, binhost: Binhost, machine: Taker, built: list[Path]) -> None:
    """Case 6: within TTL nothing is asked, afterwards once; of a frozen repository never."""
    binhost.add_target("lasting", "--header=TTL=3600")
    binhost.publish("lasting", *built)
    url = f"{front.url}/binhost/lasting"
    machine.use(url)
    look(machine)
    assert asked(front).status == 200
    assert len(look(machine)) == 2
    assert front.taken() == []

    cached = machine.cached_index(url)
    yesterday = f"DOWNLOAD_TIMESTAMP: {int(time.time()) - 86_400}"
    cached.write_text(re.sub(r"DOWNLOAD_TIMESTAMP: \d+", yesterday, cached.read_text()))
    look(machine)
    assert asked(front).status == 304

    binhost.collector.bdcs("target", "set", "lasting", "--header=TTL=")
    machine.forget()
    machine.use_repository("cold", url, frozen="true")
    look(machine)
    assert asked(front).status == 200
    assert len(look(machine)) == 2
    assert front.taken() == []


def test_a_restart_changes_nothing(binhost: Binhost, machine: Taker, target: str) -> None:
    """Case 8."""
    machine.forget()
    machine.use(binhost.url(target))
    first = look(machine)
    assert binhost.collector.stop() == 0
    binhost.collector.start()
    output = machine.pretend("--getbinpkgonly", "app-misc/alpha", "virtual/omega")
    assert UP_TO_DATE in output
    assert binaries(output) == first


def test_going_back_is_newer_for_clients(
    front: Front, binhost: Binhost, machine: Taker, tmp_path: Path
) -> None:
    """Case 8: after a rollback, and with a store from a backup, TIMESTAMP is higher than ever."""
    binhost.add_target("old")
    machine.use(f"{front.url}/binhost/old")
    one, two, three = (
        machine.package(tmp_path / f"{n}.gpkg.tar", f"app-misc/old-{n}", build_id=None) for n in (1, 2, 3)
    )
    binhost.publish("old", one)
    binhost.publish("old", two)
    assert look(machine, "app-misc/old") == ["app-misc/old-2-1::gentoo"]
    newest = timestamp(binhost.index("old"))
    binhost.collector.bdcs("target", "rollback", "old", "1")
    assert look(machine, "app-misc/old") == ["app-misc/old-1-1::gentoo"]
    assert timestamp(binhost.index("old")) > newest

    backup = tmp_path / "backup"
    assert binhost.collector.stop() == 0
    backup.mkdir()
    stores.copy(binhost.data / SQLITE_NAME, backup / SQLITE_NAME)
    binhost.collector.start()
    binhost.publish("old", three)
    assert look(machine, "app-misc/old") == ["app-misc/old-3-1::gentoo"]
    newest = timestamp(binhost.index("old"))
    assert binhost.collector.stop() == 0
    stores.copy(backup / SQLITE_NAME, binhost.data / SQLITE_NAME)
    binhost.collector.start()

    def is_newer() -> bool:
        answer = binhost.get("old/Packages")  # 503 while it is written anew
        return answer.status == 200 and timestamp(answer.body.decode()) > newest

    until(is_newer, what="an index that is newer than ever")
    assert look(machine, "app-misc/old") == ["app-misc/old-1-1::gentoo"]


def test_an_empty_index_is_none_of_portages_troubles(binhost: Binhost, machine: Taker) -> None:
    """Case 10."""
    binhost.add_target("empty")
    machine.forget()
    machine.use(binhost.url("empty"))
    until(lambda: binhost.get("empty/Packages.gz").status == 200)
    done = machine.emerge("--pretend", "--getbinpkgonly", "app-misc/alpha", check=False)
    assert done.returncode == 1
    assert "there are no binary packages to satisfy" in done.output


def test_first_and_last_entry_can_be_installed(binhost: Binhost, machine: Taker, target: str) -> None:
    """Case 10."""
    listed = [entry["CPV"] for entry in entries(binhost.index(target))]
    assert (listed[0], listed[-1]) == (ALPHA, OMEGA)
    machine.forget()
    machine.use(binhost.url(target))
    machine.emerge("--getbinpkgonly", f"={listed[0]}", f"={listed[-1]}")
    assert machine.world.is_installed(ALPHA)
    assert machine.world.is_installed(OMEGA)


def test_what_is_broken_is_named_and_the_rest_is_listed(
    binhost: Binhost, machine: Taker, built: list[Path], tmp_path: Path
) -> None:
    """Cases 12 and 13: a directory in which builds failed, as it is."""
    binhost.add_target("imported")
    place = tmp_path / "app-misc/alpha"
    place.mkdir(parents=True)
    shutil.copy(built[0], place)
    (place / "alpha-1.1-1.gpkg.tar").touch()
    (place / "alpha-1.2-1.gpkg.tar").write_bytes(built[0].read_bytes()[:9000])
    for name in ("alpha-1.3-1.gpkg.tarx7k2.4711", "alpha-1.4-1.gpkg.tar.partial"):
        shutil.copy(built[0], place / name)
    (tmp_path / "Packages.portage_lockfile").touch()
    done = binhost.collector.bdcs("import", str(tmp_path), "--target", "imported", check=False)
    assert done.returncode == 1
    assert re.findall(r"alpha-\S+(?=:)", done.stderr) == ["alpha-1.2-1.gpkg.tar"]
    assert [entry["CPV"] for entry in entries(binhost.index("imported"))] == [ALPHA]
    machine.forget()
    machine.use(binhost.url("imported"))
    assert look(machine, "app-misc/alpha") == ["app-misc/alpha-1.0-1::gentoo"]


def test_fifty_thousand_packages(binhost: Binhost, machine: Taker, built: list[Path]) -> None:
    """Case 14: more are published into them, and found among them."""
    binhost.add_target(index_rows.NAME)
    rows = (
        made(f"{category}/package{number}-{version}", more="DEFINED_PHASES: compile install\n")
        for category, number, version in itertools.product(
            ("app-misc", "app-portage", "virtual"), range(MANY // 6 + 1), ("1.0", "1.1-r2")
        )
    )
    synthetic = IndexRows.open(binhost.data)
    synthetic.publish(itertools.islice(rows, MANY), now=time.time())
    synthetic.engine.dispose()
    binhost.publish(index_rows.NAME, *built)
    url = binhost.url(index_rows.NAME)
    machine.forget()
    machine.use(url)
    wanted = ("app-misc/alpha", "virtual/package8000")
    assert look(machine, *wanted) == [
        "app-misc/alpha-1.0-1::gentoo",
        "virtual/package8000-1.1-r2-1::__unknown__",
    ]
    assert len(entries(machine.cached_index(url).read_text())) == MANY + len(built)
    assert UP_TO_DATE in machine.pretend("--getbinpkgonly", *wanted)
    binhost.collector.bdcs("target", "remove", "--force", index_rows.NAME)


def test_pkgcore_reads_it(binhost: Binhost, target: str, tmp_path: Path) -> None:
    """It takes nothing from afar, but it reads what a copy of ours would hold."""
    (tmp_path / "Packages").write_text(binhost.index(target))
    cache = PackagesCacheV0(str(tmp_path / "Packages"))
    assert sorted(cache.data) == [ALPHA, OMEGA]
    alpha, _ = entries(binhost.index(target))
    for key in ("PATH", "SIZE", "MD5", "SHA1", "KEYWORDS", "BUILD_TIME", "RDEPEND"):
        assert cache.data[ALPHA].get(key, "") == alpha.get(key, "")
    assert cache.preamble["CHOST"] == "x86_64-pc-linux-gnu"
