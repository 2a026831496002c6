# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs check` finds what is wrong with targets, indexes and package files, and nothing where all is well."""

import gzip
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from bdcs.blobs.blobs import Placement
from bdcs.blobs.directory import Directory
from bdcs.services.checking_binhost import BinhostReport, check_binhost
from bdcs.store.store import transaction
from tests.index_rows import NAME, IndexRows, made
from tests.processes import BDCS, run

OF_ONE_COLLECTOR = pytest.mark.sqlite  # with a shared store its collector writes it anew before it is served
CONTENT = b"the bytes of a package"
PATHS = ("dev-libs/alpha/alpha-1.0-1.gpkg.tar", "dev-libs/beta/beta-2-1.gpkg.tar")


def hashed(cpv: str) -> dict[str, object]:
    """The row of a build whose file is CONTENT."""
    row = made(cpv)
    md5, sha1 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha1(CONTENT).hexdigest()
    entry = row["entry"].replace(row["md5"], md5, 1).replace(f"SHA1: {row['sha1']}", f"SHA1: {sha1}")
    entry = entry.replace("SIZE: 1\n", f"SIZE: {len(CONTENT)}\n")
    return {**row, "md5": md5, "sha1": sha1, "size": len(CONTENT), "entry": entry}


def place(data: Path, path: str, target: str = NAME) -> None:
    blobs = Directory(data)
    with blobs.workspace() as workspace:
        draft = workspace.create()
        draft.file.write(CONTENT)
        draft.finish(1)
        blobs.place([Placement(draft=draft, target=target, path=path)])


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[IndexRows]:
    created = IndexRows.create(tmp_path)
    for path in PATHS:
        place(tmp_path, path)
    created.publish([hashed("dev-libs/alpha-1.0"), hashed("dev-libs/beta-2")])
    assert created.write()
    yield created
    created.engine.dispose()


def checked(rows: IndexRows) -> BinhostReport:
    seen: list[tuple[int, int]] = []
    report = check_binhost(rows.engine, rows.data, lambda done, total: seen.append((done, total)))
    done, total = seen[-1]
    assert done == total
    return report


def execute(rows: IndexRows, statement: str) -> None:
    with transaction(rows.engine) as connection:
        connection.execute(text(statement))


def file_of(rows: IndexRows, path: str = PATHS[0]) -> Path:
    return rows.data / "packages" / NAME / path


def test_all_is_well(rows: IndexRows) -> None:
    report = checked(rows)
    assert report.first == []
    assert (report.targets, report.builds, report.files, report.size) == (1, 2, 2, 2 * len(CONTENT))


def test_an_empty_target_is_well(tmp_path: Path) -> None:
    rows = IndexRows.create(tmp_path)
    assert checked(rows).first == []
    rows.engine.dispose()


def test_a_withdrawn_build_keeps_its_file(rows: IndexRows) -> None:
    rows.publish(removed=[1])
    rows.write()
    assert checked(rows).first == []
    file_of(rows).unlink()
    assert "alpha-1.0-1.gpkg.tar is withdrawn, but has no file" in only(checked(rows))


def test_a_deleted_build_has_no_file(rows: IndexRows) -> None:
    rows.publish(removed=[1])
    rows.write()
    execute(rows, "UPDATE builds SET deleted_at = 2 WHERE id = 1")
    assert "was deleted, but its file is there" in only(checked(rows))
    file_of(rows).unlink()
    assert checked(rows).first == []


def only(report: BinhostReport) -> str:
    assert report.differences == 1, report.first
    return report.first[0]


def unlink(rows: IndexRows) -> None:
    file_of(rows).unlink()


def alter(rows: IndexRows) -> None:
    file = file_of(rows)
    file.write_bytes(CONTENT.upper())
    os.utime(file, (1, 1))


def cut(rows: IndexRows) -> None:
    os.truncate(file_of(rows), 3)


def touch(rows: IndexRows) -> None:
    os.utime(file_of(rows), (5, 5))


def link(rows: IndexRows) -> None:
    other = rows.data / "other"
    file_of(rows).rename(other)
    file_of(rows).symlink_to(other)


def add_file(rows: IndexRows) -> None:
    place(rows.data, "dev-libs/gamma/gamma-1-1.gpkg.tar")


