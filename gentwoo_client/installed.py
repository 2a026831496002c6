# SPDX-License-Identifier: GPL-2.0-or-later
"""What Portage's database of installed packages (`/var/db/pkg`) says about one package.

Only whether `CAT/PF` exists, since when, and its `repository` are looked at; and its `SLOT`, by commands that
a person runs. Portage makes the directory when
it merges and removes it when it unmerges; an unfinished merge has another name (`-MERGING-…`).
"""

from __future__ import annotations

import os

from gentwoo_client.wire.cpv import is_repository, split_cpv


class InstalledPackages:
    """The database below `eprefix`; as it is at the moment of each question."""

    def __init__(self, eprefix: str = "") -> None:
        self._path = f"{eprefix}/var/db/pkg"

    def since(self, category: str, pf: str) -> int | None:
        """Return when the package was installed, Unix seconds; None where it is not."""
        try:
            return int(os.stat(self._entry(category, pf)).st_mtime)
        except OSError:
            return None

    def repository(self, category: str, pf: str) -> str | None:
        """Return the repository it was installed from; None where nothing tells."""
        try:
            with open(f"{self._entry(category, pf)}/repository", encoding="utf-8") as file:
                name = file.readline(256).strip()
        except (OSError, UnicodeDecodeError):
            return None
        return name if is_repository(name) else None

    def versions(self, category: str, name: str) -> list[str]:
        """Return the installed versions of a package; none where it is not installed."""
        try:
            entries = os.listdir(f"{self._path}/{category}")
        except OSError:
            return []
        split = (split_cpv(f"{category}/{entry}") for entry in entries if entry.startswith(f"{name}-"))
        return sorted(found[2] for found in split if found is not None and found[1] == name)

    def slot(self, category: str, pf: str) -> str | None:
        """Return SLOT, with sub-slot where it has one; None where nothing tells."""
        try:
            with open(f"{self._entry(category, pf)}/SLOT", encoding="utf-8") as file:
                return file.readline(256).strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def _entry(self, category: str, pf: str) -> str:
        return f"{self._path}/{category}/{pf}"
