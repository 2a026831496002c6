# SPDX-License-Identifier: GPL-2.0-or-later
"""Package files in S3: answers that are lost, requests that are refused, where readers are led, what goes."""

import dataclasses
import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bdcs.blobs.blobs import Blobs, Placement
from bdcs.blobs.configured import blobs_of
from bdcs.blobs.workspace import Workspace
from bdcs.errors import BlobMissing, BlobsUnavailable
from bdcs.services.checking_binhost import check_binhost
from bdcs.services.upkeep import Tidied
from bdcs.settings import Settings
from tests.packages import make_gpkg
from tests.publishing import Site
from tests.s3 import REGION, RunningS3, running_s3

pytestmark = pytest.mark.engines

PATH = "dev-libs/libsigc++/libsigc++-3.6.0-12.gpkg.tar"
MTIME = 1_700_000_000
TRIES = 3
"""How often one request is made before it counts as failed."""
DAYS_41 = 41 * 86_400

MakeBlobs = Callable[..., Blobs]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    with running_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def bucket(s3: RunningS3) -> str:
    return s3.new_bucket()


@pytest.fixture
def make_blobs(s3: RunningS3, bucket: str, tmp_path: Path) -> MakeBlobs:
    def make(**settings: str) -> Blobs:
        values = {"blobs": f"s3://{bucket}", "s3_endpoint": s3.url, "s3_region": REGION, **settings}
        return blobs_of(Settings(data=tmp_path / "data", **values))  # type: ignore[arg-type]  # all are text

    return make


@pytest.fixture
def blobs(make_blobs: MakeBlobs) -> Blobs:
    return make_blobs()


def placement(workspace: Workspace, content: bytes = b"content") -> Placement:
    draft = workspace.create()
    draft.file.write(content)
    draft.finish(MTIME)
    return Placement(draft=draft, target="here", path=PATH, is_immutable=True)


def put(blobs: Blobs, content: bytes = b"content") -> None:
    with blobs.workspace() as workspace:
        made = [placement(workspace, content)]
        blobs.settle(made)
        blobs.place(made)


def test_file_of_many_parts_is_what_it_was(blobs: Blobs, s3: RunningS3, bucket: str) -> None:
    content = os.urandom(1 << 20) * 20
    put(blobs, content)
    with blobs.open("here", PATH) as file:
        assert file.read() == content
        file.seek(17 << 20)
        assert file.read(100) == content[17 << 20 :][:100]
    assert s3.multiparts(bucket) == 0


def test_lost_answer_is_no_failure(blobs: Blobs, s3: RunningS3) -> None:
    s3.fail("POST", "uploadId=", "lost", times=TRIES)
    put(blobs)
    assert [blob.path for blob in blobs.listed("here")] == [PATH]
    s3.fail("POST", "uploadId=", "lost", times=TRIES)
    with blobs.workspace() as workspace:
        blobs.keep_upload(placement(workspace).draft, "abc")
    with blobs.open_upload("abc") as file:
        assert file.read() == b"content"


def test_refused_publication_leaves_nothing_and_can_be_done_again(
    blobs: Blobs, s3: RunningS3, bucket: str
) -> None:
    with blobs.workspace() as workspace:
        made = [placement(workspace)]
        blobs.settle(made)
        s3.fail("POST", "uploadId=", "refused", times=TRIES)
        with pytest.raises(BlobsUnavailable, match="reduce your request rate"):
            blobs.place(made)
        assert list(blobs.listed("here")) == []
        blobs.place(made)
    assert [blob.path for blob in blobs.listed("here")] == [PATH]
    assert s3.multiparts(bucket) == 0


def test_upload_that_cannot_be_aborted_is_left_to_upkeep(blobs: Blobs, s3: RunningS3, bucket: str) -> None:
    with blobs.workspace() as workspace:
        blobs.settle([placement(workspace)])
        s3.fail("DELETE", "uploadId=", "refused", times=TRIES)
    assert s3.multiparts(bucket) == 1
    (name,) = blobs.abandoned()
    blobs.drop_abandoned(name)
    assert blobs.abandoned() == []
    assert s3.multiparts(bucket) == 0


def test_record_that_a_power_cut_left_empty_stops_nobody(blobs: Blobs, s3: RunningS3) -> None:
    with blobs.workspace() as workspace:
        made = placement(workspace)
        blobs.settle([made])
        s3.fail("DELETE", "uploadId=", "refused", times=TRIES)
    (record,) = made.draft.path.parent.glob("*.multipart")
    record.write_bytes(b"")
    (name,) = blobs.abandoned()
    blobs.drop_abandoned(name)
    assert blobs.abandoned() == []


