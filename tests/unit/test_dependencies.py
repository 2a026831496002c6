# SPDX-License-Identifier: GPL-2.0-or-later
"""Dependency specifications: read, reduced, written. Portage's own reduction is beside them in acceptance."""

import pytest

from gentwoo_client.wire import limits
from gentwoo_client.wire.dependencies import ANY_OF, Group, parse, reduce, to_text, with_words, words
from gentwoo_client.wire.errors import InvalidDependency


def reduced(text: str, use: str = "", eapi: str = "8") -> str:
    return to_text(reduce(parse(text), use.split(), eapi=eapi))


def test_words_and_groups() -> None:
    assert parse("a/b || ( c/d x? ( !y? ( e/f ) ) )") == (
        "a/b",
        Group(ANY_OF, ("c/d", Group("x?", (Group("!y?", ("e/f",)),)))),
    )
    assert parse(" \n\t") == ()


def test_writing_is_reading_backwards() -> None:
    text = "a/b || ( c/d x? ( !y? ( e/f ) ) ( g/h i/j ) )"
    assert to_text(parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "(",
        ")",
        "( a/b",
        "a/b )",
        "( )",
        "|| ( )",
        "|| a/b",
        "x?",
        "x? a/b",
        "|| x? ( a/b )",
        "(a/b)",
        "a/b||",
        "a/b)",
        "!? ( a/b )",
        "-x? ( a/b )",
        "a/b\x00",
        "^^ ( a/b )c",
        "(" * 3 + " a/b",
        "( " * (limits.DEPENDENCY_DEPTH + 1) + "a/b" + " )" * (limits.DEPENDENCY_DEPTH + 1),
        "a/b " * limits.DEPENDENCY_LENGTH,
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidDependency):
        parse(text)


def test_as_deep_as_is_allowed() -> None:
    depth = limits.DEPENDENCY_DEPTH
    assert reduced("( " * depth + "a/b" + " )" * depth) == "a/b"


@pytest.mark.parametrize(
    ("text", "use", "expected"),
    [
        ("x? ( a/b ) !x? ( c/d )", "", "c/d"),
        ("x? ( a/b ) !x? ( c/d )", "x", "a/b"),
        ("x? ( y? ( a/b ) c/d )", "x", "c/d"),
        ("( ( a/b ) ) ( c/d e/f )", "", "a/b c/d e/f"),
        ("|| ( a/b )", "", "a/b"),
        ("|| ( ( a/b c/d ) )", "", "a/b c/d"),
        ("|| ( a/b || ( c/d e/f ) )", "", "|| ( a/b c/d e/f )"),
        ("|| ( a/b ( c/d ) ( e/f g/h ) )", "", "|| ( a/b c/d ( e/f g/h ) )"),
        ("|| ( ( || ( a/b c/d ) ) e/f )", "", "|| ( a/b c/d e/f )"),
        ("|| ( ( || ( a/b c/d ) e/f ) g/h )", "", "|| ( ( || ( a/b c/d ) e/f ) g/h )"),
        ("|| ( x? ( a/b ) c/d )", "", "c/d"),
        ("|| ( x? ( a/b c/d ) e/f )", "x", "|| ( ( a/b c/d ) e/f )"),
        ("|| ( x? ( || ( a/b c/d ) ) )", "x", "|| ( a/b c/d )"),
        ("a/b a/b", "", "a/b a/b"),
    ],
)
def test_reduction(text: str, use: str, expected: str) -> None:
    assert reduced(text, use) == expected


@pytest.mark.parametrize(
    ("eapi", "expected"),
    [("0", ""), ("6", ""), ("7", "__const__/empty-any-of"), ("8", "__const__/empty-any-of")],
)
def test_a_choice_of_nothing(eapi: str, expected: str) -> None:
    """PMS §8.2.3: until EAPI 6 an empty any-of group is met, since then it is not."""
    assert reduced("|| ( x? ( a/b ) )", eapi=eapi) == expected
    assert reduced(expected, eapi=eapi) == expected


@pytest.mark.parametrize(
    ("flag", "enabled", "disabled"),
    [
        ("x", "[x]", "[x]"),
        ("-x", "[-x]", "[-x]"),
        ("x?", "[x]", ""),
        ("!x?", "", "[-x]"),
        ("x=", "[x]", "[-x]"),
        ("!x=", "[-x]", "[x]"),
        ("x(+)?", "[x(+)]", ""),
        ("!x(-)=", "[-x(-)]", "[x(-)]"),
        ("a,x?,-b", "[a,x,-b]", "[a,-b]"),
    ],
)
def test_use_dependencies(flag: str, enabled: str, disabled: str) -> None:
    """PMS §8.3.4."""
    assert reduced(f">=a/b-1:2=[{flag}]", "x") == f">=a/b-1:2={enabled}"
    assert reduced(f">=a/b-1:2=[{flag}]") == f">=a/b-1:2={disabled}"


@pytest.mark.parametrize("flag", ["", "!x", "-x?", "x??", "x,", "=", "x(*)", "x[y]", "-"])
def test_what_is_no_use_dependency_is_refused(flag: str) -> None:
    with pytest.raises(InvalidDependency):
        reduced(f"a/b[{flag}]")


def test_words_of_all_groups() -> None:
    nodes = parse("a/b || ( c/d x? ( e/f ) )")
    assert list(words(nodes)) == ["a/b", "c/d", "e/f"]
    assert to_text(with_words(nodes, str.upper)) == "A/B || ( C/D x? ( E/F ) )"
