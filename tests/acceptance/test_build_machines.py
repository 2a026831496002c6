# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that ask, a builder that builds, real emerge on both ends: from a wish to what is installed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.binhost import Binhost, entries, running_binhost
from tests.builders import running_builder
from tests.builds import HandBuilder
from tests.ebuild_repositories import make_cache
from tests.processes import Process
from tests.signing import short_directory
from tests.twins import Twin, Twins, all_end, is_signed
from tests.waiting import until

pytestmark = [pytest.mark.timeout(1200)]

TARGET = "amd64"
REQUESTED = r"Request ([a-z2-7]+); "


@pytest.fixture(scope="module")
def binhost() -> Iterator[Binhost]:
    with short_directory() as directory, running_binhost(directory / "c") as binhost:
        binhost.add_target(TARGET)
        yield binhost


@pytest.fixture(scope="module")
def twins(binhost: Binhost) -> Iterator[Twins]:
    with short_directory() as directory:
        twins = Twins.create(directory, binhost.collector.url)
        yield twins
        twins.end()


@pytest.fixture(scope="module")
def first(twins: Twins) -> Twin:
    return twins.join("first", "app-misc/alpha gtk")


@pytest.fixture(scope="module")
def second(twins: Twins) -> Twin:
    return twins.join("second", "app-misc/alpha -gtk")


@pytest.fixture(scope="module")
def third(twins: Twins) -> Twin:
    """Its USE is another than the first one's, though not for the package that both want."""
    return twins.join("third", "app-misc/alpha gtk", make_conf='USE="unheard-of"\n')


@pytest.fixture
def seen(binhost: Binhost) -> HandBuilder:
    """A builder that is there and takes nothing, so that requests can meet."""
    return HandBuilder.approved(binhost.collector, TARGET, name="idle")


@pytest.fixture
def builder(binhost: Binhost, twins: Twins, tmp_path: Path) -> Iterator[Process]:
    """One for each test, so that a test may begin without one."""
    with running_builder(binhost, twins.world, tmp_path / "b", TARGET) as builder:
        yield builder


def published(binhost: Binhost, cpv: str) -> list[dict[str, str]]:
    """What the target's index says of each build of a version."""
    return [entry for entry in entries(binhost.index(TARGET)) if entry["CPV"] == cpv]


def only(twin: Twin, number: str) -> dict[str, Any]:
    """The one package of a request."""
    (package,) = twin.json("builds", "show", number)["packages"]
    found: dict[str, Any] = package
    return found


def test_three_machines_two_builds(
    binhost: Binhost,
    twins: Twins,
    first: Twin,
    second: Twin,
    third: Twin,
    seen: HandBuilder,
    tmp_path: Path,
) -> None:
    """All at once: two differ in USE, the third one joins what the first one waits for."""
    cpv, machines = "app-misc/alpha-1.0", (first, second, third)
    twins.ebuild(cpv, iuse="gtk")
    waiting = [machine.start("install", "--yes", "app-misc/alpha") for machine in machines]
    try:
        numbers = [process.until_printed(REQUESTED, 300)[1] for process in waiting]
        asked = [only(machine, number) for machine, number in zip(machines, numbers, strict=True)]
        assert sorted(package["answer"] for package in asked) == ["joined", "queued", "queued"]
        assert asked[0]["job"] == asked[2]["job"] != asked[1]["job"]
        with running_builder(binhost, twins.world, tmp_path / "b", TARGET):
            all_end(waiting)
    finally:
        for process in waiting:
            process.__exit__(None, None, None)
    builds = published(binhost, cpv)
    assert sorted("gtk" in build.get("USE", "").split() for build in builds) == [False, True]
    for machine, has_gtk in zip(machines, (True, False, True), strict=True):
        assert machine.merged() == [f"Merging Binary {cpv}"]
        assert ("gtk" in machine.installed_use(cpv)) is has_gtk
        assert all(map(is_signed, machine.taken()))
        assert len(machine.taken()) == 1
    for package in asked:
        attempts = seen.send_json("GET", f"/v1/jobs/{package['job']}").document["attempts"]
        assert [attempt["state"] for attempt in attempts] == ["published"]


