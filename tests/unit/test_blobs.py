# SPDX-License-Identifier: GPL-2.0-or-later
"""What only package files in a directory have: modes, links, empty directories, a full disk.

What all blobs have to do is in tests/integration/test_blob_stores.py.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdcs.blobs.blobs import Placement
from bdcs.blobs.configured import blobs_of
from bdcs.blobs.directory import SYNC_EACH, Directory
from bdcs.blobs.workspace import Draft, Workspace, copy_file, space_errors
from bdcs.errors import BlobMissing, BlobsFull, ConfigurationError
from bdcs.settings import Settings
from tests.processes import environment

PATH = "app-misc/alpha/alpha-1.0-1.gpkg.tar"
MTIME = 1_700_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "data")


@pytest.fixture
def workspace(directory: Directory) -> Iterator[Workspace]:
    with directory.workspace() as workspace:
        yield workspace


def draft(workspace: Workspace, content: bytes = b"content", mtime: int = MTIME) -> Draft:
    made = workspace.create()
    made.file.write(content)
    made.finish(mtime)
    return made


def place(directory: Directory, workspace: Workspace, path: str = PATH, content: bytes = b"content") -> None:
    placements = [Placement(draft=draft(workspace, content), target="here", path=path)]
    directory.settle(placements)
    directory.place(placements)


def test_placed_file_is_there_with_its_content_and_whole_seconds(
    directory: Directory, workspace: Workspace, tmp_path: Path
) -> None:
    place(directory, workspace)
    with directory.open("here", PATH) as file:
        assert file.read() == b"content"
    assert [(blob.path, blob.size, blob.mtime) for blob in directory.listed("here")] == [(PATH, 7, MTIME)]
    assert directory.targets() == ["here"]
    status = (tmp_path / "data/packages/here" / PATH).stat()
    assert status.st_mtime_ns == MTIME * 10**9
    assert status.st_mode & 0o777 == 0o644


@pytest.mark.parametrize("link", ["app-misc", "app-misc/alpha", PATH])
def test_symbolic_links_are_not_followed(
    directory: Directory, workspace: Workspace, tmp_path: Path, link: str
) -> None:
    place(directory, workspace)
    original = tmp_path / "data/packages/here" / link
    original.rename(tmp_path / "elsewhere")
    original.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BlobMissing):
        directory.open("here", PATH)


def test_only_regular_files_are_packages(directory: Directory, workspace: Workspace, tmp_path: Path) -> None:
    place(directory, workspace)
    os.mkfifo(tmp_path / "data/packages/here/app-misc/fifo")
    for path in ("app-misc/alpha", "app-misc/fifo"):
        with pytest.raises(BlobMissing):
            directory.open("here", path)


def test_thousands_are_placed_without_as_many_open_files(directory: Directory, workspace: Workspace) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    paths = [f"app-misc/p{number}/p{number}-1-1.gpkg.tar" for number in range(4 * SYNC_EACH)]
    drafts = [draft(workspace) for _ in paths]
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * SYNC_EACH, hard))
    placements = [
        Placement(draft=made, target="here", path=path) for made, path in zip(drafts, paths, strict=True)
    ]
    try:
        directory.settle(placements)
        directory.place(placements)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sorted(blob.path for blob in directory.listed("here")) == sorted(paths)


def test_deleted_file_takes_empty_directories_along(
    directory: Directory, workspace: Workspace, tmp_path: Path
) -> None:
    place(directory, workspace)
    other = "app-misc/beta/beta-1.0-1.gpkg.tar"
    place(directory, workspace, other)
    directory.delete("here", [PATH, "app-misc/never/never-1-1.gpkg.tar"])
    assert sorted(path.name for path in (tmp_path / "data/packages/here/app-misc").iterdir()) == ["beta"]
    directory.delete("here", [other])
    assert list((tmp_path / "data/packages").iterdir()) == []


def test_no_link_leads_out_of_quarantine(directory: Directory, workspace: Workspace, tmp_path: Path) -> None:
    directory.keep_upload(draft(workspace), "abc")
    (uploads,) = tmp_path.rglob("uploads")
    (tmp_path / "secret").write_text("secret")
    (uploads / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(uploads / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(BlobMissing):
            directory.open_upload(name)


def test_copy_holds_what_the_source_holds(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    copied = workspace.create()
    with source.open("rb") as original:
        copy_file(original, copied.file)
    copied.finish(MTIME)
    with copied.open() as file:
        assert file.read() == source.read_bytes()


def test_file_size_limit_says_what_to_do(directory: Directory, workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(100_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        made = workspace.create()
        with (
            source.open("rb") as original,
            pytest.raises(BlobsFull, match="quarantine") as caught,
            space_errors(made.path),
        ):
            copy_file(original, made.file)
        made.remove()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free some space" in caught.value.advice


def test_s3_without_its_library_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "bdcs.blobs.s3", raising=False)
    with pytest.raises(ConfigurationError, match="boto3") as caught:
        blobs_of(Settings(data=tmp_path, blobs="s3://bucket/prefix"))
    assert "gentwoo[s3]" in caught.value.advice


def test_who_keeps_files_in_a_directory_loads_nothing_for_s3() -> None:
    program = (
        "import sys; from bdcs.settings import Settings; from bdcs.blobs.configured import blobs_of;"
        "blobs_of(Settings()); print([name for name in sys.modules if 'boto' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment()
    )
    assert done.stdout == "[]\n"


DIES_WHILE_MAKING = """
import itertools, os, signal, sys
from pathlib import Path
from bdcs.blobs.workspace import Workspaces
workspaces = Workspaces(Path(sys.argv[1]))
left = 0
def strike(event, arguments):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(strike)
for step in itertools.count(1):
    if not (child := os.fork()):
        left = step
        workspaces.create()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    for name in workspaces.abandoned():
        workspaces.drop(name)
    print(os.WIFSIGNALED(status), os.listdir(workspaces.directory))
    if status == 0:
        break
"""


def test_workspace_is_known_and_dropped_whenever_its_maker_was_killed(tmp_path: Path) -> None:
    """At each call that Python audits: mkdir, open, flock."""
    (tmp_path / "quarantine").mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", DIES_WHILE_MAKING, str(tmp_path / "quarantine")],
        capture_output=True,
        check=True,
        text=True,
        env=environment(),
    )
    *killed, made = ended.stdout.splitlines()
    assert killed == ["True []"] * len(killed)
    assert len(killed) > 5
    assert made == "False []"
