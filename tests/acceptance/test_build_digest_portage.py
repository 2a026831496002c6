# SPDX-License-Identifier: GPL-2.0-or-later
"""The specification of a wish beside that of the package that real emerge then builds: their digests are one.

And the other way round: where the digest of what a machine wishes is still that of a build, real emerge takes
that build; where emerge would not, the digest is another.
"""

import json
import os
import random
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bdcs.domain.gpkg.reading import read_package
from gentwoo_client.portage.wishes import Wish, wishes
from gentwoo_client.settings import Settings
from gentwoo_client.wire.builds import BuildSpecification, difference
from gentwoo_client.wire.dependencies import parse, reduce, to_text
from tests.world import World

pytestmark = [pytest.mark.timeout(600)]

PROFILE = """\
USE="profiled"
USE_EXPAND="CPU_FLAGS_X86 ELIBC KERNEL PYTHON_TARGETS VIDEO_CARDS"
USE_EXPAND_HIDDEN="ELIBC KERNEL"
USE_EXPAND_IMPLICIT="ARCH ELIBC KERNEL"
USE_EXPAND_UNPREFIXED="ARCH"
USE_EXPAND_VALUES_ARCH="amd64 arm64"
USE_EXPAND_VALUES_ELIBC="glibc musl"
USE_EXPAND_VALUES_KERNEL="linux"
PYTHON_TARGETS="python3_12"
VIDEO_CARDS="intel"
"""

EBUILD = """\
EAPI={eapi}
DESCRIPTION="to be merged in tests"
HOMEPAGE="https://example.org/"
LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64 arm64"
{values}
S="${{WORKDIR}}"
"""


# Portage adds the libc where it noted which libraries a package's programs need; that takes scanelf, which is
# not here, so the ebuild says that it was noted.
HAS_LIBRARIES = """
src_install() { : > "${PORTAGE_BUILDDIR}/build-info/NEEDED.ELF.2" || die; }
"""


def write(world: World, cpv: str, *, eapi: str = "8", **values: str) -> None:
    """An ebuild that installs nothing; `values` are further variables, or others than usual."""
    category, pf = cpv.split("/")
    name = "-".join(pf.split("-")[:1])
    lines = "\n".join(f'{variable}="{value}"' for variable, value in values.items())
    world.write_ebuild(category, name, pf, EBUILD.format(eapi=eapi, values=lines))


def settings(world: World) -> Settings:
    return Settings(eprefix=str(world.root), portage_bin=world.portage_bin)


def built(world: World) -> dict[str, BuildSpecification]:
    """The specifications of the packages in PKGDIR; of several of one version, the newest."""
    found: dict[str, tuple[int, BuildSpecification]] = {}
    for path in world.pkgdir.rglob("*.gpkg.tar"):
        package = read_package(path)
        number = package.build_id or 0
        if number >= found.get(str(package.cpv), (0, None))[0]:
            found[str(package.cpv)] = number, BuildSpecification.from_metadata("amd64", package.metadata)
    return {cpv: specification for cpv, (_, specification) in found.items()}


def build(world: World, *arguments: str) -> None:
    """Have emerge merge and pack them: sixteen packages at once take their time."""
    done = world.start_emerge("--buildpkg", *arguments).wait(timeout=500)
    assert done.returncode == 0, done.output


def assert_built_as_wished(world: World, wished: tuple[Wish, ...]) -> None:
    packages = built(world)
    for wish in wished:
        specification = wish.specification
        package = packages[str(specification.cpv)]
        assert difference(package, specification) == (), str(specification.cpv)
        assert package == specification
        assert package.digest() == specification.digest()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def make_world(directory: Path) -> World:
    world = World.create(directory)
    profiles = world.repository / "profiles"
    with (profiles / "categories").open("a") as file:
        file.write("dev-libs\nsys-libs\n")
    with (profiles / "default/make.defaults").open("a") as file:
        file.write(PROFILE)
    (profiles / "default/use.mask").write_text("masked\n")
    (profiles / "default/use.force").write_text("forced\n")
    (profiles / "default/package.use.mask").write_text("app-misc/flags here\n")
    (profiles / "default/package.use.force").write_text("app-misc/flags there\n")
    write(world, "dev-libs/x-1", SLOT="0/1", IUSE="z w")
    write(world, "dev-libs/y-2-r1", SLOT="2/2.1")
    write(world, "dev-libs/y-3", SLOT="3")
    write(world, "dev-libs/later-1", SLOT="0/5")
    return world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, here: pytest.MonkeyPatch) -> World:
    world = make_world(tmp_path_factory.mktemp("worlds") / "machine")
    for name, value in world.environment().items():
        here.setenv(name, value)
    return world


