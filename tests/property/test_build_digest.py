# SPDX-License-Identifier: GPL-2.0-or-later
"""Digests of builds: what is spelled otherwise is one build, what differs at all is another."""

import json
from collections.abc import Mapping

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gentwoo_client.wire import json_text
from gentwoo_client.wire.builds import DEPENDENCIES, BuildSpecification, difference
from gentwoo_client.wire.dependencies import ALL_OF, ANY_OF, Group, Nodes, parse, reduce, to_text
from gentwoo_client.wire.errors import InvalidDependency, InvalidSpecification

FLAGS = ("a", "b", "c", "cpu_flags_x86_avx2", "python_targets_python3_12")
ARCH = "amd64"

packages = st.builds(
    "{}{}/{}{}".format,
    st.sampled_from(["", "!"]),
    st.sampled_from(["dev-libs", "app-misc"]),
    st.sampled_from(["p", "q", "lib++"]),
    st.sampled_from(["", ":=", ":0=", ":0/3=", ":2", ":*", "[a]", ":=[a?]", "[!b=,c(+)?]"]),
)
SPELLINGS = (
    *("dev-libs/p", ">=dev-libs/p-1", "!dev-libs/p", "=dev-libs/p-1*", "dev-libs/p[a,-b(+)]", "dev-libs/p:="),
    *(
        "dev-libs/p:0=",
        "dev-libs/p:0/3=",
        "dev-libs/p[a?]",
        "dev-libs/p[b=]",
        "sys-libs/glibc",
        "dev-libs/p-1",
    ),
    *("dev-libs", "(", ")", "||", "a?", "!a?", "", "|| ( dev-libs/p dev-libs/q )", "( dev-libs/p )"),
    *("|| ( dev-libs/p )", "|| ( sys-libs/glibc dev-libs/q:= )", "dev-libs/p[a,a]", f"dev-libs/{'p' * 200}"),
)
"""Words, and some that are none."""
conditions = st.builds("{}{}?".format, st.sampled_from(["", "!"]), st.sampled_from(FLAGS[:3]))
members = st.recursive(
    packages,
    lambda inner: st.builds(
        Group,
        st.one_of(st.just(ALL_OF), st.just(ANY_OF), conditions),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
    ),
    max_leaves=5,
)
dependencies: st.SearchStrategy[Nodes] = st.lists(members, max_size=3).map(tuple)
uses = st.sets(st.sampled_from(FLAGS)).map(sorted)
slots = st.sampled_from(["0", "0/1", "2", "2/2.1", "stable"])


@st.composite
def ebuilds(draw: st.DrawFn) -> dict[str, str]:
    """What an ebuild says of itself."""
    return {
        "EAPI": draw(st.sampled_from("678")),
        "SLOT": draw(slots),
        "IUSE": " ".join(draw(st.sampled_from(["", "+", "-"])) + flag for flag in FLAGS),
        "KEYWORDS": draw(st.sampled_from(["amd64", "~amd64 arm64", "-* amd64", ""])),
        "repository": draw(st.sampled_from(["gentoo", "guru"])),
        **{name.upper(): to_text(draw(dependencies)) for name in DEPENDENCIES},
    }


def wish(ebuild: Mapping[str, str], use: list[str]) -> BuildSpecification:
    return BuildSpecification.from_wish("t", "app-misc/x-1-r2", ebuild, use=[ARCH, *use], bound={})


@settings(max_examples=40)
@given(ebuilds(), uses, st.randoms(use_true_random=False))
def test_order_and_spelling_do_not_count(ebuild: dict[str, str], use: list[str], chance: object) -> None:
    shuffled = {name: respelled(value, chance) for name, value in ebuild.items() if name.endswith("DEPEND")}
    words = {name: " ".join(reversed(ebuild[name].split())) for name in ("IUSE", "KEYWORDS")}
    assert wish({**ebuild, **shuffled, **words}, use[::-1] * 2).digest() == wish(ebuild, use).digest()


def respelled(text: str, chance: object) -> str:
    """The same with other white space, and in needless parentheses."""

    def node(member: "str | Group", *, in_any_of: bool) -> str:
        if isinstance(member, str):
            inner = member
        else:
            within = " ".join(node(one, in_any_of=member.kind == ANY_OF) for one in member.members)
            inner = f"{member.kind}  ( {within}\n)" if member.kind else f"( {within} )"
        return f"( {inner}\t)" if chance.random() < 0.3 else inner  # type: ignore[attr-defined]

    return " \n ".join(node(member, in_any_of=False) for member in parse(text))


