# SPDX-License-Identifier: GPL-2.0-or-later
"""Building with real emerge in the sandbox: what is wished comes of it, or why not is said (33 to 36)."""

import asyncio
import hashlib
import os
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bdcs.builder import building
from bdcs.builder.building import Binhost, group_prefix
from bdcs.builder.limits import Limits, control_group
from tests.waiting import until
from tests.workshops import CFLAGS, Place, sleepers, wish
from tests.world import QuietHandler

pytestmark = [pytest.mark.timeout(300)]

LIBRARY = "app-misc/library-1.0"
MARK = "31415926"


FAT = "app-misc/fat-1.0"
SMALL = Limits(memory=400 << 20)


async def may_make_groups() -> bool:
    """Whether control groups with a limit for memory can be made, as the builder finds out."""
    async with control_group(f"bdcs-test-{os.getpid()}", SMALL) as group:
        return group is not None


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.create(tmp_path)


def test_it_is_built_as_wished(place: Place) -> None:
    cpv = "app-misc/alpha-1.0"
    place.world.ebuild(cpv, iuse="+one two +three four", keywords="~amd64", license="Strange")
    (place.world.root / "etc/portage/package.use").write_text("app-misc/alpha four\n")
    result = place.build(
        wish(cpv, iuse="+one two +three four", use=["two", "three"], keywords="~amd64", license="Strange")
    )
    (package,) = result.packages
    assert set(package.metadata["USE"].split()) & {"one", "two", "three", "four"} == {"two", "three"}
    assert package.metadata["CFLAGS"] == CFLAGS
    assert package.metadata["repository"] == "gentoo"
    assert not package.is_restricted
    assert "without network" in result.output


def test_a_dependency_comes_as_a_binary(place: Place) -> None:
    """… the variant that is demanded, and is recorded with its sub-slot."""
    world = place.world
    world.ebuild(LIBRARY, slot="0/5", iuse="extra")
    world.ebuild(
        "app-misc/program-1.0", depend="app-misc/library:=[extra]", rdepend="app-misc/library:=[extra]"
    )
    several = "binpkg-multi-instance"
    world.emerge("--buildpkgonly", f"={LIBRARY}", env={"USE": "extra", "FEATURES": several})
    world.emerge("--buildpkgonly", f"={LIBRARY}", env={"FEATURES": several})
    assert len(list(world.pkgdir.rglob("*.gpkg.tar"))) == 2
    dependency = "app-misc/library:=[extra]"
    wished = wish(
        "app-misc/program-1.0",
        depend=dependency,
        rdepend=dependency,
        bound={dependency: "0/5"},
    )
    with world.binhost() as url:
        result = place.build(wished, Binhost(url=url, keys=None))
    assert result.failure is None, result.output
    (package,) = result.packages
    assert package.name == "app-misc/program-1.0"
    assert "app-misc/library:0/5=" in package.metadata["RDEPEND"]
    assert "[binary" in result.output
    assert not world.is_installed(LIBRARY)


def test_what_has_to_be_built_besides_is_handed_over(place: Place) -> None:
    place.world.ebuild(LIBRARY, restrict="bindist")
    place.world.ebuild("app-misc/program-1.0", depend="app-misc/library")
    result = place.build(wish("app-misc/program-1.0", depend="app-misc/library"))
    assert result.failure is None, result.output
    assert [(package.name, package.is_restricted) for package in result.packages] == [
        ("app-misc/program-1.0", False),
        (LIBRARY, True),
    ]


def test_it_is_built_against_the_sub_slot_that_is_wished(place: Place) -> None:
    """The build root has an older one, which would do."""
    world = place.world
    world.ebuild("app-misc/library-1.0", slot="0/1")
    world.emerge("=app-misc/library-1.0")
    world.ebuild("app-misc/library-2.0", slot="0/2")
    world.ebuild("app-misc/program-1.0", depend="app-misc/library:=", rdepend="app-misc/library:=")
    wished = wish(
        "app-misc/program-1.0",
        depend="app-misc/library:=",
        rdepend="app-misc/library:=",
        bound={"app-misc/library:=": "0/2"},
    )
    result = place.build(wished)
    assert result.failure is None, result.output
    assert "app-misc/library:0/2=" in result.packages[0].metadata["RDEPEND"]
    assert world.is_installed("app-misc/library-1.0")


