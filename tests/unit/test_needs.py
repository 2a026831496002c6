# SPDX-License-Identifier: GPL-2.0-or-later
"""Which packages dependency strings name, and whether these are needed in any case."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bdcs.domain.needs import LONGEST, Need, needs
from gentwoo_client.wire.errors import InvalidAtom


def test_what_is_needed_always_and_what_perhaps() -> None:
    text = (
        ">=dev-libs/a-1:0=[ssl?] flag? ( dev-libs/b !other? ( dev-libs/c:2 ) )"
        " || ( dev-libs/d ( dev-libs/e dev-libs/f ) ) dev-libs/g !dev-libs/h !!<dev-libs/i-3"
    )
    assert needs([text]) == {
        ("dev-libs", "a"): ">=dev-libs/a-1:0=",
        ("dev-libs", "b"): "?dev-libs/b",
        ("dev-libs", "c"): "?dev-libs/c:2",
        ("dev-libs", "d"): "?dev-libs/d",
        ("dev-libs", "e"): "?dev-libs/e",
        ("dev-libs", "f"): "?dev-libs/f",
        ("dev-libs", "g"): "dev-libs/g",
    }


def test_what_one_kind_of_dependency_needs_always_is_needed_always() -> None:
    assert needs(["test? ( dev-libs/a )", "dev-libs/a", "test? ( >=dev-libs/a-2 )"]) == {
        ("dev-libs", "a"): "?>=dev-libs/a-2 dev-libs/a"
    }


def test_what_is_written_is_read_again() -> None:
    for text in ("?>=dev-libs/a-2:3=", "dev-libs/a", "=dev-libs/a-2*"):
        need = Need.read(text)
        assert (str(need), need.perhaps) == (text, text.startswith("?"))


def test_no_more_is_kept_than_there_is_room_for() -> None:
    (kept,) = needs([" ".join(f">=dev-libs/a-{number}" for number in range(1000))]).values()
    assert len(kept) <= LONGEST
    assert all(Need.read(word) for word in kept.split())


@given(st.text(alphabet="ab/-1 (){}[]|?!<>=~:*", max_size=60))
def test_whatever_stands_there_is_read(text: str) -> None:
    for words in needs([text]).values():
        for word in words.split():
            try:
                Need.read(word)
            except InvalidAtom as error:  # pragma: no cover
                raise AssertionError(word) from error
