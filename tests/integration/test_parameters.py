# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo parameters`, and how Portage is asked: real Portage, in worlds of the tests."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from gentwoo_client.errors import GentwooError, NotConfigured
from gentwoo_client.portage.asking import ask, interpreter
from gentwoo_client.portage.emerge_plan import EmergeRefused, make_plan, read_plan
from gentwoo_client.settings import Settings
from gentwoo_client.wire.parameters import Parameters
from tests.processes import GENTWOO, run
from tests.world import World

PLAN = """
These are the packages that would be merged, in order:

Calculating dependencies ... done!

[ebuild  N     ] dev-libs/x-1-r1:2/2.1::gentoo  USE="a -b (c) {test}" 0 KiB
[ebuild   R  ~ ] app-misc/alpha-1.0::guru  0 KiB
[ebuild     U  ] app-misc/beta-2:0/2::gentoo [1:0/1::gentoo] USE="a*" 1,024 KiB
[ebuild  rR    ] app-misc/delta-3::gentoo to /
[ebuild  N     ] app-misc/tool-1::gentoo to /build/root/ 0 KiB
[blocks B      ] app-misc/old ("app-misc/old" is soft blocking app-misc/alpha-1.0)
[uninstall     ] app-misc/old-1::gentoo

Total: 3 packages (1 upgrade, 1 new, 1 reinstall), Size of downloads: 1,024 KiB
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World.create(tmp_path_factory.mktemp("worlds") / "machine")
    world.ebuild("app-misc/alpha-1.0", iuse="+gtk doc qt6")
    world.ebuild("app-misc/alpha-2.0", iuse="gtk", keywords="~amd64")
    world.ebuild("app-misc/beta-1.0", rdepend="app-misc/alpha")
    world.ebuild("app-misc/twice-1.0")
    world.ebuild("app-portage/twice-1.0")
    world.ebuild("app-misc/testing-1.0", keywords="~amd64")
    configuration = world.root / "etc/portage"
    with (configuration / "make.conf").open("a") as file:
        file.write(
            'CFLAGS="-O2   -march=native -pipe"\nCXXFLAGS="${CFLAGS}"\nLDFLAGS="-Wl,-O1 -Wl,--as-needed"\n'
            'USE="doc"\nACCEPT_LICENSE="-* public-domain"\n'
        )
    (configuration / "package.use").write_text("app-misc/alpha -gtk qt6\n")
    return world


@pytest.fixture
def configured(world: World, tmp_path: Path) -> Path:
    config = tmp_path / "gentwoo.toml"
    text = world.settings_toml(collector="https://bdcs.example.org", state_dir=tmp_path)
    config.write_text(text)
    return config


def gentwoo(world: World, config: Path, *words: str) -> CompletedProcess[str]:
    return run([*GENTWOO, "parameters", *words, "--config", str(config)], env=world.environment())


@pytest.fixture
def settings(world: World, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    return Settings(eprefix=str(world.root), portage_bin=world.portage_bin)


# The command


def test_all_parameters_are_shown(world: World, configured: Path) -> None:
    shown = gentwoo(world, configured)
    assert shown.returncode == 0, shown.stderr
    lines = dict(line.split(":", 1) for line in shown.stdout.splitlines() if not line.startswith(" "))
    values = {name: value.strip() for name, value in lines.items()}
    assert values["CHOST"] == "x86_64-pc-linux-gnu"
    assert values["Profile"] == "default"
    assert values["Keywords"] == "amd64"
    assert values["Licences"] == "public-domain"  # as Portage has worked it out
    assert values["LDFLAGS"] == "-Wl,-O1 -Wl,--as-needed"
    assert "doc" in values["USE"].split()
    assert "native" not in shown.stdout
    assert "--param" not in shown.stdout
    assert "Its USE" not in values


def test_the_document_is_what_a_collector_takes(world: World, configured: Path) -> None:
    document = json.loads(gentwoo(world, configured, "--json").stdout)
    problems, package = document.pop("problems"), document.pop("package")
    assert (problems, package) == ([], None)
    parameters = Parameters.from_json(document)
    assert parameters.cflags.startswith("-O2 -march=")
    assert parameters.cflags.endswith(" -pipe")


@pytest.mark.parametrize("atom", ["app-misc/alpha", "alpha", "<app-misc/alpha-2", "app-misc/alpha:0"])
def test_the_use_of_a_package_is_what_is_in_force(world: World, configured: Path, atom: str) -> None:
    """Masked versions aside, after package.use."""
    document = json.loads(gentwoo(world, configured, atom, "--json").stdout)
    assert document["package"] == {
        "cpv": "app-misc/alpha-1.0",
        "repository": "gentoo",
        "use": ["doc", "-gtk", "qt6"],
        "keywords": ["amd64"],
        "patched": False,
    }
    assert "Its USE:     doc -gtk qt6" in gentwoo(world, configured, atom).stdout


def test_patches_of_the_machines_own_are_told(world: World, configured: Path) -> None:
    patches = world.root / "etc/portage/patches/app-misc/alpha-1.0"
    patches.mkdir(parents=True)
    try:
        assert not json.loads(gentwoo(world, configured, "alpha", "--json").stdout)["package"]["patched"]
        (patches / "faster.patch").write_text("")
        assert json.loads(gentwoo(world, configured, "alpha", "--json").stdout)["package"]["patched"]
        assert "patched on this machine" in gentwoo(world, configured, "alpha").stdout
    finally:
        shutil.rmtree(patches.parent)


@pytest.mark.parametrize(
    ("atom", "said"),
    [
        ("app-misc/nothing", "no package here fits app-misc/nothing"),
        ("app-misc/testing", "or all that do are masked"),
        ("twice", "is no package"),
        ("/etc/passwd", "is no package"),
        ("@world", "is no package"),
    ],
)
def test_what_is_no_package_is_said(world: World, configured: Path, atom: str, said: str) -> None:
    done = gentwoo(world, configured, atom)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stdout == ""


def test_what_a_collector_would_not_take_is_told(world: World, configured: Path) -> None:
    env = {**world.environment(), "CFLAGS": "-O2 -fplugin=/tmp/x.so", "ACCEPT_KEYWORDS": "amd64 **"}
    done = run([*GENTWOO, "parameters", "--json", "--config", str(configured)], env=env, check=True)
    problems = json.loads(done.stdout)["problems"]
    assert [problem["parameter"] for problem in problems] == ["cflags", "keywords"]
    done = run([*GENTWOO, "parameters", "--config", str(configured)], env=env, check=True)
    assert "Not taken:   cflags: -fplugin=/tmp/x.so is none of the flags that are allowed" in done.stdout


# Asking


def test_another_portage_than_the_settings_say_is_refused(settings: Settings) -> None:
    with pytest.raises(NotConfigured, match="EPREFIX") as caught:
        ask(settings._replace(eprefix="/elsewhere"))
    assert settings.eprefix in (caught.value.advice or "")


def test_without_portage_it_is_said(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="Portage is needed"):
        ask(settings._replace(portage_bin=tmp_path))
    with pytest.raises(NotConfigured, match="Portage is needed"):
        make_plan(settings._replace(portage_bin=tmp_path), ["app-misc/alpha"])


def test_a_broken_portage_is_said(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "emerge").write_text("#!/bin/false\n")
    with pytest.raises(GentwooError, match="Portage cannot be asked"):
        ask(settings._replace(portage_bin=tmp_path))


def test_what_portage_prints_is_no_part_of_the_answer(settings: Settings, world: World) -> None:
    """Portage warns on stdout now and then."""
    bashrc = world.root / "etc/portage/bashrc"
    bashrc.write_text("echo noise\n")
    try:
        answer = ask(settings, variables=["ARCH"], packages=[("app-misc/beta-1.0", "gentoo")])
    finally:
        bashrc.unlink()
    assert answer.variables == {"ARCH": "amd64"}
    assert answer.packages[0].metadata["RDEPEND"] == "app-misc/alpha"


def make_script(path: Path, first_line: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first_line}\nimport portage\n")
    return path


def test_the_interpreter_is_the_one_that_runs_emerge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python3.13"
    python.symlink_to(shutil.which("true") or "/bin/true")
    make_script(tmp_path / "plain/emerge", f"#!{python} -b")
    assert interpreter(tmp_path / "plain", "") == python
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    make_script(tmp_path / "env/emerge", "#!/usr/bin/env -S python3.13 -b")
    assert interpreter(tmp_path / "env", "") == python
    # pip writes this where a path is too long for the kernel
    make_script(tmp_path / "long/emerge", "#!/bin/sh")
    (tmp_path / "long/python3").symlink_to(python)
    assert interpreter(tmp_path / "long", "") == tmp_path / "long/python3"


def test_the_interpreter_on_gentoo(tmp_path: Path) -> None:
    """There the commands are python-exec, a program; the scripts that it starts lie elsewhere."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/emerge").write_bytes(b"\x7fELF")
    for version in ("3.9", "3.13", "3.12"):
        python = tmp_path / f"usr/bin/python{version}"
        python.symlink_to(shutil.which("true") or "/bin/true")
        make_script(tmp_path / f"usr/lib/python-exec/python{version}/emerge", f"#!{python} -bO")
    assert interpreter(tmp_path / "usr/bin", str(tmp_path)) == tmp_path / "usr/bin/python3.13"


