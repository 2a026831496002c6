# SPDX-License-Identifier: GPL-2.0-or-later
"""XPAK packages are read for `bdcs import`, and damaged ones refused."""

import hashlib
from pathlib import Path
from struct import pack

import pytest

from bdcs.domain.gpkg.limits import Limits
from bdcs.domain.xpak import read_xpak
from bdcs.errors import InvalidPackage
from tests.packages import compress, image_tar

VALUES = {
    "CATEGORY": b"app-misc\n",
    "PF": b"alpha-1.0\n",
    "SLOT": b"0\n",
    "BUILD_ID": b"3\n",
    "SIZE": b"12\n",
    "IUSE": b"a\n  b\n",
    "environment.bz2": bytes(range(256)) * 2000,
}


def block(values: dict[str, bytes]) -> bytes:
    """The metadata, from XPAKPACK to XPAKSTOP."""
    index = data = b""
    for name, value in values.items():
        index += pack(">I", len(name)) + name.encode() + pack(">II", len(data), len(value))
        data += value
    return b"XPAKPACK" + pack(">II", len(index), len(data)) + index + data + b"XPAKSTOP"


def xpak(metadata: bytes) -> bytes:
    return compress(image_tar({"a": b"x"}), ".bz2") + metadata + pack(">I", len(metadata)) + b"STOP"


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_an_xpak_is_told_as_it_is(tmp_path: Path) -> None:
    data = xpak(block(VALUES))
    package = read_xpak(written(tmp_path / "alpha-1.0-3.xpak", data))
    assert (str(package.cpv), package.build_id, package.signed) == ("app-misc/alpha-1.0", 3, False)
    assert (package.prefix, package.members, package.image.size) == ("", (), 12)
    assert package.metadata["IUSE"] == "a b"
    assert "environment.bz2" not in package.metadata
    assert (package.size, package.md5) == (len(data), hashlib.md5(data).hexdigest())
    assert package.sha1 == hashlib.sha1(data).hexdigest()


GOOD = block(VALUES)
BROKEN = {
    "empty": (b"", "too short"),
    "short": (bytes(20), "too short"),
    "no XPAK": (bytes(4096), "does not end as one"),
    "too long for the file": (xpak(GOOD)[-len(GOOD) - 7 :], "cannot have the size"),
    "no length": (GOOD + pack(">I", 3) + b"STOP", "cannot have the size"),
    "other beginning": (xpak(GOOD.replace(b"XPAKPACK", b"XPAKPAKK")), "do not fit together"),
    "length of the index wrong": (xpak(GOOD[:8] + pack(">I", 7) + GOOD[12:]), "do not fit together"),
    "name too long": (xpak(GOOD[:16] + pack(">I", 1 << 31) + GOOD[20:]), "index of the XPAK is damaged"),
    "name that is no ASCII": (xpak(GOOD.replace(b"IUSE", b"IUS\xff")), "index of the XPAK is damaged"),
    "value elsewhere": (
        xpak(GOOD.replace(b"SLOT" + pack(">II", 19, 2), b"SLOT" + pack(">II", 1 << 30, 2))),
        "index of the XPAK is damaged",
    ),
    "named twice": (xpak(GOOD.replace(b"IUSE", b"SIZE")), "index of the XPAK is damaged"),
    "large value": (xpak(block(VALUES | {"USE": bytes(1 << 20)})), "USE in the metadata is larger than"),
    "no category": (xpak(block({"PF": b"a-1"})), "CATEGORY is missing"),
    "bad SLOT": (xpak(block(VALUES | {"SLOT": b"a b"})), "SLOT in the metadata is 'a b'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_named(case: str, tmp_path: Path) -> None:
    data, reason = BROKEN[case]
    with pytest.raises(InvalidPackage, match=reason):
        read_xpak(written(tmp_path / "it.xpak", data))


def test_the_size_is_limited(tmp_path: Path) -> None:
    with pytest.raises(InvalidPackage, match="larger than 1000 bytes"):
        read_xpak(written(tmp_path / "it.xpak", xpak(GOOD)), Limits(package_size=1000))
