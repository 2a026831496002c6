# SPDX-License-Identifier: GPL-2.0-or-later
"""What package files are kept in keeps them alike: a directory, and a bucket of S3 (`make test-engines`)."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from bdcs.blobs.blobs import Blobs, Placement
from bdcs.blobs.configured import blobs_of
from bdcs.blobs.workspace import Draft, Workspace, copy_file
from bdcs.errors import BlobMissing, BlobTaken
from bdcs.settings import Settings
from tests.packages import make_gpkg
from tests.processes import environment
from tests.publishing import Site
from tests.s3 import REGION, RunningS3, running_s3
from tests.waiting import until

PATH = "app-misc/alpha/alpha-1.0-1.gpkg.tar"
PLUS = "dev-libs/libsigc++/libsigc++-3.6.0-12.gpkg.tar"
OLD = "app-misc/alpha-1.0.tbz2"
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where files are kept, and the settings that say so."""

    settings: dict[str, str]
    blobs: Blobs

    @classmethod
    def of(cls, **settings: str) -> "Place":
        return cls(settings, blobs_of(settings_of(settings)))


def settings_of(settings: dict[str, str]) -> Settings:
    values = {name: Path(value) if name == "data" else value for name, value in settings.items()}
    return Settings(**values)  # type: ignore[arg-type]  # each has the type that its name wants


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    with running_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.engines)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    data = str(tmp_path / "data")
    if request.param == "directory":
        return Place.of(data=data)
    s3: RunningS3 = request.getfixturevalue("s3")
    return Place.of(
        data=data, blobs=f"s3://{s3.new_bucket()}/some/prefix", s3_endpoint=s3.url, s3_region=REGION
    )


@pytest.fixture
def blobs(place: Place) -> Blobs:
    return place.blobs


@pytest.fixture
def workspace(blobs: Blobs) -> Iterator[Workspace]:
    with blobs.workspace() as workspace:
        yield workspace


def draft(workspace: Workspace, content: bytes = b"content") -> Draft:
    made = workspace.create()
    made.file.write(content)
    made.finish(MTIME)
    return made


def placement(workspace: Workspace, path: str = PATH, content: bytes = b"content") -> Placement:
    return Placement(draft=draft(workspace, content), target="here", path=path)


def put(blobs: Blobs, *placements: Placement) -> None:
    blobs.settle(placements)
    blobs.place(placements)


def content(blobs: Blobs, path: str = PATH) -> bytes:
    with blobs.open("here", path) as file:
        return file.read() or b""


def paths(blobs: Blobs) -> list[str]:
    return sorted(blob.path for blob in blobs.listed("here"))


def test_placed_file_is_there(blobs: Blobs, workspace: Workspace) -> None:
    put(blobs, placement(workspace))
    assert content(blobs) == b"content"
    assert [(blob.path, blob.size) for blob in blobs.listed("here")] == [(PATH, 7)]
    assert blobs.targets() == ["here"]


def test_logs_are_kept_and_replaced_whole(blobs: Blobs) -> None:
    assert list(blobs.logs()) == []
    with pytest.raises(BlobMissing):
        blobs.open_log(7)
    blobs.keep_log(7, b"first")
    blobs.keep_log(7, b"0123456789")
    blobs.keep_log(12, b"")
    with blobs.open_log(7) as file:
        file.seek(3)
        assert file.read(4) == b"3456"
    assert sorted(blobs.logs()) == [7, 12]
    blobs.drop_log(7)
    blobs.drop_log(7)
    assert list(blobs.logs()) == [12]


def test_time_of_a_draft_is_kept_where_that_is_said(blobs: Blobs, workspace: Workspace) -> None:
    put(blobs, placement(workspace))
    (blob,) = blobs.listed("here")
    assert (blob.mtime == MTIME) is blobs.keeps_mtime


