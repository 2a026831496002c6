# SPDX-License-Identifier: GPL-2.0-or-later
"""Package files appear whole or not at all, and no name leads out of their directory."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdcs.blobs.directory import (
    SYNC_EACH,
    Directory,
    Draft,
    Placement,
    Workspace,
    copy_bytes,
    space_errors,
)
from bdcs.errors import BlobMissing, BlobsFull
from tests.processes import environment
from tests.waiting import until

PATH = "app-misc/alpha/alpha-1.0-1.gpkg.tar"
MTIME = 1_700_000_000

FOREIGN_PATHS = (
    "",
    "/etc/passwd",
    "../../etc/passwd",
    "app-misc/../../../etc/passwd",
    "app-misc/alpha/..",
    "app-misc/./alpha-1.0-1.gpkg.tar",
    "app-misc//alpha-1.0-1.gpkg.tar",
    "app-misc/alpha/alpha-1.0-1.gpkg.tar/",
    "app-misc/alpha/.hidden",
    "app-misc/alpha/a\0b",
    "app-misc/alpha/a\nb",
    "app-misc/alpha/a b",
    "app-misc\\alpha",
    "alpha-1.0-1.gpkg.tar",
    "a/b/c/d",
)


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
    made = draft(workspace, content)
    directory.settle([made])
    directory.place([Placement(draft=made, target="here", path=path)])


def names(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir())


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


def test_draft_is_nowhere_before_it_is_placed(directory: Directory, workspace: Workspace) -> None:
    draft(workspace)
    assert directory.targets() == []
    with pytest.raises(BlobMissing):
        directory.open("here", PATH)


def test_drafts_go_with_their_workspace(directory: Directory, tmp_path: Path) -> None:
    with directory.workspace() as workspace:
        draft(workspace)
    assert names(tmp_path) == []
    assert directory.abandoned() == []


@pytest.mark.parametrize("path", FOREIGN_PATHS)
def test_no_path_leads_out(directory: Directory, workspace: Workspace, tmp_path: Path, path: str) -> None:
    place(directory, workspace)
    with pytest.raises(BlobMissing):
        directory.open("here", path)
    made = draft(workspace)
    with pytest.raises(ValueError, match="no path of a package"):
        directory.place([Placement(draft=made, target="here", path=path)])
    assert names(tmp_path / "data/packages") == [f"here/{PATH}"]


@pytest.mark.parametrize("target", ["..", ".", "", "a/b", "-", "\0"])
def test_no_target_leads_out(directory: Directory, workspace: Workspace, target: str) -> None:
    place(directory, workspace)
    with pytest.raises(BlobMissing):
        directory.open(target, PATH)


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


def test_all_are_placed_or_none(directory: Directory, workspace: Workspace, tmp_path: Path) -> None:
    good, gone = draft(workspace), draft(workspace)
    gone.remove()
    with pytest.raises(FileNotFoundError):
        directory.place(
            [
                Placement(draft=good, target="here", path=PATH),
                Placement(draft=gone, target="here", path="app-misc/beta/beta-1.0-1.gpkg.tar"),
            ]
        )
    assert names(tmp_path / "data/packages") == []


def test_thousands_are_placed_without_as_many_open_files(directory: Directory, workspace: Workspace) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    paths = [f"app-misc/p{number}/p{number}-1-1.gpkg.tar" for number in range(4 * SYNC_EACH)]
    drafts = [draft(workspace) for _ in paths]
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * SYNC_EACH, hard))
    try:
        directory.settle(drafts)
        directory.place(
            [
                Placement(draft=made, target="here", path=path)
                for made, path in zip(drafts, paths, strict=True)
            ]
        )
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


def test_upload_waits_under_its_name(directory: Directory, workspace: Workspace) -> None:
    directory.keep_upload(draft(workspace), "abc")
    assert [(blob.path, blob.size) for blob in directory.uploads()] == [("abc", 7)]
    with directory.open_upload("abc") as file:
        assert file.read() == b"content"
    directory.drop_upload("abc")
    directory.drop_upload("abc")
    with pytest.raises(BlobMissing):
        directory.open_upload("abc")


def test_no_link_leads_out_of_quarantine(directory: Directory, workspace: Workspace, tmp_path: Path) -> None:
    directory.keep_upload(draft(workspace), "abc")
    (uploads,) = tmp_path.rglob("uploads")
    (tmp_path / "secret").write_text("secret")
    (uploads / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(uploads / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(BlobMissing):
            directory.open_upload(name)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".."])
def test_no_name_of_an_upload_leads_out(directory: Directory, name: str) -> None:
    with pytest.raises(ValueError, match="no name of an upload"):
        directory.open_upload(name)


def test_copy_holds_what_the_source_holds(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    copied = workspace.create()
    with source.open("rb") as original:
        copy_bytes(original.fileno(), copied.file.fileno())
    copied.finish(MTIME)
    with copied.open() as file:
        assert file.read() == source.read_bytes()


AT_WORK = """
import sys
from pathlib import Path
from bdcs.blobs.directory import Directory
workspace = Directory(Path(sys.argv[1])).workspace()
workspace.create()
print("at work", flush=True)
sys.stdin.read()
"""


def test_workspace_of_a_killed_process_is_known_and_dropped(directory: Directory, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, str(tmp_path / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"at work\n"
        assert directory.abandoned() == []  # it lives
        process.send_signal(signal.SIGKILL)
        process.wait()
        (name,) = until(directory.abandoned)
    directory.drop_abandoned(name)
    assert directory.abandoned() == []
    assert names(tmp_path / "data") == []


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
            copy_bytes(original.fileno(), made.file.fileno())
        made.remove()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free some space" in caught.value.advice
