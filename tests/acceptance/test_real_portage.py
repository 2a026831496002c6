# SPDX-License-Identifier: GPL-2.0-or-later
"""Real `emerge`, a real `gentwoo daemon` and a real `bdcs serve`: the collector ends with the right records.

One world, one daemon and one collector serve all tests here. Every record that arrives must be expected by
the test whose emerge caused it; one too many would be found by the next test or by the last.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Collector, Machine, Process, without
from tests.records import Expected, compared, failure, install, replacement, uninstall
from tests.waiting import until
from tests.world import World

pytestmark = [pytest.mark.timeout(240)]

FAILS = {"src_compile": "die 'meant to fail'"}
NEVER_ENDS = {"src_compile": "sleep 1000 & wait"}


@dataclass
class Scene:
    """A world whose log a daemon follows, and what of it has arrived and been accounted for."""

    world: World
    collector: Collector
    machine: Machine
    daemon: Process
    seen: list[dict[str, Any]] = field(default_factory=list)

    def arrived(self, count: int) -> list[dict[str, Any]]:
        """Wait until `count` more records are durable; return all that were not accounted for yet."""

        def enough() -> list[dict[str, Any]]:
            assert self.daemon.is_running(), self.daemon.output
            fresh = self.collector.export()[len(self.seen) :]
            return fresh if len(fresh) >= count else []

        fresh = until(enough, 60, what=f"{count} more records\n{self.daemon.output}") if count else []
        self.seen += fresh
        return fresh

    def expect(self, *expected: Expected) -> list[dict[str, Any]]:
        """Wait for exactly these records, in this order."""
        fresh = self.arrived(len(expected))
        assert compared(fresh) == list(expected)
        return fresh

    def expect_any_order(self, expected: Sequence[Expected]) -> list[dict[str, Any]]:
        """Wait for exactly these records, in whatever order parallel work gave them."""
        fresh = self.arrived(len(expected))
        assert sorted(compared(fresh), key=repr) == sorted(expected, key=repr)
        return fresh


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("machine")
    world = World.create(home / "world")
    toml = world.settings_toml(collector=collector.url, state_dir=home / "state")
    machine = Machine(home, toml)
    machine.register()
    with machine.daemon() as daemon:
        yield Scene(world, collector, machine, daemon)
        assert daemon.stop() == 0, daemon.output


def test_install_reinstall_upgrade_and_downgrade_in_a_slot(scene: Scene) -> None:
    for version in ("1.0", "1.1-r1"):
        scene.world.ebuild(f"app-misc/alpha-{version}")
    scene.world.emerge("=app-misc/alpha-1.0")
    (first,) = scene.expect(install("app-misc/alpha-1.0"))
    assert first["repository"] == "gentoo"
    assert first["observed"] == "live"
    assert first["seq"] == 1
    assert first["concurrency"] == 1.0
    assert 0 <= first["time_delta"] <= 60

    scene.world.emerge("=app-misc/alpha-1.0")
    scene.expect(*replacement("app-misc/alpha-1.0", "app-misc/alpha-1.0"))
    scene.world.emerge("app-misc/alpha")
    scene.expect(*replacement("app-misc/alpha-1.0", "app-misc/alpha-1.1-r1"))
    scene.world.emerge("=app-misc/alpha-1.0")
    scene.expect(*replacement("app-misc/alpha-1.1-r1", "app-misc/alpha-1.0"))


def test_two_slots_live_side_by_side(scene: Scene) -> None:
    scene.world.ebuild("app-misc/slotted-1.9", slot="1")
    scene.world.ebuild("app-misc/slotted-1.10", slot="1")
    scene.world.ebuild("app-misc/slotted-2.0", slot="2/2.0")
    scene.world.emerge("=app-misc/slotted-1.9", "=app-misc/slotted-2.0")
    scene.expect_any_order([install("app-misc/slotted-1.9"), install("app-misc/slotted-2.0")])
    scene.world.emerge("app-misc/slotted:1")
    scene.expect(*replacement("app-misc/slotted-1.9", "app-misc/slotted-1.10"))


def test_a_package_made_with_buildpkgonly_is_recorded_when_it_is_installed(scene: Scene) -> None:
    scene.world.ebuild("app-misc/packed-3.1")
    scene.world.emerge("--buildpkgonly", "app-misc/packed")
    assert not scene.world.is_installed("app-misc/packed-3.1")
    elsewhere = {"PKGDIR": str(scene.world.root / "var/cache/from-binhost")}
    with scene.world.binhost() as url:
        scene.world.emerge("--getbinpkgonly", "app-misc/packed", env={**elsewhere, "PORTAGE_BINHOST": url})
    assert "Fetching Binary (app-misc/packed-3.1" in scene.world.log.read_text()
    scene.expect(install("app-misc/packed-3.1", "binary"))


def test_fetchonly_leaves_no_record(scene: Scene) -> None:
    scene.world.ebuild("app-misc/fetched-1")
    scene.world.emerge("--fetchonly", "--quiet", "app-misc/fetched")
    scene.world.until_logged("app-misc/fetched")
    scene.world.ebuild("app-misc/after-fetch-1")
    scene.world.emerge("app-misc/after-fetch")
    scene.expect(install("app-misc/after-fetch-1"))


def test_two_jobs_at_once(scene: Scene) -> None:
    cpvs = [f"app-misc/job{number}-1" for number in range(4)]
    for cpv in cpvs:
        scene.world.ebuild(cpv)
    scene.world.emerge("--jobs=2", *(f"={cpv}" for cpv in cpvs))
    records = scene.expect_any_order([install(cpv) for cpv in cpvs])
    assert max(record["concurrency"] for record in records) > 1
    assert all(1 <= record["concurrency"] <= len(cpvs) for record in records)


def test_keep_going_past_failures(scene: Scene) -> None:
    scene.world.ebuild("app-misc/broken-1", phases=FAILS)
    scene.world.ebuild("app-misc/unfetchable-1", src_uri="http://127.0.0.1:9/none.tar")
    scene.world.ebuild("app-misc/good-1")
    done = scene.world.emerge(
        "--keep-going", "app-misc/broken", "app-misc/unfetchable", "app-misc/good", check=False
    )
    assert done.returncode == 1
    scene.expect_any_order(
        [
            failure("app-misc/broken-1", "build"),
            failure("app-misc/unfetchable-1", "fetch"),
            install("app-misc/good-1"),
        ]
    )


def test_a_failing_pkg_postinst_leaves_the_package_installed(scene: Scene) -> None:
    scene.world.ebuild("app-misc/late-1", phases={"pkg_postinst": "die 'too late to matter'"})
    assert scene.world.emerge("app-misc/late", check=False).returncode == 1
    assert scene.world.is_installed("app-misc/late-1")
    scene.expect(install("app-misc/late-1"))


def test_unmerge_and_depclean(scene: Scene) -> None:
    scene.world.ebuild("app-misc/dependency-1")
    scene.world.ebuild("app-misc/wanted-1", rdepend="app-misc/dependency")
    scene.world.emerge("app-misc/wanted")
    scene.expect(install("app-misc/dependency-1"), install("app-misc/wanted-1"))
    scene.world.emerge("--unmerge", "app-misc/wanted")
    scene.expect(uninstall("app-misc/wanted-1"))
    scene.world.emerge("--depclean", "app-misc/dependency")
    scene.expect(uninstall("app-misc/dependency-1"))


def test_merges_into_another_root_stay_out(scene: Scene, tmp_path: Path) -> None:
    scene.world.ebuild("app-misc/rooted-1")
    scene.world.emerge("app-misc/rooted")
    scene.expect(install("app-misc/rooted-1"))
    elsewhere = {"ROOT": str(tmp_path)}
    scene.world.emerge("app-misc/rooted", env=elsewhere)
    scene.world.emerge("--unmerge", "app-misc/rooted", env=elsewhere)
    assert scene.world.is_installed("app-misc/rooted-1")
    scene.world.emerge("--unmerge", "app-misc/rooted")
    scene.expect(uninstall("app-misc/rooted-1"))


def test_an_interrupt_in_mid_compile(scene: Scene) -> None:
    scene.world.ebuild("app-misc/endless-1", phases=NEVER_ENDS)
    running = scene.world.start_emerge("app-misc/endless")
    until(lambda: ">>> Compiling source" in build_log(scene.world, "app-misc/endless-1"), 60)
    running.sigint()
    assert running.wait().returncode != 0
    scene.expect(failure("app-misc/endless-1", "interrupted"))


def build_log(world: World, cpv: str) -> str:
    path = world.root / "var/tmp/portage" / cpv / "temp/build.log"
    return path.read_text() if path.exists() else ""


def test_the_daemon_has_loaded_nothing_heavy(scene: Scene) -> None:
    """After all that was sent: signing and HTTP are the child's; the kernel knows what the parent mapped."""
    mapped = Path(f"/proc/{scene.daemon.pid}/maps").read_text()
    assert "sqlite" in mapped
    assert [
        name for name in ("_asyncio", "_ssl", "aiohttp", "cryptography", "pydantic") if name in mapped
    ] == []


def test_one_push_of_the_whole_log_says_the_same(scene: Scene, tmp_path: Path) -> None:
    """A second machine that reads the same log later, at once, has the same history; nothing was left over.

    What it cannot know is left out of the comparison: it did not see the merges happen, and packages that
    went into another root cannot be told by looking into the database afterwards.
    """
    toml = scene.world.settings_toml(collector=scene.collector.url, state_dir=tmp_path / "state")
    second = Machine(tmp_path / "second", toml)
    second.register()
    second.gentwoo("push")
    everything = scene.collector.export()
    first_uuid = scene.seen[0]["machine"]
    live = [record for record in everything if record["machine"] == first_uuid]
    pushed = [record for record in everything if record["machine"] != first_uuid]
    assert live == scene.seen
    unknowable = ("id", "machine", "created_at", "observed", "clock", "repository", "seq")
    removed_elsewhere = [
        record for record in pushed if compared([record]) == [uninstall("app-misc/rooted-1")]
    ]
    assert len(removed_elsewhere) == 2
    pushed.remove(removed_elsewhere[0])
    assert without(pushed, *unknowable) == without(live, *unknowable)
    assert {record["observed"] for record in pushed} == {"backfill"}
    assert scene.collector.bdcs("check").returncode == 0
