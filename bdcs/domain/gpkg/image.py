# SPDX-License-Identifier: GPL-2.0-or-later
"""The image of a package, what a client installs: walked, never unpacked.

Refused is what Portage refuses when it unpacks an image (names that leave it, devices, hard links to what
is not in it, members behind a symbolic link, duplicates) and what it refuses when it merges one (line ends in
names), so that clients never get to the point where it does, after the package's first scripts ran as root.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bdcs.domain.gpkg import tar
from bdcs.domain.gpkg.limits import Limits
from bdcs.errors import InvalidPackage

ROOT: Final = "image"
SHOWN: Final = 1000  # names of setuid and setgid files that are remembered
_DEPTH: Final = 256  # directories within each other
_LINE_END: Final = re.compile("[\n\r]")
_IMPLIED: Final = b"implied"  # a directory that was not named itself, only something in it
_SETUID_SETGID: Final = 0o6000


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image holds, in figures."""

    files: int
    """Members that are no directories."""
    size: int
    """Bytes of all files."""
    setuid: tuple[str, ...] = ()
    """Files with the setuid or setgid bit, as absolute paths; the first thousand. File capabilities cannot be
    in a package: they would need pax headers, which Portage neither writes nor restores."""


class ImageReader:
    """Checks the members of an image as they come; a `tar.Visitor`. Raises `InvalidPackage`.

    Names are held in memory; `archive` is the archive's name for people and `root` the directory that all
    names begin with.
    """

    def __init__(self, archive: str, limits: Limits, root: str = ROOT) -> None:
        self._archive = archive
        self._limits = limits
        self._root = root
        self._kinds: dict[str, bytes] = {}
        self._names = 0
        self._members = 0
        self._files = 0
        self._size = 0
        self._setuid: list[str] = []

    def visit(self, entry: tar.Entry) -> None:
        """Take one member; its data are of no interest."""
        name = entry.name
        if entry.kind == tar.DIRECTORY and name.endswith("/"):
            name = name[:-1]
        self._check_name(name)
        self._check_amounts(entry)
        self._check_place(name, entry.kind)
        if entry.kind == tar.HARD_LINK and self._kinds.get(entry.link) != tar.FILE:
            raise self._invalid(name, "is a hard link to something that is no file before it")
        if entry.kind == tar.SYMBOLIC_LINK and (not entry.link or _LINE_END.search(entry.link)):
            raise self._invalid(name, "is a symbolic link to a senseless name")
        self._kinds[name] = kind = tar.FILE if entry.kind == tar.HARD_LINK else entry.kind
        if kind == tar.FILE and entry.mode & _SETUID_SETGID and len(self._setuid) < SHOWN:
            self._setuid.append(name[len(self._root) :])

    def image(self) -> Image:
        """All members were there."""
        if self._kinds.get(self._root) not in (tar.DIRECTORY, _IMPLIED):
            raise InvalidPackage(f"{self._archive} has no directory {self._root}/")
        return Image(files=self._files, size=self._size, setuid=tuple(self._setuid))

    def _invalid(self, name: str, what: str) -> InvalidPackage:
        return InvalidPackage(f"{self._archive}: {name!r:.300} {what}")

    def _check_name(self, name: str) -> None:
        if name.startswith("/"):
            raise self._invalid(name, "is an absolute name")
        parts = name.split("/")
        if parts[0] != self._root:
            raise self._invalid(name, f"is not in {self._root}/")
        if "" in parts or "." in parts or ".." in parts:
            raise self._invalid(name, "has an empty part, '.' or '..' in it")
        if len(parts) > _DEPTH:
            raise self._invalid(name, "lies too deep")
        if _LINE_END.search(name):
            raise self._invalid(name, "has a line end in its name")

    def _check_amounts(self, entry: tar.Entry) -> None:
        self._members += 1
        self._files += entry.kind != tar.DIRECTORY
        self._size += entry.size
        self._count_name(entry.name)
        if self._members > self._limits.image_members:
            raise InvalidPackage(f"{self._archive} has more than {self._limits.image_members} members")

    def _count_name(self, name: str) -> None:
        self._names += len(name)
        if self._names > self._limits.image_names:
            raise InvalidPackage(f"{self._archive} has names of more than {self._limits.image_names} bytes")

    def _check_place(self, name: str, kind: bytes) -> None:
        """`name` is new, and everything above it is a directory."""
        before = self._kinds.get(name)
        if before is not None and not (before == _IMPLIED and kind == tar.DIRECTORY):
            raise self._invalid(name, "is there twice")
        parent = name
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            above = self._kinds.get(parent)
            if above is None:
                self._count_name(parent)
                self._kinds[parent] = _IMPLIED
            elif above in (tar.DIRECTORY, _IMPLIED):
                return
            else:
                raise self._invalid(name, f"lies behind {parent!r:.300}, which is no directory")
