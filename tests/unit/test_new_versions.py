# SPDX-License-Identifier: GPL-2.0-or-later
"""New versions that are built without anybody asking: which, and until when."""

import pytest

from bdcs.domain.new_versions import NewVersion, Variant, choose
from gentwoo_client.wire.builds import BuildSpecification
from gentwoo_client.wire.cpv import CPV

NOW = 1_800_000_000
SINCE = NOW - 90 * 86_400


def built(
    cpv: str = "dev-libs/a-1",
    *use: str,
    target: str = "amd64",
    keywords: str = "amd64",
    slot: str = "0",
    used_at: int | None = NOW,
    is_popular: bool = False,
    repository: str = "gentoo",
) -> Variant:
    """A variant whose package was built."""
    metadata = {
        "EAPI": "8",
        "SLOT": slot,
        "KEYWORDS": keywords,
        "IUSE": "ssl doc",
        "repository": repository,
    }
    specification = BuildSpecification.from_wish(target, cpv, metadata, use=[*use, "amd64"], bound={})
    return Variant(specification=specification, used_at=used_at, is_popular=is_popular)


def new(
    cpv: str = "dev-libs/a-2",
    *,
    keywords: str = "amd64",
    slot: str = "0",
    is_live: bool = False,
    repository: str = "gentoo",
) -> NewVersion:
    return NewVersion(
        cpv=CPV.parse(cpv),
        repository=repository,
        slot=slot,
        keywords=tuple(keywords.split()),
        is_live=is_live,
    )


def chosen(versions: list[NewVersion], variants: list[Variant]) -> list[tuple[str, str, tuple[str, ...]]]:
    """CPV, target and USE of what is to be built."""
    return [
        (str(choice.version.cpv), choice.model.target, choice.model.use)
        for choice in choose(versions, variants, used_since=SINCE)
    ]


def test_once_for_each_target_and_variant() -> None:
    variants = [
        built("dev-libs/a-1", "ssl"),
        built("dev-libs/a-1", "doc"),
        built("dev-libs/a-1", "doc"),
        built("dev-libs/a-1", "ssl", target="arm64", keywords="amd64"),
        built("dev-libs/b-1"),
    ]
    assert chosen([new()], variants) == [
        ("dev-libs/a-2", "amd64", ("doc",)),
        ("dev-libs/a-2", "amd64", ("ssl",)),
        ("dev-libs/a-2", "arm64", ("ssl",)),
    ]


def test_of_several_new_versions_the_newest() -> None:
    versions = [new("dev-libs/a-1.9"), new("dev-libs/a-1.10"), new("dev-libs/a-1.2")]
    assert chosen(versions, [built()]) == [("dev-libs/a-1.10", "amd64", ())]


def test_what_is_older_than_what_was_built_is_not_built() -> None:
    variants = [built("dev-libs/a-3"), built("dev-libs/a-1")]
    assert chosen([new("dev-libs/a-2"), new("dev-libs/a-3")], variants) == []
    assert chosen([new("dev-libs/a-3-r1")], variants) == [("dev-libs/a-3-r1", "amd64", ())]


@pytest.mark.parametrize(
    ("used_at", "is_popular", "expected"),
    [(NOW, False, 1), (SINCE, False, 1), (SINCE - 1, False, 0), (None, False, 0), (None, True, 1)],
)
def test_it_stops_when_nobody_uses_it(used_at: int | None, is_popular: bool, expected: int) -> None:
    assert len(chosen([new()], [built(used_at=used_at, is_popular=is_popular)])) == expected


def test_one_use_of_any_version_keeps_the_variant() -> None:
    variants = [built("dev-libs/a-1", used_at=NOW), built("dev-libs/a-1.5", used_at=None)]
    choices = choose([new()], variants, used_since=SINCE)
    assert [str(choice.model.cpv) for choice in choices] == ["dev-libs/a-1.5"], "the newest is the model"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("amd64", "amd64", True),
        ("amd64", "~amd64", False),
        ("~amd64", "~amd64", True),
        ("~amd64", "amd64", True),
        ("~amd64", "~arm64", False),
        ("~amd64", "", False),
        ("-* ~amd64", "-* ~amd64", True),
        ("-*", "-*", False),
    ],
)
def test_stable_machines_get_stable_versions(before: str, after: str, expected: bool) -> None:
    assert bool(chosen([new(keywords=after)], [built(keywords=before)])) is expected


def test_other_slots_repositories_and_live_versions_are_others() -> None:
    assert chosen([new(slot="1")], [built()]) == []
    assert chosen([new(slot="1")], [built(slot="1/1.5")]) == [("dev-libs/a-2", "amd64", ())]
    assert chosen([new(repository="guru")], [built()]) == []
    assert chosen([new("dev-libs/a-9999", is_live=True)], [built()]) == []
