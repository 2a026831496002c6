# SPDX-License-Identifier: GPL-2.0-or-later
"""Cache entries are read as Portage writes them; whatever else they hold does no harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdcs.domain.md5_cache import HOMEPAGE, HOMEPAGES, LARGEST, LINE, read_entry, read_values
from bdcs.errors import InvalidCacheEntry

ENTRY = """\
BDEPEND=virtual/pkgconfig
DEFINED_PHASES=compile install
DEPEND=dev-libs/libx:=
DESCRIPTION=Größte Bibliothek, a=b
EAPI=8
HOMEPAGE=https://example.org/ ftp://example.org/x
IUSE=+ssl -doc  test abi_x86_32
KEYWORDS=amd64 ~arm64 -sparc -*
LICENSE=|| ( GPL-2 MIT )
RDEPEND=dev-libs/libx:=
RESTRICT=!test? ( test )
SLOT=0/1.2
SRC_URI=https://example.org/x.tar.gz
_eclasses_=toolchain-funcs	0123456789abcdef0123456789abcdef
_md5_=0123456789abcdef0123456789abcdef
"""


def changed(**values: str | None) -> bytes:
    """The entry with other values; None: without that line."""
    lines = dict(line.split("=", 1) for line in ENTRY.splitlines())
    lines.update({key: value for key, value in values.items() if value is not None})
    kept = {key: value for key, value in lines.items() if values.get(key, "") is not None}
    return "".join(f"{key}={value}\n" for key, value in kept.items()).encode()


def test_an_entry_as_portage_writes_it() -> None:
    entry = read_entry(ENTRY.encode())
    assert entry.slot == "0/1.2"
    assert entry.eapi == "8"
    assert entry.keywords == "amd64 ~arm64 -sparc -*"
    assert entry.iuse == "+ssl -doc test abi_x86_32"
    assert entry.license == "|| ( GPL-2 MIT )"
    assert entry.restrict == "!test? ( test )"
    assert entry.properties == ""
    assert entry.description == "Größte Bibliothek, a=b"
    assert entry.homepage == "https://example.org/ ftp://example.org/x"


def test_what_is_left_out_is_empty_but_a_slot_must_be_there() -> None:
    entry = read_entry(b"SLOT=0\n")
    assert (entry.eapi, entry.keywords, entry.iuse, entry.description) == ("0", "", "", "")
    with pytest.raises(InvalidCacheEntry, match="SLOT"):
        read_entry(changed(SLOT=None))


@pytest.mark.parametrize("key", ["DEPEND", "BDEPEND", "RDEPEND", "PDEPEND", "IDEPEND", "REQUIRED_USE"])
def test_the_digest_is_that_of_the_dependencies(key: str) -> None:
    digest = read_entry(ENTRY.encode()).dependencies
    assert read_entry(changed(**{key: "dev-libs/other"})).dependencies != digest
    assert read_entry(changed(DESCRIPTION="Another", SRC_URI="")).dependencies == digest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SLOT", "../../etc"),
        ("SLOT", "0/1/2"),
        ("EAPI", "$(id)"),
        ("IUSE", "+ssl `id`"),
        ("IUSE", "++ssl"),
        ("KEYWORDS", "amd64;id"),
        ("LICENSE", "\x1b[31mGPL"),
        ("RESTRICT", "x" * 100_000),
    ],
)
def test_values_that_cannot_be_are_refused(key: str, value: str) -> None:
    with pytest.raises(InvalidCacheEntry, match=key):
        read_entry(changed(**{key: value}))


@pytest.mark.parametrize(
    "spoilt", [b"", b"SLOT", b"\n", b"SLOT=0\n\nEAPI=8\n", b"=x\n", b"\xff\xfe\x00", b"A B=c\n"]
)
def test_a_line_that_is_none_spoils_the_entry(spoilt: bytes) -> None:
    with pytest.raises(InvalidCacheEntry, match="KEY=VALUE"):
        read_entry(spoilt)


def test_a_description_is_one_line_that_commands_no_terminal() -> None:
    entry = read_entry(changed(DESCRIPTION="a\x1b[2J\tb\r c\x00" + "x" * 5000))
    assert entry.description.startswith("a [2J b c x")
    assert entry.description.isprintable()
    assert len(entry.description) <= LINE


def test_homepages_are_addresses_of_pages() -> None:
    entry = read_entry(
        changed(HOMEPAGE="javascript:alert(1) file:///etc/passwd https://a.example/ https://ü.x/")
    )
    assert entry.homepage == "https://a.example/"
    many = " ".join(f"https://{number}.example/" for number in range(100))
    assert len(read_entry(changed(HOMEPAGE=many)).homepage.split()) == HOMEPAGES
    assert read_entry(changed(HOMEPAGE="https://x/" + "y" * HOMEPAGE)).homepage == ""


def test_what_is_too_large_is_not_looked_at() -> None:
    with pytest.raises(InvalidCacheEntry, match="larger"):
        read_values(b"A=" + b"x" * LARGEST)


@given(st.binary(max_size=2000))
def test_whatever_it_holds_it_is_read_or_refused(content: bytes) -> None:
    try:
        entry = read_entry(content)
    except InvalidCacheEntry:
        return
    assert entry.slot


KEYS = st.sampled_from(["SLOT", "EAPI", "IUSE", "KEYWORDS", "LICENSE", "DESCRIPTION", "HOMEPAGE", "RESTRICT"])


@given(st.dictionaries(KEYS, st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))))
def test_what_is_read_can_be_shown_and_compared(values: dict[str, str]) -> None:
    try:
        entry = read_entry(changed(**values))
    except InvalidCacheEntry:
        return
    for value in (entry.slot, entry.eapi, entry.keywords, entry.iuse, entry.license, entry.description):
        assert value.isprintable()
        assert value == " ".join(value.split())
    assert all(uri.startswith(("http://", "https://", "ftp://")) for uri in entry.homepage.split())
