# SPDX-License-Identifier: GPL-2.0-or-later
"""Good packages are read as they are, and every rule of the container that is broken is named."""

import dataclasses
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bdcs.domain.gpkg.compression import Decompressor
from bdcs.domain.gpkg.container import Role
from bdcs.domain.gpkg.limits import DEFAULT, Limits
from bdcs.domain.gpkg.reading import READ_SIZE, Inspector, Package, read_metadata, read_package
from bdcs.errors import InvalidPackage
from gentwoo_client.wire.cpv import CPV
from tests.packages import (
    SYMTYPE,
    Members,
    Special,
    compress,
    gpkg,
    image_tar,
    info,
    make_gpkg,
    metadata_tar,
    tar,
    zstd,
)

Change = Callable[[Members], Members]

PREFIX = "alpha-1.0-1"
SIGNATURE = b"-----BEGIN PGP SIGNATURE-----\n\nabcd\n-----END PGP SIGNATURE-----\n"


def inspect(data: bytes, step: int = 1 << 20, limits: Limits = DEFAULT) -> Package:
    """Feed `data` to an Inspector, `step` bytes at a time."""
    inspector = Inspector(limits)
    for at in range(0, len(data), step):
        inspector.feed(data[at : at + step])
    return inspector.close()


def detach(data: bytes) -> bytes:
    return SIGNATURE


def clearsign(text: bytes) -> bytes:
    return b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + text + SIGNATURE


def test_a_package_is_told_as_it_is() -> None:
    data = gpkg(cpv="dev-libs/lib++-1.0_p2-r3", build_id=12, metadata={"USE": "ssl  zlib\n", "IUSE": "+ssl"})
    package = inspect(data)
    assert package.cpv == CPV("dev-libs", "lib++", "1.0_p2-r3")
    assert (package.build_id, package.prefix, package.signed) == (12, "lib++-1.0_p2-r3-12", False)
    assert package.metadata["USE"] == "ssl zlib"
    assert package.metadata["repository"] == "gentoo"
    assert not {"environment.bz2", "lib++-1.0_p2-r3.ebuild"} & package.metadata.keys()
    assert package.size == len(data)
    assert package.md5 == hashlib.md5(data).hexdigest()
    assert package.sha1 == hashlib.sha1(data).hexdigest()
    assert package.sha512 == hashlib.sha512(data).hexdigest()
    assert (package.image.files, package.image.size) == (1, 12)


@pytest.mark.parametrize("step", [1, 7, 511, 512, 513, 4096])
def test_pieces_may_be_of_any_size(step: int) -> None:
    data = gpkg(image={"usr/bin/a": bytes(range(256)) * 9, "usr/" + "long/" * 30 + "name": b"x"})
    assert inspect(data, step) == inspect(data)


def test_members_are_where_it_says() -> None:
    data = gpkg(detach=detach, clearsign=clearsign)
    package = inspect(data)
    assert package.signed
    assert [member.role for member in package.members] == list(Role)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in package.members:
            found = archive.getmember(f"{package.prefix}/{member.name}")
            assert (member.offset, member.size) == (found.offset_data, found.size)
            content = data[member.offset : member.offset + member.size]
            assert member.record.sha512 == hashlib.sha512(content).hexdigest()
            assert member.record.blake2b == hashlib.blake2b(content).hexdigest()
    with pytest.raises(KeyError):
        inspect(gpkg()).member(Role.IMAGE_SIGNATURE)


@pytest.mark.parametrize("compression", [".gz", ".bz2", ".xz", ".zst"])
def test_what_portage_compresses_with_is_understood(compression: str) -> None:
    package = inspect(gpkg(compression=compression))
    assert package.member(Role.IMAGE).name == f"image.tar{compression}"


def test_several_compressed_streams_are_one_archive() -> None:
    """As pzstd, pbzip2 and others write them."""
    for compression in (".gz", ".bz2", ".xz", ".zst"):
        data = gpkg(
            compression=compression,
            before_manifest=in_two_streams(compression),
        )
        assert inspect(data).image == inspect(gpkg()).image


def in_two_streams(suffix: str) -> Change:
    """Gives archives as several streams, one of them empty."""

    def change(members: Members) -> Members:
        return [(name, split(data) if ".tar" in name else data) for name, data in members]

    def split(packed: bytes) -> bytes:
        plain = b"".join(Decompressor("it", suffix, DEFAULT).feed(memoryview(packed)))
        return b"".join(compress(part, suffix) for part in (plain[:700], b"", plain[700:]))

    return change


def test_the_directory_may_lack_the_number() -> None:
    """Without FEATURES=binpkg-multi-instance, and before any number was given."""
    assert inspect(gpkg(prefix="alpha-1.0")).build_id == 1
    assert inspect(gpkg(build_id=None)).build_id is None


