# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of an index: keys, order, what is left out, and what no index may hold."""

import dataclasses
from collections.abc import Mapping
from io import BytesIO
from types import MappingProxyType

import pytest

from bdcs.domain.gpkg.reading import Package, read_package
from bdcs.domain.packages_index import (
    block,
    checked_header,
    entry,
    header,
    is_path,
    parse_entry,
    path_of,
    starts_chunk,
)
from bdcs.errors import InvalidHeader, Unlistable
from gentwoo_client.wire.cpv import CPV
from tests.packages import gpkg

KEYS = """
BDEPEND BUILD_ID BUILD_TIME CHOST CPV DEFINED_PHASES DEPEND EAPI IDEPEND IUSE KEYWORDS LICENSE MD5 PATH
PDEPEND PROPERTIES PROVIDES RDEPEND REQUIRES RESTRICT SHA1 SIZE SLOT USE USER_PATCHES MTIME REPO
"""
FULL = {
    "BDEPEND": "dev-build/cmake",
    "DEPEND": "|| ( dev-libs/a dev-libs/b )",
    "IDEPEND": "app-misc/i",
    "IUSE": "+ssl -doc test",
    "PDEPEND": "app-misc/p",
    "PROPERTIES": "interactive",
    "PROVIDES": "x86_64: libalpha.so.1",
    "RDEPEND": "dev-libs/x:0/1= !app-misc/old",
    "REQUIRES": "x86_64: libc.so.6",
    "RESTRICT": "test",
    "SLOT": "2/2.1",
    "USER_PATCHES": "0123abc",
}


def package(metadata: Mapping[str, str] | None = None, *, cpv: str = "app-misc/alpha-1.0") -> Package:
    return read_package(BytesIO(gpkg(cpv=cpv, metadata=metadata or {})))


def listed(one: Package, **other: object) -> str:
    arguments = {"path": "app-misc/alpha/alpha-1.0-1.gpkg.tar", "build_id": 1, "mtime": 1_700_000_000}
    return entry(one, **{**arguments, **other})  # type: ignore[arg-type]


def with_metadata(one: Package, **values: str) -> Package:
    """The package with values that no reader of packages would have let through."""
    return dataclasses.replace(one, metadata=MappingProxyType({**one.metadata, **values}))


def test_an_entry_has_all_keys_in_portages_order() -> None:
    one = package(FULL)
    keys = [line.partition(":")[0] for line in listed(one).split("\n")]
    assert keys == KEYS.split()


def test_an_entry_says_what_the_file_and_its_metadata_are() -> None:
    one = package(FULL)
    fields = parse_entry(listed(one))
    assert fields["CPV"] == "app-misc/alpha-1.0"
    assert (fields["SIZE"], fields["MD5"], fields["SHA1"]) == (str(one.size), one.md5, one.sha1)
    assert fields["REPO"] == "gentoo"
    assert fields["MTIME"] == "1700000000"
    assert fields["BUILD_ID"] == "1"
    assert all(fields[key] == value for key, value in FULL.items())


def test_size_is_the_files_not_that_of_what_it_installs() -> None:
    one = package({"SIZE": "987654321"})
    assert parse_entry(listed(one))["SIZE"] == str(one.size) != "987654321"


def test_defaults_and_empty_values_are_left_out() -> None:
    fields = parse_entry(listed(package({"SLOT": "0", "EAPI": "0", "IUSE": ""}), build_id=None))
    assert not {"SLOT", "EAPI", "IUSE", "DEPEND", "BUILD_ID"} & fields.keys()


def test_description_and_cflags_are_no_part_of_an_index() -> None:
    assert not {"DESC", "DESCRIPTION", "CFLAGS", "HOMEPAGE"} & parse_entry(listed(package())).keys()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("BUILD_TIME", "soon"),
        ("BUILD_TIME", "9" * 5000),
        ("CHOST", "x86_64 pc"),
        ("DEFINED_PHASES", "install\nCPV: a/b-1"),
        ("DEPEND", "dev-libs/a\ndev-libs/b"),
        ("DEPEND", "dev-libs/a\r"),
        ("EAPI", "8 8"),
        ("IUSE", "ssl\u2028doc"),
        ("KEYWORDS", "amd64\x0b"),
        ("LICENSE", "GPL-2\x85"),
        ("PROVIDES", "x86_64: a.so\nPATH: ../../etc/passwd"),
        ("REQUIRES", "x86_64: \x1ea.so"),
        ("RESTRICT", "mirror\x00"),
        ("SLOT", "0/"),
        ("SLOT", "../1"),
        ("USE", "amd64 $(id)"),
        ("USER_PATCHES", "a: b"),
        ("repository", "gentoo::x"),
    ],
)
def test_a_value_that_no_line_can_hold_is_refused_with_its_name(key: str, value: str) -> None:
    one = with_metadata(package(), **{key: value})
    with pytest.raises(Unlistable, match="REPO" if key == "repository" else key):
        listed(one)