@settings(max_examples=40)
@given(ebuilds(), uses)
def test_a_document_says_everything(ebuild: dict[str, str], use: list[str]) -> None:
    specification = wish(ebuild, use)
    again = BuildSpecification.from_json(json_text.load(json_text.dump(specification.to_json())))
    assert again == specification
    assert again.digest() == specification.digest()


@settings(max_examples=40)
@given(ebuilds(), uses, ebuilds(), uses)
def test_other_builds_have_other_digests(
    ebuild: dict[str, str], use: list[str], other: dict[str, str], other_use: list[str]
) -> None:
    one, two = wish(ebuild, use), wish(other, other_use)
    assert (one == two) == (one.digest() == two.digest())
    assert (difference(one, two) == ()) == (one == two)


@settings(max_examples=40)
@given(ebuilds(), uses)
def test_what_was_reduced_and_bound_says_the_same(ebuild: dict[str, str], use: list[str]) -> None:
    """As in a package: without conditions, and with what each `:=` found."""
    assume(not any("/3=" in value for value in ebuild.values()))
    enabled = [ARCH, *use]
    reduced = {
        name: to_text(reduce(parse(ebuild[name]), enabled, eapi=ebuild["EAPI"]))
        for name in (dependency.upper() for dependency in DEPENDENCIES)
    }
    built = {name: " ".join(map(bound, value.split())) for name, value in reduced.items()}
    found = {word: "0/7" for value in reduced.values() for word in value.split() if bound(word) != word}
    package = {
        **ebuild,
        **built,
        "USE": " ".join(enabled),
        "CATEGORY": "app-misc",
        "PF": "x-1-r2",
    }
    published = BuildSpecification.from_metadata("t", package)
    wished = BuildSpecification.from_wish("t", "app-misc/x-1-r2", ebuild, use=enabled, bound=found)
    assert published == wished
    assert published.digest() == wished.digest()


def bound(word: str) -> str:
    return word.replace(":0=", ":=").replace(":=", ":0/7=")


@given(dependencies, uses, st.sampled_from("678"))
def test_reducing_twice_changes_nothing(nodes: Nodes, use: list[str], eapi: str) -> None:
    once = reduce(nodes, use, eapi=eapi)
    assert reduce(once, (), eapi=eapi) == once
    assert parse(to_text(once)) == once


@given(st.text(alphabet="ab/-1:=[]?!()|* \n", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        nodes = parse(text)
    except InvalidDependency:
        return
    assert parse(to_text(nodes)) == nodes


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40)
@given(ebuilds(), uses, st.sampled_from(sorted(BuildSpecification.__dataclass_fields__)), json_values)
def test_any_document_is_read_or_refused(
    ebuild: dict[str, str], use: list[str], field: str, value: object
) -> None:
    document = {**wish(ebuild, use).to_json(), field: value}
    try:
        specification = BuildSpecification.from_json(document)
    except InvalidSpecification:
        return
    assert json.dumps(specification.to_json(), sort_keys=True) == json.dumps(document, sort_keys=True)


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(DEPENDENCIES)),
    st.lists(st.sampled_from(SPELLINGS), max_size=5).map(" ".join),
    st.sampled_from("678"),
)
def test_what_is_known_of_words_changes_no_verdict(field: str, value: str, eapi: str) -> None:
    """Most values are recognised by their words alone; by the definition they must be the same."""
    document = {**wish({"EAPI": eapi, "repository": "gentoo"}, []).to_json(), field: value}
    try:
        nodes = parse(value)
        reduced = reduce(nodes, (), eapi=eapi)
        metadata = {"EAPI": eapi, "repository": "gentoo", field.upper(): value}
        is_canonical = to_text(reduced) == value == getattr(wish(metadata, []), field)
    except (InvalidDependency, InvalidSpecification):
        is_canonical = False
    try:
        assert BuildSpecification.from_json(document).to_json() == document
    except InvalidSpecification:
        assert not is_canonical
    else:
        assert is_canonical