def test_setuid_files_are_told() -> None:
    package = inspect(
        gpkg(image={"bin/su": Special(mode=0o4711), "bin/w": Special(mode=0o2755), "bin/x": b""})
    )
    assert package.image.setuid == ("/bin/su", "/bin/w")


def test_large_files_are_read_the_same_way(tmp_path: Path) -> None:
    data = gpkg(image={"f": hashlib.shake_128(b"").digest(2 * READ_SIZE + 17)})
    path = tmp_path / "it.gpkg.tar"
    path.write_bytes(data)
    assert read_package(path) == inspect(data)
    with path.open("rb") as file:
        assert read_package(file) == inspect(data)
    path.write_bytes(data[:-10240])
    with pytest.raises(InvalidPackage, match="cut off"):
        read_package(path)


def with_image_first(members: Members) -> Members:
    return [members[0], members[2], members[1]]


def test_scans_see_the_same_values(tmp_path: Path) -> None:
    large = {"environment.bz2": hashlib.shake_128(b"").digest(200_000)}
    for data in (gpkg(), gpkg(metadata=large), gpkg(before_manifest=with_image_first)):
        assert read_metadata(io.BytesIO(data)) == inspect(data).metadata


@pytest.mark.parametrize("content", [b"", b"x", bytes(10240), b"<html>" * 100, b"XPAKSTOP\0\0\0\0STOP"])
def test_what_is_no_package_is_refused(content: bytes) -> None:
    for read in (inspect, lambda data: read_metadata(io.BytesIO(data))):
        with pytest.raises(InvalidPackage, match="does not begin as a GPKG"):
            read(content)


def replaced(name: str, content: bytes) -> Change:
    """Gives the member of this name other content."""
    return lambda members: [
        (one, content if one.rpartition("/")[2] == name else data) for one, data in members
    ]


def renamed(old: str, new: str) -> Change:
    return lambda members: [(name.replace(old, new), data) for name, data in members]


def without(name: str) -> Change:
    return lambda members: [one for one in members if not one[0].endswith(name)]


def appended(name: str, content: bytes = b"") -> Change:
    return lambda members: [*members, (name, content)]


