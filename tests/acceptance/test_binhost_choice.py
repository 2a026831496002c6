# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of several builds real `emerge` takes, and what it does not take at all.

Cases 23 to 28 of reference/binhost.md §9.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.binhost import Binhost, Taker, entries, running_binhost
from tests.front import Front
from tests.signing import GpgHome, short_directory

pytestmark = [pytest.mark.timeout(240)]

MULTI = "app-misc/multi-1.0"


@pytest.fixture(scope="module")
def binhost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binhost]:
    with running_binhost(tmp_path_factory.mktemp("binhost")) as binhost:
        yield binhost
        assert binhost.collector.bdcs("check").returncode == 0


@pytest.fixture(scope="module")
def taker(binhost: Binhost, tmp_path_factory: pytest.TempPathFactory) -> Taker:
    return Taker.create(tmp_path_factory.mktemp("machine") / "world", binhost.verify_home)


@pytest.fixture
def machine(taker: Taker) -> Taker:
    """As a machine that has nothing."""
    taker.forget()
    return taker


@pytest.fixture
def target(request: pytest.FixtureRequest, binhost: Binhost, machine: Taker) -> str:
    """A target of the test's own, from which the machine takes."""
    name: str = request.node.name.removeprefix("test_").replace("_", "-")
    binhost.add_target(name)
    machine.use(binhost.url(name))
    return name


def plan(output: str) -> list[str]:
    """What emerge would do: `binary` or `ebuild`, and with what."""
    lines = re.findall(r"^\[(binary|ebuild) .*?\] ([^\s:]+)", output, re.MULTILINE)
    return [f"{kind} {package}" for kind, package in lines]


def test_use_flags_choose_among_builds(binhost: Binhost, machine: Taker, target: str) -> None:
    """Case 23: three builds of one version; with -g the one that fits or none, with -G the newest."""
    machine.world.ebuild(MULTI, iuse="+ssl gtk doc")
    built = [file for use in ("-ssl", "ssl gtk", "ssl") for file in machine.build(MULTI, env={"USE": use})]
    binhost.publish(target, *built)
    assert [entry["BUILD_ID"] for entry in entries(binhost.index(target))] == ["1", "2", "3"]
    for use, number in (("-ssl", 1), ("ssl gtk", 2), ("ssl", 3)):
        output = machine.pretend("--getbinpkg", "app-misc/multi", USE=use)
        assert plan(output) == [f"binary {MULTI}-{number}"]

    output = machine.pretend("--getbinpkg", "app-misc/multi", USE="-ssl doc")
    assert plan(output) == [f"ebuild {MULTI}"]
    assert "ignored due to non matching USE" in output
    output = machine.pretend("--getbinpkgonly", "app-misc/multi", USE="-ssl doc")
    assert plan(output) == [f"binary {MULTI}-3"]

    machine.emerge("--getbinpkg", "app-misc/multi", USE="ssl gtk")
    assert list(machine.taken()) == ["multi-1.0-2.gpkg.tar"]


def test_the_newest_build_wins(binhost: Binhost, machine: Taker, target: str, tmp_path: Path) -> None:
    """Case 24: BUILD_TIME counts, whatever the numbers are."""
    cpv = "app-misc/dated-1.0"
    packages = [
        machine.package(tmp_path / f"{time}.gpkg.tar", cpv, metadata={"BUILD_TIME": str(time)})
        for time in (1_700_000_300, 1_700_000_100, 1_700_000_200)
    ]
    published = binhost.publish(target, *packages)
    assert [file["build_id"] for file in published] == [1, 2, 3]
    assert plan(machine.pretend("--getbinpkgonly", "app-misc/dated")) == [f"binary {cpv}-1"]


