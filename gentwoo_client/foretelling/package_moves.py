# SPDX-License-Identifier: GPL-2.0-or-later
"""Package moves of the ebuild repositories here (`profiles/updates`, PMS §4.4.4): old name → new name."""

from __future__ import annotations

import os
import re
from typing import Final

_QUARTER: Final = re.compile(r"([1-4])Q-([0-9]{4})")
_MOVE: Final = re.compile(r"^move[ \t]+(\S+/\S+)[ \t]+(\S+/\S+)[ \t]*$", re.MULTILINE)
_LARGEST: Final = 1 << 20  # bytes of one file


def package_moves(eprefix: str = "") -> dict[str, str]:
    """Return the moves of all repositories below `eprefix`, later ones last. Unreadable ones are left out."""
    moves: dict[str, str] = {}
    for directory in _directories(eprefix):
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in sorted(filter(_QUARTER.fullmatch, names), key=_age):
            moves.update(_of_file(f"{directory}/{name}"))
    return moves


def _directories(eprefix: str) -> list[str]:
    repositories = f"{eprefix}/var/db/repos"
    try:
        names = sorted(os.listdir(repositories))
    except OSError:
        names = []
    return [
        f"{place}/profiles/updates"
        for place in (*(f"{repositories}/{name}" for name in names), f"{eprefix}/usr/portage")
    ]


def _age(name: str) -> tuple[str, str]:
    quarter, _, year = name.partition("Q-")
    return year, quarter


def _of_file(path: str) -> list[tuple[str, str]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [(old, new) for old, new in _MOVE.findall(file.read(_LARGEST)) if old != new]
    except OSError:
        return []
