# SPDX-License-Identifier: GPL-2.0-or-later
"""What HTTP says of package files, wherever they come from."""

from __future__ import annotations

from typing import Final

GPKG: Final = "application/vnd.gentoo.gpkg"
XPAK: Final = "application/vnd.gentoo.xpak"
YEAR: Final = 31_536_000
FOR_GOOD: Final = f"max-age={YEAR}, immutable"
"""Cache-Control of a file whose path no other will ever have."""


def content_type(path: str) -> str:
    """Return the media type of a package file, as registered with IANA; `.tbz2` of old Portage is XPAK."""
    return GPKG if path.endswith(".gpkg.tar") else XPAK
