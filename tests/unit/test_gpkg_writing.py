# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages that are written again are the same packages, under another number or signed."""

import dataclasses
import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from bdcs.domain.gpkg import tar
from bdcs.domain.gpkg.container import Role
from bdcs.domain.gpkg.reading import Package, read_package
from bdcs.domain.gpkg.writing import renumber, write_signed
from bdcs.errors import InvalidPackage
from tests.packages import gpkg, make_gpkg, zstd

LARGE = {"usr/share/large": hashlib.shake_128(b"").digest(1_200_000)}


class Marks:
    """Signatures that say how much they are for, and that remember it all."""

    def __init__(self) -> None:
        self.signed: list[bytes] = []

    def detach(self, data: Iterable[bytes]) -> bytes:
        self.signed.append(b"".join(data))
        return b"-----BEGIN PGP SIGNATURE-----\n\n%d\n-----END PGP SIGNATURE-----\n" % len(self.signed[-1])

    def clearsign(self, text: bytes) -> bytes:
        self.signed.append(text)
        return b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + text + self.detach([text])


def read(data: bytes) -> Package:
    return read_package(io.BytesIO(data))


def renumbered(data: bytes, number: int) -> bytes:
    target = io.BytesIO()
    renumber(io.BytesIO(data), target, read(data), number)
    return target.getvalue()


def signed(data: bytes, marks: Marks | None = None) -> bytes:
    target = io.BytesIO()
    write_signed(io.BytesIO(data), target, read(data), marks or Marks())
    return target.getvalue()


def content(data: bytes, role: Role) -> bytes:
    member = read(data).member(role)
    return data[member.offset : member.offset + member.size]


def metadata_files(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(zstd.decompress(content(data, Role.METADATA)))) as archive:
        return {one.name: (archive.extractfile(one) or io.BytesIO()).read() for one in archive}


def test_only_the_number_changes() -> None:
    before = gpkg(cpv="dev-libs/lib++-1.0_p2-r3", build_id=3, image=LARGE)
    after = renumbered(before, 12345)
    old, new = read(before), read(after)
    assert (new.cpv, new.build_id, new.prefix) == (old.cpv, 12345, "lib++-1.0_p2-r3-12345")
    assert dict(new.metadata) == {**old.metadata, "BUILD_ID": "12345"}
    assert content(after, Role.IMAGE) == content(before, Role.IMAGE)
    assert metadata_files(after) == {**metadata_files(before), "metadata/BUILD_ID": b"12345\n"}


def test_a_package_without_number_gets_one() -> None:
    package = read(renumbered(gpkg(build_id=None), 1))
    assert (package.build_id, package.prefix) == (1, "alpha-1.0-1")


@pytest.mark.parametrize("compression", [".gz", ".bz2", ".xz"])
def test_the_image_stays_compressed_as_it_was(compression: str) -> None:
    before = gpkg(compression=compression, image=LARGE)
    after = renumbered(before, 2)
    assert [one.name for one in read(after).members][1:3] == ["metadata.tar.zst", f"image.tar{compression}"]
    assert content(after, Role.IMAGE) == content(before, Role.IMAGE)


def test_files_are_written_as_memory_is(tmp_path: Path) -> None:
    """Files are copied by the kernel."""
    path = make_gpkg(tmp_path / "a.gpkg.tar", image=LARGE)
    with path.open("rb") as source, (tmp_path / "b.gpkg.tar").open("w+b") as target:
        renumber(source, target, read_package(path), 9)
    assert (tmp_path / "b.gpkg.tar").read_bytes() == renumbered(path.read_bytes(), 9)


def test_the_same_input_gives_the_same_bytes() -> None:
    data = gpkg()
    assert renumbered(data, 5) == renumbered(data, 5)
    assert renumbered(renumbered(data, 7), 5) == renumbered(data, 5)


def test_archives_are_whole_records() -> None:
    for data in (renumbered(gpkg(), 5), signed(gpkg())):
        assert len(data) % 10240 == 0
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            assert [one.mtime for one in archive] == [1_700_000_000] * len(archive.getmembers())


def test_both_archives_and_the_manifest_are_signed() -> None:
    before = gpkg(image=LARGE)
    marks = Marks()
    after = signed(before, marks)
    package = read(after)
    assert package.signed
    assert marks.signed[:2] == [content(before, Role.METADATA), content(before, Role.IMAGE)]
    names = ["gpkg-1", "metadata.tar.zst", "metadata.tar.zst.sig", "image.tar.zst", "image.tar.zst.sig"]
    assert [one.name for one in package.members] == [*names, "Manifest"]
    assert marks.signed[2] in content(after, Role.MANIFEST)
    assert dataclasses.replace(package, signed=False).metadata == read(before).metadata


