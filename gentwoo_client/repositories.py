# SPDX-License-Identifier: GPL-2.0-or-later
"""Which ebuild repository a path in emerge.log belongs to, and which one here has a certain ebuild.

Of a repository only `profiles/repo_name` is read, and whether an ebuild exists. Portage's configuration is
not read: the log itself names the place that an ebuild came from, and repositories that only have to be
*found* are looked for where Gentoo puts them. One that is elsewhere is not found, and so vouches for nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from gentwoo_client.wire.cpv import is_repository


class Repositories:
    """The ebuild repositories of this machine, or of the Prefix at `eprefix`."""

    def __init__(self, eprefix: str = "") -> None:
        self._repos = f"{eprefix}/var/db/repos"
        self._old_tree = f"{eprefix}/usr/portage"
        self._names: dict[str, str] = {}

    def of_ebuild(self, path: str) -> str | None:
        """Return the name of the repository that the ebuild at `path` is or was in; None where nothing tells.

        That is `LOCATION/profiles/repo_name` (PMS). Where the location is gone, as in old logs, the usual
        places still say: /usr/portage was `gentoo`, and below /var/db/repos directories are named after
        their repository.
        """
        location = path.rsplit("/", 3)[0]
        if location not in self._names:
            name = _repo_name(location) or self._by_convention(location)
            if name is None:
                return None
            if len(self._names) >= 1000:
                self._names.clear()
            self._names[location] = name
        return self._names[location]

    def have_ebuild(self, names: tuple[str, ...], category: str, name: str, version: str) -> bool:
        """Whether one of the repositories `names` is here and has exactly that ebuild."""
        ebuild = f"{category}/{name}/{name}-{version}.ebuild"
        return any(
            _repo_name(location) in names
            for location in self._locations()
            if os.path.exists(f"{location}/{ebuild}")
        )

    def _locations(self) -> Iterator[str]:
        try:
            for entry in sorted(os.listdir(self._repos)):
                yield f"{self._repos}/{entry}"
        except OSError:
            pass
        yield self._old_tree

    def _by_convention(self, location: str) -> str | None:
        if os.path.exists(location):
            return None
        if location == self._old_tree:
            return "gentoo"
        parent, name = os.path.split(location)
        return name if parent == self._repos and is_repository(name) else None


def _repo_name(location: str) -> str | None:
    try:
        with open(f"{location}/profiles/repo_name", encoding="utf-8") as file:
            name = file.readline(256).strip()
    except (OSError, UnicodeDecodeError):
        return None
    return name if is_repository(name) else None
