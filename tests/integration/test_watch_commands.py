# SPDX-License-Identifier: GPL-2.0-or-later
"""`gentwoo watch`, and what `gentwoo status` says of installed packages that are leaving."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Collector, Machine


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with Collector(tmp_path / "collector") as collector:
        yield collector


@pytest.fixture
def machine(tmp_path: Path, collector: Collector) -> Machine:
    """A registered machine that has alpha in two slots, and beta of another repository."""
    for pf, slot, repository in (
        ("alpha-1.0", "1/1.0", "gentoo"),
        ("alpha-2.0-r1", "2", "gentoo"),
        ("alpha-tools-1.0", "0", "gentoo"),
        ("beta-1.0", "0", "mine"),
    ):
        entry = tmp_path / "root" / "var/db/pkg/app-misc" / pf
        entry.mkdir(parents=True)
        (entry / "SLOT").write_text(f"{slot}\n")
        (entry / "repository").write_text(f"{repository}\n")
    settings = {
        "collector": collector.url,
        "eprefix": str(tmp_path / "root"),
        "log": str(tmp_path / "emerge.log"),
        "state_dir": str(tmp_path / "state"),
    }
    (tmp_path / "emerge.log").touch()
    machine = Machine(
        tmp_path / "machine", "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    )
    machine.register()
    return machine


def leaving(machine: Machine) -> list[tuple[str, str]]:
    document = json.loads(machine.gentwoo("status", "--json").stdout)
    return [(each["package"], each["atom"]) for each in document["leaving"]]


def test_status_warns_of_what_is_installed_and_leaving_also_without_the_collector(
    collector: Collector, machine: Machine
) -> None:
    assert leaving(machine) == []
    for atom in ("app-misc/alpha:1", "<app-misc/beta-2::gentoo", "app-misc/gamma", "=app-misc/alpha-2.0*"):
        collector.bdcs("admin", "leaving", "add", atom, "--on", "2026-12-24", "--reason", "no upstream")
    expected = [("app-misc/alpha-2.0-r1", "=app-misc/alpha-2.0*"), ("app-misc/alpha-1.0", "app-misc/alpha:1")]
    assert sorted(leaving(machine)) == sorted(expected)
    words = machine.gentwoo("status").stdout
    assert "Leaving:     app-misc/alpha-1.0 leaves the repository on 2026-12-24: no upstream" in words
    assert "beta" not in words
    assert sorted(leaving(machine)) == sorted(expected), "the list has not changed since"
    collector.bdcs("admin", "leaving", "remove", "app-misc/alpha:1")
    assert leaving(machine) == expected[:1]
    collector.stop()
    assert leaving(machine) == expected[:1], "the list that was kept still warns"


def test_watches_are_added_listed_and_removed(collector: Collector, machine: Machine) -> None:
    assert "Nothing is watched" in machine.gentwoo("watch", "list").stdout
    words = machine.gentwoo("watch", "add", "app-misc/alpha").stdout
    assert f"{collector.url}/watch/" in words
    assert "Secret" not in words
    hook = "https://hooks.example.org/gentoo"
    added = machine.gentwoo(
        "watch", "add", "dev-lang/python", "--topic", "failures", "--webhook", hook, "--json"
    )
    document = json.loads(added.stdout)
    assert document["secret"].startswith("whsec_")
    listed = machine.gentwoo("watch", "list").stdout
    assert "adoption,failures,removal" in listed
    assert f"dev-lang/python  failures  {hook}: nothing sent yet" in listed
    assert document["secret"] not in machine.gentwoo("watch", "list", "--json").stdout
    machine.gentwoo("watch", "remove", document["id"])
    assert "python" not in machine.gentwoo("watch", "list").stdout
    again = machine.gentwoo("watch", "remove", document["id"], check=False)
    assert again.returncode != 0
    assert "no such watch" in again.stderr
    assert machine.gentwoo("watch", "add", "python", check=False).returncode != 0
