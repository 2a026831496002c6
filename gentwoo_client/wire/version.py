# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of versions: the algorithms of PMS §3.3, as one key that sorts."""

import re
from functools import lru_cache, total_ordering
from typing import Self

from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import InvalidVersion

_PARTS = re.compile(
    r"([0-9]+)((?:\.[0-9]+)*)([a-z]?)((?:_(?:alpha|beta|pre|rc|p)[0-9]*)*)(?:-r([0-9]+)(?:\.([0-9]+))?)?"
)
_SUFFIX = re.compile(r"_(alpha|beta|pre|rc|p)([0-9]*)")
_RANK = {"alpha": -4, "beta": -3, "pre": -2, "rc": -1, "p": 1}
_NO_MORE_SUFFIXES = (0, 0)  # after _rc, before _p

_Key = tuple[int, tuple[tuple[int, int, str], ...], str, tuple[tuple[int, int], ...], tuple[int, int]]


def _component(digits: str) -> tuple[int, int, str]:
    """The key of a numeric component after the first (PMS algorithm 3.3).

    Where one of two begins with 0, both are compared as strings without trailing zeros. One that begins
    with 0 is then always the lower one, so that two kinds of key are enough.
    """
    if digits[0] == "0":
        return (0, 0, digits.rstrip("0"))
    return (1, int(digits), "")


@lru_cache(maxsize=4096)
def _key(text: str) -> _Key:
    match = _PARTS.fullmatch(text) if len(text) <= limits.VERSION_LENGTH else None
    if match is None:
        raise InvalidVersion(f"{text[:100]!r} is not a version")
    first, others, letter, suffixes, revision, inter_revision = match.groups()
    return (
        int(first),
        tuple(_component(digits) for digits in others.split(".")[1:]),
        letter,
        (*((_RANK[kind], int(number or 0)) for kind, number in _SUFFIX.findall(suffixes)), _NO_MORE_SUFFIXES),
        (int(revision or 0), int(inter_revision or 0)),
    )


@total_ordering
class Version:
    """A version with or without revision. Equal are those that PMS orders neither way: 1.0 and 1.0-r0."""

    __slots__ = ("_key", "text")

    def __init__(self, text: str) -> None:
        """The version that `text` writes. Raises `InvalidVersion`."""
        self.text = text
        self._key = _key(text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The version that `text` writes. Raises `InvalidVersion`."""
        return cls(text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Version({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._key < other._key if isinstance(other, Version) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def without_revision(self) -> str:
        """PMS's PV."""
        return self.text.partition("-r")[0]


@lru_cache(maxsize=4096)
def compare_versions(a: str, b: str) -> int:
    """-1, 0 or 1 as `a` is lower than, equal to or higher than `b`. Raises `InvalidVersion`."""
    left, right = _key(a), _key(b)
    return (left > right) - (left < right)