PACKAGES: Mapping[str, Mapping[str, str]] = {
    "app-misc/conditional-1.0": {
        "IUSE": "a b c",
        "DEPEND": "a? ( dev-libs/x:= ) !a? ( dev-libs/nowhere )",
        "RDEPEND": "a? ( dev-libs/x:0= !c? ( dev-libs/y:2= ) )\n\t( ( dev-libs/y:3 ) )"
        "  b? ( dev-libs/nowhere )\n\t|| ( b? ( dev-libs/nowhere ) ( dev-libs/y:* ) dev-libs/nowhere )"
        " elibc_glibc? ( dev-libs/x ) amd64? ( dev-libs/y:2 )",
        "BDEPEND": "|| ( ( dev-libs/y:= ) )",
        "LICENSE": "|| ( MIT GPL-2 ) b? ( BSD )",
        "RESTRICT": "!b? ( test ) mirror",
        "PROPERTIES": "b? ( interactive )",
    },
    "app-misc/usedeps-1.0-r3": {
        "IUSE": "a +b c w z",
        "RDEPEND": ">=dev-libs/x-1:=[z(-)?,w=] dev-libs/x[-q(-),!c(-)?] dev-libs/x:0/1[!b(-)=,z?]"
        " !!<dev-libs/y-1",
    },
    "app-misc/anyof-1": {
        "DEPEND": "|| ( dev-libs/nowhere:= dev-libs/y:3= dev-libs/x:= )",
        "RDEPEND": "|| ( ( dev-libs/x:= dev-libs/y:= ) dev-libs/nowhere:= )",
    },
    "app-misc/flags-2_p1": {
        "IUSE": "+on -off plain +masked forced here +there profiled cpu_flags_x86_avx2 +cpu_flags_x86_sse2"
        " python_targets_python3_11 python_targets_python3_12 video_cards_intel video_cards_radeon",
        "REQUIRED_USE": "|| ( on off ) python_targets_python3_11? ( !python_targets_python3_12 )",
        "RDEPEND": "masked? ( dev-libs/nowhere ) forced? ( dev-libs/x )"
        " cpu_flags_x86_avx2? ( dev-libs/y:2 ) python_targets_python3_12? ( dev-libs/y:3 )",
    },
    "app-misc/zero-1.0-r0": {"KEYWORDS": "~arm64 amd64 -sparc", "SLOT": "zero"},
    "app-misc/live-9999": {"KEYWORDS": "", "PROPERTIES": "live"},
    "app-misc/testing-3": {"KEYWORDS": "~amd64"},
    "app-misc/after-1": {"PDEPEND": "dev-libs/later:=", "IDEPEND": "dev-libs/x:="},
    "app-misc/old-4": {
        "eapi": "4",
        "IUSE": "+a z",
        "DEPEND": "a? ( dev-libs/x:0 )",
        "RDEPEND": "dev-libs/x[z?]",
    },
    "app-misc/older-6": {
        "eapi": "6",
        "IUSE": "a",
        "RDEPEND": "|| ( a? ( dev-libs/nowhere ) ) dev-libs/y:=",
    },
    "app-misc/empty-7": {
        "eapi": "7",
        "IUSE": "a",
        "RDEPEND": "|| ( || ( a? ( dev-libs/nowhere ) ) dev-libs/x )",
    },
    "virtual/nothing-0": {"LICENSE": "", "RDEPEND": "app-misc/zero"},
}

OWN_USE = """\
app-misc/conditional a
app-misc/usedeps a w
dev-libs/x z w
app-misc/flags -on off CPU_FLAGS_X86: avx2 -sse2
app-misc/flags VIDEO_CARDS: -* radeon
*/* plain
"""


