# SPDX-License-Identifier: GPL-2.0-or-later
"""Which machines a build serves."""

from __future__ import annotations

import pytest

from bdcs.domain.prebuild import Option, cover, serves
from gentwoo_client.wire.builds import BuildSpecification


def made(cpv: str, use: str = "ssl", iuse: str = "doc ssl", **more: str) -> BuildSpecification:
    target = more.pop("target", "amd64")
    metadata = {"EAPI": "8", "SLOT": "0", "KEYWORDS": "amd64", "IUSE": iuse, "repository": "gentoo", **more}
    return BuildSpecification.from_wish(target, cpv, metadata, use=["amd64", *use.split()], bound={})


ASKED = made("dev-libs/a-2")


@pytest.mark.parametrize(
    ("offered", "is_served"),
    [
        (ASKED, True),
        (made("dev-libs/a-2", SLOT="0/7"), True),
        (made("dev-libs/a-3"), True),
        (made("dev-libs/a-1"), False),
        (made("dev-libs/a-2-r1", KEYWORDS="~amd64"), False),
        (made("dev-libs/a-3", SLOT="3"), False),
        (made("dev-libs/b-3"), False),
        (made("dev-libs/a-3", repository="guru"), False),
        (made("dev-libs/a-3", target="arm64"), False),
        (made("dev-libs/a-3", use="doc ssl"), False),
        (made("dev-libs/a-3", use=""), False),
        (made("dev-libs/a-3", use="new ssl", iuse="doc new ssl"), True),
        (made("dev-libs/a-3", use="ssl", iuse="doc new ssl"), True),
        (made("dev-libs/a-3", use="ssl", iuse="ssl"), True),
        (made("dev-libs/a-3", use="", iuse=""), True),
    ],
)
def test_a_later_version_with_the_same_choice_serves(offered: BuildSpecification, is_served: bool) -> None:
    assert serves(offered, ASKED, least="2") is is_served


def test_what_is_older_than_they_would_take_now_serves_nobody() -> None:
    assert not serves(ASKED, ASKED, least="3")
    assert serves(made("dev-libs/a-3"), ASKED, least="3")


def test_testing_machines_take_what_became_stable() -> None:
    testing = made("dev-libs/a-2", KEYWORDS="~amd64")
    assert serves(made("dev-libs/a-3"), testing, least="2")
    assert not serves(made("dev-libs/a-3", KEYWORDS="~amd64"), ASKED, least="2")


def test_one_large_option_is_better_than_many_that_are_cheap() -> None:
    """Cheap ones first would leave no room for it."""
    large = Option(key="large", serves=frozenset("b"), cost=10)
    cheap = Option(key="cheap", serves=frozenset("a"), cost=1)
    (step,) = cover([cheap, large], {"a": 2, "b": 10}, budget=10)
    assert (step.option, step.gain) == (large, 10)


def test_what_two_options_serve_counts_for_the_first() -> None:
    both = [Option(key="1", serves=frozenset("ab")), Option(key="2", serves=frozenset("bc"))]
    assert [step.gain for step in cover(both, {"a": 5, "b": 7, "c": 3})] == [12, 3]
