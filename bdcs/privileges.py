# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose files a command makes: root takes the identity of their directory's owner, for good."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def become_owner(directory: Path) -> None:
    """Become the owner of `directory` if we are root, with all groups that the system gives that user.

    Who is not root stays who he is, and so does root in a directory of his own, or where there is none.
    """
    if os.geteuid() != 0:
        return
    try:
        owner = directory.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if owner.st_uid != 0:
        become(owner.st_uid, owner.st_gid)


def become(uid: int, gid: int) -> None:
    """Take the identity of user `uid`; group `gid` counts only where the system does not know that user.

    HOME goes along: libpq looks there for `.pgpass` and certificates, boto3 for credentials.
    """
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        os.setgroups([gid])
        os.setgid(gid)
    else:
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.environ.update(HOME=entry.pw_dir, USER=entry.pw_name, LOGNAME=entry.pw_name)
    os.setuid(uid)