# emerge's plan


def test_a_plan_is_read() -> None:
    plan = read_plan(PLAN)
    assert plan is not None
    assert [(str(package.cpv), package.repository, package.letters) for package in plan] == [
        ("dev-libs/x-1-r1", "gentoo", "N"),
        ("app-misc/alpha-1.0", "guru", "R~"),
        ("app-misc/beta-2", "gentoo", "U"),
    ]


@pytest.mark.parametrize(
    "options", ["", "--tree --ask --quiet", "--columns", "-av --color=y", "--getbinpkg --usepkg --verbose"]
)
def test_a_plan_is_the_same_however_people_like_it_shown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    monkeypatch.setenv("EMERGE_DEFAULT_OPTS", options)
    plan = make_plan(settings, ["app-misc/beta"])
    assert [str(package.cpv) for package in plan] == ["app-misc/alpha-1.0", "app-misc/beta-1.0"]


def test_default_options_that_change_the_plan_count(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMERGE_DEFAULT_OPTS", "--onlydeps")
    assert [str(package.cpv) for package in make_plan(settings, ["app-misc/beta"])] == ["app-misc/alpha-1.0"]


@pytest.mark.parametrize(
    ("atoms", "said"),
    [
        (["app-misc/testing"], "have been masked"),
        (["app-misc/nothing"], "there are no ebuilds to satisfy"),
        (["--version"], "is an option"),
        (["twice"], "ambiguous"),
    ],
)
def test_what_emerge_refuses_is_said(settings: Settings, atoms: Sequence[str], said: str) -> None:
    with pytest.raises(EmergeRefused) as caught:
        make_plan(settings, atoms)
    assert said in f"{caught.value} {caught.value.output}"
