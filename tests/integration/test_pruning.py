# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs prune`: rules on a real store, one generation, files that stay until their grace is over."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from bdcs.domain.installations import PRESENT
from bdcs.domain.targets import Cause
from bdcs.services import generations, targets
from bdcs.services.pruning import installed_somewhere
from bdcs.store import tables
from bdcs.store.store import transaction
from tests.index_rows import NAME, IndexRows, made
from tests.processes import BDCS, run

DAY = 86_400
NOW = int(time.time())


def build(cpv: str, number: int = 1, *, use: str = "", days: float = 100, size: int = 1000) -> dict[str, Any]:
    """A build that was made and published `days` ago."""
    at = NOW - int(days * DAY)
    return {
        **made(cpv, number),
        "use": f"amd64 {use}",
        "iuse": "ssl gtk",
        "size": size,
        "build_time": at,
        "published_at": at,
    }


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[IndexRows]:
    created = IndexRows.create(tmp_path)
    created.publish(
        [
            build("dev-libs/alpha-1.0", days=50),
            build("dev-libs/alpha-1.1", days=40),
            build("dev-libs/alpha-1.2", 1, use="ssl", days=30),
            build("dev-libs/alpha-1.2", 2, use="ssl", days=20),
            build("dev-libs/alpha-1.2", 3, days=10),
            build("dev-libs/beta-9"),
        ],
        now=NOW - 10 * DAY,
    )
    created.write(now=NOW)
    yield created
    created.engine.dispose()


def prune(rows: IndexRows, *options: str) -> subprocess.CompletedProcess[str]:
    return run([*BDCS, "prune", "--data", rows.data, "--target", NAME, *options])


def gone(rows: IndexRows, *options: str) -> list[str]:
    """What would go, in that order."""
    done = prune(rows, "--dry-run", "--json", *options)
    assert done.returncode == 0, done.stderr
    (pruned,) = json.loads(done.stdout)["targets"]
    assert pruned["generation"] is None
    return [f"{each['cpv'].partition('/')[2]}-{each['build_id']}" for each in pruned["gone"]]


def listed(rows: IndexRows) -> list[str]:
    text = rows.files.path("Packages").read_text()
    return [line.rpartition("/")[2] for line in text.splitlines() if line.startswith("PATH:")]


def install(connection: Connection, cpv: str, flags: int = PRESENT) -> None:
    """Let a machine have it."""
    values = made(cpv)
    ids = [
        connection.execute(table.insert().values(**row)).inserted_primary_key[0]  # type: ignore[index]
        for table, row in (
            (tables.packages, {"category": values["category"], "name": values["name"]}),
            (tables.versions, {"text": values["version"]}),
        )
    ]
    connection.execute(
        tables.installations.insert().values(
            machine_id=1, package_id=ids[0], version_id=ids[1], installed_at=NOW, flags=flags
        )
    )


def test_a_dry_run_says_what_would_go_and_why(rows: IndexRows) -> None:
    before = rows.target
    done = prune(rows, "--dry-run", "--keep", "1")
    assert done.returncode == 0
    assert "alpha-1.2-1  1000 B  dev-libs/alpha-1.2-2 is newer and has the same USE" in done.stdout
    assert "alpha-1.0-1  1000 B  its slot has 2 newer versions" in done.stdout
    assert "3 packages, 2.9 KiB would go; 3, 2.9 KiB stay" in done.stdout
    assert rows.target == before
    assert len(listed(rows)) == 6


def test_rules_are_options(rows: IndexRows) -> None:
    assert gone(rows) == ["alpha-1.2-1", "alpha-1.0-1"]
    assert gone(rows, "--keep", "1") == ["alpha-1.2-1", "alpha-1.0-1", "alpha-1.1-1"]
    assert gone(rows, "--keep", "1", "--age", "45") == ["alpha-1.0-1"]
    assert gone(rows, "--keep", "1", "--size", "5000") == ["alpha-1.2-1"]
    assert gone(rows, "--keep", "1", "--size", "1G") == []
    assert len(gone(rows, "--keep", "0")) == 6


def test_it_is_one_generation_that_can_be_undone(rows: IndexRows) -> None:
    assert prune(rows, "--keep", "1").returncode == 0
    assert listed(rows) == [
        "alpha-1.2-2.gpkg.tar",
        "alpha-1.2-3.gpkg.tar",
        "beta-9-1.gpkg.tar",
    ]
    with transaction(rows.engine) as connection:
        target = targets.require(connection, NAME)
        newest = generations.log(connection, target)[0]
        assert (newest.number, newest.cause, newest.removed, newest.builds) == (2, Cause.PRUNE, 3, 3)
        assert len(generations.expired(connection, target, time.time() + 1)) == 3
    again = prune(rows, "--keep", "1")
    assert "0 packages, 0 B went" in again.stdout
    assert rows.target.generation == 2
    assert run([*BDCS, "target", "rollback", NAME, "1", "--data", rows.data]).returncode == 0
    assert len(listed(rows)) == 6


def test_what_a_machine_has_stays(rows: IndexRows) -> None:
    with transaction(rows.engine) as connection:
        install(connection, "dev-libs/alpha-1.0")
    assert gone(rows, "--keep", "1") == ["alpha-1.2-1", "alpha-1.1-1"]
    assert gone(rows, "--keep", "1", "--no-installed") == ["alpha-1.2-1", "alpha-1.0-1", "alpha-1.1-1"]


def test_what_a_machine_had_does_not(rows: IndexRows) -> None:
    with transaction(rows.engine) as connection:
        install(connection, "dev-libs/alpha-1.0", flags=0)
        assert installed_somewhere(connection, targets.require(connection, NAME)) == frozenset()
    assert "alpha-1.0-1" in gone(rows, "--keep", "1")


def test_a_kept_generation_is_not_pruned(rows: IndexRows) -> None:
    rows.publish([build("dev-libs/alpha-2.0", days=0)], now=NOW)
    kept = run([*BDCS, "target", "keep", NAME, "1", "--data", rows.data])
    assert "generation 1 of target amd64 is kept" in kept.stdout
    assert gone(rows, "--keep", "0") == ["alpha-2.0-1"]
    run([*BDCS, "target", "keep", NAME, "1", "--off", "--data", rows.data], check=True)
    assert len(gone(rows, "--keep", "0")) == 7


def test_a_size_that_rules_do_not_allow_is_told(rows: IndexRows) -> None:
    done = prune(rows, "--size", "1K")
    assert done.returncode == 0
    assert "that is more than 1.0 KiB, but the rules hold it" in done.stdout


def test_all_targets_are_pruned_each_in_its_own_generation(rows: IndexRows) -> None:
    with transaction(rows.engine) as connection:
        targets.add(connection, "other", now=NOW, chost="i686-pc-linux-gnu", profile="default")
    done = run([*BDCS, "prune", "--data", rows.data, "--target", "all"], check=True)
    assert "target amd64: 2 packages" in done.stdout
    assert "target other: 0 packages" in done.stdout


@pytest.mark.parametrize(
    "options", [["--keep", "-1"], ["--keep", "x"], ["--age", "nan"], ["--size", "big"], ["--age", "-3"]]
)
def test_rules_that_mean_nothing(rows: IndexRows, options: list[str]) -> None:
    assert prune(rows, *options).returncode == 2


def test_a_target_that_is_not_there(rows: IndexRows) -> None:
    done = run([*BDCS, "prune", "--data", rows.data, "--target", "arm"])
    assert done.returncode == 1
    assert "there is no target arm" in done.stderr
    assert "there are amd64" in done.stderr
    assert not (rows.data / "binhost/arm").exists()
