# SPDX-License-Identifier: GPL-2.0-or-later
"""Specifications of builds: the same from either side, strict as documents, and differences in words."""

import dataclasses

import pytest

from gentwoo_client.wire.builds import BuildSpecification, difference
from gentwoo_client.wire.errors import InvalidSpecification

EBUILD = {
    "EAPI": "8",
    "SLOT": "0",
    "IUSE": "+gtk -doc qt6",
    "KEYWORDS": "amd64 ~arm64 -sparc",
    "DEPEND": "gtk? ( gui-libs/gtk:4= )",
    "RDEPEND": "gtk? ( gui-libs/gtk:4= ) || ( a/one:= a/two:= ) qt6? ( dev-qt/qtbase:= )",
    "BDEPEND": "dev-lang/perl:=",
    "PDEPEND": "a/after:=",
    "LICENSE": "|| ( MIT GPL-2 ) doc? ( FDL-1.3+ )",
    "RESTRICT": "!doc? ( test )",
    "repository": "gentoo",
}
BOUND = {"gui-libs/gtk:4=": "4/4.14", "a/one:=": "0/1", "a/two:=": "0/2", "a/after:=": "0/9"}
PACKAGE = {
    **EBUILD,
    "CATEGORY": "app-misc",
    "PF": "tool-1.0-r1",
    "USE": "amd64 elibc_glibc gtk kernel_linux",
    "DEPEND": "gui-libs/gtk:4/4.14=",
    "PDEPEND": "a/after:0/9=",
    "RDEPEND": "gui-libs/gtk:4/4.14= || ( a/one:0/1= a/two:= ) >=sys-libs/glibc-2.41-r4",
    "BDEPEND": "dev-lang/perl:0/5.40=",
    "LICENSE": "|| ( MIT GPL-2 )",
    "RESTRICT": "test",
}


def wished(use: str = "amd64 gtk", **values: str) -> BuildSpecification:
    return BuildSpecification.from_wish(
        "amd64", "app-misc/tool-1.0-r1", {**EBUILD, **values}, use=use.split(), bound=BOUND
    )


def built(**values: str) -> BuildSpecification:
    return BuildSpecification.from_metadata("amd64", {**PACKAGE, **values})


def test_a_wish_and_its_build_are_one() -> None:
    assert wished() == built()
    assert wished().digest() == built().digest()
    assert hash(wished()) == hash(built())
    assert difference(built(), wished()) == ()


def test_what_it_says() -> None:
    assert wished().to_json() == {
        "target": "amd64",
        "cpv": "app-misc/tool-1.0-r1",
        "repository": "gentoo",
        "eapi": "8",
        "slot": "0/0",
        "keywords": ["amd64"],
        "iuse": ["doc", "gtk", "qt6"],
        "use": ["gtk"],
        "depend": "gui-libs/gtk:=",
        "bdepend": "dev-lang/perl:=",
        "rdepend": "gui-libs/gtk:= || ( a/one:= a/two:= )",
        "pdepend": "a/after:=",
        "idepend": "",
        "license": "|| ( MIT GPL-2 )",
        "properties": "",
        "restrict": "test",
        "user_patches": "",
        "built_against": {"a/after:0": "0/9", "a/one:0": "0/1", "gui-libs/gtk:4": "4/4.14"},
    }


def test_the_digest_stays_what_it_is() -> None:
    """Collectors keep digests: another way to make them needs a migration."""
    assert wished().digest() == "d76cf8d2e1cd6ca16a74e6b5fef5c62cbe355503da5c5b7400f39a4f363a4d44"


def test_the_index_says_the_same_as_the_package() -> None:
    entry = {
        name: value for name, value in PACKAGE.items() if name not in ("CATEGORY", "PF", "repository", "SLOT")
    }
    entry |= {"CPV": "app-misc/tool-1.0-r1", "REPO": "gentoo"}  # the index leaves out SLOT 0
    assert BuildSpecification.from_metadata("amd64", entry) == built()


