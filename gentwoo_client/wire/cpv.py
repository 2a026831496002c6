# SPDX-License-Identifier: GPL-2.0-or-later
"""CATEGORY/NAME-VERSION, as PMS defines the three (§3.1.1, §3.1.2, §3.2).

Beyond PMS one thing is accepted: inter-revisions (`-r00.1`), which logs of old Gentoo Prefix systems hold.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple, Self

from gentwoo_client.wire import limits
from gentwoo_client.wire.errors import InvalidCPV

CATEGORY: Final = r"[A-Za-z0-9_][A-Za-z0-9+_.-]*"
NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9+_-]*"
VERSION: Final = r"[0-9]+(?:\.[0-9]+)*[a-z]?(?:_(?:alpha|beta|pre|rc|p)[0-9]*)*(?:-r[0-9]+(?:\.[0-9]+)?)?"
REPOSITORY: Final = r"[A-Za-z0-9_][A-Za-z0-9_-]*"
"""PMS §3.1.5, save that it may end in what looks like a version, since Portage allows it."""

# A lazy NAME takes the longest suffix that is a version; what remains must not end in one again.
_CPV = re.compile(rf"({CATEGORY})/({NAME}?)-({VERSION})")
_ENDS_IN_VERSION = re.compile(rf".*-(?:{VERSION})")
_CPV_LENGTH = limits.CATEGORY_LENGTH + limits.NAME_LENGTH + limits.VERSION_LENGTH + 2

# The same few thousand names come again and again, so answers are remembered; lengths are checked before,
# or a hostile sender would have megabytes remembered. Hence expressions need not be compiled before they are
# needed either, which would slow every start.


def split_cpv(text: str) -> tuple[str, str, str] | None:
    """Category, name and version with revision; None where `text` is no CPV. Never raises."""
    return _split(text) if len(text) <= _CPV_LENGTH else None


@lru_cache(maxsize=4096)
def _split(text: str) -> tuple[str, str, str] | None:
    match = _CPV.fullmatch(text)
    if match is None:
        return None
    category, name, version = match.groups()
    if (
        len(category) > limits.CATEGORY_LENGTH
        or len(name) > limits.NAME_LENGTH
        or len(version) > limits.VERSION_LENGTH
        or _ends_in_version(name)
    ):
        return None
    return category, name, version


def is_category(text: str) -> bool:
    """Whether `text` may name a category (PMS §3.1.1)."""
    return len(text) <= limits.CATEGORY_LENGTH and _is_category(text)


def is_name(text: str) -> bool:
    """Whether `text` may name a package (PMS §3.1.2)."""
    return len(text) <= limits.NAME_LENGTH and _is_name(text)


def is_version(text: str) -> bool:
    """Whether `text` is a version with or without revision (PMS §3.2)."""
    return len(text) <= limits.VERSION_LENGTH and _is_version(text)


def is_repository(text: str) -> bool:
    """Whether `text` may name a repository (PMS §3.1.5)."""
    return len(text) <= limits.REPOSITORY_LENGTH and _is_repository(text)


@lru_cache(maxsize=1024)
def _is_category(text: str) -> bool:
    return re.fullmatch(CATEGORY, text) is not None


@lru_cache(maxsize=4096)
def _is_name(text: str) -> bool:
    return re.fullmatch(NAME, text) is not None and not _ends_in_version(text)


@lru_cache(maxsize=4096)
def _is_version(text: str) -> bool:
    return re.fullmatch(VERSION, text) is not None


def _ends_in_version(name: str) -> bool:
    return "-" in name and _ENDS_IN_VERSION.fullmatch(name) is not None


@lru_cache(maxsize=256)
def _is_repository(text: str) -> bool:
    return re.fullmatch(REPOSITORY, text) is not None


class CPV(NamedTuple):
    """One version of one package, in Portage's own word for it."""

    category: str
    name: str
    version: str
    """With its revision, as written: `1.0-r0` and `1.0` compare equal but are not the same text."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The CPV that `text` writes. Raises `InvalidCPV`."""
        parts = split_cpv(text)
        if parts is None:
            raise InvalidCPV(f"{text[:100]!r} is not CATEGORY/NAME-VERSION")
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.category}/{self.name}-{self.version}"

    @property
    def pf(self) -> str:
        """NAME-VERSION, PMS's PF: the last part of the path under /var/db/pkg."""
        return f"{self.name}-{self.version}"

    @property
    def cp(self) -> str:
        """CATEGORY/NAME."""
        return f"{self.category}/{self.name}"
