# SPDX-License-Identifier: GPL-2.0-or-later
"""What must not be built, nor run: dangerous parameters (reference/binhost.md §7.1), forged jobs, packages.

What ebuilds find that want to get out of their builds: tests/integration/test_builder_sandbox.py.
"""

import bz2
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from bdcs.services import queueing
from bdcs.store import tables
from tests.binhost import CFLAGS, Binhost, running_binhost
from tests.builders import running_builder
from tests.builds import HandBuilder, Wisher, specification
from tests.packages import Special, gpkg
from tests.processes import BDCS, Collector
from tests.shelf import Shelf
from tests.signing import short_directory
from tests.store_access import store_of
from tests.waiting import until
from tests.world import World

pytestmark = [pytest.mark.timeout(300)]

TARGET = "amd64"
CPV = "app-misc/alpha-1.0"
EVIL = (
    "x; touch {0}",
    "$(touch {0})",
    "`touch {0}`",
    "x\ntouch {0}",
    "x && touch {0}",
    'x" "touch {0}',
    "../../{0}",
)
"""What a shell, make or Portage could take for something to do; `{0}` is a file that must not come to be."""
EVIL_ATOMS = (
    "/tmp/evil-1.0.ebuild",
    "app-misc/../../tmp/evil-1.0",
    "/tmp/evil-1.0-1.gpkg.tar",
    "@world",
    "alpha",
    "app-misc/alpha",
    "--config-root=/tmp",
    "=app-misc/alpha-1.0",
    "app-misc/alpha-1.0 --root=/tmp",
)
EVIL_FLAGS = (
    "-O2;touch /tmp/x",
    "-O2 $(shell touch /tmp/x)",
    "-wrapper sh,-c,true",
    "-fplugin=/tmp/x.so",
    "-specs=/tmp/x",
    "-B/tmp",
    "@/tmp/x",
    "-include /tmp/x",
    "-o /tmp/x",
    "-dumpdir /tmp/",
    "-fprofile-use=/tmp/x",
    "-fuse-ld=/tmp/x",
    "-Wl,-plugin,/tmp/x.so",
    "-Wl,-T,/tmp/x",
    "-Wl,-rpath,/tmp",
    '-O2" MAKEOPTS="--eval=x',
)
NEVER = (
    "bashrc",
    "env",
    "package.env",
    "patches",
    "profile",
    "package.provided",
    "repos",
    "eclasses",
    "hooks",
    "features",
    "emerge_default_opts",
    "makeopts",
    "fetchcommand",
)
"""What machines may never bring."""
PARAMETERS = {
    "chost": "x86_64-pc-linux-gnu",
    "arch": "amd64",
    "profile": "default/linux/amd64/23.0",
    "keywords": ["amd64"],
    "licenses": ["*"],
    "use": [],
    **dict.fromkeys(("cflags", "cxxflags", "fflags", "fcflags"), CFLAGS),
    "ldflags": "",
    "rustflags": "",
}


@pytest.fixture(scope="module")
def machine(collector: Collector) -> Wisher:
    """One that may ask, at a target with a builder."""
    Shelf(collector.data).add_target(TARGET, signatures="optional", cflags=CFLAGS)
    HandBuilder.approved(collector, TARGET)
    machine = Wisher(collector.url)
    assert machine.register().status == 201
    return machine


def documents(canary: str) -> Iterator[dict[str, Any]]:
    """Wishes of which each has one thing that no wish may have."""
    good = specification(CPV).to_json()
    for text in (evil.format(canary) for evil in EVIL):
        for field in ("cpv", "repository", "slot", "eapi", "depend", "bdepend", "license", "user_patches"):
            yield {**good, field: text}
        yield {**good, "cpv": f"{CPV}{text}"}
        yield {**good, "iuse": [text], "use": [text]}
        yield {**good, "keywords": [text]}
        yield {**good, "built_against": {text: "0/1"}}
        yield {**good, "built_against": {"app-misc/library:0": text}}
    for atom in EVIL_ATOMS:
        yield {**good, "cpv": atom}
    for name in NEVER:
        yield {**good, name: "touch {canary}"}