def test_a_dependency_that_was_not_there_is_nobodys() -> None:
    """Of `|| ( )` only what was installed is bound; what was bound to nothing differs from what was."""
    bare = built(RDEPEND="gui-libs/gtk:4/4.14= || ( a/one:= a/two:= )")
    assert bare.built_against == {"a/after:0": "0/9", "gui-libs/gtk:4": "4/4.14"}
    assert difference(bare, wished()) == (
        "built against no a/one in particular; yours is to be built against a/one:0/1",
    )


def test_of_a_choice_the_first_that_is_bound_counts() -> None:
    both = built(RDEPEND="gui-libs/gtk:4/4.14= || ( a/one:0/1= a/two:0/7= )")
    assert both.digest() == wished().digest()
    other = built(RDEPEND="gui-libs/gtk:4/4.14= || ( a/one:= a/two:0/2= )")
    assert other.digest() != wished().digest()


def test_tools_for_building_may_be_any() -> None:
    assert built(BDEPEND="dev-lang/perl:0/5.42=").digest() == wished().digest()


def test_the_libc_in_a_group_is_the_ebuilds_own() -> None:
    assert built(RDEPEND=f"{PACKAGE['RDEPEND']} || ( sys-libs/glibc sys-libs/musl )") != wished()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PF", "tool-1.0-r2"),
        ("PF", "tool-1.0"),
        ("repository", "guru"),
        ("EAPI", "7"),
        ("SLOT", "0/1"),
        ("SLOT", "1"),
        ("IUSE", "+gtk -doc"),
        ("IUSE", "+gtk -doc qt6 wayland"),
        ("USE", "amd64"),
        ("USE", "amd64 gtk qt6"),
        ("USE", "gtk"),  # no ARCH: for which machines it is stable is not known
        ("KEYWORDS", "~amd64"),
        ("KEYWORDS", "* amd64"),
        ("DEPEND", ""),
        ("RDEPEND", "gui-libs/gtk:4/4.16= || ( a/one:0/1= a/two:= )"),
        ("RDEPEND", "|| ( a/one:0/1= a/two:= ) gui-libs/gtk:4/4.14="),  # Portage heeds the order
        ("RDEPEND", "gui-libs/gtk:4/4.14= || ( a/two:= a/one:0/1= )"),
        ("PDEPEND", "a/after:0/1="),
        ("IDEPEND", "a/b"),
        ("BDEPEND", ""),
        ("LICENSE", "MIT"),
        ("PROPERTIES", "live"),
        ("RESTRICT", "test bindist"),
        ("USER_PATCHES", "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1"),
    ],
)
def test_whatever_portage_looks_at_changes_it(name: str, value: str) -> None:
    changed = built(**{name: value})
    assert changed.digest() != wished().digest()
    assert difference(changed, wished()) != ()
    assert difference(wished(), changed) != ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("USE", "kernel_linux gtk foo amd64 abi_x86_64"),
        ("IUSE", "qt6 doc gtk"),
        ("KEYWORDS", "~riscv amd64 arm64"),
        ("SLOT", "0/0"),
        ("RDEPEND", "gui-libs/gtk:4/4.14= || ( ( a/one:0/1= ) || ( a/two:= ) )"),
        ("BUILD_TIME", "7"),
        ("DESCRIPTION", "x"),
        ("CFLAGS", "-O3"),  # the target's business
    ],
)
def test_spelling_and_the_rest_change_nothing(name: str, value: str) -> None:
    assert built(**{name: value}).digest() == wished().digest()


def test_targets_differ() -> None:
    assert dataclasses.replace(wished(), target="amd64-v3").digest() != wished().digest()


# Documents


