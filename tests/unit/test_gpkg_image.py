# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image may hold; Portage refuses the rest on the client, after the package's first scripts ran."""

import dataclasses
import io
import tarfile
from struct import Struct

import pytest

from bdcs.domain.gpkg.image import Image
from bdcs.domain.gpkg.limits import DEFAULT, Limits
from bdcs.domain.gpkg.reading import Inspector
from bdcs.errors import InvalidPackage
from tests.packages import DIRTYPE, LNKTYPE, SYMTYPE, Members, Special, gpkg, info, tar

Member = tuple[tarfile.TarInfo, bytes]
CHECKSUM = slice(148, 156)


def read(data: bytes, limits: Limits = DEFAULT) -> Image:
    """The image that has the archive `data`."""
    inspector = Inspector(limits)
    inspector.feed(gpkg(raw_image=data))
    return inspector.close().image


def image(*members: Member, format: int = tarfile.GNU_FORMAT) -> bytes:
    """An archive with the directory `image` and these members."""
    return tar([(info("image", DIRTYPE, 0o755), b""), *members], format)


def directory(name: str) -> Member:
    return info(f"image/{name}", DIRTYPE, 0o755), b""


def file(name: str, data: bytes = b"x") -> Member:
    return info(f"image/{name}"), data


def link(name: str, target: str, kind: bytes = SYMTYPE) -> Member:
    return info(f"image/{name}", kind, 0o777, target), b""


def kind(name: str, kind: bytes) -> Member:
    return info(f"image/{name}", kind), b""


def named(name: str) -> Member:
    return info(name), b"x"


