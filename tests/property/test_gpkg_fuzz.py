# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever becomes of a good package: it is refused, or it is still the same package."""

import contextlib
import hashlib
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bdcs.domain.gpkg import manifest
from bdcs.domain.gpkg.reading import Inspector, Package, read_metadata
from bdcs.domain.xpak import read_xpak
from bdcs.errors import InvalidPackage
from tests.packages import Members, compress, gpkg, image_tar, metadata_tar, zstd
from tests.unit.test_xpak import VALUES, block, xpak

IMAGE = {"usr/bin/a": b"\x7fELF" * 300, "usr/share/" + "long/" * 30 + "n": b"x", "etc/é": b""}
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


Draw = st.DrawFn | Callable[[st.SearchStrategy[Any]], Any]
numbers = st.integers(0, 7)
steps = st.sampled_from([100, 512, 5000, 1 << 20])


@st.composite
def flips(draw: st.DrawFn) -> tuple[int, bytes]:
    """A good package with some bytes changed, mostly where something is."""
    number = draw(numbers)
    data = bytearray(good(number))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data.rstrip(b"\0")) + 600)) % len(data)
        data[at] = draw(st.integers(0, 255))
    return number, bytes(data)


@st.composite
def pieces(draw: st.DrawFn) -> tuple[int, bytes]:
    """Parts of good packages in whatever order, cut at blocks or anywhere."""
    number = draw(numbers)
    data = good(number)
    places = st.integers(0, len(data)) | st.integers(0, len(data) // 512).map(lambda block_: block_ * 512)
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        first, last = sorted((draw(places), draw(places)))
        parts.append(data[first:last])
    return number, b"".join([data[: draw(places)], *parts])


@settings(max_examples=200)
@given(flips(), steps)
def test_flipped_bytes(case: tuple[int, bytes], step: int) -> None:
    assert_refused_or_the_same(*case, step)


@settings(max_examples=100)
@given(pieces(), steps)
def test_pieces_in_any_order(case: tuple[int, bytes], step: int) -> None:
    assert_refused_or_the_same(*case, step)


@settings(max_examples=60)
@given(st.binary(max_size=3000), steps)
def test_anything(data: bytes, step: int) -> None:
    assert read(data, step) is None
    assert read(b"a-1/gpkg-1\0" + data, step) is None


def mutated(data: bytes, draw: Draw) -> bytes:
    """`data` with a few changes, as a whole anew."""
    raw = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        match draw(st.sampled_from(["set", "insert", "delete", "copy"])):
            case "set":
                raw[at : at + 1] = draw(st.binary(min_size=1, max_size=12))
            case "insert":
                raw[at:at] = draw(st.binary(max_size=20))
            case "delete":
                del raw[at : at + draw(st.sampled_from([1, 100, 512]))]
            case _:
                raw[at:at] = raw[at - at % 512 : at - at % 512 + 512]
    return bytes(raw)


@st.composite
def repacked(draw: st.DrawFn) -> bytes:
    """A package that fits together by its Manifest, but whose archives are damaged within."""
    values = metadata_tar({"CATEGORY": "app-misc", "PF": "alpha-1.0", "SLOT": "0", "BUILD_ID": "1"})
    image = image_tar(IMAGE)
    if draw(st.booleans()):
        values = mutated(values, draw)
    else:
        image = mutated(image, draw)
    return gpkg(raw_metadata=values, raw_image=image)


@settings(max_examples=150)
@given(repacked(), steps)
def test_damage_within_the_archives(data: bytes, step: int) -> None:
    """What is taken is what Python's tarfile, and so Portage, reads too."""
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


@st.composite
def packed(draw: st.DrawFn) -> bytes:
    """A package that fits together by its Manifest, but whose compressed streams are damaged."""
    suffix = draw(st.sampled_from([".zst", ".gz", ".bz2", ".xz"]))

    def damage(members: Members) -> Members:
        return [(name, mutated(data, draw) if ".tar" in name else data) for name, data in members]

    return gpkg(compression=suffix, image=IMAGE, before_manifest=damage)


@settings(max_examples=60)
@given(packed(), steps)
def test_damaged_compression(data: bytes, step: int) -> None:
    read(data, step)
    scan(data)


@settings(max_examples=100)
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


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_xpaks(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.xpak"
    path.write_bytes(mutated(xpak(block(VALUES | {"environment.bz2": b"short"})), data.draw))
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