def test_no_wish_of_that_kind_is_taken(machine: Wisher, tmp_path: Path) -> None:
    assert machine.ask(specification(CPV), commit=False)["packages"][0]["answer"] == "queued"
    for document in documents(str(tmp_path / "canary")):
        for commit in (False, True):
            answer = machine.wish(specification(CPV), packages=[document], commit=commit)
            assert (answer.status, answer.slug) == (400, "malformed"), (document, answer)
    assert machine.send_json("GET", "/v1/builds").document["builds"] == []


def test_no_parameter_of_that_kind_is_taken(machine: Wisher, tmp_path: Path) -> None:
    texts = [evil.format(tmp_path / "canary") for evil in EVIL]
    wrong: list[dict[str, Any]] = []
    for name in ("cflags", "cxxflags", "fflags", "fcflags", "ldflags", "rustflags"):
        wrong += [{name: text} for text in (*EVIL_FLAGS, *texts)]
    for name in ("chost", "arch", "profile"):
        wrong += [{name: text} for text in (*texts, "/etc/portage/profile", "../profile")]
    for name in ("keywords", "licenses", "use"):
        wrong += [{name: [text]} for text in texts]
    wrong += [{name: "x"} for name in NEVER if name not in PARAMETERS]
    for parameters in wrong:
        (package,) = machine.ask(specification(CPV), parameters={**PARAMETERS, **parameters}, commit=False)[
            "packages"
        ]
        assert (package["answer"], package["refusal"]) == ("refused", "parameter"), parameters
    (package,) = machine.ask(specification(CPV), parameters=PARAMETERS, commit=False)["packages"]
    assert package["answer"] == "queued"


# A builder that is given one anyway


@pytest.fixture(scope="module")
def binhost() -> Iterator[Binhost]:
    with short_directory() as directory, running_binhost(directory / "c") as binhost:
        binhost.add_target(TARGET)
        yield binhost


def forge(binhost: Binhost, specification: dict[str, Any]) -> None:
    """Put a job straight into the store, as somebody would who had taken the collector."""
    with store_of(binhost.data) as connection:
        count = connection.scalar(select(func.count()).select_from(tables.jobs)) or 0
        row = {
            "target_id": connection.scalar(
                select(tables.targets.c.id).where(tables.targets.c.name == TARGET)
            ),
            "digest": f"{count:064}",
            "cpv": CPV,
            "category": "app-misc",
            "name": "alpha",
            "version": "1.0",
            "repository": "gentoo",
            "specification": json.dumps(specification),
            "state": "queued",
            "priority": 100,
            "created_at": 1,
            "queued_at": 1,
            "origin": "request",
        }
        (number,) = connection.execute(tables.jobs.insert().values(row)).inserted_primary_key or (0,)
        queueing.renew(connection, [number])


def set_flags(binhost: Binhost, cflags: str) -> None:
    """Give the target other flags, past everything that looks at them."""
    with store_of(binhost.data) as connection:
        connection.execute(
            update(tables.targets).where(tables.targets.c.name == TARGET).values(cflags=cflags)
        )


def jobs(binhost: Binhost) -> list[tuple[str, str | None, str | None]]:
    """State, kind of failure and reason of all."""
    columns = (tables.jobs.c.state, tables.jobs.c.failure, tables.jobs.c.failure_text)
    with store_of(binhost.data) as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(tables.jobs.c.id))]


def test_a_builder_does_not_run_what_a_forged_job_says(binhost: Binhost, tmp_path: Path) -> None:
    world = World.create(tmp_path / "w")
    world.ebuild(CPV)
    canary = tmp_path / "canary"
    forged, known = list(documents(str(canary))), len(jobs(binhost))
    for document in forged:
        forge(binhost, document)
    with running_builder(binhost, world, tmp_path / "b", TARGET) as builder:
        until(
            lambda: all(state == "failed" for state, _, _ in jobs(binhost)), 200, what="the end of all jobs"
        )
        for (_, failure, text), document in zip(jobs(binhost)[known:], forged, strict=True):
            assert failure == "refused", (text, document)
            assert text is not None
            assert "this builder does not build that" in text
        assert ">>> builder:" not in builder.output
    assert not canary.exists()
    assert not world.log.exists()