@pytest.mark.parametrize("path", [PLUS, OLD])
def test_names_as_packages_have_them(blobs: Blobs, workspace: Workspace, path: str) -> None:
    put(blobs, placement(workspace, path))
    assert paths(blobs) == [path]
    assert content(blobs, path) == b"content"
    blobs.delete("here", [path])
    assert paths(blobs) == []


def test_empty_file_is_a_file(blobs: Blobs, workspace: Workspace) -> None:
    put(blobs, placement(workspace, content=b""))
    assert content(blobs) == b""


def test_draft_is_nowhere_before_it_is_placed(blobs: Blobs, workspace: Workspace) -> None:
    blobs.settle([placement(workspace)])
    assert blobs.targets() == []
    assert paths(blobs) == []
    with pytest.raises(BlobMissing):
        blobs.open("here", PATH)


def test_drafts_go_with_their_workspace(blobs: Blobs, tmp_path: Path) -> None:
    with blobs.workspace() as workspace:
        blobs.settle([placement(workspace)])
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
    assert blobs.abandoned() == []


def test_file_is_read_from_anywhere(blobs: Blobs, workspace: Workspace) -> None:
    put(blobs, placement(workspace, content=b"0123456789"))
    with blobs.open("here", PATH) as file:
        assert file.read(3) == b"012"
        assert file.read(2) == b"34"
        file.seek(8)
        assert file.read() == b"89"
        file.seek(1)
        assert file.read(1) == b"1"
        assert file.tell() == 2
        assert file.seek(-1, os.SEEK_END) == 9
        assert file.read(5) == b"9"
        assert file.read(5) == b""


@pytest.mark.parametrize("path", FOREIGN_PATHS)
def test_no_path_leads_out(blobs: Blobs, workspace: Workspace, path: str) -> None:
    put(blobs, placement(workspace))
    with pytest.raises(BlobMissing):
        blobs.open("here", path)
    with pytest.raises(ValueError, match="no path of a package"):
        blobs.place([placement(workspace, path)])
    with pytest.raises(ValueError, match="no path of a package"):
        blobs.delete("here", [path])
    assert paths(blobs) == [PATH]


@pytest.mark.parametrize("target", ["..", ".", "", "a/b", "-", "\0"])
def test_no_target_leads_out(blobs: Blobs, workspace: Workspace, target: str) -> None:
    put(blobs, placement(workspace))
    with pytest.raises(BlobMissing):
        blobs.open(target, PATH)
    with pytest.raises(ValueError, match="no name of a target"):
        blobs.clear(target)
    assert paths(blobs) == [PATH]


def test_no_file_takes_the_place_of_another(blobs: Blobs, workspace: Workspace) -> None:
    put(blobs, placement(workspace, content=b"first"))
    second = placement(workspace, content=b"second")
    blobs.settle([second])
    with pytest.raises(BlobTaken) as caught:
        blobs.place([second])
    assert (caught.value.target, caught.value.path) == ("here", PATH)
    assert content(blobs) == b"first"
    blobs.delete("here", [PATH])
    blobs.place([second])
    assert content(blobs) == b"second"


def test_placing_goes_on_after_an_error(blobs: Blobs, workspace: Workspace) -> None:
    """What was placed stays: somebody else may have the target's lock by now, and the name."""
    put(blobs, placement(workspace, content=b"first"))
    both = [placement(workspace, PLUS), placement(workspace, content=b"second")]
    blobs.settle(both)
    for _ in range(2):
        with pytest.raises(BlobTaken) as caught:
            blobs.place(both)
        assert caught.value.path == PATH
    assert paths(blobs) == sorted([PATH, PLUS])
    assert content(blobs) == b"first"
    blobs.delete("here", [PATH])
    blobs.place(both)
    assert paths(blobs) == sorted([PATH, PLUS])
    assert content(blobs) == b"second"