def test_sources_are_fetched_before_and_kept_for_the_next(place: Place, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    (served / "source.txt").write_text("the source\n")
    cpv = "app-misc/sourced-1.0"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(served))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/source.txt"
        ebuild = place.world.ebuild(
            cpv, src_uri=url, phases={"src_unpack": 'grep -q "the source" "${DISTDIR}/source.txt" || die'}
        )
        write_manifest(ebuild.parent, served / "source.txt")
        first = place.build(wish(cpv))
        server.shutdown()
    assert first.failure is None, first.output
    assert (place.workshop.data / "distfiles/source.txt").read_text() == "the source\n"
    assert place.build(wish(cpv), name="2").failure is None


def test_no_code_of_an_ebuild_runs_while_there_is_a_network(place: Place, tmp_path: Path) -> None:
    """… neither to tell its metadata, nor in pkg_nofetch; what has no cache is read without network."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "source.txt").write_text("the source\n")
    asked: list[str] = []
    place.world.ebuild(LIBRARY)

    class Noting(QuietHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Noting, directory=str(served))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        call = f"printf 'GET /{{}} HTTP/1.0\\r\\n\\r\\n' > /dev/tcp/127.0.0.1/{port} || true"
        for name, restrict in (("open", ""), ("restricted", "fetch")):
            cpv = f"app-misc/{name}-1.0"
            source = f"http://127.0.0.1:{port}/source.txt -> {name}.txt"
            calls = {"pkg_nofetch": call.format("from-nofetch")}
            ebuild = place.world.ebuild(
                cpv, src_uri=source, restrict=restrict, phases=calls, depend="app-misc/library"
            )
            text = ebuild.read_text() + call.format(f"from-{name}") + "\n"
            place.world.write_ebuild("app-misc", name, f"{name}-1.0", text)
            (served / f"{name}.txt").write_text("the source\n")
            write_manifest(ebuild.parent, served / f"{name}.txt")
        built = place.build(wish("app-misc/open-1.0", depend="app-misc/library"))
        refused = place.build(wish("app-misc/restricted-1.0", depend="app-misc/library"), name="2")
        server.shutdown()
    assert built.failure is None, built.output
    assert refused.failure is not None
    assert refused.failure.kind == "fetch", refused.output
    assert asked == ["/source.txt"]


def write_manifest(directory: Path, *sources: Path) -> None:
    lines = []
    for source in sources:
        content = source.read_bytes()
        hashes = (
            f"BLAKE2B {hashlib.blake2b(content).hexdigest()} SHA512 {hashlib.sha512(content).hexdigest()}"
        )
        lines.append(f"DIST {source.name} {len(content)} {hashes}\n")
    (directory / "Manifest").write_text("".join(lines))


def test_why_it_failed_is_told(place: Place, tmp_path: Path) -> None:
    world = place.world
    source = tmp_path / "absent.txt"
    source.write_text("never served\n")
    ebuild = world.ebuild("app-misc/absent-1.0", src_uri="http://127.0.0.1:9/absent.txt")
    write_manifest(ebuild.parent, source)
    world.ebuild("app-misc/broken-1.0", phases={"src_compile": 'die "it does not compile"'})
    world.ebuild("app-misc/needy-1.0", depend="app-misc/nowhere")
    world.ebuild("app-misc/picky-1.0", depend="app-misc/library[extra]")
    world.ebuild(LIBRARY, iuse="extra")
    cases: dict[str, tuple[dict[str, Any], str, str]] = {
        "app-misc/absent-1.0": ({}, "fetch", "fetch"),
        "app-misc/broken-1.0": ({}, "build", "app-misc/broken-1.0 failed in its compile phase"),
        "app-misc/none-1.0": ({}, "dependencies", "unknown"),
        "app-misc/needy-1.0": ({"depend": "app-misc/nowhere"}, "dependencies", "unknown"),
        "app-misc/picky-1.0": ({"depend": "app-misc/library[extra]"}, "dependencies", "USE conflict"),
    }
    found = {}
    for cpv, (facts, _, _) in cases.items():
        failure = place.build(wish(cpv, **facts)).failure
        assert failure is not None, cpv
        found[cpv] = (failure.kind, failure.text.partition("\n")[0])
        if cpv == "app-misc/broken-1.0":
            assert "it does not compile" in failure.text
    assert found == {cpv: (kind, text) for cpv, (_, kind, text) in cases.items()}


def test_a_full_disk_is_told(place: Place) -> None:
    place.world.ebuild(
        "app-misc/large-1.0", phases={"src_compile": "head -c 90000000 /dev/zero > big || die"}
    )
    result = place.limited(Limits(disk=40_000_000)).build(wish("app-misc/large-1.0"))
    assert result.failure is not None
    assert (result.failure.kind, result.failure.text.partition(":")[0]) == ("limit", "disk")


def test_too_much_memory_is_told(place: Place) -> None:
    """By the kernel, which counts what all have together; without a control group each has its own limit."""
    found = built_fat(place)
    if asyncio.run(may_make_groups()):
        assert found == ("limit", "memory")
    else:
        assert found == ("build", f"{FAT} failed in its compile phase")


def test_without_control_groups_each_process_has_a_limit(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "control_group", partial(control_group, top=tmp_path / "none"))
    assert built_fat(place) == ("build", f"{FAT} failed in its compile phase")


def built_fat(place: Place) -> tuple[str, str]:
    """Build what needs twice as much memory as is allowed; return kind and first words of the failure."""
    phase = "head -c 900M /dev/zero | tail -c 800M > /dev/null || die"
    place.world.ebuild(FAT, phases={"src_compile": phase})
    failure = place.limited(SMALL).build(wish(FAT)).failure
    assert failure is not None
    return failure.kind, failure.text.partition("\n")[0].partition(":")[0]


def test_cancelled_everything_of_it_ends(place: Place) -> None:
    """Its processes too, of which one asked not to be ended with its terminal."""
    phase = f'setsid nohup sleep {MARK} & echo "it sleeps"; sleep {MARK}'
    place.world.ebuild("app-misc/sleepy-1.0", phases={"src_compile": phase})

    async def scenario() -> None:
        building = asyncio.create_task(place.attempt(wish("app-misc/sleepy-1.0")))
        await asyncio.to_thread(until, lambda: sleepers(MARK), 60)
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building

    asyncio.run(scenario())
    until(lambda: not sleepers(MARK), 60, what="the end of all processes")
    assert not (place.workshop.data / "attempts/1").exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{group_prefix(place.workshop.data)}*"))
    # … and the next one is not disturbed by it.
    place.world.ebuild("app-misc/alpha-1.0")
    assert place.build(wish("app-misc/alpha-1.0")).failure is None


def test_settings_of_the_build_root_do_not_get_in_the_way(place: Place) -> None:
    """What an operator may have set for himself: defaults of emerge, binary packages of others."""
    world = place.world
    with (world.root / "etc/portage/make.conf").open("a") as file:
        file.write('EMERGE_DEFAULT_OPTS="--ask --pretend"\nCFLAGS="-O3"\nPORTAGE_ELOG_SYSTEM="save"\n')
    repositories = world.root / "etc/portage/binrepos.conf"
    repositories.mkdir()
    (repositories / "other.conf").write_text("[other]\nsync-uri = http://127.0.0.1:9/other\n")
    world.ebuild(LIBRARY)
    world.ebuild("app-misc/program-1.0", depend="app-misc/library")
    world.emerge("--buildpkgonly", f"={LIBRARY}")
    with world.binhost() as url:
        result = place.build(
            wish("app-misc/program-1.0", depend="app-misc/library"), Binhost(url=url, keys=None)
        )
    assert result.failure is None, result.output
    assert "127.0.0.1:9/other" not in result.output
    assert result.packages[0].metadata["CFLAGS"] == CFLAGS
    assert repositories.is_dir()


def test_what_is_not_signed_is_not_taken_where_signatures_are_demanded(place: Place, tmp_path: Path) -> None:
    world = place.world
    world.ebuild(LIBRARY)
    world.ebuild("app-misc/program-1.0", depend="app-misc/library")
    world.emerge("--buildpkgonly", f"={LIBRARY}")
    keys = tmp_path / "keys"
    keys.mkdir()
    with world.binhost() as url:
        result = place.build(
            wish("app-misc/program-1.0", depend="app-misc/library"),
            Binhost(url=url, keys=keys, demands_signatures=True),
        )
    assert result.failure is not None, result.output
    assert result.failure.text.startswith("not as signed"), result.output
