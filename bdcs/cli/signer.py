# SPDX-License-Identifier: GPL-2.0-or-later
"""`bdcs signer`: the process that owns the signing key."""

from __future__ import annotations

import argparse
import os
import pwd
from pathlib import Path

from bdcs.errors import EXIT_DONE, ConfigurationError
from bdcs.settings import Settings

HELP = "sign packages for the collector, until SIGTERM or Ctrl-C"

COLLECTOR_USER = "bdcs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's own options."""
    parser.add_argument(
        "--socket", metavar="PATH", type=Path, help="where to listen (default: the setting `signer`)"
    )
    add_home(parser)
    parser.add_argument(
        "--allow",
        metavar="USER",
        action="append",
        help="user, by name or number, that may have packages signed, beside root and the signer's own;"
        f" may be repeated (default: {COLLECTOR_USER}, where the system has that user)",
    )
    parser.add_argument(
        "--check", action="store_true", help="only see whether it could start, and say why not"
    )


def add_home(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the signer's home, and what opens the keys in it."""
    parser.add_argument(
        "--home",
        metavar="DIR",
        type=Path,
        default=Path("/var/lib/bdcs-signer"),
        help="the signer's GnuPG home (default: /var/lib/bdcs-signer); root takes the identity of its owner",
    )
    parser.add_argument(
        "--passphrase-file",
        metavar="FILE",
        type=Path,
        help="its first line unlocks the secret keys; the signer's user has to be able to read it",
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Sign."""
    from bdcs.signer import home, server
    from bdcs.signer.keyring import Keyring

    allowed = {0, *map(user_number, arguments.allow or default_users())}
    place = arguments.home.absolute()
    if arguments.check:
        home.enter(place)
        return EXIT_DONE
    home.prepare(place)
    path = (arguments.socket or settings.signer).absolute()
    listener = server.bind(path, place.stat().st_uid)
    home.enter(place)
    keyring = Keyring(home=place, passphrase_file=absolute(arguments.passphrase_file))
    server.serve(keyring, listener, path, allowed | {os.geteuid()})
    return EXIT_DONE


def absolute(path: Path | None) -> Path | None:
    """Return `path` as it is also from another directory, where gpg runs."""
    return None if path is None else path.absolute()


def default_users() -> list[str]:
    """Return who may ask where nobody is named."""
    try:
        return [pwd.getpwnam(COLLECTOR_USER).pw_name]
    except KeyError:
        return []


def user_number(user: str) -> int:
    """Return the number of a user given by name or number. Raises `ConfigurationError`."""
    if user.isascii() and user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ConfigurationError(f"--allow: there is no user {user!r}") from None
