# SPDX-License-Identifier: GPL-2.0-or-later
"""The directory of an ebuild repository, whose contents nobody vouches for: what is in it, and its cache.

Nothing is sourced, no symbolic link below the directory is followed, and of a file no more is read than it
may have, so that a repository can say wrong things about its own packages, and do nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

from bdcs.domain.md5_cache import LARGEST
from bdcs.errors import InvalidCacheEntry, RepositoryUnusable
from gentwoo_client.wire.cpv import is_category, is_repository, split_cpv

CACHE: Final = ("metadata", "md5-cache")
EBUILD: Final = ".ebuild"
MOST_FILES: Final = 400_000
"""Ebuilds or cache entries of one repository; ::gentoo has some 30,000."""
SMALL_FILE: Final = 64 << 10  # bytes of a file under profiles/

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Mark(NamedTuple):
    """What a file looked like when it was read: while this is the same, so is the file."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a repository has."""

    entries: dict[str, Mark]
    """Files of the metadata cache, by CATEGORY/PF, whose ebuilds are there."""
    missing: frozenset[str]
    """Ebuilds that the cache does not have, by CATEGORY/PF."""
    has_cache: bool


class EbuildTree:
    """An opened repository; a context manager."""

    def __init__(self, location: Path) -> None:
        """Open `location`, which may be a symbolic link. Raises `RepositoryUnusable`."""
        self._location = location
        try:
            self._root = os.open(location, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise RepositoryUnusable(f"{location}: {error.strerror}") from error
        self._category = ""
        self._category_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (self._category_fd, self._root):
            if descriptor >= 0:
                os.close(descriptor)

    def name(self) -> str:
        """Return how the repository calls itself (PMS §4.4.3). Raises `RepositoryUnusable`."""
        lines = self._small_file("profiles", "repo_name").splitlines()
        name = lines[0].strip() if lines else ""
        if not is_repository(name):
            raise RepositoryUnusable(f"{self._location}: profiles/repo_name holds no repository's name")
        return name

    def listing(self) -> Listing:
        """Return what is there. Raises `RepositoryUnusable` where that is too much."""
        cached = self._cached()
        known = cached or {}
        categories = self._categories({path.partition("/")[0] for path in known})
        ebuilds = self._ebuilds(categories)
        entries = {path: mark for path, mark in known.items() if path in ebuilds}
        return Listing(
            entries=entries,
            missing=frozenset(ebuilds - entries.keys()),
            has_cache=cached is not None,
        )

    def ebuild_md5(self, path: str) -> str | None:
        """Return the MD5 of the ebuild CATEGORY/PF in hexadecimal; None where there is no such file."""
        parts = split_cpv(path)
        if parts is None:
            return None
        with self._directory(parts[0], parts[1]) as directory:
            if directory is None:
                return None
            try:
                descriptor = os.open(f"{path.partition('/')[2]}{EBUILD}", _FILE, dir_fd=directory)
            except OSError:
                return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
                return None
            return hashlib.md5(_content(descriptor, LARGEST), usedforsecurity=False).hexdigest()
        finally:
            os.close(descriptor)

    def entry(self, path: str) -> tuple[bytes, Mark]:
        """Return the cache entry of CATEGORY/PF, and what the file looks like now.

        Raises `InvalidCacheEntry` for what is no ordinary file of a sensible size, `FileNotFoundError`.
        """
        category, _, pf = path.partition("/")
        try:
            descriptor = os.open(pf, _FILE, dir_fd=self._in_cache(category))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise InvalidCacheEntry(f"it cannot be read: {error.strerror}") from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
                raise InvalidCacheEntry("it is no ordinary file, or larger than any cache entry is")
            return _content(descriptor, LARGEST + 1), Mark(status.st_size, status.st_mtime_ns)
        finally:
            os.close(descriptor)

    def _in_cache(self, category: str) -> int:
        """The opened directory of a category in the cache; one at a time stays open."""
        if category != self._category:
            if self._category_fd >= 0:
                os.close(self._category_fd)
                self._category, self._category_fd = "", -1
            self._category_fd = self._open(*CACHE, category)
            self._category = category
        return self._category_fd

    def _cached(self) -> dict[str, Mark] | None:
        """What the cache has; None where there is none."""
        with self._directory(*CACHE) as cache:
            if cache is None:
                return None
            categories = sorted(
                entry.name for entry in _entries(cache) if _is_directory(entry) and is_category(entry.name)
            )
        found: dict[str, Mark] = {}
        for category in categories:
            with self._directory(*CACHE, category) as directory:
                for entry in _entries(directory):
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            found[f"{category}/{entry.name}"] = Mark(status.st_size, status.st_mtime_ns)
            self._check_amount(len(found))
        return found

    def _categories(self, cached: set[str]) -> list[str]:
        """Directories that hold packages: those of the cache, those listed, and those that look like it."""
        listed = set(self._small_file("profiles", "categories").split())
        entries = _entries(self._root)
        return sorted(
            entry.name
            for entry in entries
            if _is_directory(entry)
            and is_category(entry.name)
            and (entry.name in cached or entry.name in listed or "-" in entry.name)
        )

    def _ebuilds(self, categories: list[str]) -> set[str]:
        """CATEGORY/PF of all ebuilds."""
        found: set[str] = set()
        for category in categories:
            with self._directory(category) as directory:
                packages = [entry.name for entry in _entries(directory) if _is_directory(entry)]
                for package in packages:
                    found.update(f"{category}/{pf}" for pf in _ebuilds_of(directory, package))
            self._check_amount(len(found))
        return found

    def _check_amount(self, files: int) -> None:
        if files > MOST_FILES:
            raise RepositoryUnusable(f"{self._location} has more than {MOST_FILES} ebuilds or cache entries")

    def _small_file(self, *parts: str) -> str:
        """The text of a file, empty where there is none."""
        with self._directory(*parts[:-1]) as directory:
            if directory is None:
                return ""
            try:
                descriptor = os.open(parts[-1], _FILE, dir_fd=directory)
            except OSError:
                return ""
        try:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            return _content(descriptor, SMALL_FILE).decode("utf-8", "replace") if is_file else ""
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _directory(self, *parts: str) -> Iterator[int | None]:
        """Open a directory below the root; gives None where there is none that is not a symbolic link."""
        try:
            descriptor = self._open(*parts)
        except OSError:
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self, *parts: str) -> int:
        descriptor = os.dup(self._root)
        for part in parts:
            above = descriptor
            try:
                descriptor = os.open(part, _DIRECTORY, dir_fd=above)
            finally:
                os.close(above)
        return descriptor


def _entries(directory: int | None) -> list[os.DirEntry[str]]:
    if directory is None:
        return []
    with os.scandir(directory) as found:
        return list(found)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _ebuilds_of(category: int | None, package: str) -> list[str]:
    """PF of the ebuilds of a package."""
    assert category is not None
    try:
        directory = os.open(package, _DIRECTORY, dir_fd=category)
    except OSError:
        return []  # gone a moment ago
    try:
        return [
            entry.name.removesuffix(EBUILD)
            for entry in _entries(directory)
            if entry.name.endswith(EBUILD) and entry.name.startswith(f"{package}-")
        ]
    finally:
        os.close(directory)


def _content(descriptor: int, most: int) -> bytes:
    """Read a file to its end, or `most` bytes of it."""
    content = bytearray()
    while len(content) < most and (piece := os.read(descriptor, min(1 << 20, most - len(content)))):
        content += piece
    return bytes(content)
