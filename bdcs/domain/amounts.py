# SPDX-License-Identifier: GPL-2.0-or-later
"""How sizes are read and written: `1.5 GiB`."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?)(?:i?B)?", re.IGNORECASE)


def size_text(size: int) -> str:
    """Return `size` bytes in the largest unit of which there is one."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{size} B"


def size_of(text: str) -> int:
    """Return the bytes that `text` means: `500M`, `1.5 GiB`, `1024`. Raises `ValueError`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size such as 500M or 1.5G")
    letters = "".join(unit[0] for unit in _UNITS)
    return int(float(match[1]) * 1024 ** letters.index(match[2].upper() or "B"))
