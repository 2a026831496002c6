# SPDX-License-Identifier: GPL-2.0-or-later
"""Proposals of targets: what may stand in one, which are the same, and what an accepted one is called."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdcs.domain.proposals import name_for
from bdcs.domain.targets import check
from gentwoo_client.binhost.compiler_flags import means_the_same
from gentwoo_client.wire.errors import InvalidParameter
from gentwoo_client.wire.proposals import Proposal, cpu_of, settled

CHOST = "x86_64-pc-linux-gnu"
PLAIN: dict[str, Any] = {
    "chost": CHOST,
    "arch": "amd64",
    "profile": "default/linux/amd64/23.0/desktop",
    "cflags": "-O2 -pipe -march=znver3",
    "cpu": "znver3",
}
FLAGS = st.lists(
    st.sampled_from(
        [
            *("-O2", "-O3", "-Os", "-pipe", "-march=znver3", "-march=x86-64-v3", "-mtune=znver4"),
            *("-flto", "-flto=4", "-fno-lto", "-g", "-g0", "-ggdb", "-mavx2", "-mno-avx2", "-mfpmath=sse"),
            *("-fomit-frame-pointer", "-fno-plt", "-falign-functions=32"),
        ]
    ),
    min_size=1,
    max_size=12,
).map(" ".join)


def proposal(**other: str) -> Proposal:
    return Proposal.from_json({**PLAIN, **other})


def test_what_is_written_is_read_again() -> None:
    assert Proposal.from_json(proposal().to_json()) == proposal()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chost", "x86_64"),
        ("chost", "x86_64-pc-linux-gnu\n"),
        ("chost", "$(id)-pc-linux-gnu"),
        ("arch", ""),
        ("arch", "AMD64"),
        ("arch", "a" * 200),
        ("profile", ""),
        ("profile", "../../etc"),
        ("profile", "/default"),
        ("profile", "default/linux amd64"),
        ("cflags", ""),
        ("cflags", "   "),
        ("cflags", "-O2 -march=native"),
        ("cflags", "-O2 -mtune=native"),
        ("cflags", "-O2 -wrapper sh"),
        ("cflags", "-fplugin=/tmp/x.so"),
        ("cflags", "-specs=/tmp/specs"),
        ("cflags", "-B/tmp"),
        ("cflags", "@/etc/passwd"),
        ("cflags", "-include /etc/passwd"),
        ("cflags", "-O2 `id`"),
        ("cflags", "-O2 $(id)"),
        ("cflags", "-O2;id"),
        ("cflags", "-O2\nSOURCE=x"),
        ("cflags", '-DX="y"'),
        ("cflags", "-O2 " * 2000),
        ("cpu", "native"),
        ("cpu", "zn ver"),
        ("cpu", "-march"),
        ("cpu", "a" * 65),
        ("cpu", "x\x00"),
    ],
)
def test_what_could_run_something_or_says_nothing_is_refused(field: str, value: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        proposal(**{field: value})
    assert refused.value.field == field


@pytest.mark.parametrize("field", PLAIN)
@pytest.mark.parametrize("value", [None, 1, [], {}, True])
def test_every_member_is_a_string(field: str, value: object) -> None:
    with pytest.raises(InvalidParameter):
        Proposal.from_json({**PLAIN, field: value})
    with pytest.raises(InvalidParameter):
        Proposal.from_json({name: text for name, text in PLAIN.items() if name != field})


@pytest.mark.parametrize("document", [None, [], "x", {**PLAIN, "features": "x"}, {**PLAIN, "": ""}])
def test_nothing_else_is_a_proposal(document: object) -> None:
    with pytest.raises(InvalidParameter):
        Proposal.from_json(document)


@given(st.dictionaries(st.sampled_from([*PLAIN, "x"]), st.text() | st.integers() | st.none()))
def test_whatever_comes_is_read_or_refused(document: dict[str, object]) -> None:
    try:
        read = Proposal.from_json(document)
    except InvalidParameter:
        return
    assert Proposal.from_json(read.to_json()) == read


def test_neither_order_nor_pipe_makes_another_proposal() -> None:
    one = proposal(cflags="-O2 -pipe -march=znver3 -fno-plt")
    other = proposal(cflags="-fno-plt  -march=znver3 -O3 -O2", cpu="")
    assert one.digest() == other.digest()
    for field, value in {"chost": "x86_64-gentoo-linux-musl", "arch": "x86", "profile": "x"}.items():
        assert proposal(**{field: value}).digest() != proposal().digest()
    assert proposal(cflags="-O3 -march=znver3").digest() != proposal().digest()


@given(FLAGS)
def test_flags_that_are_overruled_go_and_the_rest_means_the_same(cflags: str) -> None:
    assert means_the_same(CHOST, cflags, settled(cflags))
    assert settled(settled(cflags)) == settled(cflags)
    assert proposal(cflags=cflags).cflags == settled(cflags)


def test_the_cpu_is_the_one_that_the_flags_name_last() -> None:
    assert cpu_of("-O2 -march=x86-64-v2 -march=znver3") == "znver3"
    assert cpu_of("-O2") == ""


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, "amd64-znver3-23.0-desktop"),
        ({"cpu": "", "profile": "default/linux/amd64/23.0"}, "amd64-any-23.0"),
        ({"cpu": "x86-64-v3", "profile": "features/Prefix+x"}, "amd64-x86-64-v3-features-prefix-x"),
        ({"profile": "/".join(["deep"] * 40)}, "amd64-znver3-deep-deep-deep-deep-deep-deep-deep-deep-deep-d"),
    ],
)
def test_a_name_says_what_a_target_is_for(more: dict[str, str], name: str) -> None:
    proposed = proposal(**more)
    assert name_for(proposed, ()) == name
    assert name_for(proposed, {name, f"{name}-2"}) == f"{name}-3"
    check("name", f"{name}-9999")
