# SPDX-License-Identifier: GPL-2.0-or-later
"""A binhost whose packages are in S3: what clients are answered, and real emerge, which is led there."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.binhost import Binhost, Taker, running_binhost
from tests.s3 import REGION, RunningS3, running_s3

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

CPV = "app-misc/reached-1.0"
PATH = "app-misc/reached/reached-1.0-1.gpkg.tar"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    with running_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def binhost(s3: RunningS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Binhost]:
    settings = {"blobs": f"s3://{s3.new_bucket()}/binhost", "s3_endpoint": s3.url, "s3_region": REGION}
    with running_binhost(tmp_path_factory.mktemp("binhost"), **settings) as binhost:
        yield binhost


@pytest.fixture(scope="module")
def machine(binhost: Binhost, tmp_path_factory: pytest.TempPathFactory) -> Taker:
    taker = Taker.create(tmp_path_factory.mktemp("machine") / "world", binhost.verify_home)
    taker.world.ebuild(CPV)
    return taker


@pytest.fixture(scope="module")
def size(binhost: Binhost, machine: Taker) -> int:
    """Of the package that emerge built, and that was published."""
    binhost.add_target("amd64")
    (published,) = binhost.publish("amd64", *machine.build(CPV))
    assert published["path"] == PATH
    assert published["signed_by"] == binhost.fingerprint
    return int(published["size"])


def test_reader_is_led_to_a_signed_url(binhost: Binhost, s3: RunningS3, size: int) -> None:
    answer = binhost.get(f"amd64/{PATH}")
    assert answer.status == 307
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    place = answer.headers["Location"]
    assert place.startswith(f"{s3.url}/")
    with urllib.request.urlopen(place) as whole:
        content = whole.read()
    assert len(content) == size
    part = urllib.request.Request(place, headers={"Range": "bytes=100-199"})
    with urllib.request.urlopen(part) as answered:
        assert answered.status == 206
        assert answered.read() == content[100:200]
    assert not list((binhost.data / "packages").glob("*"))


def test_head_is_answered_here(binhost: Binhost, size: int) -> None:
    answer = binhost.get(f"amd64/{PATH}", "HEAD")
    assert answer.status == 200
    assert answer.headers["Content-Length"] == str(size)
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert binhost.get("amd64/app-misc/reached/reached-1.0-2.gpkg.tar").status == 404


def test_emerge_installs_a_signed_package(binhost: Binhost, machine: Taker, s3: RunningS3, size: int) -> None:
    machine.forget()
    before = signed_downloads(s3)
    machine.use_repository("gentwoo", binhost.url("amd64"), verify_signature="true")
    machine.emerge("--getbinpkgonly", "app-misc/reached")
    assert signed_downloads(s3) == before + 1
    (taken,) = machine.taken().values()
    assert taken.stat().st_size == size
    assert (machine.world.root / "var/db/pkg/app-misc/reached-1.0").is_dir()


def test_check_reads_the_bucket(binhost: Binhost, size: int) -> None:
    assert "1 targets, 1 packages, 1 files" in binhost.collector.bdcs("check", "--only", "binhost").stdout


def test_packages_can_be_sent_by_the_collector(binhost: Binhost, size: int, s3: RunningS3) -> None:
    restart(binhost, s3_download="send")
    try:
        whole = binhost.get(f"amd64/{PATH}")
        assert whole.status == 200
        assert len(whole.body) == size
        part = binhost.get(f"amd64/{PATH}", Range="bytes=100-199")
        assert part.status == 206
        assert part.body == whole.body[100:200]
        etag = whole.headers["Etag"]
        assert binhost.get(f"amd64/{PATH}", If_None_Match=etag).status == 304
        s3.fail("HEAD", "", "refused", times=3)
        assert unavailable(f"{binhost.url('amd64')}/{PATH}")
        assert binhost.get(f"amd64/{PATH}").body == whole.body
    finally:
        restart(binhost, s3_download="redirect")


def test_a_target_takes_its_files_along(binhost: Binhost, machine: Taker, tmp_path: Path, size: int) -> None:
    binhost.add_target("short")
    binhost.publish("short", machine.package(tmp_path / "brief.gpkg.tar", "app-misc/brief-1.0"))
    binhost.collector.bdcs("target", "remove", "short", "--force")
    checked = binhost.collector.bdcs("check", "--only", "binhost").stdout
    assert "1 files" in checked
    assert "no differences" in checked


def signed_downloads(s3: RunningS3) -> int:
    """How often somebody fetched the package by a signed URL."""
    lines = s3.process.output.splitlines()
    return sum("GET" in line and PATH in line and "X-Amz-Signature" in line for line in lines)


def restart(binhost: Binhost, **settings: str) -> None:
    """Serve with other settings."""
    configuration = binhost.collector.home / "bdcs.toml"
    lines = [line for line in configuration.read_text().splitlines() if line.split(" ")[0] not in settings]
    lines += [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    configuration.write_text("\n".join(lines) + "\n")
    assert binhost.collector.stop() == 0
    binhost.collector.start()


def unavailable(url: str) -> bool:
    """Whether it is answered 503, with a time after which to ask again."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url)
    with caught.value as answer:
        return answer.code == 503 and int(answer.headers["Retry-After"]) > 0
