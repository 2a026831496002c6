# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages, as real `emerge` and its wget take them: installed, resumed, refused, repaired.

Cases 18 to 22 of reference/binhost.md §9.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.binhost import Binhost, Taker, entries, running_binhost, wget
from tests.front import Front
from tests.world import INSTALL_ONE_FILE

pytestmark = [pytest.mark.timeout(240)]

ALPHA = "app-misc/alpha-1.0"
LARGE = "app-misc/large-1.0"
ODD = (
    "app-misc/gtk+-2.24.33-r1",
    "app-misc/libstdc++-3.3.6_p2-r3",
    "app-misc/under_score-1.0_rc1_p20260101",
    "app-misc/x-1.2.3b_alpha4_beta5-r10",
)
RETRIES = r"wget -nv -t 3 -T 5 -O \"\${DISTDIR}/\${FILE}\" \"\${URI}\""
"""Portage's own FETCHCOMMAND, with less patience."""
INCOMPRESSIBLE = (
    f'head -c 3000000 /dev/urandom > "${{T}}/${{PN}}" || die\n{INSTALL_ONE_FILE.partition(chr(10))[2]}'
)


@pytest.fixture(scope="module")
def binhost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binhost]:
    with running_binhost(tmp_path_factory.mktemp("binhost")) as binhost:
        yield binhost


@pytest.fixture(scope="module")
def taker(binhost: Binhost, tmp_path_factory: pytest.TempPathFactory) -> Taker:
    taker = Taker.create(tmp_path_factory.mktemp("machine") / "world", binhost.verify_home)
    taker.world.ebuild(ALPHA)
    taker.world.ebuild(LARGE, phases={"src_install": INCOMPRESSIBLE})
    with (taker.world.root / "etc/portage/make.conf").open("a") as file:
        file.write(f'FETCHCOMMAND="{RETRIES}"\n')
    return taker


@pytest.fixture(scope="module")
def target(binhost: Binhost, taker: Taker) -> str:
    """A target with two packages that emerge built."""
    binhost.add_target("amd64")
    binhost.publish("amd64", *taker.build(ALPHA, LARGE))
    return "amd64"


@pytest.fixture
def machine(taker: Taker) -> Taker:
    """As a machine that has nothing."""
    taker.forget()
    return taker


@pytest.fixture
def front(binhost: Binhost) -> Iterator[Front]:
    with Front(binhost.collector.url) as front:
        yield front


def entry_of(binhost: Binhost, target: str, cpv: str) -> dict[str, str]:
    """The only entry of that package."""
    (found,) = (entry for entry in entries(binhost.index(target)) if entry["CPV"] == cpv)
    return found


@pytest.mark.parametrize("way", ["PORTAGE_BINHOST", "binrepos.conf"])
@pytest.mark.parametrize("option", ["--getbinpkg", "--getbinpkgonly"])
def test_it_installs(binhost: Binhost, machine: Taker, target: str, option: str, way: str) -> None:
    """Case 18: by -g and by -G; where packages are kept is different by the way that they come."""
    if way == "PORTAGE_BINHOST":
        machine.use(binhost.url(target))
    else:
        machine.use_repository("gentwoo", binhost.url(target))
    done = machine.emerge(option, "app-misc/alpha")
    assert re.search(r"alpha-1\.0-1\.gpkg\.tar MD5 SHA1 size ;-\)", done.output)
    assert machine.world.is_installed(ALPHA)
    installed = machine.world.root / "usr/share/alpha-0/alpha"
    assert installed.read_text() == "alpha-1.0\n"
    (taken,) = machine.taken().values()
    entry = entry_of(binhost, target, ALPHA)
    assert taken.stat().st_mtime_ns == int(entry["MTIME"]) * 10**9
    assert taken.read_bytes() == binhost.stored(target, entry["PATH"]).read_bytes()


def test_what_is_there_is_not_taken_again(
    binhost: Binhost, machine: Taker, front: Front, target: str
) -> None:
    """Case 18: size and MTIME tell a client that it has the file."""
    machine.use(f"{front.url}/binhost/{target}")
    machine.emerge("--getbinpkgonly", "--fetchonly", "app-misc/alpha")
    front.taken()
    machine.emerge("--getbinpkgonly", "app-misc/alpha")
    assert [exchange.file for exchange in front.taken()] == ["Packages.gz"]
    assert machine.world.is_installed(ALPHA)


