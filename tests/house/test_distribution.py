# SPDX-License-Identifier: GPL-2.0-or-later
"""What is handed out: a wheel and a source archive with our code, all of it, and nothing else."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from dev.places import ROOT
from tests.house.sources import committed


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with wheel and sdist, built from a copy of what is committed."""
    copy = tmp_path_factory.mktemp("tree")
    for path in committed():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    output = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def packaged_files() -> set[str]:
    """Every file of ours below the two packages, by its path in the repository."""
    return {
        str(path.relative_to(ROOT))
        for path in committed()
        if path.relative_to(ROOT).parts[0] in {"bdcs", "gentwoo_client"}
    }


def test_the_wheel_holds_the_two_packages_whole(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == packaged_files()


def test_the_source_archive_holds_neither_tests_nor_logs_of_others(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in names if name}
    assert packaged_files() <= names
    assert not tops & {"tests", "dev", "benchmarks", ".ci"}
    assert not {name for name in names if name.endswith(".log")}


@pytest.mark.parametrize("command", ["gentwoo", "bdcs"])
def test_the_wheel_alone_gives_both_commands(wheel: Path, tmp_path: Path, command: str) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", tmp_path, wheel], check=True, capture_output=True)
    done = subprocess.run(
        [tmp_path / "bin" / command, "--version"],
        env={"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"{command} ")
