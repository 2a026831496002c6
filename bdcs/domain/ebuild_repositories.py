# SPDX-License-Identifier: GPL-2.0-or-later
"""Ebuild repositories: where they may come from, and how often they are looked at. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from bdcs.errors import RepositoryRefused
from gentwoo_client.wire.cpv import is_repository

MINUTE: Final = 60
DAY: Final = 86_400
OFTEN: Final = 2 * MINUTE
"""Seconds between two looks at what is the operator's own, or takes next to nothing to ask for."""
LONGEST_URI: Final = 2000  # characters


class SyncType(StrEnum):
    """How a repository gets here; the words are those of repos.conf."""

    LOCAL = "local"
    """Somebody else keeps the directory up to date."""
    GIT = "git"
    RSYNC = "rsync"


_HOST = r"(?:[A-Za-z0-9_.-]+@)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_PATH = r"/[A-Za-z0-9._~%+@,=/-]*"
_URIS: Final[Mapping[SyncType, re.Pattern[str]]] = MappingProxyType(
    {
        SyncType.LOCAL: re.compile(""),
        SyncType.GIT: re.compile(rf"(?:https|ssh)://{_HOST}{_PATH}|file://{_PATH}"),
        SyncType.RSYNC: re.compile(rf"rsync://{_HOST}{_PATH}"),
    }
)
_KINDS: Final[Mapping[SyncType, str]] = MappingProxyType(
    {
        SyncType.LOCAL: "a local directory has no sync-uri",
        SyncType.GIT: "git takes https://HOST/PATH, ssh://HOST/PATH and file:///PATH",
        SyncType.RSYNC: "rsync takes rsync://HOST/MODULE",
    }
)


def check_name(name: str) -> str:
    """Return `name` if a repository may be called so (PMS §3.1.5). Raises `RepositoryRefused`."""
    if not is_repository(name):
        raise RepositoryRefused(f"{name[:100]!r} is no repository's name")
    return name


def check_uri(sync_type: SyncType, uri: str) -> str:
    """Return `uri` if repositories of that kind come from such. Raises `RepositoryRefused`.

    What git and rsync can do besides (a command as transport, options) cannot be written so.
    """
    if len(uri) > LONGEST_URI or not _URIS[sync_type].fullmatch(uri):
        raise RepositoryRefused(f"{uri[:200]!r}: {_KINDS[sync_type]}")
    return uri


def interval(sync_type: SyncType, *, own_mirror: bool) -> int:
    """Return the seconds from one look to the next: mirrors of others ban who asks more than once a day."""
    return OFTEN if own_mirror or sync_type is not SyncType.RSYNC else DAY
