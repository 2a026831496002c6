# SPDX-License-Identifier: GPL-2.0-or-later
"""What may leave the machine, and why the rest may not. docs/privacy.md explains it to people."""

from __future__ import annotations

from dataclasses import dataclass

from gentwoo_client.repositories import Repositories

ROOT = "root"
"""It happened in another ROOT than the machine's own."""

REPOSITORY = "repository"
"""The package is from a repository that is not on the list, or from an unknown one."""

HISTORY = "history"
"""It happened before GenTwoo ran here, and the setting `history` keeps that back."""

UNCONFIRMED = "unconfirmed"
"""The log has the end of a merge without its beginning, and the package is not installed: a forged line."""

INVALID = "invalid"
"""The protocol has no way to say it, such as the inter-revisions of old Prefix versions."""

ANY_REPOSITORY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """The rules in force."""

    own_root: str
    """EPREFIX, or empty, of the system that is reported."""
    allowed: tuple[str, ...]
    """Names of repositories; `*` alone allows all."""
    since: int | None
    """Unix time from which on the past may be sent; None keeps all of it."""
    repositories: Repositories

    def is_own(self, root: str | None) -> bool:
        """Whether a ROOT, as the log writes it, is the machine's own; None, where it names none, may be."""
        return root is None or root.rstrip("/") == self.own_root

    def may_name(self, repository: str | None, category: str, name: str, version: str) -> bool:
        """Whether a package of that repository may be reported.

        Where the repository is unknown, only if an allowed one here has that very ebuild: then the name
        gives nothing away, while a private fork, or a package of one's own, stays private.
        """
        if ANY_REPOSITORY in self.allowed:
            return True
        if repository is not None:
            return repository in self.allowed
        return self.repositories.have_ebuild(self.allowed, category, name, version)

    def may_tell(self, recorded_at: int, *, is_past: bool) -> bool:
        """Whether something of that time may be reported; `is_past`: logged before GenTwoo ran here."""
        return not is_past or (self.since is not None and recorded_at >= self.since)