def test_what_is_wished_is_what_emerge_builds(world: World) -> None:
    for cpv, values in PACKAGES.items():
        write(world, cpv, **values)
    configuration = world.root / "etc/portage"
    (configuration / "package.use").write_text(OWN_USE)
    (configuration / "package.accept_keywords").write_text(
        "app-misc/live **\napp-misc/testing ~amd64\ndev-libs/y amd64\n"
    )
    wished = wishes(settings(world), "amd64", [f"={cpv}" for cpv in PACKAGES])
    specifications = {wish.specification.cpv.name: wish.specification for wish in wished}

    assert {str(wish.specification.cpv) for wish in wished} >= PACKAGES.keys()
    flags = "cpu_flags_x86_avx2 forced off plain profiled python_targets_python3_12 there video_cards_radeon"
    assert specifications["flags"].use == tuple(flags.split())
    assert specifications["conditional"].built_against == {"dev-libs/x:0": "0/1", "dev-libs/y:2": "2/2.1"}
    assert specifications["anyof"].built_against == {
        "dev-libs/x:0": "0/1",
        "dev-libs/y:3": "3/3",
    }
    assert specifications["zero"].keywords == ("amd64",)
    assert specifications["testing"].keywords == ("~amd64",)
    build(world, "--oneshot", *(f"={cpv}" for cpv in PACKAGES))
    assert_built_as_wished(world, wished)


def test_a_builder_without_the_machines_files_builds_what_is_wished(world: World, tmp_path: Path) -> None:
    """All that it knows are the flags in the specification."""
    builder = make_world(tmp_path / "builder")
    for cpv, values in PACKAGES.items():
        write(builder, cpv, **values)
    chosen = ["app-misc/conditional-1.0", "app-misc/flags-2_p1"]
    wished = wishes(settings(world), "amd64", [f"={cpv}" for cpv in chosen], "--emptytree")
    lines = [
        " ".join((f"={wish.cpv}", *(flag if flag in wish.use else f"-{flag}" for flag in wish.iuse)))
        for wish in (wish.specification for wish in wished)
    ]
    (builder.root / "etc/portage/package.use").write_text("\n".join(lines) + "\n")
    build(builder, "--oneshot", *(f"={cpv}" for cpv in chosen))
    assert_built_as_wished(builder, wished)


def test_the_libc_that_portage_adds_is_nobodys_wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path / "world")
    write(world, "sys-libs/glibc-2.41-r4", SLOT="2.2")
    write(world, "virtual/libc-1", RDEPEND="sys-libs/glibc:2.2")
    write(world, "app-misc/tool-1", RDEPEND="dev-libs/x:= || ( sys-libs/glibc dev-libs/x )")
    with (world.repository / "app-misc/tool/tool-1.ebuild").open("a") as file:
        file.write(HAS_LIBRARIES)
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    world.emerge("virtual/libc")
    wished = wishes(settings(world), "amd64", ["app-misc/tool"])
    build(world, "app-misc/tool")
    metadata = read_package(next(world.pkgdir.rglob("tool-*.gpkg.tar"))).metadata
    assert metadata["RDEPEND"].endswith(" >=sys-libs/glibc-2.41-r4")
    assert_built_as_wished(world, wished)