def test_old_signatures_are_dropped() -> None:
    once = signed(gpkg())
    assert signed(once) == once
    unsigned = read(renumbered(once, 1))
    assert (unsigned.signed, len(unsigned.members)) == (False, 4)


def test_what_changed_since_it_was_inspected_is_not_signed() -> None:
    """Somebody else's file: the signature of other bytes must not get out."""
    data = gpkg(image=LARGE)
    package = read(data)
    for role in (Role.METADATA, Role.IMAGE):
        altered = bytearray(data)
        altered[package.member(role).offset + 20] ^= 1
        target, marks = io.BytesIO(), Marks()
        with pytest.raises(InvalidPackage, match="is not what it was when it was inspected"):
            write_signed(io.BytesIO(altered), target, package, marks)
        marked = marks.signed[-1]
        assert b"\n%d\n-----END PGP" % len(marked) not in target.getvalue()


def test_what_became_shorter_is_refused(tmp_path: Path) -> None:
    path = make_gpkg(tmp_path / "a.gpkg.tar", image=LARGE)
    package = read_package(path)
    cut = path.read_bytes()[: package.member(Role.IMAGE).offset + 100]
    with pytest.raises(InvalidPackage, match=r"ends within image\.tar\.zst"):
        renumber(io.BytesIO(cut), io.BytesIO(), package, 2)
    with pytest.raises(InvalidPackage, match=r"ends within image\.tar\.zst"):
        write_signed(io.BytesIO(cut), io.BytesIO(), package, Marks())
    path.write_bytes(cut)
    with (
        path.open("rb") as source,
        (tmp_path / "b").open("w+b") as target,
        pytest.raises(InvalidPackage, match=r"ends within image\.tar\.zst"),
    ):
        renumber(source, target, package, 2)


def test_names_that_become_too_long_for_portage_are_refused() -> None:
    cpv = f"app-misc/{'n' * 86}-1.0"
    assert read(renumbered(gpkg(cpv=cpv), 9)).prefix.endswith("-9")
    with pytest.raises(InvalidPackage, match="too long for Portage"):
        renumbered(gpkg(cpv=cpv), 10)


def test_long_names_are_split_as_ustar_does() -> None:
    """The directory stands in the field `prefix` where both do not fit into `name`."""
    cpv = f"app-misc/{'n' * 80}-1.0"
    package = read(signed(gpkg(cpv=cpv, build_id=1234567)))
    assert package.member(Role.METADATA_SIGNATURE).name == "metadata.tar.zst.sig"
    assert len(package.prefix) + len("/metadata.tar.zst.sig") > 100


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 1 << 40])
def test_sizes_are_written_as_tar_reads_them(size: int) -> None:
    header = tar.header("a-1-1/image.tar.zst", size, 1_700_000_000, gnu=size >= 8**11)
    theirs = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (theirs.name, theirs.size, theirs.mtime) == ("a-1-1/image.tar.zst", size, 1_700_000_000)
    assert tar.parse("it", header, 0).size == size


def test_headers_are_those_of_tarfile() -> None:
    """Byte for byte, so that Portage, which uses it, cannot be surprised."""
    for name in ("a-1-1/gpkg-1", "d" * 90 + "/metadata.tar.zst"):
        theirs = tarfile.TarInfo(name)
        theirs.size, theirs.mtime = 1234, 1_700_000_000
        assert tar.header(name, 1234, 1_700_000_000) == theirs.tobuf(tarfile.USTAR_FORMAT)
    theirs.name, theirs.size = "a-1-1/image.tar.zst", 8**11
    assert tar.header(theirs.name, 8**11, 1_700_000_000, gnu=True) == theirs.tobuf(tarfile.GNU_FORMAT)


def test_names_that_no_header_takes_are_refused() -> None:
    for name, gnu in (("n" * 101, False), ("d" * 156 + "/n", False), ("d" * 100 + "/n", True)):
        with pytest.raises(InvalidPackage, match="is too long"):
            tar.header(name, 0, 0, gnu=gnu)


def test_times_beyond_the_field_are_cut() -> None:
    package = read(renumbered(gpkg(metadata={"BUILD_TIME": "9999999999"}), 2))
    assert package.metadata["BUILD_TIME"] == "9999999999"
