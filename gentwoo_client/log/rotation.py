# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files beside emerge.log are older parts of it, and in what order they were written.

Portage itself never rotates; administrators do, with logrotate (`emerge.log.1`, `emerge.log.2.gz`,
`emerge.log-20261122.xz`, `emerge-20261122.log`) or by hand (`emerge.log.old`). Editors' backups
(`emerge.log~`, `.bak`) are copies of what is still in the log, hence not taken.
"""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple, cast

from gentwoo_client.log.packed import PACKED

_SUFFIX = re.compile(r"[.-](?:(?P<number>\d{1,5})|(?P<date>\d[\d.T:_-]{5,})|old)")

LISTINGS = 100
"""How often a directory in which files come and go is listed, at most."""


class RotatedFile(NamedTuple):
    """One older part of the log, as it was when the directory was listed."""

    path: str
    stem: str
    """The path without the ending of a compressor."""

    packed: bool
    device: int
    inode: int
    size: int
    modified: int
    """Time of the last write, Unix seconds; compressors keep it."""

    number: int | None
    date: str | None


def rotated_files(log: str) -> list[RotatedFile]:
    """Return the older parts of `log`, oldest first; empty where the directory cannot be read.

    Where `log` is a symlink, those beside the file that it leads to. A compressed file whose uncompressed
    original is still there is left out: it may be half written.
    """
    directory, name = os.path.split(os.path.realpath(log))
    found = _settled_listing(directory, name)
    plain = {file.stem for file in found if not file.packed}
    parts = [file for file in found if not file.packed or file.stem not in plain]
    if all(file.number is not None for file in parts):
        return sorted(parts, key=lambda file: -cast("int", file.number))
    if all(file.date is not None for file in parts):
        return sorted(parts, key=lambda file: cast("str", file.date))
    return sorted(parts, key=lambda file: file.modified)


def _settled_listing(directory: str, name: str) -> list[RotatedFile]:
    """Return the older parts of the log `name`, in no order, as they were at one moment.

    While files are being renamed a listing can miss one of them, which would then never be read; so it is
    taken again until two agree.
    """
    listing = _listing(directory, name)
    for _ in range(LISTINGS):
        previous, listing = listing, _listing(directory, name)
        if {(file.path, file.inode) for file in listing} == {(file.path, file.inode) for file in previous}:
            break
    return listing


def _listing(directory: str, name: str) -> list[RotatedFile]:
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return [file for entry in names if (file := _examine(directory, entry, name))]


def _examine(directory: str, entry: str, name: str) -> RotatedFile | None:
    stem = entry
    for ending in PACKED:
        stem = stem.removesuffix(ending)
    base, extension = os.path.splitext(name)
    if stem == name and stem != entry:
        match = None
    elif stem.startswith(name):
        match = _SUFFIX.fullmatch(stem, len(name))
    elif extension and stem.startswith(base) and stem.endswith(extension):
        match = _SUFFIX.fullmatch(stem, len(base), len(stem) - len(extension))
    else:
        return None
    if match is None and stem != name:
        return None
    path = os.path.join(directory, entry)
    try:
        status = os.stat(path)
    except OSError:
        return None
    if entry == name or not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    date = match["date"] if match else None
    return RotatedFile(
        path=path,
        stem=os.path.join(directory, stem),
        packed=stem != entry,
        device=status.st_dev,
        inode=status.st_ino,
        size=status.st_size,
        modified=int(status.st_mtime),
        number=None if date else int(match["number"] or 0) if match else 0,
        date=date,
    )
