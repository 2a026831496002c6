# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing it down: the section in binrepos.conf first, which remembers what will be done, then the keys.

A crash in between leaves a binhost whose packages Portage refuses, which setup repairs and removal undoes;
never a key that nobody remembers.
"""

from __future__ import annotations

import grp
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gentwoo_client.binhost import binrepos
from gentwoo_client.binhost.binrepos import Entry, Place
from gentwoo_client.binhost.choosing import OfferedKey
from gentwoo_client.binhost.keyring import Keyring
from gentwoo_client.binhost.portage_facts import PortageFacts
from gentwoo_client.binhost.removal import release, take_away
from gentwoo_client.errors import BinhostRefused, NoPermission, printable
from gentwoo_client.privileges import command_as

OPEN_MODE = 0o644
PRIVATE_MODE = 0o640
_HELPER_TIMEOUT = 900  # seconds: getuto asks key servers, each with patience


def check_permission(configuration: Path, home: Path) -> None:
    """See that this user may change Portage's configuration and its keys in `home`. Raises `NoPermission`."""
    for path in (configuration, configuration / "binrepos.conf", home):
        there = next(above for above in (path, *path.parents) if above.exists())
        if not os.access(there, os.W_OK, effective_ids=True):
            raise NoPermission(
                f"{there}: this user may not change it", advice=_permission_advice(path == home)
            )


def _permission_advice(is_home: bool) -> str:
    if os.geteuid() == 0:
        return "have its file system mounted writable"
    own = ", or set BINPKG_GPG_VERIFY_GPG_HOME in make.conf to a directory of your own" if is_home else ""
    return f"use `{command_as('root')}`{own}"


def examine(facts: PortageFacts) -> tuple[Place, bytes | None, Entry | None]:
    """Return where the section goes, what the file holds now, and what an earlier setup wrote.

    Raises `NoPermission` for whoever may not change it, `BinhostRefused` where something is in the way: ask
    before a person is asked anything.
    """
    check_permission(facts.configuration, facts.verify_home)
    place = Place.find(facts.configuration)
    content, earlier = binrepos.read(place)
    binrepos.check_ours(content, place)
    if earlier is not None and earlier.home != str(facts.verify_home):
        raise BinhostRefused(
            f"an earlier setup put its keys into {earlier.home}, but Portage verifies with"
            f" {facts.verify_home} now",
            advice="run `gentwoo binhost remove` first",
        )
    return place, content, earlier


def has_trust_helper(facts: PortageFacts) -> bool:
    """Whether Portage's helper is to make the verify home first, since there is none yet.

    Portage calls it before it fetches packages. getuto fills the home with Gentoo's own keys, but only one
    that it makes itself: had we made it, Gentoo's packages would not be accepted.
    """
    if facts.verify_home.exists() or not facts.trust_helper or os.geteuid() != 0:
        return False
    return os.access(facts.trust_helper, os.X_OK)