def test_priority_decides_between_the_same_build(binhost: Binhost, machine: Taker, tmp_path: Path) -> None:
    """Case 24: what somebody else signed is published as it is, so two targets may hold the same build."""
    cpv = "app-misc/shared-1.0"
    with short_directory() as directory, GpgHome(directory / "gpg") as gpg:
        fingerprint = gpg.make_key("Elsewhere")
        package = machine.package(tmp_path / "shared.gpkg.tar", cpv, **signatures(gpg, fingerprint))
        key = tmp_path / "elsewhere.asc"
        key.write_bytes(gpg.public_key(fingerprint))
    for name in ("first", "second"):
        binhost.add_target(name)
        binhost.collector.bdcs("admin", "keys", "trust", str(key), "--target", name)
        (published,) = binhost.publish(name, package)
        assert published["signed_by"] == fingerprint
    with Front(binhost.collector.url) as front:
        for winner, loser in (("first", "second"), ("second", "first")):
            machine.forget()
            machine.use_repositories(
                {
                    winner: {"sync_uri": f"{front.url}/binhost/{winner}", "priority": "20"},
                    loser: {"sync_uri": f"{front.url}/binhost/{loser}", "priority": "10"},
                }
            )
            machine.emerge("--getbinpkgonly", "--fetchonly", "app-misc/shared")
            taken = [exchange.path for exchange in front.taken() if exchange.file.endswith(".tar")]
            assert taken == [f"/binhost/{winner}/app-misc/shared/shared-1.0-1.gpkg.tar"]


def signatures(gpg: GpgHome, fingerprint: str) -> dict[str, Any]:
    """How to make a package that this key signed, as Portage signs."""
    digest = ("--digest-algo", "SHA512", "--armor", "--local-user", fingerprint)
    return {
        "detach": lambda data: gpg.gpg(*digest, "--detach-sign", data=data),
        "clearsign": lambda data: gpg.gpg(*digest, "--clear-sign", data=data),
    }


def test_what_the_machine_does_not_accept(
    binhost: Binhost, machine: Taker, target: str, tmp_path: Path
) -> None:
    """Case 25: keyword and licence mask a binary as they mask an ebuild."""
    packages = [
        machine.package(tmp_path / "1.gpkg.tar", "app-misc/testing-1", metadata={"KEYWORDS": "~amd64"}),
        machine.package(tmp_path / "2.gpkg.tar", "app-misc/closed-1", metadata={"LICENSE": "eula"}),
    ]
    binhost.publish(target, *packages)
    done = machine.emerge("--pretend", "--getbinpkgonly", "app-misc/testing", check=False)
    assert done.returncode == 1
    assert "masked by: ~amd64 keyword" in done.output
    assert plan(machine.pretend("-G", "app-misc/testing", ACCEPT_KEYWORDS="~amd64")) == [
        "binary app-misc/testing-1-1"
    ]
    free = {"ACCEPT_LICENSE": "-* public-domain"}
    done = machine.emerge("--pretend", "--getbinpkgonly", "app-misc/closed", check=False, **free)
    assert done.returncode == 1
    assert "masked by: eula license(s)" in done.output
    assert plan(machine.pretend("-G", "app-misc/closed")) == ["binary app-misc/closed-1-1"]


def test_another_chost_is_masked(binhost: Binhost, machine: Taker, tmp_path: Path) -> None:
    """Case 25: a target takes only packages of its CHOST, and a machine of another takes none of them."""
    other = "aarch64-unknown-linux-gnu"
    binhost.add_target("arm", chost=other)
    ours = machine.package(tmp_path / "ours.gpkg.tar", "app-misc/foreign-1")
    refused = binhost.collector.bdcs("publish", str(ours), "--target", "arm", check=False)
    assert refused.returncode == 1
    assert f"built for CHOST x86_64-pc-linux-gnu, the target is {other}" in refused.stderr
    theirs = machine.package(tmp_path / "theirs.gpkg.tar", "app-misc/foreign-1", metadata={"CHOST": other})
    binhost.publish("arm", theirs)
    machine.use(binhost.url("arm"))
    done = machine.emerge("--pretend", "--getbinpkgonly", "app-misc/foreign", check=False)
    assert done.returncode == 1
    assert f"masked by: CHOST: {other}" in done.output
    assert plan(machine.pretend("-G", "app-misc/foreign", CHOST=other)) == ["binary app-misc/foreign-1-1"]