def test_of_those_who_place_one_name_one_does(blobs: Blobs, workspace: Workspace) -> None:
    rivals = [placement(workspace, content=f"rival {number}".encode()) for number in range(8)]
    blobs.settle(rivals)

    def place(rival: Placement) -> bool:
        try:
            blobs.place([rival])
        except BlobTaken:
            return False
        return True

    with ThreadPoolExecutor(len(rivals)) as pool:
        won = list(pool.map(place, rivals))
    assert won.count(True) == 1
    assert content(blobs) == f"rival {won.index(True)}".encode()


def test_what_is_deleted_is_gone(blobs: Blobs, workspace: Workspace) -> None:
    put(blobs, placement(workspace), placement(workspace, PLUS))
    blobs.delete("here", [PATH, "app-misc/never/never-1-1.gpkg.tar"])
    assert paths(blobs) == [PLUS]
    blobs.delete("here", [PLUS])
    blobs.delete("here", [])
    assert blobs.targets() == []


def test_cleared_target_has_nothing(blobs: Blobs, workspace: Workspace) -> None:
    other = Placement(draft=draft(workspace), target="here2", path=PATH)
    put(blobs, placement(workspace), placement(workspace, PLUS), other)
    blobs.clear("here")
    blobs.clear("here")
    assert blobs.targets() == ["here2"]


def test_upload_waits_under_its_name(blobs: Blobs, workspace: Workspace) -> None:
    blobs.keep_upload(draft(workspace), "abc")
    assert [(blob.path, blob.size) for blob in blobs.uploads()] == [("abc", 7)]
    taken = workspace.create()
    with blobs.open_upload("abc") as file:
        copy_file(file, taken.file)
    taken.finish(MTIME)
    with taken.open() as file:
        assert file.read() == b"content"
    assert blobs.targets() == []
    blobs.drop_upload("abc")
    blobs.drop_upload("abc")
    assert list(blobs.uploads()) == []
    with pytest.raises(BlobMissing):
        blobs.open_upload("abc")


def test_upload_may_come_again(blobs: Blobs, workspace: Workspace) -> None:
    blobs.keep_upload(draft(workspace, b"once"), "abc")
    blobs.keep_upload(draft(workspace, b"again"), "abc")
    with blobs.open_upload("abc") as file:
        assert file.read() == b"again"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".."])
def test_no_name_of_an_upload_leads_out(blobs: Blobs, name: str) -> None:
    with pytest.raises(ValueError, match="no name of an upload"):
        blobs.open_upload(name)


AT_WORK = """
import json, sys
from bdcs.blobs.blobs import Placement
from bdcs.blobs.configured import blobs_of
from tests.integration.test_blob_stores import PATH, draft, settings_of
blobs = blobs_of(settings_of(json.loads(sys.argv[1])))
workspace = blobs.workspace()
blobs.settle([Placement(draft=draft(workspace), target="here", path=PATH)])
print("at work", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_known_and_dropped(place: Place, tmp_path: Path) -> None:
    blobs = place.blobs
    with subprocess.Popen(
        [sys.executable, "-c", AT_WORK, json.dumps(place.settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"at work\n"
        assert blobs.abandoned() == []  # it lives
        process.kill()
        process.wait()
        (name,) = until(blobs.abandoned)
    blobs.drop_abandoned(name)
    assert blobs.abandoned() == []
    assert blobs.targets() == []
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_publication_takes_the_name_of_a_file_that_no_row_has(place: Place, tmp_path: Path) -> None:
    site = Site.create(Path(place.settings["data"]))
    site.publisher = dataclasses.replace(site.publisher, blobs=place.blobs)
    site.add_target("here", signatures="optional")
    package = make_gpkg(tmp_path / "alpha.gpkg.tar")
    (published,) = site.publisher.publish("here", [package]).files
    expected = published.path.replace("-1.gpkg.tar", "-2.gpkg.tar")
    with place.blobs.workspace() as workspace:
        put(place.blobs, placement(workspace, expected, b"left by a killed publication"))
    (again,) = site.publisher.publish("here", [package], again=True).files
    assert again.path == expected
    assert len(content(place.blobs, expected)) == again.size