# Packages


AUDIT = """\
import sys

def note(event, arguments):
    if event in ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"):
        with open({path!r}, "a") as file:
            file.write(f"{{event}} {{arguments}}\\n")

sys.addaudithook(note)
"""
"""What Python itself reports (PEP 578) whenever a process is to be started."""


def test_a_builder_does_not_build_with_flags_that_run_code(binhost: Binhost, tmp_path: Path) -> None:
    """It begins all the same, says so of each job, and goes on."""
    world = World.create(tmp_path / "w")
    world.ebuild(CPV)
    canary, known = tmp_path / "canary", len(jobs(binhost))
    set_flags(binhost, f"-O2 $(touch {canary})")  # no target can have these
    with running_builder(binhost, world, tmp_path / "b", TARGET) as builder:
        for flags in (f"-O2 $(touch {canary})", f"-fplugin={canary}"):
            set_flags(binhost, flags)
            forge(binhost, specification(CPV, target=TARGET).to_json())
            until(lambda: all(state == "failed" for state, _, _ in jobs(binhost)), 200, what="its end")
        assert ">>> builder:" not in builder.output
    set_flags(binhost, CFLAGS)
    for (_, failure, text), why in zip(jobs(binhost)[known:], ("the character '$'", "-fplugin"), strict=True):
        assert failure == "refused"
        assert f"this builder does not build that: cflags: {why}" in (text or "")
    assert not canary.exists()
    assert not world.log.exists()


def test_the_collector_runs_nothing_of_a_package(tmp_path: Path) -> None:
    """Nor anything else at all, whatever is in what builders hand over."""
    started, canary = tmp_path / "started", tmp_path / "canary"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(AUDIT.format(path=str(started)))
    command = ("env", f"PYTHONPATH={hooks}", *BDCS)
    with Collector(tmp_path / "c", command=command) as collector:
        Shelf(collector.data).add_target(TARGET, signatures="optional")
        builder = HandBuilder.approved(collector, TARGET)
        machine = Wisher(collector.url)
        machine.register()
        started.write_text("")  # what commands beside the collector may have started is not its
        machine.ask(specification(CPV))
        lease = builder.claim()
        assert lease is not None
        touch = f"touch {canary}"
        phases = "".join(
            f"{name} () {{ {touch}; }}\n"
            for name in ("pkg_pretend", "pkg_setup", "pkg_preinst", "pkg_postinst", "pkg_prerm", "pkg_config")
        )
        metadata: dict[str, str | bytes] = {
            "environment.bz2": bz2.compress(f"{phases}\n$({touch})\n`{touch}`\n{touch}\n".encode()),
            "alpha-1.0.ebuild": f"EAPI=8\nSLOT=0\n{touch}\n",
            "DESCRIPTION": f"$({touch}) `{touch}` {{{{ 7 * 7 }}}}",
            "HOMEPAGE": f"https://example.org/;{touch}",
            "DEFINED_PHASES": "install postinst preinst setup",
            "IUSE": "gtk ssl",
            "LICENSE": "GPL-2",
            "repository": "test",
        }
        script = f"#!/bin/sh\n{touch}\n".encode()
        image: dict[str, bytes | Special] = {
            "usr/bin/evil": Special(data=script),
            f"usr/share/$({touch.replace('/', ':')})": script,
            "etc/profile.d/evil.sh": script,
        }
        upload = builder.upload(CPV, gpkg(cpv=CPV, metadata=metadata, image=image))
        done = builder.act(lease, "publish", uploads=[upload])
        assert (done.status, done.document["state"]) == (200, "published"), done
        assert machine.ask(specification(CPV))["packages"][0]["answer"] == "published"
        machine.send_json("GET", f"/v1/targets/{TARGET}/packages")
        assert collector.stop() == 0
        noted = started.read_text()
    assert noted == ""
    assert not canary.exists()
