# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever becomes of a good package: it is refused, or it is still the same package."""

import contextlib
import hashlib
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdcs.domain.gpkg import manifest
from bdcs.domain.gpkg.reading import Inspector, Package, read_metadata
from bdcs.domain.xpak import read_xpak
from bdcs.errors import InvalidPackage
from tests.packages import Members, compress, gpkg, image_tar, metadata_tar, zstd
from tests.unit.test_xpak import VALUES, block, xpak

IMAGE = {"usr/bin/a": b"\x7fELF" * 300, "usr/share/" + "long/" * 30 + "n": b"x", "etc/é": b""}
IMAGE_TAR = image_tar(IMAGE)
VALUES_TAR = metadata_tar({"CATEGORY": "app-misc", "PF": "alpha-1.0", "SLOT": "0", "BUILD_ID": "1"})
MEMORY = 24 << 20  # bytes; an xz decompressor alone may take 8 MiB


@cache
def good(number: int) -> bytes:
    """One of some good packages."""
    compression = (".zst", ".gz", ".bz2", ".xz")[number % 4]
    return gpkg(compression=compression, build_id=number // 4 or None, image=IMAGE)


def read(data: bytes, step: int) -> Package | None:
    """What an Inspector makes of `data`; None where it is refused. Any other error is a failure."""
    inspector = Inspector()
    try:
        for at in range(0, len(data), step):
            inspector.feed(data[at : at + step])
        return inspector.close()
    except InvalidPackage:
        return None


def scan(data: bytes) -> dict[str, str] | None:
    try:
        return read_metadata(io.BytesIO(data))
    except InvalidPackage:
        return None


@cache
def package(number: int) -> Package:
    told = read(good(number), 1 << 20)
    assert told is not None
    return told


def assert_refused_or_the_same(number: int, altered: bytes, step: int) -> None:
    told, expected = read(altered, step), package(number)
    scan(altered)
    if told is None:
        return
    assert (told.cpv, told.build_id, told.metadata) == (expected.cpv, expected.build_id, expected.metadata)
    assert told.image == expected.image
    assert [one.record for one in told.members] == [one.record for one in expected.members]
    assert (told.size, told.sha512) == (len(altered), hashlib.sha512(altered).hexdigest())
    assert told.md5 == hashlib.md5(altered).hexdigest()


numbers = st.integers(0, 7)
steps = st.sampled_from([100, 512, 5000, 1 << 20])
places = st.integers(0, 1 << 16)
ways = st.sampled_from(["set", "insert", "delete", "repeat"])
Edit = tuple[str, int, bytes]
edits = st.lists(st.tuples(ways, places, st.binary(min_size=1, max_size=12)), min_size=1, max_size=4)


def edited(data: bytes, changes: list[Edit]) -> bytes:
    """`data` with changes, mostly where something is."""
    raw = bytearray(data)
    for way, place, content in changes:
        at = place % (len(raw.rstrip(b"\0")) + 600)
        block_ = raw[at - at % 512 : at - at % 512 + 512]
        match way:
            case "set":
                raw[at : at + len(content)] = content
            case "insert":
                raw[at:at] = content
            case "delete":
                del raw[at : at + (1, 100, 512)[len(content) % 3]]
            case _:
                raw[at - at % 512 : at - at % 512] = block_
    return bytes(raw)


@given(numbers, st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4), steps)
def test_changed_bytes(number: int, changes: list[tuple[int, int]], step: int) -> None:
    raw = bytearray(good(number))
    for place, value in changes:
        raw[place % len(raw)] = value
    assert_refused_or_the_same(number, bytes(raw), step)


@given(numbers, edits, steps)
def test_edited_packages(number: int, changes: list[Edit], step: int) -> None:
    assert_refused_or_the_same(number, edited(good(number), changes), step)


@given(numbers, st.booleans(), st.lists(st.tuples(places, places), min_size=1, max_size=4), steps)
def test_pieces_in_any_order(number: int, blocks: bool, cuts: list[tuple[int, int]], step: int) -> None:
    """Parts of a good package, cut at blocks or anywhere."""
    data = good(number)
    parts = [data[: cuts[0][0] % len(data)]]
    for cut in cuts:
        first, last = sorted(place % len(data) for place in cut)
        parts.append(data[first - first % 512 : last - last % 512] if blocks else data[first:last])
    assert_refused_or_the_same(number, b"".join(parts), step)