@pytest.mark.parametrize("ranges", [True, False], ids=["206", "200"])
def test_a_broken_download_is_resumed(
    binhost: Binhost, machine: Taker, front: Front, target: str, ranges: bool
) -> None:
    """Case 19: wget goes on where the connection ended; without ranges it begins again, and ends well too."""
    machine.use(f"{front.url}/binhost/{target}")
    front.cut = 1_000_000
    front.ignores_ranges = not ranges
    machine.emerge("--getbinpkgonly", "--fetchonly", "app-misc/large")
    size = int(entry_of(binhost, target, LARGE)["SIZE"])
    _, first, second = front.taken()
    assert (first.status, first.sent) == (200, 1_000_000)
    assert second.headers["range"] == "bytes=1000000-"
    assert (second.status, second.sent) == ((206, size - 1_000_000) if ranges else (200, size))
    assert machine.taken()["large-1.0-1.gpkg.tar"].stat().st_size == size


def test_nothing_follows_the_end(binhost: Binhost, target: str) -> None:
    """Case 19."""
    entry = entry_of(binhost, target, LARGE)
    answer = binhost.get(f"{target}/{entry['PATH']}", Range=f"bytes={entry['SIZE']}-")
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{entry['SIZE']}")


def test_a_missing_file_ends_emerge_and_comes_back(
    binhost: Binhost, machine: Taker, target: str, tmp_path: Path
) -> None:
    """Case 20: Portage falls back to nothing; `bdcs check` names it; when it is back, all is well."""
    entry = entry_of(binhost, target, ALPHA)
    file = binhost.stored(target, entry["PATH"])
    machine.use(binhost.url(target))
    file.rename(tmp_path / "away")
    done = machine.emerge("--getbinpkgonly", "app-misc/alpha", check=False)
    assert done.returncode == 1
    assert re.search(r"ERROR 404", done.output)
    assert not machine.world.is_installed(ALPHA)
    checked = binhost.collector.bdcs("check", check=False)
    assert checked.returncode == 1
    assert entry["PATH"] in checked.stdout + checked.stderr
    (tmp_path / "away").rename(file)
    machine.emerge("--getbinpkgonly", "app-misc/alpha")
    assert machine.world.is_installed(ALPHA)
    assert binhost.collector.bdcs("check").returncode == 0


def test_a_corrupted_file_is_refused_and_can_be_replaced(
    binhost: Binhost, machine: Taker, tmp_path: Path
) -> None:
    """Case 21: digests do not fit, nothing is installed; another build under another number repairs it."""
    binhost.add_target("rotten")
    package = machine.package(tmp_path / "one.gpkg.tar", "app-misc/rotten-1")
    (published,) = binhost.publish("rotten", package)
    file = binhost.stored("rotten", published["path"])
    time = file.stat().st_mtime
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.chmod(0o644)
    file.write_bytes(content)
    os.utime(file, (time, time))
    machine.use(binhost.url("rotten"))
    done = machine.emerge("--getbinpkgonly", "app-misc/rotten", check=False)
    assert done.returncode == 1
    assert re.search(r"Digest verification failed|FAILED|checksum_failure", done.output), done.output
    assert not machine.world.is_installed("app-misc/rotten-1")
    checked = binhost.collector.bdcs("check", check=False)
    assert checked.returncode == 1
    assert published["path"] in checked.stdout + checked.stderr

    binhost.collector.bdcs("target", "withdraw", "rotten", "app-misc/rotten-1")
    again = machine.package(
        tmp_path / "two.gpkg.tar", "app-misc/rotten-1", metadata={"BUILD_TIME": "1700000001"}
    )
    (published,) = binhost.publish("rotten", again)
    assert published["build_id"] == 2
    machine.emerge("--getbinpkgonly", "app-misc/rotten")
    assert machine.world.is_installed("app-misc/rotten-1")
    shutil.rmtree(binhost.data / "packages/rotten")
    binhost.collector.bdcs("target", "remove", "--force", "rotten")


def test_odd_names(binhost: Binhost, machine: Taker, tmp_path: Path) -> None:
    """Case 22: + and suffixes of versions in names; some fetchers write the + as %2B."""
    binhost.add_target("odd")
    packages = [machine.package(tmp_path / f"{number}.gpkg.tar", cpv) for number, cpv in enumerate(ODD)]
    published = binhost.publish("odd", *packages)
    machine.use(binhost.url("odd"))
    machine.emerge("--getbinpkgonly", *(f"={cpv}" for cpv in ODD))
    assert all(map(machine.world.is_installed, ODD))
    for number, file in enumerate(published):
        path = file["path"]
        whole = binhost.get(f"odd/{path}")
        assert whole.status == 200
        for other in (path.replace("+", "%2B"), path.replace("+", "%2b")):
            assert binhost.get(f"odd/{other}").body == whole.body
        to = tmp_path / f"{number}.taken"
        wget("-O", str(to), f"{binhost.url('odd')}/{path}")
        assert to.read_bytes() == whole.body