def test_an_upgrade_to_another_sub_slot_is_another_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is merged before it counts, not what is installed still."""
    world = make_world(tmp_path / "world")
    write(world, "app-misc/user-1", DEPEND="dev-libs/x:=", RDEPEND="dev-libs/x:=")
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    (before,) = (
        wish.specification
        for wish in wishes(settings(world), "amd64", ["app-misc/user"])
        if wish.specification.cpv.name == "user"
    )
    build(world, "app-misc/user")
    assert built(world)["app-misc/user-1"].digest() == before.digest()
    write(world, "dev-libs/x-2", SLOT="0/2", IUSE="z w")
    wished = wishes(settings(world), "amd64", ["@world"], "--update", "--deep")
    (after,) = (wish for wish in wished if wish.specification.cpv.name == "user")
    assert "r" in after.letters
    assert difference(before, after.specification) == (
        "built against dev-libs/x:0/1; yours is to be built against dev-libs/x:0/2",
    )
    build(world, "--update", "--deep", "@world")
    assert_built_as_wished(world, wished)


# What Portage's choice depends on

BASE = {
    "IUSE": "a b",
    "DEPEND": "dev-libs/x:=",
    "RDEPEND": "dev-libs/x:= a? ( dev-libs/y:2 )",
    "LICENSE": "public-domain",
}

CHANGES: Mapping[str, tuple[Mapping[str, str], str, bool]] = {
    # what: (values of the ebuild, package.use, whether the same build serves)
    "nothing": ({}, "", True),
    "white space": ({"RDEPEND": "  dev-libs/x:=\n\ta? ( ( dev-libs/y:2 ) )"}, "", True),
    "the order of IUSE": ({"IUSE": "b -a"}, "", True),
    "a condition that does not hold": ({"RDEPEND": "dev-libs/x:= a? ( dev-libs/y:3 )"}, "", True),
    "another architecture": ({"KEYWORDS": "amd64 ~arm64"}, "", True),
    "the description": ({"DESCRIPTION": "more words"}, "", True),
    "USE": ({}, "app-misc/subject a", False),
    "USE by default": ({"IUSE": "a +b"}, "", False),
    "IUSE": ({"IUSE": "a b c"}, "", False),
    "a dependency": ({"RDEPEND": "dev-libs/x:= dev-libs/y:2 a? ( dev-libs/y:2 )"}, "", False),
    "a version in a dependency": ({"RDEPEND": ">=dev-libs/x-1:= a? ( dev-libs/y:2 )"}, "", False),
    "a build dependency": ({"DEPEND": "dev-libs/x:= dev-libs/y:3"}, "", False),
    "keywords": ({"KEYWORDS": "~amd64"}, "", False),
}


@pytest.fixture(scope="module")
def subject(world: World) -> BuildSpecification:
    (world.root / "etc/portage/package.use").write_text("")
    write(world, "app-misc/subject-1", **BASE)
    build(world, "--oneshot", "app-misc/subject", "dev-libs/y:2", "dev-libs/y:3")
    world.emerge("--unmerge", "app-misc/subject")
    return built(world)["app-misc/subject-1"]


@pytest.mark.parametrize("what", CHANGES)
def test_equal_digests_are_builds_that_emerge_takes(
    world: World, subject: BuildSpecification, what: str
) -> None:
    values, use, serves = CHANGES[what]
    write(world, "app-misc/subject-1", **{**BASE, **values})
    configuration = world.root / "etc/portage"
    (configuration / "package.use").write_text(f"{use}\n")
    (configuration / "package.accept_keywords").write_text("app-misc/subject ~amd64\n")
    (wish,) = wishes(settings(world), "amd64", ["app-misc/subject"])
    if what == "keywords":
        # The build says amd64 and suits everybody; one that says ~amd64 does not, but both are one package.
        assert subject.digest() != wish.specification.digest()
        return
    output = world.emerge(
        "--pretend", "--usepkg", "--binpkg-changed-deps=y", "--with-bdeps=y", "app-misc/subject"
    ).output
    assert (f"[binary  N     ] {subject.cpv}" in output) == serves, output
    assert (subject.digest() == wish.specification.digest()) == serves
    assert bool(difference(subject, wish.specification)) != serves


# Portage's own reduction

REDUCE = """
import json, sys
from portage.dep import Atom, paren_enclose, use_reduce
done = []
for text, use, eapi in json.load(sys.stdin):
    done.append(paren_enclose(use_reduce(text, uselist=use, eapi=eapi, token_class=Atom)))
json.dump(done, sys.stdout)
"""


ENDINGS = ("", ":=", ":0=", "[a?]", ":2=[b=,!c=]", "[!a?,b(+)?]")


def invented(chance: random.Random, depth: int = 0) -> str:
    words = []
    for _ in range(chance.randint(1, 3)):
        kind = chance.choice(["atom", "atom", "all", "any", "if", "unless"]) if depth < 4 else "atom"
        inner = invented(chance, depth + 1) if kind != "atom" else ""
        flag = chance.choice("abc")
        package = "d/" + chance.choice("pqr") + chance.choice(ENDINGS)
        words.append(
            {
                "atom": package,
                "all": f"( {inner} )",
                "any": f"|| ( {inner} )",
                "if": f"{flag}? ( {inner} )",
                "unless": f"!{flag}? ( {inner} )",
            }[kind]
        )
    return " ".join(words)


def test_dependencies_are_reduced_as_portage_reduces_them(world: World) -> None:
    """However Portage writes what is left, it is what we have: so a package says what its ebuild says."""
    chance = random.Random(7)
    cases = [
        (invented(chance), sorted(chance.sample("abc", chance.randint(0, 3))), chance.choice("678"))
        for _ in range(2000)
    ]
    done = subprocess.run(
        [world.portage_bin / "python", "-c", REDUCE],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **world.environment()},
    )
    for (text, use, eapi), theirs in zip(cases, json.loads(done.stdout), strict=True):
        ours = to_text(reduce(parse(text), use, eapi=eapi))
        assert to_text(reduce(parse(theirs), (), eapi=eapi)) == ours, (text, use, eapi)
