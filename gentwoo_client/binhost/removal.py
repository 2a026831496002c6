# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking away what setup did, and nothing else: what it remembers in binrepos.conf says what that is."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from gentwoo_client.binhost import binrepos
from gentwoo_client.binhost.binrepos import Entry, Place
from gentwoo_client.binhost.keyring import Keyring


def take_away(place: Place, entry: Entry, keyring: Keyring, *, keep_keys: bool) -> None:
    """Undo `entry`: first its keys, unless they shall stay, then the section that remembers them.

    A crash in between leaves a binhost whose packages Portage refuses, and the same command finishes it.
    """
    if not keep_keys:
        release(keyring, entry.imported, entry.trust)
        if entry.home in entry.made:
            keyring.clear_away()
        for path, mode in entry.modes.items():
            if path != str(place.path):
                with contextlib.suppress(FileNotFoundError):
                    Path(path).chmod(mode)
    _take_section(place, entry)


def release(keyring: Keyring, imported: Sequence[str], trust: Mapping[str, int]) -> None:
    """Delete the keys that setup imported, and give the others the trust that they had before."""
    if not keyring.home.is_dir() or not (imported or trust):
        return
    known = keyring.keys()
    keyring.forget(imported)
    keyring.set_trust({key: value for key, value in trust.items() if key in known})
    keyring.settle()


def _take_section(place: Place, entry: Entry) -> None:
    try:
        content = place.path.read_bytes()
    except FileNotFoundError:
        return
    rest = binrepos.without_entry(content, entry)
    if str(place.path) in entry.made and not rest:
        place.path.unlink()
        binrepos.sync_directory(place.path.parent)
    else:
        found = place.path.stat()
        group = found.st_gid if entry.group is None else entry.group
        mode = entry.modes.get(str(place.path), binrepos.mode_of(place.path))
        binrepos.write(place.path, rest, mode=mode, owner=(found.st_uid, group))
    if place.directory is not None and str(place.directory) in entry.made:
        with contextlib.suppress(OSError):  # somebody else has put a file there
            place.directory.rmdir()
