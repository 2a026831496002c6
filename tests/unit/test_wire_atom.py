# SPDX-License-Identifier: GPL-2.0-or-later
"""What atoms match beyond versions, which the property tests hold against Portage."""

import pytest

from gentwoo_client.wire.atom import Atom
from gentwoo_client.wire.cpv import CPV
from gentwoo_client.wire.errors import InvalidAtom

PYTHON = CPV.parse("dev-lang/python-3.11.7-r1")


@pytest.mark.parametrize(
    ("text", "slot", "repository", "expected"),
    [
        ("dev-lang/python", None, None, True),
        ("dev-lang/perl", None, None, False),
        ("dev-python/python", None, None, False),
        ("dev-lang/python:3.11", "3.11", None, True),
        ("dev-lang/python:3.11", "3.11/3.11t", None, True),
        ("dev-lang/python:3.11/3.11", "3.11", None, True),
        ("dev-lang/python:3.11/3", "3.11", None, False),
        ("dev-lang/python:3.12", "3.11", None, False),
        ("dev-lang/python:3.11", None, None, False),
        ("dev-lang/python:*", None, None, True),
        ("dev-lang/python:=", "3.11", None, True),
        ("dev-lang/python::gentoo", None, "gentoo", True),
        ("dev-lang/python::gentoo", None, "guru", False),
        ("dev-lang/python::gentoo", None, None, False),
        ("!!<dev-lang/python-4[ssl]", None, None, True),
    ],
)
def test_matching(text: str, slot: str | None, repository: str | None, expected: bool) -> None:
    """Slot and repository must be known to match; USE dependencies and the blocker's mark play no part."""
    assert Atom.parse(text).matches(PYTHON, slot=slot, repository=repository) is expected


@pytest.mark.parametrize("text", ["python", ">=python-3", "python:3.11", "=python-3.11*"])
def test_bare_names_match_any_category(text: str) -> None:
    """Only where they are asked for, as people type them."""
    assert Atom.parse(text, allow_bare=True).matches(PYTHON, slot="3.11")
    assert str(Atom.parse(text, allow_bare=True)) == text
    with pytest.raises(InvalidAtom):
        Atom.parse(text)


@pytest.mark.parametrize("text", ["*/*", "dev-lang/*", "dev-lang/python-3.11", "@world", "a" * 2000])
def test_what_is_no_atom_is_refused(text: str) -> None:
    """Wildcards and sets are no atoms, and a version wants an operator."""
    with pytest.raises(InvalidAtom):
        Atom.parse(text)