def run_trust_helper(facts: PortageFacts) -> None:
    """Have Portage's helper make the verify home. Raises `BinhostRefused`: emerge would end there too."""
    helper = facts.trust_helper
    try:
        done = subprocess.run(
            [helper],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_HELPER_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BinhostRefused(f"{helper}: {error}", advice=_HELPER_ADVICE) from None
    if done.returncode:
        last = printable((done.stdout.strip().splitlines() or ["it says nothing"])[-1])
        raise BinhostRefused(f"{helper} ended with {done.returncode}: {last}", advice=_HELPER_ADVICE)


_HELPER_ADVICE = (
    "Portage calls it before it fetches packages: repair it, or set PORTAGE_TRUST_HELPER=true in make.conf"
)


def apply(facts: PortageFacts, entry: Entry, offered: Sequence[OfferedKey], keyring: Keyring) -> Entry:
    """Make Portage take packages from `entry`, whose keys are `offered`; return what was written.

    Replaces what an earlier setup wrote, and no longer trusts keys of it that are not offered any more.
    Raises `BinhostRefused`, after which everything is as it was.
    """
    place, before, earlier = examine(facts)
    entry = _with_memory(entry, earlier, keyring, place)
    owner = _owner(place, entry, facts)
    entry = _write(place, before, entry, owner)
    try:
        _trust(offered, keyring)
        keyring.check_readable(facts.verify_user, facts.verify_group, entry.keys)
    except (BinhostRefused, OSError):
        _undo(place, before, earlier, entry, keyring)
        raise
    return _without_dropped(entry, keyring, place, owner)


def _with_memory(entry: Entry, earlier: Entry | None, keyring: Keyring, place: Place) -> Entry:
    """`entry` with what will be done for it, and what earlier ones did."""
    known = keyring.keys()
    imported = set(earlier.imported) if earlier else set()
    trust = dict(earlier.trust) if earlier else {}
    made = list(earlier.made) if earlier else []
    modes = dict(earlier.modes) if earlier else {}
    group = earlier.group if earlier else None
    for fingerprint in entry.keys:
        if fingerprint not in known:
            imported.add(fingerprint)
            trust.pop(fingerprint, None)
        elif fingerprint not in imported:
            trust.setdefault(fingerprint, known[fingerprint].ownertrust)
    new = [place.directory, place.path, keyring.home if entry.keys else None]
    made += [str(path) for path in new if path is not None and not path.exists()]
    if entry.keys:
        modes = {**keyring.closed_modes(), **modes}
    if entry.credentials and place.path.exists() and str(place.path) not in made and group is None:
        modes[str(place.path)], group = binrepos.mode_of(place.path), place.path.stat().st_gid
    return replace(
        entry,
        imported=tuple(sorted(imported)),
        trust=trust,
        made=tuple(made),
        modes={path: mode for path, mode in modes.items() if not _is_below(path, made)},
        group=group,
        joined=earlier.joined if earlier else False,
    )


def _write(place: Place, content: bytes | None, entry: Entry, owner: tuple[int, int]) -> Entry:
    if place.directory is not None and not place.directory.exists():
        place.directory.mkdir()
        place.directory.chmod(0o755)  # whatever the umask
    content, entry = binrepos.with_entry(content, entry)
    binrepos.write(place.path, content, mode=_mode(place, entry), owner=owner)
    return entry


def _mode(place: Place, entry: Entry) -> int:
    if entry.credentials is not None:
        return PRIVATE_MODE
    if str(place.path) in entry.made or not place.path.exists():
        return OPEN_MODE
    return entry.modes.get(str(place.path), binrepos.mode_of(place.path))


def _owner(place: Place, entry: Entry, facts: PortageFacts) -> tuple[int, int]:
    """User and group of the file: with a token in it, the group that runs `emerge --pretend`."""
    found = place.path.stat() if place.path.exists() else None
    uid = os.geteuid() if found is None else found.st_uid
    if entry.credentials is None:
        if found is None or str(place.path) in entry.made:
            return uid, os.getegid()
        return uid, found.st_gid if entry.group is None else entry.group
    try:
        return uid, grp.getgrnam(facts.group).gr_gid
    except KeyError:
        raise BinhostRefused(
            f"there is no group {facts.group}, which shall read the token",
            advice="set PORTAGE_GRPNAME in make.conf to Portage's group",
        ) from None


def _trust(offered: Sequence[OfferedKey], keyring: Keyring) -> None:
    if offered:
        keyring.make_home()
        for offer in offered:
            keyring.trust(offer.content, offer.key.fingerprint)
        keyring.settle()


def _without_dropped(entry: Entry, keyring: Keyring, place: Place, owner: tuple[int, int]) -> Entry:
    """No longer trust what only an earlier setup named, then forget that it ever was."""
    imported = [fingerprint for fingerprint in entry.imported if fingerprint not in entry.keys]
    trust = {key: value for key, value in entry.trust.items() if key not in entry.keys}
    if not imported and not trust:
        return entry
    release(keyring, imported, trust)
    entry = replace(
        entry,
        imported=tuple(key for key in entry.imported if key in entry.keys),
        trust={key: value for key, value in entry.trust.items() if key in entry.keys},
    )
    return _write(place, place.path.read_bytes(), entry, owner)


def _undo(place: Place, before: bytes | None, earlier: Entry | None, entry: Entry, keyring: Keyring) -> None:
    """Put everything back after a failure."""
    if earlier is None or before is None:
        take_away(place, entry, keyring, keep_keys=False)
        return
    had = {*earlier.imported, *earlier.trust}
    release(
        keyring,
        [fingerprint for fingerprint in entry.imported if fingerprint not in had],
        {key: value for key, value in entry.trust.items() if key not in had},
    )
    found = place.path.stat()
    owner = (found.st_uid, found.st_gid)
    binrepos.write(place.path, before, mode=_mode(place, earlier), owner=owner)


def _is_below(path: str, made: Sequence[str]) -> bool:
    return any(path == above or path.startswith(f"{above}/") for above in made)