def test_a_document_holds_it_all() -> None:
    assert BuildSpecification.from_json(wished().to_json()) == wished()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", "../etc"),
        ("target", 7),
        ("cpv", "app-misc/tool"),
        ("cpv", "=app-misc/tool-1"),
        ("cpv", "/tmp/tool-1.ebuild"),
        ("repository", "-x"),
        ("repository", ""),
        ("eapi", ""),
        ("eapi", "8\n"),
        ("slot", "0"),
        ("slot", "0/1/2"),
        ("keywords", ["amd64 arm64"]),
        ("keywords", ["~arm64", "amd64", "amd64"]),
        ("iuse", ["qt6", "gtk", "doc"]),
        ("iuse", ["+doc", "gtk", "qt6"]),
        ("iuse", "doc gtk qt6"),
        ("use", ["other"]),
        ("use", ["gtk", "gtk"]),
        ("use", ["gtk\n"]),
        ("use", None),
        ("depend", "  gui-libs/gtk:="),
        ("depend", "gui-libs/gtk:4="),
        ("depend", "x? ( a/b )"),
        ("depend", "a/b[x?]"),
        ("depend", "( a/b )"),
        ("depend", "a/b ) c/d"),
        ("depend", "nothing"),
        ("depend", "$(id)"),
        ("rdepend", "sys-libs/glibc"),
        ("license", "x? ( MIT )"),
        ("user_patches", "xyz"),
        ("built_against", {"a/b": "0/1"}),
        ("built_against", {"a/b:1": "0/1"}),
        ("built_against", {"a/b:0": "0"}),
        ("built_against", {"a/b:0": 1}),
        ("built_against", [["a/b:0", "0/1"]]),
        ("unknown", "x"),
    ],
)
def test_a_document_that_could_mean_something_else_is_refused(field: str, value: object) -> None:
    document = {**wished().to_json(), field: value}
    with pytest.raises(InvalidSpecification) as caught:
        BuildSpecification.from_json(document)
    assert caught.value.field == field


@pytest.mark.parametrize("field", wished().to_json())
def test_nothing_may_be_missing(field: str) -> None:
    document = wished().to_json()
    del document[field]
    with pytest.raises(InvalidSpecification) as caught:
        BuildSpecification.from_json(document)
    assert caught.value.field == field


@pytest.mark.parametrize("document", [None, [], "x", 7])
def test_no_document(document: object) -> None:
    with pytest.raises(InvalidSpecification):
        BuildSpecification.from_json(document)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RDEPEND", "( a/b"),
        ("DEPEND", "a/b[!x]"),
        ("RDEPEND", "not-an-atom"),
        ("PF", ""),
        ("IUSE", "$x"),
        ("SLOT", "/"),
    ],
)
def test_a_package_whose_metadata_is_none_has_no_specification(name: str, value: str) -> None:
    with pytest.raises(InvalidSpecification):
        built(**{name: value})


# Differences


@pytest.mark.parametrize(
    ("values", "use", "expected"),
    [
        ({"USE": "amd64"}, "amd64 gtk", "built with USE=-gtk; yours has gtk"),
        ({"USE": "amd64 qt6"}, "amd64 gtk", 'built with USE="-gtk qt6"; yours has gtk -qt6'),
        ({"IUSE": "gtk"}, "amd64 gtk", "its IUSE lacks doc qt6; yours has them"),
        ({"IUSE": "gtk doc qt6 x"}, "amd64 gtk", "its IUSE has x; yours lacks it"),
        ({"KEYWORDS": "~amd64"}, "amd64 gtk", "built with KEYWORDS=~amd64; yours has amd64"),
        ({"SLOT": "0/3"}, "amd64 gtk", "built for slot 0/3; yours is 0/0"),
        ({"PF": "tool-2"}, "amd64 gtk", "built of app-misc/tool-2; yours is app-misc/tool-1.0-r1"),
        ({"IDEPEND": "a/b"}, "amd64 gtk", "IDEPEND has a/b where yours has nothing"),
        ({"RESTRICT": ""}, "amd64 gtk", 'built with RESTRICT=""; yours has test'),
        ({"USER_PATCHES": "ab"}, "amd64 gtk", "built with patches of its builder's own"),
        (
            {"RDEPEND": "|| ( a/one:0/1= a/two:= ) gui-libs/gtk:4/4.14="},
            "amd64 gtk",
            "RDEPEND is in another order, or grouped otherwise",
        ),
    ],
)
def test_differences_in_words(values: dict[str, str], use: str, expected: str) -> None:
    assert expected in difference(built(**values), wished(use))
