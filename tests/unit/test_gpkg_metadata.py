# SPDX-License-Identifier: GPL-2.0-or-later
"""Metadata are folded as Portage folds them, and what would break an index or a client is refused."""

import io

import pytest

from bdcs.domain.gpkg.metadata import check, fold, is_kept
from bdcs.domain.gpkg.reading import read_metadata
from bdcs.errors import InvalidPackage
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.limits import DEPENDENCY_DEPTH
from tests.packages import gpkg

GOOD = {"CATEGORY": "app-misc", "PF": "alpha-1.0", "SLOT": "0"}


def test_white_space_is_folded_as_portage_folds_it() -> None:
    folded = fold({"RDEPEND": b"\n  a/b\r\n\tc/d\x0b \xc2\xa0e/f\xe2\x80\xa8g/h \n", "IUSE": b" \n"})
    assert folded == {"RDEPEND": "a/b c/d e/f g/h"}


@pytest.mark.parametrize("value", [b"a\0b", b"a\x1bb", b"a\x7fb", b"a\xc2\x9bb"])
def test_control_characters_are_refused(value: bytes) -> None:
    with pytest.raises(InvalidPackage, match="DESCRIPTION in the metadata has control characters"):
        fold({"DESCRIPTION": value})


def test_what_is_no_utf8_is_refused() -> None:
    with pytest.raises(InvalidPackage, match="DESCRIPTION in the metadata is no UTF-8"):
        fold({"DESCRIPTION": b"gr\xfc\xdfe"})


def test_what_is_large_and_no_value_is_not_kept() -> None:
    for name in ("environment.bz2", "alpha-1.0.ebuild", "NEEDED", "NEEDED.ELF.2", "size"):
        assert not is_kept(name)
    for name in ("USE", "IUSE_EFFECTIVE", "REQUIRES", "repository", "USER_PATCHES"):
        assert is_kept(name)


VALID = {
    "BUILD_ID": ["1", "999999999"],
    "BUILD_TIME": ["0", "1700000000"],
    "CHOST": ["x86_64-pc-linux-gnu", "armv7a-unknown-linux-gnueabihf", "arm64-apple-darwin20.1"],
    "EAPI": ["0", "8", "5-progress"],
    "IUSE": ["ssl", "+ssl -static cpu_flags_x86_avx2", "python_targets_python3_12 l10n_sr-Latn abi_x86_64"],
    "KEYWORDS": ["amd64 ~x86 -* ~amd64-linux", "-* -alpha"],
    "LICENSE": ["GPL-2", "|| ( MIT Apache-2.0 ) ( BSD )"],
    "PF": ["alpha-1.0", "gtk+-2.24.33-r3", "lib++-1.0_p2-r3", "font-adobe-100dpi-1", "a-20240101"],
    "RDEPEND": [">=dev-libs/x-1:0/1= || ( a/b ( c/d e/f ) ) !!g/h"],
    "SLOT": ["0", "0/1.2", "3.12", "5.15-r1/5+a", "_x"],
    "USE": ["amd64 elibc_glibc ssl userland_GNU video_cards_amdgpu"],
    "repository": ["gentoo", "x-portage", "my_overlay-2"],
}
INVALID = {
    "BUILD_ID": ["0", "01", "-1", "1.0", "x", "1 2", "٣", "9999999999"],
    "BUILD_TIME": ["-1", "1.5", "now", "17000000000"],
    "CATEGORY": ["-x", "a/b", "..", ".x", "a b", "a\tb", "ä", "a" * 200],
    "CHOST": ["x86_64 linux", "$(id)", "-x", "a/b"],
    "DEFINED_PHASES": ["INSTALL", "a;b"],
    "EAPI": ["8 8", "-8", "8/9"],
    "IUSE": ["a b ++c", "+", "a,b", "-*"],
    "KEYWORDS": ["amd64 ~", "am/d64", "!x86"],
    "LICENSE": ["|| ( MIT", "MIT )", ") ("],
    "PF": [
        "alpha",
        "alpha-1.0-2.0",
        "1.0",
        "alpha-",
        "alpha-1.0-r1.2",
        "a/b-1",
        "../x-1",
        "alpha-1.0.",
        "ä-1",
    ],
    "RDEPEND": ["( a/b", "a/b ) ( c/d"],
    "SIZE": ["-1", "1e3"],
    "SLOT": ["-1", "0/", "/0", "a b", "0/1/2", ".1", "+1", "0:1"],
    "USE": ["-ssl", "ssl !x", "+a"],
    "repository": ["../x", "a b", "-x", "a/b"],
}


@pytest.mark.parametrize(("name", "value"), [(name, one) for name, all_ in VALID.items() for one in all_])
def test_what_portage_writes_is_valid(name: str, value: str) -> None:
    values = GOOD | {name: value}
    assert check(values)[0] == CPV.parse(f"app-misc/{values['PF']}")


@pytest.mark.parametrize(("name", "value"), [(name, one) for name, all_ in INVALID.items() for one in all_])
def test_what_would_break_a_client_is_not(name: str, value: str) -> None:
    with pytest.raises(InvalidPackage, match=name):
        check(GOOD | {name: value})


@pytest.mark.parametrize("name", GOOD)
def test_what_identifies_a_package_must_be_there(name: str) -> None:
    with pytest.raises(InvalidPackage, match=f"{name} is missing"):
        check({key: value for key, value in GOOD.items() if key != name})


def test_the_number_is_told() -> None:
    assert check(GOOD)[1] is None
    assert check(GOOD | {"BUILD_ID": "17"})[1] == 17


def test_a_scan_checks_values_too() -> None:
    with pytest.raises(InvalidPackage, match="SLOT"):
        read_metadata(io.BytesIO(gpkg(metadata={"SLOT": "a b"})))
    with pytest.raises(InvalidPackage, match="directory"):
        read_metadata(io.BytesIO(gpkg(prefix="beta-1")))
    with pytest.raises(InvalidPackage, match="has no metadata"):
        read_metadata(io.BytesIO(gpkg(members=lambda members: members[:1])))


def test_groups_within_each_other_are_limited() -> None:
    """Portage reads them by recursion, and so do others."""

    def nested(depth: int) -> dict[str, str]:
        return {**GOOD, "RDEPEND": " ".join([*["("] * depth, "a/b", *[")"] * depth])}

    check(nested(DEPENDENCY_DEPTH))
    with pytest.raises(InvalidPackage, match="RDEPEND in the metadata has more than 32 groups"):
        check(nested(DEPENDENCY_DEPTH + 1))