def test_a_closure_and_the_bump_of_a_sub_slot(
    binhost: Binhost, twins: Twins, first: Twin, second: Twin, builder: Process
) -> None:
    """Three deep; then the lowest has another sub-slot, and what was built against the old one is built anew.

    Whoever comes later takes all of it as it is.
    """
    lowest, middle, upper = "app-misc/lowest-1.0", "app-misc/middle-1.0", "app-misc/upper-1.0"
    twins.ebuild(lowest, slot="0/1", iuse="deep")
    twins.ebuild(middle, depend="app-misc/lowest:=[deep]", rdepend="app-misc/lowest:=[deep]")
    twins.ebuild(upper, depend="app-misc/middle", rdepend="app-misc/middle")
    for machine in (first, second):
        machine.use("app-misc/lowest deep")
    before = len(first.merged())
    done = first.run("install", "--yes", "app-misc/upper")
    assert "3 of 3 packages are there" in done.stdout
    number = first.json("builds")["builds"][0]["id"]
    assert "[binary" in first.run("builds", "log", number, "app-misc/upper").stdout
    assert first.merged()[before:] == [f"Merging Binary {cpv}" for cpv in (lowest, middle, upper)]

    twins.ebuild("app-misc/lowest-2.0", slot="0/2", iuse="deep")
    before = len(first.merged())
    first.run("upgrade", "--yes", "--all")
    merged = [line for line in first.merged()[before:] if "lowest" in line or "middle" in line]
    assert merged == ["Merging Binary app-misc/lowest-2.0", f"Merging Binary {middle}"]
    bound = [build["RDEPEND"] for build in published(binhost, middle)]
    assert sorted(bound) == ["app-misc/lowest:0/1=[deep]", "app-misc/lowest:0/2=[deep]"]

    before = len(second.merged())
    done = second.run("install", "--yes", "app-misc/upper")
    assert "To be built" not in done.stdout
    assert second.merged()[before:] == [
        f"Merging Binary {cpv}" for cpv in ("app-misc/lowest-2.0", middle, upper)
    ]


def test_what_fails_is_told_remembered_and_tried_again(
    twins: Twins, first: Twin, second: Twin, builder: Process
) -> None:
    cpv = "app-misc/broken-1.0"
    twins.ebuild(cpv, phases={"src_compile": 'die "it does not compile"'})
    with first.start("install", "--yes", "app-misc/broken") as failing:
        number = failing.until_printed(REQUESTED, 300)[1]
        assert failing.wait(300) == 1, failing.output
    assert "failed in its compile phase" in failing.output
    assert "it does not compile" in first.run("builds", "log", number).stdout
    job = only(first, number)["job"]

    refused = second.run("build", "--yes", "app-misc/broken", code=1)
    assert "failed in its compile phase" in refused.stdout

    twins.ebuild(cpv)
    first.run("builds", "retry", number)
    until(lambda: only(first, number)["state"] == "published", 300, what="the second attempt")
    assert only(first, number)["job"] == job
    assert "it does not compile" not in first.run("builds", "log", number).stdout
    first.run("install", "--yes", "app-misc/broken")
    assert first.merged()[-1] == f"Merging Binary {cpv}"


def test_a_new_version_is_built_without_anyone_asking(
    binhost: Binhost, twins: Twins, first: Twin, builder: Process
) -> None:
    bdcs = binhost.collector.bdcs
    twins.ebuild("app-misc/fresh-1.0")
    first.run("install", "--yes", "app-misc/fresh")
    make_cache(twins.world)
    bdcs("repository", "add", "gentoo", "--location", str(twins.world.repository))
    try:
        bdcs("repository", "sync", "gentoo")
        twins.ebuild("app-misc/fresh-2.0")
        make_cache(twins.world)
        bdcs("repository", "sync", "gentoo")
        until(lambda: published(binhost, "app-misc/fresh-2.0"), 300, what="the new version in the index")
    finally:
        bdcs("repository", "remove", "gentoo")
    first.run("upgrade", "--yes", "app-misc/fresh")
    assert first.merged()[-1] == "Merging Binary app-misc/fresh-2.0"