def add_foreign_files(rows: IndexRows) -> None:
    place(rows.data, PATHS[0], "unknown")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (unlink, "alpha-1.0-1.gpkg.tar is listed, but has no file"),
        (alter, "alpha-1.0-1.gpkg.tar has another MD5 and SHA1"),
        (cut, "alpha-1.0-1.gpkg.tar has 3 bytes"),
        (touch, "alpha-1.0-1.gpkg.tar has another mtime"),
        (link, "alpha-1.0-1.gpkg.tar"),
        (add_file, "gamma-1-1.gpkg.tar is a file that nobody published"),
        (add_foreign_files, "unknown, which is no target"),
    ],
)
def test_damaged_files(rows: IndexRows, damage: Callable[[IndexRows], None], words: str) -> None:
    damage(rows)
    assert words in only(checked(rows))


def rewrite(rows: IndexRows, change: Callable[[bytes], bytes]) -> None:
    """Write both files of the index anew, with the times that they had."""
    plain, packed = (rows.files.path(name) for name in ("Packages", "Packages.gz"))
    times = plain.stat().st_mtime_ns, plain.stat().st_mtime_ns
    changed = change(plain.read_bytes())
    plain.write_bytes(changed)
    packed.write_bytes(gzip.compress(changed))
    for file in (plain, packed):
        os.utime(file, ns=times)


@OF_ONE_COLLECTOR
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace(b"USE: amd64", b"USE: ssl", 1), "does not say of dev-libs/alpha"),
        (lambda text: text.replace(b"beta-2-1.gpkg", b"beta-2-2.gpkg"), "lists dev-libs/beta/beta-2-2"),
        (lambda text: text[: text.index(b"BUILD_ID")], "does not list dev-libs/alpha"),
        (lambda text: text.replace(b"PACKAGES: 2", b"PACKAGES: 3"), "another header, time or order"),
        (lambda _text: b"", "does not list dev-libs/alpha"),
    ],
)
def test_an_index_that_says_something_else(
    rows: IndexRows, change: Callable[[bytes], bytes], words: str
) -> None:
    rewrite(rows, change)
    report = checked(rows)
    assert any(words in difference for difference in report.first), report.first


@OF_ONE_COLLECTOR
def test_an_index_that_is_missing(rows: IndexRows) -> None:
    rows.files.path("Packages").unlink()
    assert "the index cannot be read" in only(checked(rows))


@OF_ONE_COLLECTOR
def test_an_index_that_is_packed_otherwise(rows: IndexRows) -> None:
    packed = rows.files.path("Packages.gz")
    times = packed.stat().st_mtime_ns
    for octets in (gzip.compress(b"VERSION: 0\n\n"), packed.read_bytes()[:-3], b"nothing"):
        packed.write_bytes(octets)
        os.utime(packed, ns=(times, times))
        assert "Packages.gz does not hold what Packages does" in only(checked(rows))


@OF_ONE_COLLECTOR
def test_an_index_that_is_behind(rows: IndexRows) -> None:
    rows.publish(removed=[1])
    assert "the index lists dev-libs/alpha" in only(checked(rows))


def test_rows_that_disagree(rows: IndexRows) -> None:
    execute(rows, "UPDATE builds SET visible = FALSE WHERE id = 1")
    assert any("1 are visible" in difference for difference in checked(rows).first)
    execute(rows, "UPDATE builds SET visible = TRUE WHERE id = 1")
    execute(rows, "UPDATE targets SET generation = 7")
    assert any("it is at generation 7" in difference for difference in checked(rows).first)
    execute(rows, "UPDATE targets SET generation = 1")
    execute(rows, "UPDATE builds SET entry = replace(entry, 'SIZE: 22', 'SIZE: 23') WHERE id = 1")
    assert any("SIZE of its entry" in difference for difference in checked(rows).first)


def test_the_command_tells_and_exits_with_1(rows: IndexRows) -> None:
    done = run([*BDCS, "check", "--data", rows.data], check=True)
    assert "1 targets, 2 packages, 2 files, 44 B: no differences" in done.stdout
    unlink(rows)
    done = run([*BDCS, "check", "--only", "binhost", "--data", rows.data])
    assert done.returncode == 1
    assert "1 differences" in done.stdout
    assert "machines" not in done.stdout
    assert run([*BDCS, "check", "--only", "records", "--data", rows.data]).returncode == 0


def test_only_the_first_differences_are_shown(rows: IndexRows) -> None:
    for number in range(30):
        place(rows.data, f"dev-libs/x/x-{number}-1.gpkg.tar")
    done = run([*BDCS, "check", "--only", "binhost", "--data", rows.data])
    assert "… and 10 more" in done.stdout
