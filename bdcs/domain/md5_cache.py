# SPDX-License-Identifier: GPL-2.0-or-later
"""An entry of a repository's metadata cache: what `metadata/md5-cache/CATEGORY/PF` says of an ebuild.

Lines KEY=VALUE, as `egencache` writes them (the md5-dict format of layout.conf). Whoever can write to an
ebuild repository can write anything here, so that every value that is kept is checked (PMS §7). Pure.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from bdcs.domain.needs import needs
from bdcs.errors import InvalidCacheEntry

LARGEST: Final = 1 << 20
"""Bytes; the largest of ::gentoo has a quarter of that."""
LINE: Final = 1000  # characters of a description
HOMEPAGE: Final = 1000  # characters of one
HOMEPAGES: Final = 8
WORDS: Final = 64 << 10  # characters of IUSE, KEYWORDS, LICENSE, RESTRICT and PROPERTIES

_SLOT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+_.-]{0,127}(?:/[A-Za-z0-9_][A-Za-z0-9+_.-]{0,127})?")
_EAPI = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+_.-]{0,63}")
_FLAGS = re.compile(r"(?:[+-]?[A-Za-z0-9][A-Za-z0-9+_@.-]{0,127}(?: |$))*")
_KEYWORDS = re.compile(r"(?:[~-]?(?:[A-Za-z0-9_][A-Za-z0-9_-]{0,63}|\*)(?: |$))*")
_HOMEPAGE = re.compile(r"(?:https?|ftp)://[!-~]+")
_KEY = re.compile(r"[A-Z_a-z][A-Z_a-z0-9]*")
_NEEDS: Final = ("BDEPEND", "DEPEND", "IDEPEND", "PDEPEND", "RDEPEND")
_DEPENDENCIES: Final = (*_NEEDS, "REQUIRED_USE")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """What the catalogue keeps of one version; lists are words with one blank between them."""

    slot: str
    """With sub-slot where it has one."""
    eapi: str
    keywords: str
    iuse: str
    """With `+` and `-` before flags, as the ebuild has it."""
    license: str
    restrict: str
    properties: str
    description: str
    homepage: str
    """URIs of http, https and ftp."""
    dependencies: str
    """SHA-256, in hexadecimal, of the dependencies as they are written, and REQUIRED_USE."""


def read_entry(content: bytes) -> CacheEntry:
    """Return what a cache entry says. Raises `InvalidCacheEntry`."""
    values = read_values(content)
    digest = hashlib.sha256("\0".join(values.get(key, "") for key in _DEPENDENCIES).encode())
    return CacheEntry(
        slot=_matching(values, "SLOT", _SLOT),
        eapi=_matching(values, "EAPI", _EAPI, "0"),
        keywords=_matching(values, "KEYWORDS", _KEYWORDS, ""),
        iuse=_matching(values, "IUSE", _FLAGS, ""),
        license=_words(values, "LICENSE"),
        restrict=_words(values, "RESTRICT"),
        properties=_words(values, "PROPERTIES"),
        description=_line(values.get("DESCRIPTION", "")),
        homepage=_homepage(values.get("HOMEPAGE", "")),
        dependencies=digest.hexdigest(),
    )


def read_needs(content: bytes) -> dict[tuple[str, str], str]:
    """Return what a cache entry needs of each package, as `dependencies.needs` writes it.

    Raises `InvalidCacheEntry`.
    """
    values = read_values(content)
    return needs(values.get(key, "") for key in _NEEDS)


def read_values(content: bytes) -> dict[str, str]:
    """Return all values of a cache entry, unchecked. Raises `InvalidCacheEntry`.

    A line that is not KEY=VALUE spoils the whole entry, as for Portage: nobody knows what is missing.
    """
    if len(content) > LARGEST:
        raise InvalidCacheEntry("it is larger than any cache entry is")
    lines = content.decode("utf-8", "replace").removesuffix("\n").split("\n")
    values: dict[str, str] = {}
    for line in lines:
        key, separator, value = line.partition("=")
        if not separator or not _KEY.fullmatch(key):
            raise InvalidCacheEntry(f"{line[:80]!r} is not KEY=VALUE")
        values[key] = value
    return values


def _matching(values: dict[str, str], key: str, pattern: re.Pattern[str], default: str | None = None) -> str:
    value = _words(values, key) or default
    if value is None:
        raise InvalidCacheEntry(f"it has no {key}")
    if not pattern.fullmatch(value):
        raise InvalidCacheEntry(f"{key}: {value[:80]!r} is none")
    return value


def _words(values: dict[str, str], key: str) -> str:
    value = " ".join(values.get(key, "").split())
    if len(value) > WORDS or not value.isprintable():
        raise InvalidCacheEntry(f"{key}: {value[:80]!r} cannot be")
    return value


def _homepage(text: str) -> str:
    uris = [uri for uri in text.split() if len(uri) <= HOMEPAGE and _HOMEPAGE.fullmatch(uri)]
    return " ".join(uris[:HOMEPAGES])


def _line(text: str) -> str:
    """`text` in one line, without what could command a terminal."""
    printable = "".join(character if character.isprintable() else " " for character in text[: 2 * LINE])
    return " ".join(printable.split())[:LINE]