def test_a_changed_ebuild_outdates_builds(binhost: Binhost, machine: Taker, target: str) -> None:
    """Case 25: -g ignores a build whose dependencies or flags are not the ebuild's; a new one is taken."""
    cpv = "app-misc/changing-1.0"
    machine.world.ebuild("app-misc/needed-1")
    machine.world.ebuild(cpv)
    binhost.publish(target, *machine.build("app-misc/needed-1", cpv))
    wanted = ("--getbinpkg", "app-misc/changing")
    assert plan(machine.pretend(*wanted)) == [f"binary {cpv}-1"]
    machine.world.ebuild(cpv, iuse="+new")
    output = machine.pretend(*wanted)
    assert plan(output) == [f"ebuild {cpv}"]
    assert "non matching USE" in output
    machine.world.ebuild(cpv, rdepend="app-misc/needed")
    output = machine.pretend(*wanted)
    assert plan(output) == ["binary app-misc/needed-1-1", f"ebuild {cpv}"]
    assert "changed dependencies" in output
    binhost.publish(target, *machine.build(cpv))
    assert plan(machine.pretend(*wanted)) == ["binary app-misc/needed-1-1", f"binary {cpv}-2"]


def test_a_new_subslot_outdates_what_was_built_against_the_old(
    binhost: Binhost, machine: Taker, target: str
) -> None:
    """Case 26."""
    library, user = "app-misc/library", "app-misc/user-1.0"
    machine.world.ebuild(f"{library}-1", slot="0/1")
    machine.world.ebuild(user, depend=f"{library}:=", rdepend=f"{library}:=")

    def build() -> None:
        """Build both, the user against the library that is installed then."""
        before = set(machine.world.pkgdir.rglob("*.gpkg.tar"))
        machine.world.emerge("--buildpkg", "--oneshot", "--quiet", library)
        machine.build(user)
        binhost.publish(target, *sorted(set(machine.world.pkgdir.rglob("*.gpkg.tar")) - before))
        machine.forget()

    build()
    assert f"{library}:0/1=" in entries(binhost.index(target))[-1]["RDEPEND"]
    wanted = ("--getbinpkg", library, "app-misc/user")
    assert plan(machine.pretend(*wanted)) == [f"binary {library}-1-1", f"binary {user}-1"]
    machine.world.ebuild(f"{library}-2", slot="0/2")
    assert plan(machine.pretend(*wanted)) == [f"ebuild {library}-2", f"ebuild {user}"]
    build()
    assert plan(machine.pretend(*wanted)) == [f"binary {library}-2-1", f"binary {user}-2"]


def test_tiers_are_apart(binhost: Binhost, machine: Taker, tmp_path: Path) -> None:
    """Case 27: CFLAGS are in no index; what keeps builds apart is the target."""
    binhost.add_target("baseline", cflags="-O2")
    binhost.add_target("avx2", cflags="-O2 -march=x86-64-v3")
    for name, cflags in (("baseline", "-O2"), ("avx2", "-O2 -march=x86-64-v3")):
        package = machine.package(
            tmp_path / f"{name}.gpkg.tar", f"app-misc/for-{name}-1", metadata={"CFLAGS": cflags}
        )
        (published,) = binhost.publish(name, package)
        other = "baseline" if name == "avx2" else "avx2"
        assert binhost.get(f"{name}/{published['path']}").status == 200
        assert binhost.get(f"{other}/{published['path']}").status == 404
    machine.use(binhost.url("baseline"))
    assert plan(machine.pretend("-G", "app-misc/for-baseline")) == ["binary app-misc/for-baseline-1-1"]
    assert machine.emerge("-pG", "app-misc/for-avx2", check=False).returncode == 1


@pytest.mark.parametrize("restrict", ["bindist", "fetch"])
def test_what_must_not_be_redistributed(binhost: Binhost, machine: Taker, restrict: str) -> None:
    """Case 28: refused, unless the target is marked as one for the operator's own machines."""
    cpv = f"app-misc/{restrict}-1"
    public, own = f"public-{restrict}", f"own-{restrict}"
    binhost.add_target(public)
    binhost.add_target(own, "--bindist")
    machine.world.ebuild(cpv, restrict=restrict)
    (built,) = machine.build(cpv)
    refused = binhost.collector.bdcs("publish", str(built), "--target", public, check=False)
    assert refused.returncode == 1
    assert f"RESTRICT has {restrict}" in refused.stderr
    assert list((binhost.data / "packages").glob(f"{public}/**/*.tar")) == []
    binhost.publish(own, built)
    machine.use(binhost.url(own))
    assert plan(machine.pretend("-G", f"app-misc/{restrict}")) == [f"binary {cpv}-1"]
