# SPDX-License-Identifier: GPL-2.0-or-later
"""What atoms and security advisories say is affected."""

from __future__ import annotations

import contextlib

import pytest

from bdcs.domain.affected import MOST_PACKAGES, MOST_TAGS, TEXT_LENGTH, parse_affected
from gentwoo_client.wire.errors import Malformed

XML = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE glsa SYSTEM "http://www.gentoo.org/dtd/glsa.dtd">
<glsa id="202611-01"><title>Example</title><affected>
  <package name="dev-lang/python" auto="yes" arch="*">
    <unaffected range="ge" slot="3.12">3.12.8</unaffected>
    <unaffected range="ge" slot="3.11">3.11.11</unaffected>
    <vulnerable range="lt">3.13.1</vulnerable>
  </package>
  <package name="net-misc/curl" auto="yes" arch="*">
    <unaffected range="rge">8.4.0-r2</unaffected>
    <unaffected range="ge">8.5.0</unaffected>
    <vulnerable range="lt">8.5.0</vulnerable>
  </package>
</affected></glsa>"""

MAIL = """
Affected packages
=================

    -------------------------------------------------------------------
     Package              /     Vulnerable     /            Unaffected
    -------------------------------------------------------------------
  1  net-misc/curl                < 8.5.0                    >= 8.5.0
                                                          *>= 8.4.0-r2
  2  app-misc/gone                <= 1.2                  Vulnerable!
"""

PAGE = """Package  net-misc/curl on all architectures
Affected versions  < 8.5.0
Unaffected versions  >= 8.5.0, *>= 8.4.0-r2"""


@pytest.mark.parametrize("text", [XML, MAIL, PAGE])
def test_an_advisory_as_it_is_pasted(text: str) -> None:
    curl = {each.name: each for each in parse_affected(text)}["curl"]
    assert [
        curl.has(version) for version in ("8.4.0-r1", "8.4.0-r2", "8.4.0-r3", "8.4.1", "8.5.0", "8.6.0")
    ] == [
        True,
        False,
        False,
        True,
        False,
        False,
    ]


def test_slots_of_an_advisory() -> None:
    python = parse_affected(XML)[0]
    assert not python.has("3.12.8", "3.12")
    assert python.has("3.12.7", "3.12")
    assert not python.has("3.11.11", "3.11")
    assert python.has("3.12.8", "3.10"), "unaffected in its own slot only"
    assert python.has("3.12.8"), "where nobody knows the slot, it may be affected"


def test_a_package_without_fix() -> None:
    gone = {each.name: each for each in parse_affected(MAIL)}["gone"]
    assert gone.has("1.2")
    assert not gone.has("1.2-r1")


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("dev-libs/a", ["1", "9999"], []),
        ("<dev-libs/a-2", ["1", "1.9-r3"], ["2", "2-r1"]),
        ("=dev-libs/a-1.2*", ["1.2", "1.2.3"], ["1.20", "1.3"]),
        ("~dev-libs/a-1.2", ["1.2", "1.2-r7"], ["1.2.1"]),
        ("dev-libs/a < 2", ["1"], ["2"]),
        ("dev-libs/a <2", ["1"], ["2"]),
        ("<dev-libs/a-1 >=dev-libs/a-3", ["0.9", "3"], ["1", "2"]),
        ("dev-libs/a = 1.2*", ["1.2.3"], ["1.3"]),
    ],
)
def test_atoms_and_ranges(text: str, yes: list[str], no: list[str]) -> None:
    (only,) = parse_affected(text)
    assert all(map(only.has, yes))
    assert not any(map(only.has, no))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no package"),
        ("openssl", "category is missing"),
        ("< 3.0", "before any package"),
        ("dev-libs/a <", "no version"),
        ("dev-libs/a < 1.x", "no version"),
        ("dev-libs/a[ssl]", "only a version and a slot"),
        ("!dev-libs/a", "only a version and a slot"),
        ("dev-libs/a::gentoo", "only a version and a slot"),
        ("<package name='a'>", "no package"),
        ("<package name='a/b'><vulnerable range='near'>1</vulnerable>", "no range"),
        ("<package" + "<a " * MOST_TAGS, f"more than {MOST_TAGS} tags"),
        ("dev-libs/a " * 1000, f"more than {TEXT_LENGTH}"),
        (" ".join(f"dev-libs/a{number}" for number in range(MOST_PACKAGES + 1)), "more than 50 packages"),
        ("nonsense dev-libs/a", "nonsense"),
    ],
)
def test_what_cannot_be_understood_is_named(text: str, complaint: str) -> None:
    with pytest.raises(Malformed, match=complaint):
        parse_affected(text)


@pytest.mark.parametrize(
    "broken", ["<![nonsense", "<![ nonsense", "<![1]]>", "<!", "<!--", "<?", "</", "&#x0;"]
)
def test_broken_markup_is_refused_or_passed_over(broken: str) -> None:
    with contextlib.suppress(Malformed):  # which of both depends on the version of Python
        assert parse_affected(f"<package name='a/b'>{broken}")[0].name == "b"


def test_what_is_asked_is_said_again() -> None:
    assert str(parse_affected("dev-libs/a")[0]) == "any version"
    assert str(parse_affected("=dev-libs/a-1.2*:3")[0]) == "= 1.2* in slot 3"
    curl = {each.name: each for each in parse_affected(XML)}["curl"]
    assert str(curl) == "< 8.5.0, but not >= 8.4.0-r2 (revisions of 8.4.0) or >= 8.5.0"
