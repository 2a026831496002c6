# SPDX-License-Identifier: GPL-2.0-or-later
"""A backup is put in place: with modes of ours, and without following a link out of either directory."""

import os
from pathlib import Path

import pytest

from bdcs.errors import NoBackup, RestoreUnfinished
from bdcs.services.restoring import put_back, require_whole

PACKAGE = "packages/amd64/app-misc/alpha/alpha-1.0-1.gpkg.tar"
LOG = "logs/7.log"


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """One as it came back from a medium that forgets modes."""
    place = tmp_path / "backup"
    for name in (PACKAGE, LOG, "quarantine/uploads/some", "bdcs.sqlite"):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the {name}")
        path.chmod(0o777)
        os.utime(path, (1_000_000, 2_000_000))
    for directory, _, _ in os.walk(place):
        os.chmod(directory, 0o777)
    return place


@pytest.fixture
def data(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir(mode=0o700)
    return place


def files(place: Path) -> dict[str, str]:
    found = (path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.read_text() for path in found}


def test_all_is_there_with_its_time_and_a_mode_of_ours(backup: Path, data: Path) -> None:
    (data / "serve.lock").write_text("1")
    put_back(backup, data)
    assert files(data) == {**files(backup), "serve.lock": "1"}
    modes = {str(path.relative_to(data)): path.stat().st_mode & 0o777 for path in data.rglob("*")}
    assert modes[PACKAGE] == 0o644
    assert {modes[str(place)] for place in list(Path(PACKAGE).parents)[:-1]} == {0o755}
    assert {modes[name] for name in ("bdcs.sqlite", LOG, "quarantine/uploads/some")} == {0o600}
    assert {modes[name] for name in ("logs", "quarantine", "quarantine/uploads")} == {0o700}
    assert {int((data / name).stat().st_mtime) for name in (PACKAGE, LOG, "bdcs.sqlite")} == {2_000_000}
    require_whole(data)


@pytest.mark.parametrize("name", [PACKAGE, "logs"])
def test_a_link_in_the_backup_is_not_followed(backup: Path, data: Path, tmp_path: Path, name: str) -> None:
    (backup / name).rename(tmp_path / "elsewhere")
    (backup / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NoBackup, match=name):
        put_back(backup, data)
    assert not (data / "bdcs.sqlite").exists()
    with pytest.raises(RestoreUnfinished):
        require_whole(data)
    (backup / name).unlink()
    (tmp_path / "elsewhere").rename(backup / name)
    put_back(backup, data)
    assert files(data) == files(backup)
    require_whole(data)


def test_a_link_that_lies_there_leads_nowhere(backup: Path, data: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("of somebody")
    (data / "logs").symlink_to(outside)
    with pytest.raises(OSError, match="logs"):
        put_back(backup, data)
    assert files(outside) == {"file": "of somebody"}
    (data / "logs").unlink()
    (data / "logs").mkdir()
    for name in (LOG, "bdcs.sqlite", ".bdcs.sqlite.restored"):
        (data / name).symlink_to(outside / "file")
    put_back(backup, data)
    assert files(outside) == {"file": "of somebody"}
    assert files(data) == files(backup)
    assert not (data / LOG).is_symlink()