GOOD = gpkg()
LINE = f"DATA gpkg-1 0 BLAKE2B {'0' * 128} SHA512 {'0' * 128}\n".encode()
METADATA = metadata_tar({"CATEGORY": "app-misc", "PF": "alpha-1.0", "SLOT": "0"})

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    # the container
    "extra member": ({"members": appended(f"{PREFIX}/extra")}, "does not belong in one: 'extra'"),
    "extra member in the Manifest": ({"before_manifest": appended(f"{PREFIX}/extra")}, "does not belong"),
    "duplicate": ({"members": appended(f"{PREFIX}/Manifest")}, "second Manifest"),
    "two images": ({"before_manifest": appended(f"{PREFIX}/image.tar.gz")}, "second image"),
    "second directory": (
        {"before_manifest": renamed(f"{PREFIX}/image", "other-1/image")},
        "second directory",
    ),
    "no directory": ({"members": renamed(f"{PREFIX}/Manifest", "Manifest")}, "does not belong"),
    "directory in directory": ({"members": renamed(f"{PREFIX}/M", f"{PREFIX}/a/M")}, "does not belong"),
    "absolute": ({"members": renamed(f"{PREFIX}/M", f"/{PREFIX}/M")}, "does not belong"),
    "dots": ({"members": renamed(f"{PREFIX}/M", "../M")}, "second directory"),
    "all in dots": ({"members": renamed(PREFIX, "..")}, "senseless name"),
    "blank in the directory": ({"prefix": "alpha 1.0"}, "senseless name"),
    "gpkg-1 not first": ({"members": lambda members: [members[1], members[0], *members[2:]]}, "begin"),
    "gpkg-1 not empty": ({"before_manifest": replaced("gpkg-1", b"x")}, "empty gpkg-1"),
    "gpkg-2": ({"before_manifest": renamed("gpkg-1", "gpkg-2")}, "does not begin as a GPKG"),
    "name too long for Portage": ({"prefix": "a" * 93}, "does not begin as a GPKG"),
    "no image": ({"before_manifest": without("image.tar.zst")}, "has no image"),
    "no metadata": ({"before_manifest": without("metadata.tar.zst")}, "has no metadata"),
    "no Manifest": ({"members": without("Manifest")}, "has no Manifest"),
    # the directory and the metadata
    "other package": ({"prefix": "beta-1.0-1"}, "directory is 'beta-1.0-1', its metadata say app-misc/alpha"),
    "other number": ({"prefix": "alpha-1.0-2"}, "BUILD_ID 1"),
    "number without BUILD_ID": ({"metadata": {"BUILD_ID": None}}, "directory"),
    # the Manifest
    "altered": (
        {"members": replaced("image.tar.zst", compress(image_tar({"other": b"x"}), ".zst"))},
        "image.tar.zst is not what the Manifest says",
    ),
    "hash wrong": ({"manifest": lambda text: text[:-2] + b"x\n"}, "no hash for"),
    "hash of something else": (
        {"manifest": lambda text: LINE + text.split(b"\n", 1)[1]},
        "gpkg-1 is not what",
    ),
    "size wrong": ({"manifest": lambda text: text.replace(b"gpkg-1 0", b"gpkg-1 1")}, "0 bytes instead of 1"),
    "no BLAKE2B": ({"manifest": lambda text: text.replace(b"BLAKE2B", b"SHA256")}, "lacks BLAKE2B or SHA512"),
    "no SHA512": (
        {"manifest": lambda text: b"\n".join(line[:-136] for line in text.split(b"\n"))},
        "not DATA with both hashes",
    ),
    "one hash twice": ({"manifest": lambda text: text.replace(b"SHA512", b"BLAKE2B")}, "lacks BLAKE2B or"),
    "not DATA": ({"manifest": lambda text: text.replace(b"DATA", b"MISC")}, "not DATA"),
    "not ASCII": ({"manifest": lambda text: text + b"\xc3\xbc"}, "not plain ASCII"),
    "member not named": ({"manifest": lambda text: text.split(b"\n", 1)[1]}, "gpkg-1 is not in the Manifest"),
    "named, not there": (
        {"manifest": lambda text: text + LINE.replace(b"gpkg-1", b"x")},
        "not in the package",
    ),
    "named twice": ({"manifest": lambda text: text + LINE}, "names 'gpkg-1' twice"),
    "named with directory": (
        {"manifest": lambda text: text.replace(b" image", b" a/image")},
        "is not in the",
    ),
    "huge": ({"manifest": lambda text: text + b"\n" * 65536}, "is the most it may have"),
    "empty": ({"manifest": lambda text: b""}, "is not in the Manifest"),
    # compression
    "not compressed": ({"compression": ""}, "metadata.tar is not compressed, which Portage cannot read"),
    "lz4": ({"compression": ".lz4"}, "lz4, which is not supported; use zstd"),
    "lzip": ({"compression": ".lz"}, "lzip"),
    "lzop": ({"compression": ".lzo"}, "lzop"),
    "unknown compression": ({"compression": ".br"}, "something unknown"),
    "compressed otherwise": ({"before_manifest": renamed(".zst", ".xz")}, "cannot be unpacked"),
    "junk behind": (
        {"before_manifest": lambda members: [(n, d + b"!" * bool(d)) for n, d in members]},
        "cannot be unpacked",
    ),
    "cut off": ({"before_manifest": lambda members: [(n, d[:-5]) for n, d in members]}, "cut off"),
    "nothing": ({"before_manifest": replaced("image.tar.zst", b"")}, "cut off"),
    # signatures
    "image unsigned": (
        {"detach": detach, "clearsign": clearsign, "before_manifest": without("image.tar.zst.sig")},
        "signed, but its image is not",
    ),
    "Manifest unsigned": ({"detach": detach}, "signed, but its Manifest is not"),
    "only the Manifest signed": ({"clearsign": clearsign}, "signed, but its metadata is not"),
    "signature of something else": (
        {
            "detach": detach,
            "clearsign": clearsign,
            "before_manifest": renamed("image.tar.zst.sig", "image.tar.gz.sig"),
        },
        "of something that is not there",
    ),
    "text before the signature": (
        {"detach": detach, "clearsign": lambda text: LINE + clearsign(text)},
        "not one clear-signed text",
    ),
    "text behind the signature": (
        {"detach": detach, "clearsign": lambda text: clearsign(text) + LINE},
        "not one clear-signed text",
    ),
    "two signed texts": (
        {"detach": detach, "clearsign": lambda text: clearsign(text) * 2},
        "not one clear-signed text",
    ),
    "unknown header": (
        {"detach": detach, "clearsign": lambda text: clearsign(text).replace(b"Hash", b"Note")},
        "unknown header",
    ),
    "no blank line above the text": (
        {"detach": detach, "clearsign": lambda text: clearsign(text).replace(b"\n\n", b"\n")},
        "unknown header above its text",
    ),
    "large signature": (
        {"detach": lambda data: bytes(65537), "clearsign": clearsign},
        "is the most it may have",
    ),
    # metadata
    "value is a link": (
        {"raw_metadata": tar([(info("metadata/USE", SYMTYPE, link="/etc/shadow"), b"")])},
        "member that is no value",
    ),
    "value elsewhere": ({"raw_metadata": tar([(info("USE"), b"")])}, "no value: 'USE'"),
    "value absolute": ({"raw_metadata": tar([(info("/metadata/USE"), b"")])}, "no value"),
    "value in dots": ({"raw_metadata": tar([(info("metadata/../USE"), b"")])}, "no value"),
    "value twice": ({"raw_metadata": tar([(info("metadata/USE"), b"")] * 2)}, "twice"),
    "many values": (
        {"raw_metadata": tar((info(f"metadata/V{number}"), b"") for number in range(1001))},
        "more than 1000 members",
    ),
    "large value": ({"metadata": {"USE": "a" * 262145}}, "USE in the metadata is larger than"),
    "huge metadata": ({"metadata": {"environment.bz2": bytes(17 << 20)}}, "unpacks to more than"),
    "metadata cut off": ({"raw_metadata": METADATA[:-10240]}, "cut off: it has no end-of-archive blocks"),
    "metadata without end": ({"raw_metadata": METADATA.rstrip(b"\0")}, "cut off"),
    "something behind the end": ({"raw_metadata": METADATA + METADATA}, "has something behind its end"),
    "zeros behind the end": ({"raw_metadata": METADATA + bytes(1 << 20)}, "bytes of zeros behind its end"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named(case: str) -> None:
    arguments, reason = BROKEN[case]
    with pytest.raises(InvalidPackage, match=reason) as caught:
        inspect(gpkg(**arguments))
    assert caught.value.reason == str(caught.value)
    assert len(caught.value.reason) < 500


def test_a_package_that_is_cut_off_anywhere_is_refused() -> None:
    for length in range(0, len(GOOD.rstrip(b"\0")) + 512, 256):
        with pytest.raises(InvalidPackage):
            inspect(GOOD[:length])


def test_one_zero_block_is_no_end() -> None:
    end = len(GOOD.rstrip(b"\0")) // 512 * 512 + 512
    with pytest.raises(InvalidPackage, match="cut off"):
        inspect(GOOD[: end + 512])
    assert inspect(GOOD[: end + 1024]).cpv.name == "alpha"


def test_nothing_may_follow_the_end() -> None:
    with pytest.raises(InvalidPackage, match="something behind its end"):
        inspect(GOOD + b"x")
    with pytest.raises(InvalidPackage, match="bytes of zeros behind its end"):
        inspect(GOOD + bytes(1 << 20))
    with pytest.raises(InvalidPackage, match="something behind its end"):
        inspect(GOOD + GOOD)


def test_the_size_is_limited_while_it_comes() -> None:
    limits = dataclasses.replace(DEFAULT, package_size=4096)
    inspector = Inspector(limits)
    inspector.feed(GOOD[:4096])
    with pytest.raises(InvalidPackage, match="larger than 4096 bytes"):
        inspector.feed(GOOD[4096:4097])


def test_a_bomb_is_stopped_early() -> None:
    """A few kilobytes that would unpack to gigabytes; refused before much of them was unpacked."""
    bomb = compress(bytes(80 << 20), ".zst")
    data = gpkg(before_manifest=replaced("image.tar.zst", bomb * 50))
    with pytest.raises(InvalidPackage):
        inspect(data)
    limits = dataclasses.replace(DEFAULT, ratio_free=1 << 20)
    with pytest.raises(InvalidPackage, match="more than 200 times its size"):
        inspect(gpkg(image={"zeros": bytes(8 << 20)}), limits=limits)
    with pytest.raises(InvalidPackage, match=r"metadata\.tar\.zst unpacks to more than"):
        inspect(
            gpkg(
                before_manifest=replaced(
                    "metadata.tar.zst",
                    compress(METADATA[:-10240] + tar([(info("metadata/x"), bytes(20 << 20))]), ".zst"),
                )
            )
        )


def test_many_tiny_streams_are_refused() -> None:
    empty = compress(b"", ".zst")
    data = gpkg(before_manifest=replaced("image.tar.zst", empty * 20_000))
    with pytest.raises(InvalidPackage, match="too many compressed streams"):
        inspect(data)


def test_a_large_window_is_refused() -> None:
    """zstd --long=31 would need 2 GiB here, and on each client."""
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 28,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    compressor = zstd.ZstdCompressor(options=options)
    packed = compressor.compress(tar([(info("image/f"), bytes(1000))])) + compressor.flush()
    with pytest.raises(InvalidPackage, match="cannot be unpacked"):
        inspect(gpkg(before_manifest=replaced("image.tar.zst", packed)))


def test_a_file_is_made_by_the_builder(tmp_path: Path) -> None:
    path = make_gpkg(tmp_path / "new" / "it.gpkg.tar", cpv="app-misc/beta-2")
    assert str(read_package(path).cpv) == "app-misc/beta-2"
