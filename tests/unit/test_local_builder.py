# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector's own builder: which targets are its, how it is started, and when it cannot be."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bdcs.domain.targets import Signatures
from bdcs.errors import LocalBuilderMissing
from bdcs.services.local_builder import DIRECTORY, Starting, check, fits
from bdcs.services.portage_settings import PortageSettings
from bdcs.services.targets import Target

CHOST = "x86_64-pc-linux-gnu"
TARGET = Target(
    id=1,
    name="here",
    chost=CHOST,
    profile="default",
    cflags="-O2 -pipe -march=x86-64-v3",
    cpu="",
    toolchain="",
    description="",
    signatures=Signatures.REQUIRED,
    private=False,
    bindist=False,
    header={},
    created_at=0,
    timestamp=0,
    generation=0,
)
PORTAGE = PortageSettings(chost=CHOST, profile="default", cflags="-march=x86-64-v3 -O2", header={})


def starting(tmp_path: Path, **other: Any) -> Starting:
    general: dict[str, Any] = {
        "wanted": ("*",),
        "eprefix": tmp_path,
        "options": (),
        "data": tmp_path / "data",
        "public_url": "https://bdcs.example.org",
        "address": "http://127.0.0.1:8642",
        "log_level": "info",
    }
    return Starting(**{**general, **other})


def with_emerge(prefix: Path) -> None:
    emerge = prefix / "usr/bin/emerge"
    emerge.parent.mkdir(parents=True)
    emerge.write_text("#!/bin/sh\n")
    emerge.chmod(0o755)


def test_its_targets_are_those_that_portage_here_would_build_for() -> None:
    assert fits(PORTAGE, TARGET)
    others: tuple[dict[str, Any], ...] = (
        {"chost": "aarch64-unknown-linux-gnu"},
        {"profile": "default/musl"},
        {"cflags": "-O2"},
        {"cflags": "-O3 -march=x86-64-v3"},
    )
    for other in others:
        assert not fits(PORTAGE, replace(TARGET, **other)), other
    assert not fits(replace(PORTAGE, profile=None), TARGET)


def test_it_speaks_over_loopback_and_its_builds_find_the_collectors_directory_empty(tmp_path: Path) -> None:
    command = starting(tmp_path, options=("--jobs=2",)).command(("a", "b"))
    pairs = set(itertools.pairwise(command))
    assert {
        ("--collector", "https://bdcs.example.org"),
        ("--address", "http://127.0.0.1:8642"),
        ("--target", "a"),
        ("--target", "b"),
        ("--data", str(tmp_path / "data" / DIRECTORY)),
        ("--hide", str(tmp_path / "data")),
        ("--eprefix", str(tmp_path)),
    } <= pairs
    assert command[-1] == "--jobs=2"
    assert "--eprefix" not in starting(tmp_path, eprefix=None).command(("a",))


def test_what_it_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shutil.which("bwrap")
    assert found is not None, "make setup installs bubblewrap"
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    with pytest.raises(LocalBuilderMissing, match="bubblewrap"):
        check(starting(tmp_path))
    (tmp_path / "bin/bwrap").symlink_to(found)
    with pytest.raises(LocalBuilderMissing, match=r"no emerge in .*/usr/bin"):
        check(starting(tmp_path))
    with pytest.raises(LocalBuilderMissing, match="no emerge on PATH"):
        check(starting(tmp_path, eprefix=None))
    with_emerge(tmp_path)
    check(starting(tmp_path))


def test_in_another_root_its_targets_have_to_be_named(tmp_path: Path) -> None:
    root = ("--root", "/srv/stage3")
    check(starting(tmp_path, eprefix=None, wanted=("v3",), options=root))
    with pytest.raises(LocalBuilderMissing, match="name them"):
        check(starting(tmp_path, eprefix=None, options=root))
