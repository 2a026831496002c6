# SPDX-License-Identifier: GPL-2.0-or-later
"""What a builder gives to Portage: exactly what is wished, and never what could run a program (case 37)."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from bdcs.builder import emerge, portage_config
from bdcs.builder.building import missing_bindings
from bdcs.builder.limits import Limits, control_group, resource_limits
from bdcs.builder.portage_config import Places, Wish
from bdcs.builder.sandbox import CAPABILITIES, Sandbox
from bdcs.errors import BuildRefused
from tests.workshops import CFLAGS, specification, wish

EVIL = (
    'x"; touch /tmp/canary; "',
    "x`touch /tmp/canary`",
    "$(touch /tmp/canary)",
    "${IFS}x",
    "x\ntouch /tmp/canary",
    "x\0y",
    "source /tmp/evil",
    "x;y",
    "x|y",
    "x&y",
    "x#y",
    "../../etc/passwd",
    "--config-root=/tmp",
    "@world",
    "*",
    "é",
)
EVIL_FLAGS = (
    *EVIL,
    "-wrapper sh,-c,touch",
    "-fplugin=/tmp/x.so",
    "-specs=/tmp/x",
    "-B/tmp",
    "@/tmp/flags",
    "-include /etc/passwd",
    "-o /tmp/x",
    "-fuse-ld=/tmp/ld",
    "-Wl,-plugin,/tmp/x.so",
    "-Wl,-rpath,/tmp",
    "-fprofile-use=/tmp/x",
    "-O2 $(shell touch /tmp/canary)",
)
PLACES = Places(eprefix="/prefix")


def document(**changes: object) -> dict[str, Any]:
    return {**specification("app-misc/alpha-1.0", iuse="one two", use=["one"]).to_json(), **changes}


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("field", ["cpv", "repository", "use", "iuse", "slot", "eapi"])
def test_evil_values_are_refused(field: str, evil: str) -> None:
    value = [evil] if field in ("use", "iuse") else evil
    with pytest.raises(BuildRefused):
        Wish.of(document(**{field: value}), cflags=CFLAGS)


@pytest.mark.parametrize("evil", EVIL)
def test_evil_versions_are_refused(evil: str) -> None:
    with pytest.raises(BuildRefused):
        Wish.of(document(cpv=f"app-misc/alpha-{evil}"), cflags=CFLAGS)


@pytest.mark.parametrize("evil", EVIL)
def test_evil_dependencies_are_refused(evil: str) -> None:
    with pytest.raises(BuildRefused):
        Wish.of(document(depend=evil), cflags=CFLAGS)
    with pytest.raises(BuildRefused):
        Wish.of(document(built_against={evil: "0/1"}), cflags=CFLAGS)
    with pytest.raises(BuildRefused):
        Wish.of(document(built_against={"app-misc/library:0": evil}), cflags=CFLAGS)


@pytest.mark.parametrize("evil", EVIL_FLAGS)
def test_evil_compiler_flags_are_refused(evil: str) -> None:
    with pytest.raises(BuildRefused):
        Wish.of(document(), cflags=f"-O2 {evil}")


@pytest.mark.parametrize("other", [None, [], "text", 1, {}, {"cpv": "app-misc/alpha-1.0"}])
def test_what_is_no_specification_is_refused(other: object) -> None:
    with pytest.raises(BuildRefused):
        Wish.of(other, cflags="")


def test_each_flag_of_iuse_is_said() -> None:
    files = portage_config.files(wish("app-misc/alpha-1.0", iuse="+one two three", use=["three", "two"]))
    assert files == {
        "package.use": "=app-misc/alpha-1.0 -one three two\n",
        "package.accept_keywords": "=app-misc/alpha-1.0 **\n",
        "package.license": "=app-misc/alpha-1.0 *\n",
        "package.unmask": "=app-misc/alpha-1.0\n",
    }


def test_files_and_directories_of_the_root_are_added_to(tmp_path: Path) -> None:
    (tmp_path / "package.use").write_text("app-misc/other flag")
    (tmp_path / "package.license").mkdir()
    (tmp_path / "package.license/own").write_text("app-misc/other *\n")
    (tmp_path / "binrepos.conf").write_text("[other]\nsync-uri = https://example.org/\n")
    texts = {"package.use": "=a/b-1 c\n", "package.license": "=a/b-1 *\n", "package.unmask": "=a/b-1\n"}
    portage_config.write(tmp_path, texts)
    assert (tmp_path / "package.use").read_text() == "app-misc/other flag\n=a/b-1 c\n"
    assert sorted(path.name for path in (tmp_path / "package.license").iterdir()) == ["own", "zz-gentwoo"]
    assert (tmp_path / "package.unmask/zz-gentwoo").read_text() == "=a/b-1\n"
    assert not (tmp_path / "binrepos.conf").exists()


def test_only_the_exact_version_is_asked_for() -> None:
    wished = wish("app-misc/alpha-1.0", iuse="one")
    assert emerge.building(wished, [])[-1] == "=app-misc/alpha-1.0::gentoo"
    assert "--buildpkgonly" in emerge.building(wished, [])
    with_needs = wish("app-misc/alpha-1.0", rdepend="app-misc/library")
    assert "--buildpkgonly" not in emerge.building(with_needs, [])
    assert "--usepkg-exclude=app-misc/alpha" in emerge.fetching(with_needs, [])
    assert "--getbinpkg" not in emerge.building(with_needs, [])


def test_the_environment_is_fixed_and_has_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "secret")
    environment = portage_config.environment(PLACES, cflags="-O2", make_jobs=3, user=("me", "us"))
    assert "secret" not in "".join(environment.values())
    assert "USE" not in environment
    assert environment["MAKEOPTS"] == "-j3"
    assert {environment[name] for name in ("CFLAGS", "CXXFLAGS", "FFLAGS", "FCFLAGS")} == {"-O2"}
    assert (environment["PORTAGE_USERNAME"], environment["PORTAGE_GRPNAME"]) == ("me", "us")
    taking = portage_config.fetching_from("https://example.org/binhost/x", signed=True)
    assert portage_config.VERIFYING in taking["FEATURES"].split()


def sandbox(tmp_path: Path, **more: Any) -> list[str]:
    general: dict[str, Any] = {
        "tree": Path("/elsewhere"),
        "seen": tmp_path / "tree",
        "eprefix": Path("/prefix"),
        "root": Path("/"),
        "is_root": True,
    }
    return Sandbox(**{**general, **more}).command(["emerge"], {"A": "b"})


def test_the_network_is_there_only_to_fetch(tmp_path: Path) -> None:
    assert "--unshare-net" in sandbox(tmp_path)
    assert "--unshare-net" not in sandbox(tmp_path, has_network=True)


def test_root_has_few_capabilities_and_a_user_has_a_namespace(tmp_path: Path) -> None:
    as_root = sandbox(tmp_path)
    kept = {word for before, word in itertools.pairwise(as_root) if before == "--cap-add"}
    assert as_root[as_root.index("--cap-drop") + 1] == "ALL"
    assert kept == set(CAPABILITIES)
    assert not kept & {"CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_SYS_PTRACE", "CAP_NET_ADMIN", "CAP_SYS_MODULE"}
    assert "CAP_DAC_READ_SEARCH" not in kept  # the way out by open_by_handle_at(2)
    assert "--unshare-user" in sandbox(tmp_path, is_root=False)


def test_a_whole_system_is_seen_without_homes_and_state(tmp_path: Path) -> None:
    for name in ("home", "root", "run", "tmp", "usr", "var/lib/bdcs", "var/lib/mine", "var/tmp"):
        (tmp_path / "tree" / name).mkdir(parents=True)
    words = sandbox(tmp_path, eprefix=None, hidden=[Path("/var/lib/mine")])
    empty = {word for before, word in itertools.pairwise(words) if before == "--tmpfs"}
    assert empty == {"/home", "/root", "/run", "/tmp", "/var/lib/bdcs", "/var/lib/mine", "/var/tmp"}


def test_beside_a_prefix_nothing_is_seen_of_what_is_hidden_among_programs(tmp_path: Path) -> None:
    (tmp_path / "opt/mine").mkdir(parents=True)
    hidden = [Path("/opt/mine"), Path("/opt/absent"), Path("/srv/other")]
    words = sandbox(tmp_path, root=tmp_path, hidden=hidden)
    empty = {word for before, word in itertools.pairwise(words) if before == "--tmpfs"}
    assert empty == {"/home", "/opt/mine", "/root", "/run", "/tmp", "/var/tmp"}


def test_what_is_installed_need_not_be_asked_for(tmp_path: Path) -> None:
    for pf, slot in (("library-1.0", "0/1"), ("library-extra-1.0", "0/2"), ("plain-3", "0")):
        entry = tmp_path / "var/db/pkg/app-misc" / pf
        entry.mkdir(parents=True)
        (entry / "SLOT").write_text(f"{slot}\n")
    wanted = {"app-misc/library:0": "0/2", "app-misc/plain:0": "0/0", "app-misc/absent:1": "1/1"}
    assert missing_bindings(tmp_path, wanted) == ["app-misc/library:0/2", "app-misc/absent:1/1"]


@pytest.mark.parametrize(
    ("output", "kind", "text"),
    [
        ('emerge: there are no ebuilds to satisfy "=a/b-1"', "dependencies", "unknown"),
        ("- a/b-1::gentoo (masked by: ~amd64 keyword)", "dependencies", "masked"),
        ("The following REQUIRED_USE flag constraints are unsatisfied:", "dependencies", "USE conflict"),
        ("The following USE changes are necessary to proceed:", "dependencies", "USE conflict"),
        ("!!! Couldn't download 'x.tar.gz'. Aborting.", "fetch", "fetch"),
        (
            " * ERROR: a/b-1::gentoo failed (compile phase):\n * no",
            "build",
            "a/b-1 failed in its compile phase",
        ),
        (
            "cp: No space left on device\n * ERROR: a/b-1::x failed (install phase):",
            "limit",
            "disk: no space",
        ),
        ("something else", "build", "emerge ended with status 1"),
        ("", "build", "emerge ended with status 1"),
    ],
)
def test_causes(output: str, kind: str, text: str) -> None:
    cause = emerge.cause_of(output, 1)
    assert (cause.kind, cause.text.startswith(text)) == (kind, True), cause


def test_output_that_would_be_searched_for_hours() -> None:
    """… by an expression that backtracks, while no lease is renewed."""
    cause = emerge.cause_of("ERROR: " + "a::" * (emerge.TAIL // 3), 1)
    assert cause.text.startswith("emerge ended with status 1")


async def test_where_no_control_group_can_be_made_processes_are_limited(tmp_path: Path) -> None:
    limits = Limits(memory=1 << 30)
    async with control_group("attempt", limits, tmp_path) as group:
        assert group is None
    assert f"--data={1 << 30}" in resource_limits(limits, has_group=False)
    assert not os.listdir(tmp_path)