GOOD: dict[str, tuple[list[Member], int]] = {
    "nothing": ([], 0),
    "a file in directories": ([directory("usr"), directory("usr/bin"), file("usr/bin/a")], 1),
    "directories need not be named": ([file("usr/bin/a"), directory("usr/bin")], 1),
    "a hard link to a file before it": ([file("a"), link("b", "image/a", LNKTYPE)], 2),
    "a hard link to a hard link": (
        [file("a"), link("b", "image/a", LNKTYPE), link("c", "image/b", LNKTYPE)],
        3,
    ),
    "symbolic links anywhere": ([link("a", "/etc/passwd"), link("b", "../../c"), link("d", "a")], 3),
    "names that are not ASCII": ([file("ü/日本")], 1),
    "long names": ([file("d" * 150 + "/" + "n" * 200), link("l", "t" * 300)], 2),
    "names with blanks and dots": ([file(" a/..b/c../...")], 1),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_portage_installs_is_taken(case: str) -> None:
    members, files = GOOD[case]
    assert read(image(*members)).files == files


BAD: dict[str, tuple[list[Member], str]] = {
    "absolute": ([named("/etc/passwd")], "'/etc/passwd' is an absolute name"),
    "outside": ([named("etc/passwd")], "is not in image/"),
    "another directory": ([named("image2/passwd")], "is not in image/"),
    "dots": ([file("../../etc/passwd")], "'..' in it"),
    "dots at the end": ([file("a/..")], "'..' in it"),
    "one dot": ([file("./a")], "'.' or '..' in it"),
    "beginning with a dot": ([named("./image/a")], "is not in image/"),
    "an empty part": ([file("a//b")], "empty part"),
    "a file named as a directory": ([file("a/")], "empty part"),
    "a line end": ([file("a\nb")], "has a line end in its name"),
    "a carriage return": ([file("a\rb")], "has a line end in its name"),
    "a line end in a link": ([link("a", "b\nc")], "symbolic link to a senseless name"),
    "a link to nothing": ([link("a", "")], "symbolic link to a senseless name"),
    "a character device": ([kind("null", tarfile.CHRTYPE)], "a character device: 'image/null'"),
    "a block device": ([kind("sda", tarfile.BLKTYPE)], "a block device"),
    "a fifo": ([kind("f", tarfile.FIFOTYPE)], "a fifo"),
    "a contiguous file": ([kind("f", tarfile.CONTTYPE)], "a contiguous file"),
    "an old file": ([kind("f", tarfile.AREGTYPE)], "old tar format"),
    "an unknown kind": ([kind("f", b"Z")], "an unknown kind of member"),
    "a file twice": ([file("a"), file("a")], "is there twice"),
    "a directory twice": ([directory("a"), directory("a")], "is there twice"),
    "a file in place of a directory": ([directory("a"), file("a")], "is there twice"),
    "a link in place of a directory": ([file("a/b"), link("a", "/etc")], "is there twice"),
    "the image is no directory": ([(info("image"), b"")], "is there twice"),
    "in a file": ([file("a"), file("a/b")], "lies behind 'image/a', which is no directory"),
    "through a link": ([link("a", "/etc"), file("a/passwd")], "lies behind 'image/a'"),
    "deep through a link": ([link("a", "b"), file("a/b/c/d")], "lies behind 'image/a'"),
    "a link through a link": ([link("a", "."), link("a/b", "c")], "lies behind 'image/a'"),
    "a hard link outside": ([link("a", "/etc/shadow", LNKTYPE)], "is a hard link to something that is no"),
    "a hard link upwards": ([link("a", "image/../../x", LNKTYPE)], "is a hard link to something that"),
    "a hard link forwards": ([link("a", "image/b", LNKTYPE), file("b")], "is a hard link to something"),
    "a hard link to itself": ([link("a", "image/a", LNKTYPE)], "is a hard link to something that is no"),
    "a hard link to a directory": ([directory("d"), link("a", "image/d", LNKTYPE)], "is a hard link to"),
    "a hard link to a link": ([link("l", "/etc"), link("a", "image/l", LNKTYPE)], "is a hard link to"),
    "too deep": ([file("d/" * 300 + "f")], "lies too deep"),
    "a name of many kilobytes": ([file("n" * 5000)], "has a name of 5007 bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_portage_refuses_is_refused(case: str) -> None:
    members, reason = BAD[case]
    with pytest.raises(InvalidPackage, match=reason):
        read(image(*members))


def test_an_image_has_its_directory() -> None:
    with pytest.raises(InvalidPackage, match="has no directory image/"):
        read(tar([]))


def test_pax_headers_are_refused() -> None:
    """They can rename, resize and give capabilities to what follows; Portage writes none."""
    header = info("image/a")
    header.pax_headers = {"SCHILY.xattr.security.capability": "x"}
    with pytest.raises(InvalidPackage, match="a pax header"):
        read(image((header, b""), format=tarfile.PAX_FORMAT))
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", pax_headers={"path": "x"}):
        pass
    with pytest.raises(InvalidPackage, match="a global pax header"):
        read(target.getvalue())


def patched(offset: int, data: bytes, *, checksum: bool = True) -> bytes:
    """An image whose second header has `data` at `offset`."""
    raw = bytearray(image(file("a", b"data")))
    raw[512 + offset : 512 + offset + len(data)] = data
    if checksum:
        raw[512:1024] = with_checksum(raw[512:1024])
    return bytes(raw)


def with_checksum(block: bytearray) -> bytearray:
    block[CHECKSUM] = b" " * 8
    block[CHECKSUM] = b"%06o\0 " % sum(block)
    return block


HEADERS: dict[str, tuple[bytes, str]] = {
    "no magic": (patched(257, bytes(8)), "neither ustar nor GNU"),
    "other magic": (patched(257, b"ustar\x0001"), "neither ustar nor GNU"),
    "wrong checksum": (patched(0, b"x", checksum=False), "checksum is wrong"),
    "no checksum": (patched(148, bytes(8), checksum=False), "checksum is wrong"),
    "size that is none": (patched(124, b"0000000000x"), "where a number must be"),
    "size with an underscore": (patched(124, b"0000000_004"), "where a number must be"),
    "size that is not octal": (patched(124, b"00000000008"), "where a number must be"),
    "size behind a NUL": (patched(124, b"4\x00000000000"), "where a number must be"),
    "negative size": (patched(124, b"\xff" * 12), "a size that cannot be"),
    "owner that is none": (patched(108, b"root\0\0\0\0"), "where a number must be"),
    "time that is none": (patched(136, b"yesterday\0\0\0"), "where a number must be"),
    "device that is none": (patched(329, b"x"), "where a number must be"),
    "something in GNU's prefix": (patched(345, b"etc"), "neither ustar's nor GNU tar's"),
    "something behind the fields": (patched(511, b"x"), "neither ustar's nor GNU tar's"),
    "name with a NUL": (patched(0, b"image/b\0c"), "NUL"),
    "name that is no UTF-8": (patched(0, b"image/\xff\0"), "no UTF-8"),
    "size of a directory": (patched(156, b"5"), "a size that cannot be"),
    "something in the fill": (patched(512 + 100, b"x", checksum=False), "other than zeros between"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_others_might_read_otherwise_are_refused(case: str) -> None:
    data, reason = HEADERS[case]
    with pytest.raises(InvalidPackage, match=reason):
        read(data)


def test_numbers_may_be_written_as_others_do() -> None:
    assert read(patched(124, b"         4 \0")).size == 4
    assert read(patched(124, b"\x80" + Struct(">3xQ").pack(4))).size == 4
    assert read(patched(136, b"\xff" * 12)).size == 4, "before 1970"


def long_name(*headers: tuple[bytes, bytes]) -> bytes:
    """An archive in which members of these kinds and contents come before a file."""
    blocks = bytearray(image())[:512]
    for kind_, content in headers:
        header = info("././@LongLink", kind_)
        header.size = len(content)
        blocks += header.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)
    return bytes(blocks)


FILE = info("image/a").tobuf(tarfile.GNU_FORMAT)
END = bytes(10240)
LONG: dict[str, tuple[bytes, str]] = {
    "twice": (long_name((b"L", b"image/b\0"), (b"L", b"image/c\0")) + FILE + END, "two long names"),
    "for nothing": (long_name((b"L", b"image/b\0")) + END, "belongs to no member"),
    "empty": (long_name((b"L", b"\0")) + FILE + END, "a name of 1 bytes"),
    "of zeros": (long_name((b"L", bytes(9))) + FILE + END, "is not in image/"),
    "with a NUL": (long_name((b"L", b"image/b\0c\0")) + FILE + END, "NUL"),
    "huge": (long_name((b"L", b"i" * 9999)) + FILE + END, "a name of 9999 bytes"),
    "dots": (long_name((b"L", b"image/../../etc/x\0")) + FILE + END, "'..' in it"),
}


@pytest.mark.parametrize("case", LONG)
def test_long_names_are_checked_like_others(case: str) -> None:
    data, reason = LONG[case]
    with pytest.raises(InvalidPackage, match=reason):
        read(data)


def test_long_names_are_for_images_only() -> None:
    def lengthen(members: Members) -> Members:
        return [*members, ("alpha-1.0-1/" + "n" * 100, b"")]

    inspector = Inspector()
    with pytest.raises(InvalidPackage, match="a name that is too long"):
        inspector.feed(gpkg(members=lengthen, format=tarfile.GNU_FORMAT))


def test_amounts_are_limited() -> None:
    members = [file(f"f{number}") for number in range(20)]
    for limits, reason in (
        (dataclasses.replace(DEFAULT, image_members=10), "more than 10 members"),
        (dataclasses.replace(DEFAULT, image_names=100), "names of more than 100 bytes"),
        (dataclasses.replace(DEFAULT, image_size=4096), "unpacks to more than 4096 bytes"),
    ):
        with pytest.raises(InvalidPackage, match=reason):
            read(image(*members), limits)


def test_a_size_that_is_claimed_only_ends_as_cut_off() -> None:
    with pytest.raises(InvalidPackage, match="cut off"):
        read(patched(124, b"\x80" + Struct(">3xQ").pack(1 << 60)))


def test_setuid_hard_links_are_told_and_their_number_is_limited() -> None:
    image_ = {"a": Special(mode=0o4755), "b": Special(kind=LNKTYPE, mode=0o4755, link="image/a")}
    inspector = Inspector()
    inspector.feed(gpkg(image=image_ | {f"s{number:04}": Special(mode=0o6755) for number in range(1500)}))
    told = inspector.close().image.setuid
    assert told[:3] == ("/a", "/b", "/s0000")
    assert len(told) == 1000