@pytest.mark.parametrize("keywords", ["amd64 ~arm64 -* **", "~*", "*", "~x64-macos", "-sparc"])
def test_all_forms_of_keywords_can_be_listed(keywords: str) -> None:
    assert parse_entry(listed(package({"KEYWORDS": keywords})))["KEYWORDS"] == keywords


def test_an_inter_revision_is_refused_since_it_would_end_every_client() -> None:
    one = dataclasses.replace(package(), cpv=CPV("app-misc", "alpha", "1.0-r1.2"))
    with pytest.raises(Unlistable, match="CPV"):
        listed(one)


@pytest.mark.parametrize("field", ["md5", "sha1"])
def test_a_package_without_hash_is_refused(field: str) -> None:
    with pytest.raises(Unlistable, match=field.upper()):
        listed(dataclasses.replace(package(), **{field: ""}))  # type: ignore[arg-type]


def test_a_package_without_slot_is_refused() -> None:
    one = package()
    values = {key: value for key, value in one.metadata.items() if key != "SLOT"}
    with pytest.raises(Unlistable, match="SLOT"):
        listed(dataclasses.replace(one, metadata=values))


@pytest.mark.parametrize(
    "path",
    [
        "app-misc/alpha/alpha-1.0-1.gpkg.tar",
        "x11-libs/gtk+/gtk+-3.24.41-2.gpkg.tar",
        "dev-libs/lib++/lib++-1.0_p2-r3-1.gpkg.tar",
        "app-misc/alpha/alpha-1.0-1.xpak",
        "virtual/perl-Test/perl-Test-1.3.0_rc1-12.gpkg.tar",
    ],
)
def test_paths_of_packages(path: str) -> None:
    assert is_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "alpha-1.0-1.gpkg.tar",
        "app-misc/alpha-1.0-1.gpkg.tar",
        "../alpha/alpha-1.0-1.gpkg.tar",
        "app-misc/../alpha-1.0-1.gpkg.tar",
        "app-misc/alpha/../../x.gpkg.tar",
        "/app-misc/alpha/alpha-1.0-1.gpkg.tar",
        "app-misc//alpha-1.0-1.gpkg.tar",
        "app-misc/alpha/.gpkg.tar",
        "app-misc/alpha/alpha 1.gpkg.tar",
        "app-misc/alpha/alpha%2e.gpkg.tar",
        "app-misc/alpha/alpha-1.0-1.gpkg.tar.partial",
        "app-misc/alpha/alpha-1.0-1.gpkg.tar\n",
        "app-misc/alpha/alpha-1.0-1.GPKG.TAR",
        "app-misc/älpha/älpha-1.0-1.gpkg.tar",
    ],
)
def test_what_could_lead_elsewhere_is_no_path(path: str) -> None:
    assert not is_path(path)
    if path:
        with pytest.raises(Unlistable, match="PATH"):
            listed(package(), path=path)


def test_path_of_a_package() -> None:
    cpv = CPV.parse("x11-libs/gtk+-3.24-r1")
    assert path_of(cpv, 7) == "x11-libs/gtk+/gtk+-3.24-r1-7.gpkg.tar"
    assert is_path(path_of(cpv, 7, ".xpak"))


def test_a_header_is_sorted_and_leaves_out_what_is_empty() -> None:
    text = header({"USE_EXPAND": "A  B\n C", "ARCH": "amd64", "TTL": "60", "USE": ""}, 3, 1_700_000_000)
    assert text == (
        "ARCH: amd64\nPACKAGES: 3\nTIMESTAMP: 1700000000\nTTL: 60\nUSE_EXPAND: A B C\nVERSION: 0\n\n"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("VERSION", "1"),
        ("TIMESTAMP", "1"),
        ("PACKAGES", "1"),
        ("DOWNLOAD_TIMESTAMP", "1"),
        ("REPO_REVISIONS", "{}"),
        ("ARCH: x", "amd64"),
        ("", "amd64"),
        ("ARCH", "amd64\x00"),
        ("TTL", "an hour"),
        ("TTL", "-1"),
        ("URI", "file:///etc"),
        ("URI", "https://{}@host/x".format("user:word")),
        ("URI", "https://"),
        ("URI", "https://host/x?y"),
    ],
)
def test_a_header_that_clients_could_not_read_is_refused(key: str, value: str) -> None:
    with pytest.raises(InvalidHeader):
        header({key: value}, 0, 0)


@pytest.mark.parametrize("uri", ["https://cdn.example/binhost/amd64", "http://127.0.0.1:8642", "ftp://h/x/"])
def test_packages_may_lie_elsewhere(uri: str) -> None:
    assert checked_header({"URI": uri}) == {"URI": uri}


def test_chunks_are_of_the_size_that_was_meant() -> None:
    names = [f"dev-{category}/name{number}-1.{number % 7}" for category in "abc" for number in range(10_000)]
    starts = sum(map(starts_chunk, names))
    assert 30_000 / 128 * 0.7 < starts < 30_000 / 128 * 1.4


def test_a_block_ends_with_an_empty_line() -> None:
    text = block(listed(package()))
    assert text.endswith("\n\n")
    assert "\n\n" not in text[:-2]