def test_drafts_that_are_not_placed_leave_nothing_in_the_bucket(
    blobs: Blobs, s3: RunningS3, bucket: str
) -> None:
    with blobs.workspace() as workspace:
        blobs.settle([placement(workspace)])
        assert s3.multiparts(bucket) == 1
    assert s3.multiparts(bucket) == 0


def test_what_a_lost_host_began_is_aborted_by_another(
    make_blobs: MakeBlobs, blobs: Blobs, s3: RunningS3, bucket: str
) -> None:
    other = make_blobs()
    with blobs.workspace() as workspace:
        blobs.settle([placement(workspace)])
        assert other.drop_lost(3600) == 0
        assert s3.multiparts(bucket) == 1
        assert other.drop_lost(0) == 1
        assert s3.multiparts(bucket) == 0
    put(blobs)
    assert other.drop_lost(0) == 0


def test_missing_bucket_is_no_missing_file(make_blobs: MakeBlobs) -> None:
    nowhere = make_blobs(blobs="s3://there-is-no-such-bucket/prefix")
    with pytest.raises(BlobsUnavailable, match="there-is-no-such-bucket"):
        nowhere.open("here", PATH)


def test_nobody_listens(make_blobs: MakeBlobs) -> None:
    down = make_blobs(s3_endpoint="http://127.0.0.1:9")  # discard: nobody runs that any more
    with pytest.raises(BlobsUnavailable):
        list(down.listed("here"))
    with down.workspace() as workspace, pytest.raises(BlobsUnavailable):
        down.settle([placement(workspace)])


def test_signed_url_is_all_that_a_reader_needs(blobs: Blobs) -> None:
    put(blobs)
    address = blobs.address("here", PATH, is_private=False)
    assert address is not None
    assert address.lasts > 0
    with urllib.request.urlopen(address.url) as answer:
        assert answer.read() == b"content"
        assert answer.headers["Content-Type"] == "application/vnd.gentoo.gpkg"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_url_for_a_private_target_is_for_one_reader(make_blobs: MakeBlobs) -> None:
    blobs = make_blobs(s3_download="https://cdn.example.org/packages")
    put(blobs)
    address = blobs.address("here", PATH, is_private=True)
    assert address is not None
    assert address.lasts == 0
    with urllib.request.urlopen(address.url) as answer:
        assert answer.headers["Cache-Control"] == "private, no-cache"


def test_url_of_a_cdn_is_always_the_same(make_blobs: MakeBlobs) -> None:
    blobs = make_blobs(s3_download="https://cdn.example.org/packages")
    address = blobs.address("here", PATH, is_private=False)
    assert address is not None
    assert address.url == (
        "https://cdn.example.org/packages/here/dev-libs/libsigc%2B%2B/libsigc%2B%2B-3.6.0-12.gpkg.tar"
    )


def test_files_that_are_sent_have_no_url(make_blobs: MakeBlobs) -> None:
    assert make_blobs(s3_download="send").address("here", PATH, is_private=False) is None


@pytest.fixture
def site(tmp_path: Path, blobs: Blobs) -> Site:
    made = Site.create(tmp_path / "data")
    made.publisher = dataclasses.replace(made.publisher, blobs=blobs)
    made.add_target("here", signatures="optional")
    return made


def check(site: Site) -> list[str]:
    return check_binhost(
        site.publisher.reader, site.data, lambda _done, _total: None, site.publisher.blobs
    ).first


def test_withdrawn_package_goes_after_its_grace(site: Site, tmp_path: Path) -> None:
    package = make_gpkg(tmp_path / "alpha.gpkg.tar")
    (first,) = site.publisher.publish("here", [package]).files
    (second,) = site.publisher.publish("here", [package], again=True).files
    assert site.upkeep(later=0).tidy() == Tidied()
    assert site.upkeep(later=DAYS_41).tidy() == Tidied(withdrawn=1)
    assert [blob.path for blob in site.publisher.blobs.listed("here")] == [second.path]
    with pytest.raises(BlobMissing):
        site.publisher.blobs.open("here", first.path)
    assert check(site) == []


def test_what_a_refused_publication_did_is_undone(
    site: Site, s3: RunningS3, bucket: str, tmp_path: Path
) -> None:
    package = make_gpkg(tmp_path / "alpha.gpkg.tar")
    s3.fail("POST", "uploadId=", "refused", times=TRIES)
    with pytest.raises(BlobsUnavailable):
        site.publisher.publish("here", [package])
    assert site.builds("here") == []
    assert s3.multiparts(bucket) == 0
    site.publisher.publish("here", [package])
    assert check(site) == []


def test_file_that_nobody_published_goes(site: Site) -> None:
    put(site.publisher.blobs)
    assert check(site) == [f"target here: {PATH} is a file that nobody published"]
    assert site.upkeep().tidy() == Tidied(orphans=1)
    assert check(site) == []
