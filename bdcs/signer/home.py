# SPDX-License-Identifier: GPL-2.0-or-later
"""The signer's home: a GnuPG home directory that belongs to the signer's user and to nobody else."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bdcs.errors import ConfigurationError, NoPermission
from bdcs.openpgp.command import end_daemons
from bdcs.privileges import become_owner

DEFAULT: Final = Path("/var/lib/bdcs-signer")

SERVICE_USER: Final = "bdcs-signer"
"""Owner of a home that root creates, where the system has such a user (acct-user/bdcs-signer)."""

_LOCK: Final = ".bdcs-signer.lock"


def prepare(home: Path) -> None:
    """Make the home where there is none: mode 0700, and as root for `SERVICE_USER`. Raises `NoPermission`."""
    if home.exists():
        return
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700)
    except PermissionError as error:
        raise NoPermission(home) from error
    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(SERVICE_USER)
            os.chown(home, entry.pw_uid, entry.pw_gid)


def enter(home: Path) -> None:
    """Become the home's owner if we are root; what is created from now on is that user's alone (umask 077).

    Raises `ConfigurationError` where there is no home, or where others may look into it; `NoPermission` where
    it is another user's.
    """
    try:
        owner = home.stat()
    except FileNotFoundError:
        error = ConfigurationError(f"{home}: no signer has its home there")
        error.advice = "`bdcs admin keys create` makes it, with a key; --home names another place"
        raise error from None
    except PermissionError as error:
        raise _another_users(home) from error
    become_owner(home)
    if os.geteuid() != owner.st_uid:
        raise _another_users(home)
    if owner.st_mode & 0o077:
        open_to_others = ConfigurationError(f"{home}: others may enter the home of the signing key")
        open_to_others.advice = f"run `chmod 700 {shlex.quote(str(home))}`"
        raise open_to_others
    os.umask(0o077)


@contextlib.contextmanager
def in_use(home: Path) -> Iterator[None]:
    """Hold the home; whoever is the last to leave it ends gpg's agent there."""
    with (home / _LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            yield
        finally:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_daemons(home)


def _another_users(home: Path) -> NoPermission:
    error = NoPermission(home)
    error.advice = f"run `{shlex.join(['sudo', 'bdcs', *sys.argv[1:]])}`: root takes the place of its owner"
    return error