@given(st.binary(max_size=3000), steps)
def test_anything(data: bytes, step: int) -> None:
    assert read(data, step) is None
    assert read(b"a-1/gpkg-1\0" + data, step) is None


@settings(max_examples=200)
@given(st.sampled_from(["metadata", "image"]), edits, steps)
def test_damage_within_the_archives(archive: str, changes: list[Edit], step: int) -> None:
    """All hashes fit. What is taken is what Python's tarfile, and so Portage, reads too."""
    raw = {"metadata": VALUES_TAR, "image": IMAGE_TAR}
    raw[archive] = edited(raw[archive], changes)
    data = gpkg(raw_metadata=raw["metadata"], raw_image=raw["image"])
    told, scanned = read(data, step), scan(data)
    if told is not None:
        assert scanned == told.metadata
        assert as_tarfile_reads(data) == (told.metadata, told.image.files, told.image.size)


def as_tarfile_reads(data: bytes) -> tuple[dict[str, str], int, int]:
    """Values of the metadata; number and size of the files in the image."""
    with tarfile.open(fileobj=io.BytesIO(data)) as outer:
        inner = {
            one.name.rpartition("/")[2]: zstd.decompress(outer.extractfile(one).read())  # type: ignore[union-attr]
            for one in outer
            if one.name.endswith(".tar.zst")
        }
    with tarfile.open(fileobj=io.BytesIO(inner["metadata.tar.zst"])) as archive:
        raw = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    with tarfile.open(fileobj=io.BytesIO(inner["image.tar.zst"])) as archive:
        files = [one for one in archive if not one.isdir()]
    values = {name.removeprefix("metadata/"): " ".join(value.decode().split()) for name, value in raw.items()}
    return {name: text for name, text in values.items() if text}, len(files), sum(one.size for one in files)


@given(st.sampled_from([".zst", ".gz", ".bz2", ".xz"]), edits, edits, steps)
def test_damaged_compression(suffix: str, first: list[Edit], second: list[Edit], step: int) -> None:
    """All hashes fit, but what is in the archives may not unpack."""

    def damage(members: Members) -> Members:
        changes = {"metadata": first, "image": second}
        return [
            (name, edited(data, changes[name.split("/")[1].split(".")[0]]) if ".tar" in name else data)
            for name, data in members
        ]

    data = gpkg(compression=suffix, image=IMAGE, before_manifest=damage)
    read(data, step)
    scan(data)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_manifests(text: bytes) -> None:
    for data in (text, b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + text):
        with contextlib.suppress(InvalidPackage):
            manifest.parse(data)


names = st.from_regex(r"[a-z.]{1,20}(\.tar\.zst)?", fullmatch=True)
records = st.dictionaries(names, st.binary(max_size=20).map(manifest.record_of), max_size=6)


@given(records)
def test_manifests_are_read_as_they_are_written(told: dict[str, manifest.Record]) -> None:
    assert manifest.parse(manifest.text(told.items())) == told


@given(edits)
def test_damaged_xpaks(tmp_path_factory: pytest.TempPathFactory, changes: list[Edit]) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.xpak"
    path.write_bytes(edited(xpak(block(VALUES | {"environment.bz2": b"short"})), changes))
    with contextlib.suppress(InvalidPackage):
        read_xpak(path)


BOMBS: dict[str, Callable[[], bytes]] = {
    "zstd": lambda: compress(bytes(300 << 20), ".zst"),
    "gzip": lambda: compress(bytes(5 << 20), ".gz") * 60,
    "bzip2": lambda: compress(bytes(900_000), ".bz2") * 5000,
    "xz": lambda: compress(bytes(5 << 20), ".xz") * 60,
    "zstd that claims": lambda: (
        b"\x28\xb5\x2f\xfd\xe0" + (1 << 62).to_bytes(8, "little") + b"\x03\x00\x00" * 99
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("archive", ["metadata", "image"])
def test_bombs_take_no_memory(bomb: str, archive: str) -> None:
    suffix = {"gzip": ".gz", "bzip2": ".bz2", "xz": ".xz"}.get(bomb, ".zst")
    content = BOMBS[bomb]()

    def plant(members: Members) -> Members:
        return [(name, content if archive in name else data) for name, data in members]

    data = gpkg(compression=suffix, before_manifest=plant)
    tracemalloc.start()
    try:
        assert read(data, 1 << 20) is None
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
